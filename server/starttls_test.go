//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// upgrade is a client's STARTTLS.
func upgrade(t testing.TB, conn net.Conn) *tls.Conn {
	t.Helper()
	write(t, conn, "STARTTLS\r\n")
	expect(t, conn, "220 go\r\n")
	secure := tls.Client(conn, clientTLS())
	check(t, secure.Handshake())
	return secure
}

// hello returns the first flight of a client.
func hello(t testing.TB) string {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		tls.Client(far, clientTLS()).Handshake()
		far.Close()
	}()
	record := make([]byte, 5)
	_, err := io.ReadFull(near, record)
	check(t, err)
	body := make([]byte, int(record[3])<<8|int(record[4]))
	_, err = io.ReadFull(near, body)
	check(t, err)
	return string(record) + string(body)
}

// onlyAlerts reads to the end: nothing may come in the clear but what TLS says of a handshake that
// has failed.
func onlyAlerts(t testing.TB, conn io.Reader) {
	t.Helper()
	rest, _ := io.ReadAll(conn)
	if len(rest) > 0 && rest[0] != 21 {
		t.Errorf("%q was sent in the clear", rest)
	}
}

func TestUpgrade(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		for range 3 {
			conn := dial(t, l)
			write(t, conn, "EHLO x\r\n")
			expect(t, conn, "250 ok\r\n")
			secure := upgrade(t, conn)
			trips(t, secure, "EHLO x\r\n", "250 ok\r\n", "MAIL a\r\n", "250 ok\r\n")
			secure.Close()
		}
		h.settled()
		if st := h.Stats(); st.Handshakes["ok"] != 3 {
			t.Errorf("%v", st.Handshakes)
		}
	})
}

// trips sends commands and expects their answers.
func trips(t testing.TB, conn net.Conn, dialog ...string) {
	t.Helper()
	for i := 0; i < len(dialog); i += 2 {
		write(t, conn, dialog[i])
		expect(t, conn, dialog[i+1])
	}
}

// refused expects that injected words lead to the end of the connection before any handshake.
func refused(t *testing.T, m *mailer, h *house, l *server.Listener, text string) {
	t.Helper()
	conn := dial(t, l)
	write(t, conn, text)
	wantError(t, "the upgrade", m.outcomes(t, 1)[0], socket.ErrPlaintextPending)
	rest, _ := io.ReadAll(conn)
	if answer := string(rest); answer != "" && answer != "220 go\r\n" {
		t.Errorf("the client got %q", answer)
	}
	h.settled()
}

// ST-S-1: a command behind STARTTLS in the same segment.
func TestSTS1CommandBehindSTARTTLS(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		refused(t, m, h, l, "STARTTLS\r\nEHLO inj\r\n")
		if m.has("EHLO inj") {
			t.Error("the injected command was executed")
		}
	})
}

// ST-S-2: line ends that only one side takes for some, and half a command.
func TestSTS2LineEndsAndHalfACommand(t *testing.T) {
	t.Run("half", func(t *testing.T) {
		eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
			refused(t, m, h, l, "STARTTLS\r\nRS")
		})
	})
	t.Run("bare line feed, which ends a line", func(t *testing.T) {
		eachMailer(t, server.Port{EOF: "\n"}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
			refused(t, m, h, l, "STARTTLS\nRSET\r\n")
			if m.has("RSET") {
				t.Error("the injected command was executed")
			}
		})
	})
	t.Run("bare line feed, which doesn't", func(t *testing.T) {
		eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
			trips(t, dial(t, l), "STARTTLS\nRSET\r\n", "500 what?\r\n")
			if m.has("RSET") || m.has("STARTTLS") {
				t.Error("executed")
			}
		})
	})
}

// ST-S-3: a command that arrives in a segment of its own while the answer is written, at all kinds
// of moments.
func TestSTS3CommandWhileTheAnswerIsWritten(t *testing.T) {
	times := 1000
	if testing.Short() {
		times = 100
	}
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		for i := range times {
			conn := dial(t, l)
			write(t, conn, "STARTTLS\r\n")
			for range i % 50 {
				goruntime.Gosched()
			}
			conn.Write([]byte("RSET\r\n"))
			answer := make([]byte, len("220 go\r\n"))
			if n, _ := io.ReadFull(conn, answer); n > 0 && string(answer) != "220 go\r\n" {
				t.Fatalf("%q", answer)
			}
			onlyAlerts(t, conn)
			conn.Close()
		}
		for _, err := range m.outcomes(t, times) {
			if err == nil {
				t.Error("TLS has started")
			}
		}
		if m.has("RSET") {
			t.Error("the injected command was executed")
		}
		h.settled()
	})
}

