//go:build linux

package smtp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// What comes before or after a plaintext answer in place of an attacker's words is never taken for
// the server's over TLS, and nobody is logged in.
func TestAttacksOnTheUpgrade(t *testing.T) {
	for name, test := range map[string]struct {
		play func(s *script)
		want error
		text string
	}{
		"B1 words behind 220": {func(s *script) {
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n250-x\r\n250 AUTH LOGIN\r\n")
		}, socket.ErrPlaintextPending, "TLS"},
		"B2 words without an end": {func(s *script) {
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n250-INJ")
		}, socket.ErrPlaintextPending, "TLS"},
		"B4 words before 220": {func(s *script) {
			s.hello("STARTTLS")
			s.ask("STARTTLS", "250 SIZE 1\r\n220 go\r\n")
		}, smtp.ErrProtocol, "STARTTLS"},
		"B9 bare LF": {func(s *script) {
			s.say("220 mail.test\n220 mail.test\r\n")
		}, smtp.ErrProtocol, "greeting"},
		"B10 words over TLS before EHLO": {func(s *script) {
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n")
			s.secure()
			s.say(ehlo("AUTH PLAIN") + "250 more\r\n")
		}, smtp.ErrProtocol, ""},
		"N1 not offered": {func(s *script) { s.hello("AUTH PLAIN") }, smtp.ErrNoTLS, ""},
		"N3 454": {func(s *script) {
			s.hello("STARTTLS")
			s.ask("STARTTLS", "454 not now\r\n")
		}, nil, "STARTTLS: refused with 454"},
		"N5 EHLO unknown": {func(s *script) {
			s.say("220 mail.test\r\n")
			s.ask("EHLO me.test", "502 what?\r\n")
		}, nil, "EHLO: refused with 502"},
		"N6 closed after 220": {func(s *script) {
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n")
			s.raw.Close()
		}, nil, "TLS"},
		"N6 closed after STARTTLS": {func(s *script) {
			s.hello("STARTTLS")
			s.hear("STARTTLS")
			s.raw.Close()
		}, io.ErrUnexpectedEOF, "STARTTLS"},
		"words in the same piece as EHLO's answer": {func(s *script) {
			s.say("220 mail.test\r\n")
			s.ask("EHLO me.test", ehlo("STARTTLS")+"220 go\r\n")
		}, smtp.ErrProtocol, "out of turn"},
	} {
		t.Run(name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				for _, security := range []smtp.Security{smtp.Mandatory, smtp.Opportunistic} {
					if security == smtp.Opportunistic && strings.HasPrefix(name, "N5") {
						continue // it may be an old server
					}
					rest := make(chan string, 1)
					address := serve(t, func(s *script) {
						s.hasty = true
						test.play(s)
						rest <- s.rest()
					})
					config := secured()
					config.Security, config.Auth = security, smtp.Password("me", "secret")
					_, err := smtp.Dial(ctx, address, config)
					if err == nil {
						t.Fatal("the session has begun")
					}
					want, text := test.want, test.text
					if security == smtp.Opportunistic && errors.Is(want, smtp.ErrNoTLS) {
						want = smtp.ErrAuthNeedsTLS // N12
					}
					if want != nil {
						wantError(t, name, err, want)
					}
					if !strings.Contains(err.Error(), text) {
						t.Errorf("the error is %q, want %q", err, text)
					}
					if said, _ := runtime.Await(ctx, func() (string, error) { return <-rest, nil }); strings.Contains(said, "AUTH") ||
						strings.Contains(said, "MAIL") {
						t.Errorf("it said %q", said)
					}
				}
			})
		})
	}
}

// After a handshake that has failed nothing more is said, in no kind of security.
func TestNoWayBackToPlaintext(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		for _, security := range []smtp.Security{smtp.Mandatory, smtp.Opportunistic} {
			for name, change := range map[string]func(c *tls.Config){
				"another authority": func(c *tls.Config) { c.RootCAs = x509.NewCertPool() },
				"another name":      func(c *tls.Config) { c.ServerName = "good.test" },
			} {
				connections := make(chan string, 10)
				address := serve(t, func(s *script) {
					s.hello("STARTTLS", "AUTH PLAIN")
					s.ask("STARTTLS", "220 go\r\n")
					conn := tls.Server(s.raw, &tls.Config{Certificates: []tls.Certificate{certificate()}})
					if conn.Handshake() == nil {
						// With TLS 1.3 the server hears of it afterwards.
						if _, err := conn.Read(make([]byte, 1)); err == nil {
							t.Errorf("%s: something was said over TLS", name)
						}
					}
					connections <- s.rest()
				})
				config := secured()
				config.Security, config.Auth = security, smtp.Password("me", "secret")
				change(config.Client.TLS)
				_, err := smtp.Dial(ctx, address, config)
				if _, ok := errors.AsType[*explain.HandshakeError](err); !ok {
					t.Errorf("%s: %v", name, err)
				}
				said, _ := runtime.Await(ctx, func() (string, error) { return <-connections, nil })
				if strings.Contains(said, "QUIT") || strings.Contains(said, "AUTH") || len(connections) > 0 {
					t.Errorf("%s: it said %q", name, said)
				}
			}
		}
	})
}
