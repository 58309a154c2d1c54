//go:build linux

package otherside

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/internal/bench"
	"github.com/whorl-go/whorl/internal/bench/message"
)

// Generator says which load is made for a server. It is sent to its process, so it holds plain
// values only.
type Generator struct {
	Addr  string // the server's
	Conns int    // to open before the process is ready
	Most  int    // that there will be
	Size  int    // of messages, in bytes
	TLS   bool   // whether connections begin with TLS
	// CA is PEM; the server has a certificate of it for ServerName.
	CA, ServerName string
	// Spin is that of bench.GeneratorOptions.
	Spin bool
}

// answerTimeout bounds the wait for a message.
const answerTimeout = 30 * time.Second

// ServeGenerator is that process, which works in turns and counts messages: it does what a
// Generator in JSON says.
func ServeGenerator(text []byte, control *child.Control) error {
	var c Generator
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("otherside: configuration: %w", err)
	}
	counters, err := child.OpenCounters()
	if err != nil {
		return err
	}
	o := bench.GeneratorOptions{
		Options: bench.Options{
			Target: c.Addr, Timeout: answerTimeout, Source: bench.AutoSource, Size: c.Size,
			Framing: message.None,
		},
		Most: int64(max(c.Most, c.Conns)), Spin: c.Spin,
		Counter: func(loop int) *atomic.Int64 { return &counters.Of(loop).Int64 },
	}
	if c.TLS {
		o.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: c.ServerName}
		o.TLS.RootCAs.AppendCertsFromPEM([]byte(c.CA))
	}
	g, err := bench.NewGenerator(context.Background(), o)
	if err != nil {
		return err
	}
	if err := g.Open(c.Conns); err != nil {
		return err
	}
	control.HandleTurns(g)
	control.Ready("")
	select {}
}
