//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// issue returns a server's configuration with a certificate as the request says.
func issue(t testing.TB, request devca.Request) *tls.Config {
	cert, err := authority().Sign(request)
	check(t, err)
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// A handshake that fails says why, and closes the connection.
func TestHandshakeFailures(t *testing.T) {
	stranger, err := devca.New("Stranger")
	check(t, err)
	unknown, err := stranger.Issue("127.0.0.1")
	check(t, err)
	own, err := devca.SelfSigned(devca.Request{Names: []string{"127.0.0.1"}})
	check(t, err)
	over := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	shake := func(config *tls.Config) func(*script) {
		return func(s *script) {
			if s.handshake(s.raw, config) == nil {
				s.rest()
			}
		}
	}
	for _, tc := range []struct {
		reason explain.Reason
		serve  func(s *script)
		says   string
		is     error
	}{
		{explain.ReasonUnknownAuthority, shake(&tls.Config{Certificates: []tls.Certificate{unknown}}), "Stranger", nil},
		{explain.ReasonSelfSigned, shake(&tls.Config{Certificates: []tls.Certificate{own}}), "", nil},
		{
			explain.ReasonNameMismatch,
			shake(issue(t, devca.Request{Names: []string{"mail.test", "192.0.2.7"}})), "192.0.2.7", nil,
		},
		{
			explain.ReasonExpired,
			shake(issue(t, devca.Request{Names: []string{"127.0.0.1"}, NotAfter: over})), "2020-02-03", nil,
		},
		{explain.ReasonWrongUsage, shake(issue(t, devca.Request{Names: []string{"127.0.0.1"}, Client: true})), "", nil},
		{
			explain.ReasonProtocolVersion,
			shake(&tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
			"TLS 1.2", nil,
		},
		{explain.ReasonPlaintext, func(s *script) {
			s.ok(first(s))
			s.say("454 TLS not available\r\n")
			s.rest()
		}, "454 T", nil},
		{explain.ReasonClosed, func(s *script) {
			s.ok(first(s))
			s.halfClose()
			s.rest()
		}, "", nil},
		{explain.ReasonReset, func(s *script) {
			s.ok(first(s))
			s.reset()
		}, "", syscall.ECONNRESET},
	} {
		t.Run(string(tc.reason), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.starttls()
					tc.serve(s)
				})
				c := upgradable(ctx, t, mail(), address)
				err := c.EnableSSL(ctx)
				h := wantReason(t, err, tc.reason)
				if h.Host != "127.0.0.1" || !strings.Contains(err.Error(), tc.says) || tc.is != nil && !errors.Is(err, tc.is) {
					t.Errorf("host %q, error %v", h.Host, err)
				}
				closedFor(ctx, t, c, h)
			})
		})
	}
}

// A server that has closed before EnableSSL is called has closed during the handshake.
func TestServerClosesBeforeHandshake(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c := upgradable(ctx, t, mail(), serve(t, func(s *script) {
			s.starttls()
			s.halfClose()
			s.rest()
		}))
		eventually(ctx, t, "the server has closed", func() bool { return !c.Socket().Alive() })
		wantReason(t, c.EnableSSL(ctx), explain.ReasonClosed)
	})
}

// flight returns how many bytes a server sends before it needs an answer from the client.
func flight(t testing.TB, version uint16) int {
	config, options := serverTLS(), trusting()
	config.MaxVersion, options.ServerName = version, "127.0.0.1"
	ours, theirs := net.Pipe()
	client := make(chan error, 1)
	go func() { client <- tls.Client(ours, options).Handshake() }()
	server := &oneFlight{Conn: theirs}
	if err := tls.Server(server, config).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	theirs.Close()
	<-client
	return server.sent
}

// oneFlight is a server's connection that ends after the first flight, which goes nowhere.
type oneFlight struct {
	net.Conn
	sent int
}

func (c *oneFlight) Read(p []byte) (int, error) {
	if c.sent > 0 {
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

func (c *oneFlight) Write(p []byte) (int, error) {
	c.sent += len(p)
	return len(p), nil
}

// A server that stalls within its part of the handshake doesn't keep the client beyond
// HandshakeTimeout, wherever it stalls.
func TestHandshakeStalls(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			size := flight(t, version) - 4 // the signature isn't always of the same length
			if size < 500 {
				t.Fatalf("the server's flight is %d bytes", size)
			}
			both(t, func(ctx context.Context, t *testing.T) {
				limits := make(chan int, size)
				address := serve(t, func(s *script) {
					left := <-limits
					config := serverTLS()
					config.MaxVersion = version
					s.handshake(&tapped{Conn: s.raw, onWrite: func(p []byte) (int, error) {
						n := min(left, len(p))
						left -= n
						_, err := s.raw.Write(p[:n])
						return len(p), err // the rest is lost
					}}, config)
				})
				var waits []func() error
				for stall := 0; stall < size; stall++ {
					if stall > 12 && stall%47 != 0 && stall != size-1 { // the first record's header, and a byte here and there
						continue
					}
					limits <- stall // for one connection or another
					waits = append(waits, start(ctx, t, func(ctx context.Context) error {
						c := client.New(client.Config{TLS: trusting(), HandshakeTimeout: 5 * soon})
						defer c.Close()
						begin := time.Now()
						err := c.Connect(ctx, "tls", address)
						h, ok := errors.AsType[*explain.HandshakeError](err)
						if took := time.Since(begin); !ok || h.Reason != explain.ReasonTimeout || !errors.Is(err, runtime.ErrTimeout) || took < 5*soon {
							return fmt.Errorf("a stall within %d bytes, after %v: %v", size, took, err)
						}
						return nil
					}))
				}
				for _, wait := range waits {
					check(t, wait())
				}
			})
		})
	}
}

