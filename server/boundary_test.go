//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// boundaryVerbs is all that uses a connection, as a program would. Each returns what it was told.
func boundaryVerbs(file string) map[string]func(ctx context.Context, c *server.Conn) error {
	nothing := []byte("in the clear\n")
	return map[string]func(ctx context.Context, c *server.Conn) error{
		"Recv":     func(ctx context.Context, c *server.Conn) error { _, err := c.Recv(ctx); return err },
		"Peek":     func(ctx context.Context, c *server.Conn) error { _, err := c.Peek(make([]byte, 1)); return err },
		"Send":     func(ctx context.Context, c *server.Conn) error { _, err := c.Send(ctx, nothing); return err },
		"SendFile": func(ctx context.Context, c *server.Conn) error { _, err := c.SendFile(ctx, file, 0, 0); return err },
		"EnableSSL": func(ctx context.Context, c *server.Conn) error {
			return c.EnableSSL(ctx)
		},
		"EnableSSLAsync": func(ctx context.Context, c *server.Conn) error {
			outcome := make(chan error, 1)
			c.EnableSSLAsync(ctx, func(_ context.Context, _ *server.Conn, err error) { outcome <- err })
			if server.House(c.Socket()).OnLoop() {
				return <-outcome // it was told at once
			}
			return await(ctx, outcome)
		},
		"Socket.Send": func(ctx context.Context, c *server.Conn) error { _, err := c.Socket().Send(ctx, nothing); return err },
		"Socket.SendAll": func(ctx context.Context, c *server.Conn) error {
			_, err := c.Socket().SendAll(ctx, nothing)
			return err
		},
		"Socket.SendSoon": func(ctx context.Context, c *server.Conn) error {
			_, err := c.Socket().SendSoon(ctx, nothing)
			return err
		},
		"Socket.WriteVector": func(ctx context.Context, c *server.Conn) error {
			_, err := c.Socket().WriteVector(ctx, [][]byte{nothing})
			return err
		},
		"Socket.Recv": func(ctx context.Context, c *server.Conn) error {
			_, err := c.Socket().Recv(ctx, make([]byte, 1))
			return err
		},
		"Socket.RecvLine":     func(ctx context.Context, c *server.Conn) error { _, err := c.Socket().RecvLine(ctx, 10); return err },
		"Socket.RecvPacket":   func(ctx context.Context, c *server.Conn) error { _, err := c.Socket().RecvPacket(ctx); return err },
		"Socket.SetProtocol":  func(ctx context.Context, c *server.Conn) error { return c.Socket().SetProtocol(nil) },
		"Socket.SSLHandshake": func(ctx context.Context, c *server.Conn) error { return c.Socket().SSLHandshake(ctx, serverTLS()) },
		"Socket.Shutdown":     func(ctx context.Context, c *server.Conn) error { return c.Socket().Shutdown(ctx, socket.ShutdownWrite) },
		"Socket.Flush":        func(ctx context.Context, c *server.Conn) error { return c.Socket().Flush(ctx) },
	}
}

// callers call a function from wherever a program can be, and return what it returns.
var callers = map[string]func(h *house, c *server.Conn, fn func(ctx context.Context) error) error{
	"loop": func(h *house, c *server.Conn, fn func(ctx context.Context) error) error {
		home, _ := server.House(c.Socket()).Home()
		outcome := make(chan error, 1)
		check(h.t, home.Loop().Post(func() { outcome <- fn(h.ctx()) }))
		return receive(h.t, outcome)
	},
	"coroutine": func(h *house, c *server.Conn, fn func(ctx context.Context) error) error {
		home, _ := server.House(c.Socket()).Home()
		outcome := make(chan error, 1)
		check(h.t, home.Loop().Post(func() { runtime.Go(h.ctx(), func(ctx context.Context) { outcome <- fn(ctx) }) }))
		return receive(h.t, outcome)
	},
	"coroutine of another loop": func(h *house, c *server.Conn, fn func(ctx context.Context) error) error {
		home, _ := server.House(c.Socket()).Home()
		outcome := make(chan error, 1)
		for _, loop := range h.rt.Loops() {
			if loop != home.Loop() {
				check(h.t, loop.Post(func() { runtime.Go(h.ctx(), func(ctx context.Context) { outcome <- fn(ctx) }) }))
			}
		}
		return receive(h.t, outcome)
	},
	"goroutine": func(h *house, _ *server.Conn, fn func(ctx context.Context) error) error { return fn(h.ctx()) },
}

