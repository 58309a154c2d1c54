//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// upgrading has the client speak the STARTTLS dialog, and say EHLO over TLS.
func upgrading(t testing.TB, config *client.AsyncConfig, r *record) {
	receive := config.OnReceive
	config.OnReceive = func(ctx context.Context, a *client.Async, pkt []byte) {
		receive(ctx, a, pkt)
		switch line := string(pkt); {
		case strings.HasSuffix(line, " ESMTP\r\n"):
			check(t, a.Send([]byte("STARTTLS\r\n")))
		case line == "220 go ahead\r\n":
			check(t, a.EnableSSL(ctx, func(ctx context.Context, a *client.Async, err error) {
				r.ready(a, err)
				if err == nil {
					check(t, a.Send([]byte("EHLO client\r\n")))
				}
			}))
		}
	}
}

// ready records that the function of EnableSSL was called.
func (r *record) ready(a *client.Async, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if within := r.within[a]; within != "" {
		r.t.Errorf("onReady is called within %s", within)
	}
	if err != nil {
		r.events, r.cause = append(r.events, "not ready"), err
		return
	}
	r.events = append(r.events, "ready")
	if state, ok := a.ConnectionState(); !ok || !state.HandshakeComplete {
		r.t.Error("TLS is not on when it is ready")
	}
}

func TestAsyncEnableSSL(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.starttls()
					config := serverTLS()
					config.MaxVersion = version
					s.secure(config)
					s.say("220 over TLS, at once\r\n")
					s.hear("EHLO client\r\n")
					s.say("250 hello\r\n")
					s.rest()
				})
				config, r := recording(t, mail())
				upgrading(t, &config, r)
				a := client.NewAsync(config)
				check(t, a.Connect(ctx, "tcp", address))
				r.until(ctx, `receive "250 hello\r\n"`)
				r.want("connect", `receive "220 mail.test ESMTP\r\n"`, `receive "220 go ahead\r\n"`, "ready",
					`receive "220 over TLS, at once\r\n"`, `receive "250 hello\r\n"`)
				if state, ok := a.ConnectionState(); !ok || state.Version != version || len(a.PeerCertificates()) != 1 {
					t.Errorf("TLS is %v", tlsconfig.Describe(state))
				}
				check(t, a.Close())
				r.until(ctx, "close")
			})
		})
	}
}

// Plaintext that lies behind the server's agreement when EnableSSL is called is found, TLS is not
// started, and nothing is handed out any more.
func TestAsyncInjectedPlaintext(t *testing.T) {
	for _, injection := range injections {
		t.Run(injection.id+" "+injection.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				seen := make(chan []byte, 1)
				address := serve(t, func(s *script) {
					s.say("220 mail.test ESMTP\r\n")
					s.hear("STARTTLS\r\n")
					written := make(chan struct{})
					go func() {
						defer close(written)
						s.raw.Write([]byte("220 go ahead\r\n" + injection.tail)) // the client takes no 4 MiB
					}()
					seen <- s.rest()
					<-written
				})
				config, r := recording(t, mail())
				handed := config.OnReceive
				config.OnReceive = func(ctx context.Context, a *client.Async, pkt []byte) {
					handed(ctx, a, pkt)
					if string(pkt) == "220 mail.test ESMTP\r\n" {
						check(t, a.Send([]byte("STARTTLS\r\n")))
						return
					}
					err := a.EnableSSL(ctx, func(context.Context, *client.Async, error) { t.Error("onReady is called") })
					wantError(t, "EnableSSL", err, socket.ErrPlaintextPending)
				}
				check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
				r.until(ctx, "close")
				r.want("connect", `receive "220 mail.test ESMTP\r\n"`, `receive "220 go ahead\r\n"`, "close")
				wantError(t, "reason", r.reason(), socket.ErrPlaintextPending)
				if hello := receive(ctx, t, seen); len(hello) > 0 {
					t.Errorf("the server has seen %q", hello)
				}
			})
		})
	}
}

// What is injected after EnableSSL was called can only break the handshake.
func TestAsyncPlaintextDuringHandshake(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.starttls()
			s.hear("\x16\x03\x01")
			s.say("250 AUTH LOGIN\r\n")
			s.rest()
		})
		config, r := recording(t, mail())
		upgrading(t, &config, r)
		check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
		r.until(ctx, "close")
		r.want("connect", `receive "220 mail.test ESMTP\r\n"`, `receive "220 go ahead\r\n"`, "not ready", "close")
		wantReason(t, r.reason(), explain.ReasonPlaintext)
	})
}