// ST-S-4: the client's hello comes too early: in STARTTLS's own segment, or before the answer has
// left. Nobody can tell that from an injection.
func TestSTS4HelloBeforeTheAnswer(t *testing.T) {
	t.Run("same segment", func(t *testing.T) {
		eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
			refused(t, m, h, l, "STARTTLS\r\n"+hello(t))
		})
	})
	t.Run("another segment", func(t *testing.T) {
		eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
			conn := dial(t, l)
			write(t, conn, "STARTTLS\r\n")
			until(t, "it is about to be answered", func() bool { return m.has("STARTTLS") })
			write(t, conn, hello(t))
			wantError(t, "the upgrade", m.outcomes(t, 1)[0], socket.ErrPlaintextPending)
			io.ReadAll(conn)
			h.settled()
		}, func(m *mailer) {
			m.before = func(c *server.Conn) {
				until(t, "the hello is in the kernel", func() bool {
					n, _ := unix.IoctlGetInt(c.Socket().FD(), unix.SIOCINQ)
					return n > 0
				})
			}
		})
	})
}

// ST-S-5: what was said in the clear is forgotten.
func TestSTS5StateIsForgotten(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		conn := dial(t, l)
		trips(t, conn, "EHLO evil\r\n", "250 ok\r\n", "MAIL evil\r\n", "250 ok\r\n")
		trips(t, upgrade(t, conn), "RCPT b\r\n", "503 bad sequence\r\n", "MAIL a\r\n", "503 bad sequence\r\n", "EHLO x\r\n", "250 ok\r\n", "MAIL a\r\n", "250 ok\r\n")
	})
}

// ST-S-6: STARTTLS in TLS.
func TestSTS6SecondSTARTTLS(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		secure := upgrade(t, dial(t, l))
		trips(t, secure, "STARTTLS\r\n", "503 TLS is active\r\n", "NOOP\r\n", "250 ok\r\n", "STARTTLS\r\n", "503 TLS is active\r\n")
		wantError(t, "the second upgrade", m.outcomes(t, 3)[2], socket.ErrSSLActive)
	})
}

// ST-S-7: a handshake that fails, stalls or is cut off ends the connection in time, and nothing
// more is said in the clear.
func TestSTS7HandshakeFails(t *testing.T) {
	for name, client := range map[string]func(conn net.Conn){
		"garbage": func(conn net.Conn) { conn.Write([]byte("EHLO again\r\n")) },
		"alert":   func(conn net.Conn) { conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x28")) },
		"half":    func(conn net.Conn) { conn.Write([]byte("\x16\x03\x01\x02\x00\x01")) },
		"stall":   func(conn net.Conn) {},
		"close":   func(conn net.Conn) { conn.(*net.TCPConn).CloseWrite() },
		"reset":   reset,
	} {
		t.Run(name, func(t *testing.T) {
			reasons := make(chan error, 1)
			port := server.Port{
				HandshakeTimeout: 300 * time.Millisecond,
				OnClose:          func(_ context.Context, _ *server.Conn, reason error) { reasons <- reason },
			}
			eachMailer(t, port, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
				conn := dial(t, l)
				trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
				client(conn)
				if name != "reset" {
					onlyAlerts(t, conn)
				}
				err := m.outcomes(t, 1)[0]
				if reason := receive(t, reasons); err == nil || !errors.Is(reason, err) {
					t.Errorf("EnableSSL says %v, OnClose %v", err, reason)
				}
				h.settled()
			})
		})
	}
}

// OnClose gets what EnableSSL has said when it refuses, too, in both styles.
func TestReasonOfARefusedUpgrade(t *testing.T) {
	reasons := make(chan error, 1)
	port := server.Port{
		OnClose: func(_ context.Context, _ *server.Conn, reason error) { reasons <- reason },
	}
	eachMailer(t, port, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		write(t, dial(t, l), "STARTTLS\r\nMAIL evil\r\n")
		err := m.outcomes(t, 1)[0]
		wantError(t, "EnableSSL", err, socket.ErrPlaintextPending)
		if reason := receive(t, reasons); !errors.Is(reason, err) {
			t.Errorf("EnableSSL says %v, OnClose %v", err, reason)
		}
		h.settled()
	})
}

// ST-S-8: no authentication in the clear.
func TestSTS8AuthenticationNeedsTLS(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		conn := dial(t, l)
		trips(t, conn, "AUTH x\r\n", "538 5.7.11 encryption required\r\n")
		trips(t, upgrade(t, conn), "AUTH x\r\n", "250 ok\r\n")
	}, func(m *mailer) { m.requireTLS = true })
}

// ST-S-9: very many half-open handshakes leave the others served, and end in time.
func TestSTS9HalfOpenHandshakes(t *testing.T) {
	many := 5000
	if testing.Short() {
		many = 500
	}
	many = min(many, fileLimit(t)/2-500)
	eachMailer(t, server.Port{HandshakeTimeout: 2 * time.Second}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		for range many {
			conn := dial(t, l)
			write(t, conn, "STARTTLS\r\n")
		}
		until(t, "all have begun", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.executed) == many })
		conn := dial(t, l)
		for range 10 {
			trips(t, conn, "NOOP\r\n", "250 ok\r\n")
		}
		trips(t, upgrade(t, conn), "NOOP\r\n", "250 ok\r\n")
		m.outcomes(t, many+1)
		until(t, "only one is left", func() bool { return h.Stats().Connections == 1 })
	})
}

