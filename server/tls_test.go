//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// dribble is a connection that writes byte by byte.
type dribble struct{ net.Conn }

func (d dribble) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestTLSByteByByte(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tls.VersionName(version), func(t *testing.T) {
				port.TLS = serverTLS()
				h, l := start(t, "tls", server.Config{Port: port})
				config := clientTLS()
				config.MaxVersion = version
				conn := tls.Client(dribble{dial(t, l)}, config)
				trip(t, conn, "hello")
				conn.Close()
				h.settled()
			})
		}
	})
}

// A hello is looked at while it lies in the kernel; with little room there it needn't be whole.
func TestTLSWithTinyBuffers(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS, port.ReceiveBuffer, port.SendBuffer = serverTLS(), 1, 1
		h, l := start(t, "tls", server.Config{Port: port})
		config := clientTLS()
		config.NextProtos = []string{strings.Repeat("a", 250), strings.Repeat("b", 250), strings.Repeat("c", 250), strings.Repeat("d", 250)}
		for range 10 {
			config.NextProtos = append(config.NextProtos, config.NextProtos[:4]...) // 11 kB
		}
		conn := tls.Client(dial(t, l), config)
		check(t, conn.Handshake())
		for range 5 {
			trip(t, conn, strings.Repeat("hello", 1000))
		}
		conn.Close()
		h.settled()
	})
}

// cut is a connection that cuts the first record in two: the hello is in two records then.
type cut struct {
	net.Conn
	done bool
}

func (c *cut) Write(p []byte) (int, error) {
	if c.done || len(p) < 100 {
		return c.Conn.Write(p)
	}
	c.done = true
	body := p[5:]
	head, tail := body[:50], body[50:]
	record := func(b []byte) []byte { return append([]byte{p[0], p[1], p[2], byte(len(b) >> 8), byte(len(b))}, b...) }
	if _, err := c.Conn.Write(record(head)); err != nil {
		return 0, err
	}
	_, err := dribble{c.Conn}.Write(record(tail))
	return len(p), err
}

func TestTLSHelloInTwoRecords(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS = serverTLS()
		_, l := start(t, "tls", server.Config{Port: port})
		conn := tls.Client(&cut{Conn: dial(t, l)}, clientTLS())
		trip(t, conn, "hello")
	})
}

// Who speaks something else on a port with TLS is told so, and disconnected; nothing of it reaches
// a handler.
func TestPlaintextClientOnTLS(t *testing.T) {
	for name, test := range map[string]struct {
		hint, sent, want string
	}{
		"HTTP":       {"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.0 400 Bad Request\r\n"},
		"long POST":  {"", "POST / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100_000), "HTTP/1.0 400 Bad Request\r\n"},
		"text":       {"", "EHLO x\r\n", "554 5.7.0 This port is for TLS"},
		"one byte":   {"", "G", "This port speaks TLS"},
		"binary":     {"", "\x00\x00\x00\x08", "This port speaks TLS"},
		"hint":       {"come back with TLS\n", "EHLO x\r\n", "come back with TLS\n"},
		"SSLv2":      {"", "\x80\x2e\x01\x03\x01", "This port speaks TLS"},
		"TLS, alert": {"", "\x15\x03\x01\x00\x02\x02\x28", "This port speaks TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				port.TLS, port.LastWord = serverTLS(), func(*server.Conn, error) string { return test.hint }
				port.OnConnect = func(context.Context, *server.Conn) { t.Error("OnConnect") }
				h, l := start(t, "tls", server.Config{Port: port})
				conn := dial(t, l)
				go conn.Write([]byte(test.sent))
				answer, err := io.ReadAll(conn)
				if errors.Is(err, syscall.ECONNRESET) && len(test.sent) > 20_000 {
					err = nil // what comes after the end is answered by a reset, as always with TCP
				}
				if !strings.HasPrefix(string(answer), test.want) || err != nil {
					t.Errorf("%q, %v", answer, err)
				}
				h.settled()
				if st := h.Stats(); st.Opened != 0 || st.Handshakes["ok"] != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestClientCertificates(t *testing.T) {
	ca, err := devca.New("clients")
	check(t, err)
	certificate, err := ca.Sign(devca.Request{Names: []string{"alice.test"}, Client: true})
	check(t, err)
	for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert, tls.RequireAndVerifyClientCert} {
		t.Run(auth.String(), func(t *testing.T) {
			config := serverTLS()
			config.ClientAuth, config.ClientCAs = auth, ca.Pool()
			var names atomic.Value
			port := server.Port{TLS: config, OnReceive: echoBack, OnConnect: func(_ context.Context, c *server.Conn) {
				state, ok := c.ConnectionState()
				name := ""
				if len(state.PeerCertificates) > 0 {
					name = state.PeerCertificates[0].DNSNames[0]
				}
				names.Store(fmt.Sprint(name, " ", ok))
			}}
			h, l := start(t, "tls", server.Config{Port: port})
			with := clientTLS()
			with.Certificates = []tls.Certificate{certificate}
			conn := tls.Client(dial(t, l), with)
			trip(t, conn, "hello")
			want := " true"
			if auth != tls.NoClientCert {
				want = "alice.test true"
			}
			if got := names.Load(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			conn = tls.Client(dial(t, l), clientTLS())
			_, err := conn.Write([]byte("hello"))
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 5))
			}
			if required := auth == tls.RequireAndVerifyClientCert; required != (err != nil) {
				t.Errorf("without a certificate: %v", err)
			}
			conn.Close()
			until(t, "one is left", func() bool { return h.Stats().Connections == 1 })
		})
	}
}

func TestALPN(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS = serverTLS()
		port.TLS.NextProtos = []string{"h2", "imap"}
		h, l := start(t, "tls", server.Config{Port: port})
		config := clientTLS()
		config.NextProtos = []string{"imap", "pop3"}
		conn := tls.Client(dial(t, l), config)
		trip(t, conn, "hello")
		for c := range h.Connections() {
			if state, ok := c.ConnectionState(); !ok || state.NegotiatedProtocol != "imap" || !c.Info().TLS {
				t.Errorf("%v %q", ok, state.NegotiatedProtocol)
			}
		}
		config.NextProtos = []string{"pop3"}
		if err := tls.Client(dial(t, l), config).Handshake(); err == nil || !strings.Contains(err.Error(), "no application protocol") {
			t.Error(err)
		}
	})
}