// A handshake that fails is told to onReady, then to OnClose, with its reason.
func TestAsyncHandshakeFails(t *testing.T) {
	stranger, err := devca.New("Stranger")
	check(t, err)
	shake := func(s *script) { s.handshake(s.raw, serverTLS()) }
	for _, tc := range []struct {
		name   string
		change func(*client.Config)
		play   func(s *script)
		reason explain.Reason
	}{
		{"not trusted", func(c *client.Config) { c.TLS = &tls.Config{RootCAs: stranger.Pool()} }, shake, explain.ReasonUnknownAuthority},
		{"another name", func(c *client.Config) { c.TLS.ServerName = "evil.test" }, shake, explain.ReasonNameMismatch},
		{"time is up", func(c *client.Config) { c.HandshakeTimeout = soon }, func(s *script) { s.rest() }, explain.ReasonTimeout},
		{"reset", func(*client.Config) {}, func(s *script) { s.hear("\x16\x03\x01"); s.reset() }, explain.ReasonReset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.starttls()
					tc.play(s)
				})
				config, r := recording(t, mail())
				tc.change(&config.Config)
				upgrading(t, &config, r)
				check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
				r.until(ctx, "close")
				r.want("connect", `receive "220 mail.test ESMTP\r\n"`, `receive "220 go ahead\r\n"`, "not ready", "close")
				wantReason(t, r.reason(), tc.reason)
			})
		})
	}
}

// What is sent while the handshake is under way goes out over TLS, after it, in order.
func TestAsyncSendDuringHandshake(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.secure(serverTLS())
			s.hear("one two EHLO three")
			s.say("all\r\n")
			s.rest()
		})
		config, r := recording(t, mail())
		r.on("connect", func(a *client.Async) {
			check(t, a.EnableSSL(ctx, func(_ context.Context, a *client.Async, err error) {
				r.ready(a, err)
				check(t, a.Send([]byte("EHLO ")))
			}))
			check(t, a.Send([]byte("one ")))
			check(t, a.Send([]byte("two ")))
			never := func(context.Context, *client.Async, error) { t.Error("onReady of the second is called") }
			wantError(t, "second EnableSSL", a.EnableSSL(ctx, never), socket.ErrBusy)
		})
		a := client.NewAsync(config)
		check(t, a.Connect(ctx, "tcp", address))
		r.until(ctx, "ready")
		check(t, a.Send([]byte("three")))
		r.until(ctx, `receive "all\r\n"`)
		check(t, a.Close())
		r.until(ctx, "close")
	})
}

// Refusals leave the connection as it is. From elsewhere than the loop they are told to onReady.
func TestAsyncEnableSSLRefused(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.secure(serverTLS())
			s.echoLines()
		})
		config, r := recording(t, mail())
		a := r.open(ctx, config, "tls", address)
		defer a.Close()
		never := func(context.Context, *client.Async, error) { t.Error("onReady is called") }
		wantError(t, "EnableSSL", a.EnableSSL(ctx, never), socket.ErrSSLActive)
		if err := a.EnableSSL(ctx, nil); err == nil {
			t.Error("EnableSSL takes no function")
		}
		told := make(chan error, 1)
		go a.EnableSSL(ctx, func(_ context.Context, a *client.Async, err error) { told <- err })
		wantError(t, "EnableSSL elsewhere", receive(ctx, t, told), socket.ErrSSLActive)
		check(t, a.Send([]byte("still there\r\n")))
		r.until(ctx, `receive "still there\r\n"`)
	})
}