// ST-S-10: EnableSSL on a read buffer that isn't empty.
func TestSTS10UnreadPlaintext(t *testing.T) {
	for _, unread := range []string{"x", "half", "a whole line\r\n", strings.Repeat("much ", 10_000)} {
		t.Run(fmt.Sprintf("%d bytes", len(unread)), func(t *testing.T) {
			eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
				refused(t, m, h, l, "STARTTLS\r\n"+unread)
			})
		})
	}
}

// What is sent by ID during the handshake goes out after it, encrypted.
func TestSendDuringTheHandshake(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		conn := dial(t, l)
		trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
		var id server.ID
		for c := range h.Connections() {
			id = c.ID()
		}
		for i := range 3 {
			check(t, h.Send(id, fmt.Append(nil, "news ", i, "\r\n")))
		}
		secure := tls.Client(conn, clientTLS())
		expect(t, secure, "news 0\r\nnews 1\r\nnews 2\r\n")
		trips(t, secure, "NOOP\r\n", "250 ok\r\n")
		check(t, h.Send(id, []byte("more\r\n")))
		expect(t, secure, "more\r\n")
	})
}

func TestUpgradeWithoutCertificates(t *testing.T) {
	outcome := make(chan error, 1)
	ports := map[string]server.Port{
		"handler": {Handle: func(ctx context.Context, c *server.Conn) {
			outcome <- c.EnableSSL(ctx)
			echo(ctx, c)
		}},
		"callbacks": {OnReceive: echoBack, OnConnect: func(ctx context.Context, c *server.Conn) {
			c.EnableSSLAsync(ctx, func(_ context.Context, _ *server.Conn, err error) { outcome <- err })
		}},
	}
	for name, port := range ports {
		t.Run(name, func(t *testing.T) {
			_, l := start(t, "tcp", server.Config{Port: port})
			conn := dial(t, l)
			wantError(t, "EnableSSL", receive(t, outcome), server.ErrNoTLS)
			trip(t, conn, "goes on in the clear, as the program decides")
		})
	}
}

// An upgrade while another coroutine sends or receives is refused, and harms nothing.
func TestUpgradeWhileBusy(t *testing.T) {
	outcome := make(chan error, 2)
	t.Run("handler", func(t *testing.T) {
		port := server.Port{TLS: serverTLS(), EOF: "\n", Handle: func(ctx context.Context, c *server.Conn) {
			reader, _ := runtime.Go(ctx, func(ctx context.Context) { echo(ctx, c) })
			outcome <- c.EnableSSL(ctx)
			reader.Join(ctx)
		}}
		_, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		wantError(t, "EnableSSL", receive(t, outcome), socket.ErrBusy)
		trip(t, conn, "goes on\n")
	})
	t.Run("callbacks", func(t *testing.T) {
		port := server.Port{TLS: serverTLS(), EOF: "\n", OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			note := func(_ context.Context, _ *server.Conn, err error) { outcome <- err }
			c.Send(ctx, pkt)
			c.EnableSSLAsync(ctx, note)
			c.EnableSSLAsync(ctx, note)
		}}
		_, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "upgrade\n")
		wantError(t, "the second", receive(t, outcome), socket.ErrBusy)
		check(t, tls.Client(conn, clientTLS()).Handshake())
		check(t, receive(t, outcome))
	})
}

// breakers are functions of a TLS configuration's callbacks that don't return.
var breakers = map[string]func(){"panic": func() { panic("broken") }, "Goexit": goruntime.Goexit}

// brokenTLS is a configuration one of whose callbacks doesn't return.
func brokenTLS(broken func()) *tls.Config {
	config := serverTLS()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { broken(); return nil, nil }
	return config
}

// A callback of the TLS configuration that panics, or leaves by Goexit, costs its connection only.
func TestUpgradeWithABrokenConfiguration(t *testing.T) {
	for name, broken := range breakers {
		t.Run(name, func(t *testing.T) {
			eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
				port := server.Port{EOF: "\r\n", TLS: brokenTLS(broken), OnReceive: m.receive}
				if strings.HasSuffix(t.Name(), "handler") {
					port.Handle, port.OnReceive = m.handle, nil
				}
				second := h.listenPort("tcp", port)
				conn := dial(t, second)
				trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
				write(t, conn, hello(t))
				onlyAlerts(t, conn)
				if name != "Goexit" || port.Handle == nil { // which ends the handler, too
					if err := m.outcomes(t, 1)[0]; err == nil {
						t.Error("no error")
					}
				}
				h.settled()
				trips(t, dial(t, l), "NOOP\r\n", "250 ok\r\n")
			})
		})
	}
}

// The same for connections that begin with TLS; the places for handshakes are given back.
func TestBrokenConfiguration(t *testing.T) {
	for name, broken := range breakers {
		t.Run(name, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				h := open(t, server.Config{MaxHandshakes: 1})
				port.TLS = brokenTLS(broken)
				l := h.listenPort("tls", port)
				port.TLS = serverTLS()
				sound := h.listenPort("tls", port)
				h.serve()
				for range 3 * loops {
					conn := dial(t, l)
					write(t, conn, hello(t))
					onlyAlerts(t, conn)
				}
				h.settled()
				trip(t, dialTLS(t, sound), "hello")
			})
		})
	}
}