// The time is for the whole handshake, and not for each byte of it: a server that lets its part
// drip would take longer by far.
func TestHandshakeTimeoutIsForTheWhole(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.starttls()
			s.handshake(&tapped{Conn: s.raw, onWrite: func(p []byte) (int, error) { return drip(s.raw, p) }}, serverTLS())
		})
		config := mail()
		config.HandshakeTimeout = 10 * drop
		c := upgradable(ctx, t, config, address)
		err := c.EnableSSL(ctx)
		closedFor(ctx, t, c, wantReason(t, err, explain.ReasonTimeout))
		if socket.Code(err) != int(syscall.ETIMEDOUT) {
			t.Errorf("code is %d", socket.Code(err))
		}
	})
}

// A handshake has no time-out of its own if that is how it is configured; the context's deadline
// holds all the same.
func TestHandshakeWithoutTimeout(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		config := mail()
		config.HandshakeTimeout = -1
		c := upgradable(ctx, t, config, serve(t, func(s *script) {
			s.starttls()
			s.idle()
		}))
		limited, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		err := c.EnableSSL(limited)
		wantError(t, "EnableSSL", err, context.DeadlineExceeded)
		wantReason(t, err, explain.ReasonTimeout)
	})
}

// stalled is a server that waits for ever once it has the client's hello.
func stalled(t testing.TB, helloed chan<- struct{}) string {
	return serve(t, func(s *script) {
		s.starttls()
		s.ok(first(s))
		helloed <- struct{}{}
		s.idle()
	})
}

func TestCancelHandshake(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		helloed := make(chan struct{}, 1)
		c := upgradable(ctx, t, mail(), stalled(t, helloed))
		cancelable, cancel := context.WithCancel(ctx)
		defer cancel()
		wait := start(ctx, t, func(context.Context) error { return c.EnableSSL(cancelable) })
		receive(ctx, t, helloed)
		cancel()
		err := wait()
		wantError(t, "EnableSSL", err, context.Canceled)
		closedFor(ctx, t, c, wantReason(t, err, explain.ReasonCanceled))
	})
}

func TestCloseDuringHandshake(t *testing.T) {
	for how, end := range map[string]func(*client.Client) error{"Close": (*client.Client).Close, "Abort": (*client.Client).Abort} {
		t.Run(how, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				helloed := make(chan struct{}, 1)
				c := upgradable(ctx, t, mail(), stalled(t, helloed))
				wait := start(ctx, t, func(ctx context.Context) error { return c.EnableSSL(ctx) })
				receive(ctx, t, helloed)
				_, err := c.Send(ctx, []byte("in the clear"))
				wantError(t, "Send during the handshake", err, socket.ErrBusy)
				_, err = c.Recv(ctx)
				wantError(t, "Recv during the handshake", err, socket.ErrBusy)
				wantError(t, "second EnableSSL", c.EnableSSL(ctx), socket.ErrBusy)
				check(t, end(c))
				wantError(t, "EnableSSL", wait(), net.ErrClosed)
				_, err = c.Recv(ctx)
				wantError(t, "Recv", err, net.ErrClosed)
				wantError(t, "second Close", c.Close(), net.ErrClosed)
			})
		})
	}
}

// The server learns from an alert why the client has left.
func TestAlertReachesServer(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		failed := make(chan error, 1)
		address := serve(t, func(s *script) {
			s.starttls()
			failed <- s.handshake(s.raw, serverTLS())
		})
		config := mail()
		config.TLS.ServerName = "other.test"
		c := upgradable(ctx, t, config, address)
		wantReason(t, c.EnableSSL(ctx), explain.ReasonNameMismatch)
		if err := receive(ctx, t, failed); err == nil || !strings.Contains(err.Error(), "bad certificate") {
			t.Errorf("the server's error is %v", err)
		}
	})
}

// Many clients upgrade at once on one loop, and each gets its own answers.
func TestManyUpgrades(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.starttls()
			s.secure(serverTLS())
			s.echoLines()
		})
		var waits []func() error
		for i := range 50 {
			waits = append(waits, start(ctx, t, func(ctx context.Context) error {
				c := client.New(mail())
				defer c.Close()
				if err := c.Connect(ctx, "tcp", address); err != nil {
					return err
				}
				ask(ctx, t, c)
				if err := c.EnableSSL(ctx); err != nil {
					return err
				}
				line := fmt.Appendf(nil, "EHLO client-%d\r\n", i)
				if _, err := c.Send(ctx, line); err != nil {
					return err
				}
				p, err := c.Recv(ctx)
				if err == nil && !bytes.Equal(p, line) {
					err = fmt.Errorf("received %q, want %q", p, line)
				}
				return err
			}))
		}
		for _, wait := range waits {
			check(t, wait())
		}
	})
}