// While STARTTLS waits for the client's hello, and while it shakes hands, no verb does anything,
// wherever it is called: ErrBusy, nothing goes out in the clear, the hello is nobody's plaintext,
// and the upgrade goes on. What callbacks send is kept, and goes out encrypted.
func TestNothingPassesTheBoundary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, []byte("in the clear\n"), 0o600))
	for _, handler := range []bool{true, false} {
		for _, computing := range []bool{false, true} {
			for _, where := range []string{"coroutine", "goroutine"} {
				if !handler && where == "goroutine" {
					continue
				}
				t.Run(fmt.Sprintf("handler %v/computing %v/upgraded by a %s", handler, computing, where), func(t *testing.T) {
					atTheBoundary(t, file, handler, computing, where == "goroutine")
				})
			}
		}
	}
}

func atTheBoundary(t *testing.T, file string, handler, computing, byGoroutine bool) {
	gate, outcome, conns := make(chan struct{}), make(chan error, 1), make(chan *server.Conn, 1)
	port := server.Port{EOF: "\n", TLS: gatedTLS(gate), HandshakeTimeout: time.Hour}
	if handler {
		port.Handle = func(ctx context.Context, c *server.Conn) {
			c.SetValue("learnt in plaintext")
			conns <- c
			if byGoroutine {
				outcome <- await(ctx, func() chan error {
					done := make(chan error, 1)
					go func() { done <- c.EnableSSL(ctx) }()
					return done
				}())
			} else {
				outcome <- c.EnableSSL(ctx)
			}
			echo(ctx, c)
		}
	} else {
		port.OnReceive = echoBack
		port.OnConnect = func(ctx context.Context, c *server.Conn) {
			c.SetValue("learnt in plaintext")
			conns <- c
			c.EnableSSLAsync(ctx, func(_ context.Context, _ *server.Conn, err error) { outcome <- err })
		}
	}
	h, l := start(t, "tcp", server.Config{Port: port})
	raw := dial(t, l)
	c := receive(t, conns)
	secure := tls.Client(raw, clientTLS())
	shaken := make(chan error, 1)
	if computing {
		go func() { shaken <- secure.Handshake() }()
		until(t, "the handshake computes", func() bool { return h.Stats().Handshaking == 1 })
	} else {
		until(t, "the upgrade has begun", func() bool { return server.House(c.Socket()).Sending() })
		check(t, raw.SetReadDeadline(time.Now()))
	}
	kept := 0
	for verb, fn := range boundaryVerbs(file) {
		for caller, call := range callers {
			if !handler && (verb == "Recv" || verb == "EnableSSL") { // not for callbacks at any time
				continue
			}
			err := call(h, c, func(ctx context.Context) error { return fn(ctx, c) })
			if !handler && verb == "Send" {
				check(t, err)
				kept++
				continue
			}
			wantError(t, verb+" on a "+caller, err, socket.ErrBusy)
		}
	}
	check(t, h.Send(c.ID(), []byte("by ID\n")))
	if !computing {
		if n, _ := raw.Read(make([]byte, 1)); n > 0 {
			t.Error("something was sent in the clear")
		}
		check(t, raw.SetReadDeadline(time.Now().Add(patience)))
		go func() { shaken <- secure.Handshake() }()
	}
	close(gate)
	check(t, receive(t, shaken))
	check(t, receive(t, outcome))
	received := make([]byte, kept*len("in the clear\n")+len("by ID\n"))
	_, err := io.ReadFull(secure, received)
	check(t, err)
	trip(t, secure, "goes on\n")
	check(t, callers["loop"](h, c, func(context.Context) error {
		if c.Value() != nil {
			t.Error("what was learnt in plaintext is kept")
		}
		return nil
	}))
}