// Connections of one listener resume each other's sessions, whatever loop they are on.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		port := server.Port{TLS: serverTLS(), Handle: echo}
		_, l := start(t, "tls", server.Config{Port: port})
		config := clientTLS()
		config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
		for i := range 2 * loops {
			conn := tls.Client(dial(t, l), config)
			trip(t, conn, "hello")
			if resumed := conn.ConnectionState().DidResume; resumed != (i > 0) {
				t.Errorf("%s, connection %d: resumed: %v", tls.VersionName(version), i, resumed)
			}
			conn.Close()
		}
	}
}

// Who takes too long for the handshake is dropped, wherever it stops.
func TestHandshakeTimeout(t *testing.T) {
	whole := hello(t)
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS, port.HandshakeTimeout = serverTLS(), 300*time.Millisecond
		port.OnConnect = func(context.Context, *server.Conn) { t.Error("OnConnect") }
		port.OnClose = func(context.Context, *server.Conn, error) { t.Error("OnClose") }
		rejected := make(chan error, 10)
		port.OnReject = func(_ context.Context, _ *server.Conn, reason error) { rejected <- reason }
		h, l := start(t, "tls", server.Config{Port: port})
		for _, sent := range []string{"", whole[:1], whole[:5], whole[:len(whole)-1], whole} {
			began := time.Now()
			conn := dial(t, l)
			write(t, conn, sent)
			io.ReadAll(conn)
			if took := time.Since(began); took < 300*time.Millisecond {
				t.Errorf("dropped after %v", took)
			}
			if err := receive(t, rejected); err == nil {
				t.Error("no reason")
			}
		}
		h.settled()
	})
}

// A client that leaves in the middle of its hello is not kept until the handshake's time is over.
func TestClientLeavesInItsHello(t *testing.T) {
	whole := hello(t)
	for name, leave := range map[string]func(net.Conn){"close": func(c net.Conn) { c.Close() }, "reset": reset} {
		for _, sent := range []string{"", whole[:1], whole[:100]} {
			t.Run(fmt.Sprintf("%s after %d bytes", name, len(sent)), func(t *testing.T) {
				h, l := start(t, "tls", server.Config{Port: server.Port{TLS: serverTLS(), Handle: echo, HandshakeTimeout: time.Hour}})
				conn := dial(t, l)
				write(t, conn, sent)
				until(t, "it is accepted", func() bool { return h.Stats().Accepted == 1 })
				leave(conn)
				h.settled()
			})
		}
	}
}

// A connection that ends without close_notify may have been cut short by somebody else.
func TestTruncatedClose(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS = serverTLS()
		d := keep(&port)
		_, l := start(t, "tls", server.Config{Port: port})
		raw := dial(t, l)
		conn := tls.Client(raw, clientTLS())
		trip(t, conn, "hello")
		raw.Close()
		d.closedWith(t, socket.ErrTruncated)
	})
}