// Close during the handshake: onReady hears of it, then OnClose. A context that ends has the same
// effect.
func TestAsyncCloseDuringHandshake(t *testing.T) {
	for _, closes := range []bool{true, false} {
		t.Run(fmt.Sprintf("closes=%v", closes), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				begun := make(chan struct{})
				address := serve(t, func(s *script) {
					s.starttls()
					s.rest()
				})
				config, r := recording(t, mail())
				cancelable, cancel := context.WithCancel(ctx)
				defer cancel()
				handed := config.OnReceive
				config.OnReceive = func(ctx context.Context, a *client.Async, pkt []byte) {
					handed(ctx, a, pkt)
					if string(pkt) == "220 mail.test ESMTP\r\n" {
						check(t, a.Send([]byte("STARTTLS\r\n")))
						return
					}
					check(t, a.EnableSSL(cancelable, func(_ context.Context, a *client.Async, err error) { r.ready(a, err) }))
					close(begun)
				}
				a := client.NewAsync(config)
				check(t, a.Connect(ctx, "tcp", address))
				receive(ctx, t, begun)
				if closes {
					check(t, a.Close())
				} else {
					cancel()
				}
				r.until(ctx, "close")
				r.want("connect", `receive "220 mail.test ESMTP\r\n"`, `receive "220 go ahead\r\n"`, "not ready", "close")
				if closes && r.reason() != nil || !closes && !errors.Is(r.reason(), context.Canceled) {
					t.Errorf("reason is %v", r.reason())
				}
			})
		})
	}
}

// Close right behind EnableSSL, in a callback: onReady waits until that has returned, and still
// comes before OnClose.
func TestAsyncCloseBehindEnableSSL(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		config, r := recording(t, mail())
		r.on("connect", func(a *client.Async) {
			check(t, a.EnableSSL(ctx, func(_ context.Context, a *client.Async, err error) { r.ready(a, err) }))
			check(t, a.Close())
		})
		check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
		r.until(ctx, "close")
		r.want("connect", "not ready", "close")
	})
}

// Without a coroutine for the handshake the connection is not left in plaintext.
func TestAsyncEnableSSLWithoutACoroutine(t *testing.T) {
	guard(t)
	address := serve(t, func(s *script) { s.say("go ahead\r\n"); s.rest() })
	config, r := recording(t, mail())
	handed := config.OnReceive
	config.OnReceive = func(ctx context.Context, a *client.Async, pkt []byte) {
		handed(ctx, a, pkt)
		rt, err := sched.From(ctx)
		check(t, err)
		for range 10 { // as many as there may be
			rt.Retain()
			defer rt.Release()
		}
		err = a.EnableSSL(ctx, func(context.Context, *client.Async, error) { t.Error("onReady is called") })
		if !errors.Is(err, runtime.ErrTooMany) {
			t.Errorf("EnableSSL: %v", err)
		}
		wantError(t, "Send", a.Send([]byte("secret")), net.ErrClosed)
	}
	check(t, runtime.Run(func(ctx context.Context) error {
		return client.NewAsync(config).Connect(ctx, "tcp", address)
	}, append(quiet, runtime.WithMaxCoroutines(10))...))
	r.want("connect", `receive "go ahead\r\n"`, "close")
	wantError(t, "reason", r.reason(), runtime.ErrTooMany)
}

// With TLS 1.3 a server refuses a client without a certificate only when the connection stands
// already. OnClose is told what lies behind the alert.
func TestAsyncClientCertificateMissing(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			config := serverTLS()
			config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, authority().Pool()
			s.handshake(s.raw, config)
		})
		config, r := recording(t, mail())
		check(t, client.NewAsync(config).Connect(ctx, "tls", address))
		r.until(ctx, "close")
		r.want("connect", "close")
		wantReason(t, r.reason(), explain.ReasonClientCertRequired)
	})
}

// A callback that doesn't return is this side's fault, and costs the loop nothing.
func TestAsyncCallbackOfTLSThatBreaks(t *testing.T) {
	for name, broken := range map[string]func(){"panic": func() { panic("broken callback") }, "Goexit": goruntime.Goexit} {
		t.Run(name, func(t *testing.T) {
			runtimetest.Coroutine(t, runtimetest.QuietPanics, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) { s.handshake(s.raw, serverTLS()) })
				config := trusting()
				config.VerifyConnection = func(tls.ConnectionState) error { broken(); return nil }
				failed := runtime.NewChannel[error](1)
				a := client.NewAsync(client.AsyncConfig{
					Config:    client.Config{TLS: config},
					OnReceive: func(context.Context, *client.Async, []byte) {},
					OnError:   func(ctx context.Context, _ *client.Async, err error) { failed.Push(ctx, err) },
				})
				check(t, a.Connect(ctx, "tls", address))
				err, popped := failed.Pop(ctx)
				check(t, popped)
				if e, ok := errors.AsType[*explain.HandshakeError](err); !ok || e.Reason != explain.ReasonLocalFault {
					t.Errorf("%v is not a fault of this side", err)
				}
			})
		})
	}
}
