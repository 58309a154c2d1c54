//go:build linux

package echo

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

var whorlCallback = Peer{
	Name:   "whorl",
	About:  "Whorl, a loop per CPU, OnReceive sends what it got",
	Plain:  true,
	TLS:    true,
	Module: "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorl(c, ready, server.Port{OnReceive: sendBack})
	},
}

var whorlCompact = Peer{
	Name: "whorl-compact",
	About: "whorl with CompactTLS, after " + compact.After.String() +
		": its connections are compact when they are measured",
	TLS:    true,
	Module: "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorl(c, ready, server.Port{OnReceive: sendBack, CompactTLS: compact})
	},
}

// compact has connections compact before the turns begin, in which they are opened.
var compact = socket.CompactTLS{After: 50 * time.Millisecond}

func sendBack(ctx context.Context, c *server.Conn, p []byte) { c.Send(ctx, p) }

var whorlCoroutine = Peer{
	Name:       "whorl-co",
	Goroutines: 1,
	About:      "Whorl, a coroutine per connection, sends what Recv gave",
	Plain:      true,
	TLS:        true,
	Module:     "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorl(c, ready, server.Port{Handle: handle})
	},
}

var whorlCoroutineCompact = Peer{
	Name:       "whorl-co-compact",
	Goroutines: 1,
	About:      "whorl-co with CompactTLS, likewise",
	TLS:        true,
	Module:     "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorl(c, ready, server.Port{Handle: handle, CompactTLS: compact})
	},
}

func handle(ctx context.Context, c *server.Conn) {
	for {
		p, err := c.Recv(ctx)
		if errors.Is(err, runtime.ErrTimeout) {
			continue // the default; nothing is lost by it
		}
		if err != nil {
			return
		}
		if _, err := c.Send(ctx, p); err != nil {
			return
		}
	}
}

func serveWhorl(c Config, ready func(net.Addr), port server.Port) error {
	network := "tcp"
	if c.TLS {
		network = "tls"
		config, err := c.Certificate()
		if err != nil {
			return err
		}
		port.TLS = config
	}
	return runtime.Run(func(ctx context.Context) error {
		s := server.New(server.Config{Port: port})
		l, err := s.Listen(ctx, network, "127.0.0.1:0")
		if err != nil {
			return err
		}
		ready(l.Addr())
		return s.Serve(ctx)
	})
}
