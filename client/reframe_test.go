//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
)

// A dialogue with a framing of its own comes before that of the configuration. What has come behind
// its last packet is framed by the configuration.
func TestReframe(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.say("first;second;" + framed("hello") + framed("again"))
			s.rest()
		})
		c := connect(ctx, t, lengths, "tcp", address)
		semicolons, err := packet.NewEOF(";", 100)
		check(t, err)
		check(t, c.Socket().SetProtocol(semicolons))
		recv(ctx, t, c, "first;")
		recv(ctx, t, c, "second;")
		check(t, c.Reframe())
		recv(ctx, t, c, framed("hello"))
		recv(ctx, t, c, framed("again"))
		check(t, c.Close())
		wantError(t, "Reframe after Close", c.Reframe(), net.ErrClosed)
	})
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		c := connect(ctx, t, client.Config{}, "tcp", address) // no framing at all
		wait := start(ctx, t, func(ctx context.Context) error { _, err := c.Recv(ctx); return err })
		eventually(ctx, t, "the receiver waits", func() bool { return waiting(ctx, t, "socket recv") })
		wantError(t, "Reframe", c.Reframe(), socket.ErrBusy)
		check(t, c.Close())
		wantError(t, "Recv", wait(), net.ErrClosed)
	})
}

func TestServerNameIsWhoIsVerified(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		for name, want := range map[string]string{
			"": "127.0.0.1", "mail.test": "mail.test", bücher: bücherA, tlsconfig.NoSNI: "127.0.0.1",
		} {
			c := connect(ctx, t, client.Config{TLS: &tls.Config{ServerName: name}}, "tcp", address)
			if got := c.ServerName(); got != want {
				t.Errorf("with %q it is %q, want %q", name, got, want)
			}
			check(t, c.Close())
			if got := c.ServerName(); got != "" {
				t.Errorf("after Close it is %q", got)
			}
		}
	})
}
