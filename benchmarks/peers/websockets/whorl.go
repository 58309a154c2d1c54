//go:build linux

package websockets

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket"
)

var whorlCallback = Peer{
	Name: "whorl",
	About: "Whorl, a loop per CPU, OnMessage pushes what it got; broadcasts with Rooms. Its " +
		"heartbeat is off, as the others have none",
	Plain: true, Deflate: true, TLS: true, Broadcast: true,
	Module: "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorlCallbacks(c, ready, socket.CompactTLS{})
	},
}

var whorlCompact = Peer{
	Name:   "whorl-compact",
	About:  "whorl with CompactTLS, after 50ms",
	TLS:    true,
	Module: "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorlCallbacks(c, ready, socket.CompactTLS{After: 50 * time.Millisecond})
	},
}

func serveWhorlCallbacks(c Config, ready func(net.Addr), compact socket.CompactTLS) error {
	var s *websocket.Server
	return serveWhorl(c, websocket.Config{
		Server: server.Config{Port: server.Port{CompactTLS: compact}},
		Options: websocket.Options{
			OnMessage: func(_ context.Context, from *websocket.Conn, m websocket.Message) {
				if c.Broadcast && m.Opcode == websocket.Text {
					s.Broadcast(everybody, m.Data, m.Opcode)
					return
				}
				from.Push(m.Data, m.Opcode)
			},
		},
		OnOpen: func(_ context.Context, joins *websocket.Conn, _ *http.Request) {
			if c.Broadcast {
				s.Join(joins, everybody)
			}
		},
	}, func(made *websocket.Server) { s = made }, ready)
}

const everybody = "everybody"

var whorlCoroutine = Peer{
	Name:  "whorl-co",
	About: "Whorl, a coroutine per connection, pushes what Recv gave",
	Plain: true, Deflate: true, TLS: true, Goroutines: 1,
	Module: "github.com/whorl-go/whorl",
	Serve: func(c Config, ready func(net.Addr)) error {
		return serveWhorl(c, websocket.Config{
			Handle: func(ctx context.Context, conn *websocket.Conn) {
				for m, err := range conn.Messages(ctx) {
					if err == nil {
						_, err = conn.Push(m.Data, m.Opcode)
					}
					if err != nil {
						return
					}
				}
			},
		}, func(*websocket.Server) {}, ready)
	},
}

func serveWhorl(c Config, config websocket.Config, made func(*websocket.Server),
	ready func(net.Addr)) error {
	network := "tcp"
	if c.TLS {
		network = "tls"
	}
	var err error
	if config.Server.TLS, err = c.certificate(); err != nil {
		return err
	}
	config.PingInterval = -1
	config.Compression.Enabled = c.Deflate
	s := websocket.NewServer(config)
	made(s)
	return runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, network, "127.0.0.1:0")
		if err != nil {
			return err
		}
		ready(l.Addr())
		return s.Serve(ctx)
	})
}