// The server ends TLS as it should: the client sees close_notify.
func TestServerSaysCloseNotify(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS = serverTLS()
		h, l := start(t, "tls", server.Config{Port: port})
		conn := dialTLS(t, l)
		trip(t, conn, "hello")
		for c := range h.Connections() {
			check(t, c.Close())
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Error(n, err)
		}
	})
}

// Names of the client's choice get certificates of their own, and a name that the server doesn't
// have fails at the client only.
func TestServerNames(t *testing.T) {
	config, pool := serverTLS(), x509.NewCertPool()
	for _, name := range []string{"one.test", "two.test"} {
		ca, err := devca.New("names " + name)
		check(t, err)
		certificate, err := ca.Issue(name)
		check(t, err)
		config.Certificates = append(config.Certificates, certificate)
		pool.AppendCertsFromPEM(ca.PEM())
	}
	_, l := start(t, "tls", server.Config{Port: server.Port{TLS: config, Handle: echo}})
	for name, ok := range map[string]bool{"one.test": true, "two.test": true, "three.test": false} {
		conn := tls.Client(dial(t, l), &tls.Config{ServerName: name, RootCAs: pool})
		if err := conn.Handshake(); (err == nil) != ok {
			t.Error(name, err)
		}
	}
}

// A callback of the configuration that doesn't return is the server's fault: it is logged, and the
// client isn't blamed.
func TestCallbackOfTLSThatBreaks(t *testing.T) {
	for name, broken := range map[string]func(){"panic": func() { panic("broken callback") }, "Goexit": goruntime.Goexit} {
		for _, style := range []string{"handler", "callbacks", "STARTTLS", "STARTTLS, callbacks"} {
			t.Run(name+", "+style, func(t *testing.T) {
				config := serverTLS()
				certificate := config.Certificates[0]
				breaks := atomic.Bool{}
				breaks.Store(true)
				config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
					if breaks.Load() {
						broken()
					}
					return &certificate, nil
				}
				config.Certificates = nil
				reasons := make(chan error, 1)
				port := server.Port{TLS: config, EOF: "\n", OnReject: func(_ context.Context, _ *server.Conn, reason error) { reasons <- reason }}
				network := "tls"
				switch style {
				case "handler":
					port.Handle = echo
				case "callbacks":
					port.OnReceive = echoBack
				case "STARTTLS":
					network = "tcp"
					port.Handle = func(ctx context.Context, c *server.Conn) {
						c.Recv(ctx)
						c.Send(ctx, []byte("ok\n"))
						returned := false
						defer func() {
							if !returned {
								reasons <- runtime.ErrGoexit // which has ended the handler
							}
						}()
						err := c.EnableSSL(ctx)
						returned = true
						reasons <- err
					}
				case "STARTTLS, callbacks":
					network = "tcp"
					port.OnReceive = func(ctx context.Context, c *server.Conn, _ []byte) {
						c.Send(ctx, []byte("ok\n"))
						c.EnableSSLAsync(ctx, func(_ context.Context, _ *server.Conn, err error) { reasons <- err })
					}
				}
				h, l := start(t, network, server.Config{Port: port})
				conn := dial(t, l)
				if network == "tcp" {
					_, err := conn.Write([]byte("STARTTLS\n"))
					check(t, err)
					expect(t, conn, "ok\n")
				}
				if err := tls.Client(conn, clientTLS()).Handshake(); err == nil {
					t.Error("the handshake has succeeded")
				}
				reason := receive(t, reasons)
				if e, ok := errors.AsType[*explain.HandshakeError](reason); !ok || e.Reason != explain.ReasonLocalFault {
					t.Errorf("%v is not a fault of this side", reason)
				}
				if !h.logged("panic in a coroutine") {
					t.Errorf("the log has %v", h.log.All())
				}
				if n := h.Stats().Handshakes[string(explain.ReasonLocalFault)]; n != 1 {
					t.Errorf("counted: %v", h.Stats().Handshakes)
				}
			})
		}
	}
}

// What is changed in a configuration after a listener was made has no effect on it, as with a
// client's.
func TestTLSConfigurationIsCopied(t *testing.T) {
	config := serverTLS()
	_, l := start(t, "tls", server.Config{Port: server.Port{TLS: config, Handle: echo}})
	config.Certificates, config.MinVersion = nil, tls.VersionTLS13
	with := clientTLS()
	with.MaxVersion = tls.VersionTLS12
	trip(t, tls.Client(dial(t, l), with), "hello")
}
