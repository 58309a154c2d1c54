//go:build linux

// Package otherside holds the processes that are at the other end of what is compared: what the
// clients talk to, and what makes the load for the servers. Each is the same program for all of
// them.
package otherside

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/runtime"
)

// Far says what the other side of a client does. It is sent to its process, so it holds plain
// values only.
type Far struct {
	Does    farside.Role    // with each connection
	Framing message.Framing // of what a source sends
	Size    int             // the same, in bytes
	TLS     bool            // whether connections begin with TLS
	// Cert and Key are PEM.
	Cert, Key string
	// Bare is for an echo in plaintext.
	Bare farside.BareEcho
}

// maxCoroutines is for more connections than there are descriptors.
const maxCoroutines = 2_000_000

// stepTimeout bounds a TLS handshake.
const stepTimeout = time.Minute

// ServeFar is that process: it does what a Far in JSON says.
func ServeFar(text []byte, control *child.Control) error {
	var f Far
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("otherside: configuration: %w", err)
	}
	if f.Does == farside.Echo && !f.TLS {
		return farside.ServeBareEcho(f.Bare, control.Listening)
	}
	config := farside.Config{
		Listen: "127.0.0.1:0", Spread: true, Role: f.Does, Size: f.Size, Framing: f.Framing,
		Timeout: stepTimeout,
	}
	if f.TLS {
		var err error
		if config.TLS, err = identity.ServerConfig(f.Cert, f.Key); err != nil {
			return err
		}
	}
	rt, err := runtime.New(runtime.WithMaxCoroutines(maxCoroutines), runtime.WithWatchdog(0))
	if err == nil {
		err = rt.Start()
	}
	if err != nil {
		return err
	}
	server, err := farside.Start(rt, config)
	if err != nil {
		return err
	}
	control.Ready(server.Addr())
	select {}
}
