//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	goruntime "runtime"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// The Clients of a Dialer are Clients like others, and have their TLS sessions in common.
func TestDialer(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		config := serverTLS()
		address := serve(t, func(s *script) {
			s.secure(config)
			s.say("hello\r\n")
			s.rest()
		})
		d, err := client.NewDialer(client.Config{EOF: "\r\n", TLS: trusting()})
		check(t, err)
		for i := range 3 {
			c, err := d.Dial(ctx, "tls", address)
			check(t, err)
			recv(ctx, t, c, "hello\r\n") // with TLS 1.3, the session comes with this
			if state, _ := c.ConnectionState(); state.DidResume != (i > 0) {
				t.Errorf("connection %d: resumed is %v", i, state.DidResume)
			}
			wantError(t, "second Connect", c.Connect(ctx, "tls", address), socket.ErrConnected)
			check(t, c.Close())
		}
		c := d.New()
		if c.Connected() {
			t.Error("connected from the beginning")
		}
		check(t, c.Connect(ctx, "tls", address))
		check(t, c.Close())
	})
}

func TestDialerFails(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		nobody := l.Addr().String()
		check(t, l.Close())
		d, err := client.NewDialer(client.Config{})
		check(t, err)
		c, err := d.Dial(ctx, "tcp", nobody)
		wantError(t, "nobody listens", err, syscall.ECONNREFUSED)
		if c != nil {
			t.Error("there is a Client that isn't connected")
		}
		if d, err := client.NewDialer(client.Config{MaxPacket: -1}); d != nil || err == nil {
			t.Error("wrong configuration:", err)
		}
		if d, err := client.NewAsyncDialer(client.AsyncConfig{}); d != nil || err == nil {
			t.Error("wrong configuration by callback:", err)
		}
	})
}

// A callback that doesn't return ends Connect, and neither the loop nor who waits for Connect.
func TestCallbackThatBreaksConnect(t *testing.T) {
	for name, broken := range map[string]func(){"panic": func() { panic("broken callback") }, "Goexit": goruntime.Goexit} {
		t.Run(name, func(t *testing.T) {
			runtimetest.Coroutine(t, runtimetest.QuietPanics, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) { s.handshake(s.raw, serverTLS()) })
				config := trusting()
				config.VerifyConnection = func(tls.ConnectionState) error { broken(); return nil }
				c := client.New(client.Config{TLS: config})
				err := c.Connect(ctx, "tls", address)
				if name == "Goexit" {
					wantError(t, "Connect", err, runtime.ErrGoexit)
				} else if panicked, ok := errors.AsType[*runtime.PanicError](err); !ok || panicked.Value != "broken callback" {
					t.Errorf("Connect: %v", err)
				}
				if e, ok := errors.AsType[*explain.HandshakeError](err); !ok || e.Reason != explain.ReasonLocalFault {
					t.Errorf("Connect: %v is not a fault of this side", err)
				}
				_, err = c.Recv(ctx)
				wantError(t, "Recv", err, socket.ErrNotConnected)
				check(t, runtime.Yield(ctx))
				if c.Connected() || c.Socket() != nil {
					t.Error("connected")
				}
			})
		})
	}
}
