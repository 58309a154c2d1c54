//go:build linux

package hooks_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// plainPair returns a connection over tcp whose ends can switch TLS on.
func plainPair(ctx context.Context, t testing.TB, clientOptions, serverOptions hooks.StreamOption) (client, server *hooks.Stream) {
	t.Helper()
	listener := streamServer(ctx, t, "tcp://127.0.0.1:0", serverOptions)
	client, err := hooks.StreamSocketClient(ctx, "tcp://"+listener.GetName(false), clientOptions)
	check(t, err)
	server, err = hooks.StreamSocketAccept(ctx, listener, patience)
	check(t, err)
	check(t, listener.Close())
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// encrypt switches TLS on at both ends, and returns what came of it.
func encrypt(ctx context.Context, t testing.TB, client, server *hooks.Stream, clientMethod, serverMethod hooks.CryptoMethod) (clientErr, serverErr error) {
	t.Helper()
	accepted := beside(ctx, t, func(ctx context.Context) error {
		done, err := server.EnableCrypto(ctx, true, serverMethod)
		if done != (err == nil) {
			t.Errorf("the server's is %v, %v", done, err)
		}
		return err
	})
	done, err := client.EnableCrypto(ctx, true, clientMethod)
	if done != (err == nil) {
		t.Errorf("the client's is %v, %v", done, err)
	}
	return err, accepted()
}

func TestEnableCryptoInBothRoles(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, c := range []struct {
			name           string
			client, server hooks.CryptoMethod
			want           string
		}{
			{"no method", 0, 0, "TLSv1.3"},
			{"any version", hooks.CryptoTLSClient, hooks.CryptoTLSServer, "TLSv1.3"},
			{"any method", hooks.CryptoAnyClient, hooks.CryptoAnyServer, "TLSv1.3"},
			{"any version, before TLS 1.3", 57, 56, "TLSv1.3"},
			{"the client's method", hooks.CryptoTLSv12Client, hooks.CryptoTLSServer, "TLSv1.2"},
			{"the server's method", hooks.CryptoTLSClient, hooks.CryptoTLSv12Server, "TLSv1.2"},
			{"a range", hooks.CryptoTLSv12Client | hooks.CryptoTLSv13Client, hooks.CryptoTLSv13Server, "TLSv1.3"},
			{"an old version, by name", hooks.CryptoTLSv11Client, hooks.CryptoTLSv11Server | hooks.CryptoTLSv12Server, "TLSv1.1"},
		} {
			client, server := plainPair(ctx, t, clientSSL(t, map[string]any{"ciphers": "DEFAULT"}), serverSSL(t))
			write(ctx, t, client, "STARTTLS\n")
			if line, err := server.Gets(ctx, 100); line != "STARTTLS\n" || err != nil {
				t.Fatal(line, err)
			}
			write(ctx, t, server, "go ahead\n")
			if line, err := client.Gets(ctx, 100); line != "go ahead\n" || err != nil {
				t.Fatal(line, err)
			}
			clientErr, serverErr := encrypt(ctx, t, client, server, c.client, c.server)
			if clientErr != nil || serverErr != nil {
				t.Fatalf("%s: %v, %v", c.name, clientErr, serverErr)
			}
			for _, s := range []*hooks.Stream{client, server} {
				m := s.GetMetaData()
				if m.Crypto == nil || m.Crypto.Protocol != c.want || m.StreamType != "tcp_socket/ssl" {
					t.Errorf("%s: %+v, %+v", c.name, m, m.Crypto)
				}
			}
			write(ctx, t, client, "secret")
			readFull(ctx, t, server, "secret")
			_, err := client.EnableCrypto(ctx, true, 0)
			wantError(t, "again", err, socket.ErrSSLActive)
			write(ctx, t, server, "still there")
			readFull(ctx, t, client, "still there")
			client.Close()
			server.Close()
		}
	})
}

func TestRolesThatAreTurnedRound(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		// Who accepts a connection can be TLS's client, as in FTP; the name to expect then comes from the context.
		client, server := plainPair(ctx, t, serverSSL(t), clientSSL(t, map[string]any{"peer_name": "localhost"}))
		a, b := encrypt(ctx, t, client, server, hooks.CryptoTLSServer|hooks.CryptoTLSv12Server, hooks.CryptoTLSClient)
		if a != nil || b != nil {
			t.Fatal(a, b)
		}
		write(ctx, t, server, "says the client")
		readFull(ctx, t, client, "says the client")
		if state, ok := server.ConnectionState(); !ok || len(state.PeerCertificates) == 0 {
			t.Error("who has accepted has not verified the other side")
		}
		client.Close()
		server.Close()
	})
}

func TestMethodsThatDoNotFit(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, method := range []hooks.CryptoMethod{2, 4, 8 | 32, 1 << 8, 1 | 1<<9, hooks.CryptoTLSv10Client | hooks.CryptoTLSv12Client, -2} {
			client, server := plainPair(ctx, t, clientSSL(t), serverSSL(t))
			done, err := client.EnableCrypto(ctx, true, method)
			if _, ok := errors.AsType[*hooks.StreamOptionError](err); done || !ok {
				t.Errorf("method %d: %v, %v", method, done, err)
			}
			if _, err := client.Write(ctx, []byte("in the clear")); err == nil {
				t.Errorf("method %d: the stream can be written to in the clear", method)
			}
			if _, err := server.Read(ctx, make([]byte, 1)); err != io.EOF {
				t.Errorf("method %d: the other side reads %v", method, err)
			}
			client.Close()
			server.Close()
		}
		listener := streamServer(ctx, t, "tcp://127.0.0.1:0", serverSSL(t))
		_, err := listener.EnableCrypto(ctx, true, 0)
		wantError(t, "on a server", err, syscall.EOPNOTSUPP)
		udp := streamServer(ctx, t, "udp://127.0.0.1:0")
		_, err = udp.EnableCrypto(ctx, true, 0)
		wantError(t, "on a datagram stream", err, syscall.EOPNOTSUPP)
		udp.Close()
		listener.Close()
	})
}

func TestCryptoIsVerifiedUnlessSwitchedOff(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, c := range []struct {
			name    string
			options hooks.StreamOption
			want    explain.Reason // "" for success
		}{
			{"no options", withContext(t, nil), explain.ReasonUnknownAuthority},
			{"another name", clientSSL(t, map[string]any{"peer_name": "example.com"}), explain.ReasonNameMismatch},
			{"another name, which doesn't matter", clientSSL(t, map[string]any{"peer_name": "example.com", "verify_peer_name": false}), ""},
			{"no verification", withContext(t, streamOptions{"ssl": {"verify_peer": false, "verify_peer_name": false}}), ""},
			{"the authority", clientSSL(t), ""},
		} {
			client, server := plainPair(ctx, t, c.options, serverSSL(t))
			clientErr, serverErr := encrypt(ctx, t, client, server, 0, 0)
			if c.want == "" {
				if clientErr != nil || serverErr != nil {
					t.Errorf("%s: %v, %v", c.name, clientErr, serverErr)
				}
			} else {
				failed, ok := errors.AsType[*explain.HandshakeError](clientErr)
				if !ok || failed.Reason != c.want {
					t.Errorf("%s: %v, want %s", c.name, clientErr, c.want)
				}
				for range 2 {
					_, err := client.Write(ctx, []byte("x"))
					if _, ok := errors.AsType[*explain.HandshakeError](err); !ok {
						t.Errorf("%s: a write afterwards: %v", c.name, err)
					}
				}
				if !client.EOF() {
					if _, err := client.Read(ctx, make([]byte, 1)); err == nil || !client.EOF() {
						t.Errorf("%s: a read afterwards: %v, end %v", c.name, err, client.EOF())
					}
				}
			}
			client.Close()
			server.Close()
		}
	})
}

// untilEncrypted calls EnableCrypto as ported code does where the stream may not be blocking.
func untilEncrypted(ctx context.Context, t testing.TB, s *hooks.Stream, method hooks.CryptoMethod) error {
	t.Helper()
	for {
		done, err := s.EnableCrypto(ctx, true, method)
		if done || err != nil {
			return err
		}
		_, err = hooks.StreamSelect(ctx, map[int]*hooks.Stream{0: s}, nil, nil, patience)
		check(t, err)
	}
}

func TestInjectedPlaintextIsRefused(t *testing.T) {
	for _, blocking := range []bool{true, false} {
		both(t, func(ctx context.Context, t *testing.T) {
			// To the server: a command behind STARTTLS.
			client, server := plainPair(ctx, t, clientSSL(t), serverSSL(t))
			write(ctx, t, client, "STARTTLS\r\nMAIL FROM:<mallory@example.com>\r\n")
			if line, err := server.GetLine(ctx, 100, "\r\n"); line != "STARTTLS" || err != nil {
				t.Fatal(line, err)
			}
			becomes(ctx, t, "the rest has been read ahead", func() bool { return server.GetMetaData().UnreadBytes > 0 })
			server.SetBlocking(blocking)
			wantError(t, "to the server", untilEncrypted(ctx, t, server, hooks.CryptoTLSServer), socket.ErrPlaintextPending)
			if line, err := server.GetLine(ctx, 100, "\r\n"); err == nil {
				t.Errorf("%q can still be read", line)
			}
			client.Close()
			server.Close()

			// To the client: an answer to what it hasn't asked yet, which the kernel may still have.
			client, server = plainPair(ctx, t, clientSSL(t), serverSSL(t))
			write(ctx, t, server, "220 go ahead\r\n")
			write(ctx, t, server, "250 injected\r\n")
			if line, err := client.GetLine(ctx, 100, "\r\n"); line != "220 go ahead" || err != nil {
				t.Fatal(line, err)
			}
			ready, err := hooks.StreamSelect(ctx, map[int]*hooks.Stream{0: client}, nil, nil, patience)
			if ready.Count() != 1 || err != nil {
				t.Fatal(ready, err)
			}
			client.SetBlocking(blocking)
			wantError(t, "to the client", untilEncrypted(ctx, t, client, hooks.CryptoTLSClient), socket.ErrPlaintextPending)
			client.Close()
			server.Close()
		})
	}
}

func TestHelloThatWasPeekedAt(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := plainPair(ctx, t, clientSSL(t), serverSSL(t))
		shaken := beside(ctx, t, func(ctx context.Context) error {
			_, err := client.EnableCrypto(ctx, true, 0)
			return err
		})
		ready, err := hooks.StreamSelect(ctx, map[string]*hooks.Stream{"s": server}, nil, nil, patience)
		if ready.Read["s"] != server || err != nil {
			t.Fatal(ready, err)
		}
		first := make([]byte, 1)
		if n, _, err := server.RecvFrom(ctx, first, hooks.StreamPeek); n != 1 || err != nil || first[0] != 22 {
			t.Fatalf("%d, %v, %v: no TLS handshake record", n, err, first)
		}
		done, err := server.EnableCrypto(ctx, true, 0)
		if !done || err != nil {
			t.Fatal(done, err)
		}
		check(t, shaken())
		write(ctx, t, server, "hello")
		readFull(ctx, t, client, "hello")
		client.Close()
		server.Close()
	})
}

func TestEnableCryptoWithoutBlocking(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := plainPair(ctx, t, clientSSL(t), serverSSL(t))
		server.SetBlocking(false)
		for range 3 { // the client has said nothing
			if done, err := server.EnableCrypto(ctx, true, hooks.CryptoTLSServer); done || err != nil {
				t.Fatal(done, err)
			}
		}
		set := map[string]*hooks.Stream{"server": server}
		if ready, err := hooks.StreamSelect(ctx, set, set, nil, 20*time.Millisecond); ready.Count() != 0 || err != nil {
			t.Fatalf("in the middle of a handshake: %+v, %v", ready, err)
		}
		if _, err := server.Read(ctx, make([]byte, 1)); err != hooks.ErrWouldBlock {
			t.Errorf("read in the middle of a handshake: %v", err)
		}
		if _, err := server.Write(ctx, []byte("x")); err != hooks.ErrWouldBlock {
			t.Errorf("write in the middle of a handshake: %v", err)
		}
		shaken := beside(ctx, t, func(ctx context.Context) error {
			_, err := client.EnableCrypto(ctx, true, 0)
			return err
		})
		ready, err := hooks.StreamSelect(ctx, set, set, nil, patience)
		if ready.Read["server"] == nil || ready.Write["server"] == nil || err != nil {
			t.Fatalf("after the handshake: %+v, %v", ready, err)
		}
		if done, err := server.EnableCrypto(ctx, true, hooks.CryptoTLSServer); !done || err != nil {
			t.Fatal(done, err)
		}
		check(t, shaken())
		if ready, err := hooks.StreamSelect(ctx, set, nil, nil, 0); ready.Count() != 0 || err != nil {
			t.Fatalf("when that was told: %+v, %v", ready, err)
		}
		_, err = server.EnableCrypto(ctx, true, hooks.CryptoTLSServer)
		wantError(t, "again", err, socket.ErrSSLActive)
		write(ctx, t, server, "secret")
		readFull(ctx, t, client, "secret")
		client.Close()
		server.Close()

		// One that fails says so once it has failed, whoever waits meanwhile.
		client, server = plainPair(ctx, t, clientSSL(t), serverSSL(t))
		server.SetBlocking(false)
		if done, err := server.EnableCrypto(ctx, true, 0); done || err != nil {
			t.Fatal(done, err)
		}
		write(ctx, t, client, "GET / HTTP/1.1\r\n\r\n")
		ready, err = hooks.StreamSelect(ctx, map[string]*hooks.Stream{"server": server}, nil, nil, patience)
		if ready.Count() != 1 || err != nil {
			t.Fatal(ready, err)
		}
		done, err := server.EnableCrypto(ctx, true, 0)
		if _, ok := errors.AsType[*explain.HandshakeError](err); done || !ok {
			t.Error(done, err)
		}
		client.Close()
		server.Close()

		// Blocking, EnableCrypto waits for what was begun without.
		client, server = plainPair(ctx, t, clientSSL(t), serverSSL(t))
		client.SetBlocking(false)
		if done, err := client.EnableCrypto(ctx, true, 0); done || err != nil {
			t.Fatal(done, err)
		}
		client.SetBlocking(true)
		if done, err := server.EnableCrypto(ctx, true, 0); !done || err != nil {
			t.Fatal(done, err)
		}
		if done, err := client.EnableCrypto(ctx, true, 0); !done || err != nil {
			t.Fatal(done, err)
		}
		client.Close()
		server.Close()
	})
}

func TestSlowClientHoldsUpNobody(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tls://127.0.0.1:0", serverSSL(t))
		silent, err := net.Dial("tcp", listener.GetName(false))
		check(t, err)
		slow, err := hooks.StreamSocketAccept(ctx, listener, patience)
		check(t, err)
		accepting, cancel := context.WithCancel(ctx)
		defer cancel()
		for range 3 {
			served := beside(ctx, t, func(ctx context.Context) error {
				s, err := hooks.StreamSocketClient(ctx, "tls://"+listener.GetName(false), clientSSL(t))
				if err != nil {
					return err
				}
				defer s.Close()
				_, err = s.Write(ctx, []byte("quick"))
				return err
			})
			s, err := hooks.StreamSocketAccept(accepting, listener, patience)
			check(t, err)
			cancel() // what was accepted is not the accepting's any more
			accepting = ctx
			check(t, s.SetTimeout(patience)) // also while the handshake is under way
			readFull(ctx, t, s, "quick")
			check(t, served())
			check(t, s.Close())
		}
		check(t, slow.SetTimeout(20*time.Millisecond))
		_, err = slow.Read(ctx, make([]byte, 1))
		wantError(t, "read from one that doesn't shake hands", err, runtime.ErrTimeout)
		set := map[int]*hooks.Stream{0: slow}
		if ready, err := hooks.StreamSelect(ctx, set, set, set, 20*time.Millisecond); ready.Count() != 0 || err != nil {
			t.Errorf("select: %+v, %v", ready, err)
		}
		waiting := beside(ctx, t, func(ctx context.Context) error {
			_, err := hooks.StreamSelect(ctx, set, nil, nil, -1)
			return err
		})
		check(t, silent.Close())
		check(t, waiting()) // the handshake has failed
		_, err = slow.Read(ctx, make([]byte, 1))
		if failed, ok := errors.AsType[*explain.HandshakeError](err); !ok || failed.Reason != explain.ReasonClosed {
			t.Errorf("read after the client has gone: %v", err)
		}
		check(t, slow.Close())
		listener.Close()
	})
}

func TestClosingInTheMiddleOfAHandshake(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tls://127.0.0.1:0", serverSSL(t))
		silent, err := net.Dial("tcp", listener.GetName(false))
		check(t, err)
		defer silent.Close()
		s, err := hooks.StreamSocketAccept(ctx, listener, patience)
		check(t, err)
		reading := beside(ctx, t, func(ctx context.Context) error {
			_, err := s.Read(ctx, make([]byte, 1))
			return err
		})
		check(t, s.Close())
		wantError(t, "read", reading(), net.ErrClosed)
		listener.Close()
	})
}

func TestSwitchingCryptoOff(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		_, secure := client.ConnectionState()
		done, err := client.EnableCrypto(ctx, false, 0)
		if !done || err != nil {
			t.Fatal(done, err)
		}
		_, err = client.Write(ctx, []byte("x"))
		if !secure {
			check(t, err)
			readFull(ctx, t, server, "x")
			return
		}
		wantError(t, "write", err, hooks.ErrCryptoEnded)
		if n, err := server.Read(ctx, make([]byte, 9)); n != 0 || err != io.EOF {
			t.Errorf("the peer reads %d bytes, %v", n, err)
		}
		write(ctx, t, server, "an answer")
		readFull(ctx, t, client, "an answer")
		if done, err := client.EnableCrypto(ctx, false, 0); !done || err != nil {
			t.Errorf("again: %v, %v", done, err)
		}
		_, err = client.EnableCrypto(ctx, true, 0)
		wantError(t, "on again", err, socket.ErrSSLActive)
	})
}

func TestMethodsDoNotStickToTheContext(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		clientContext, serverContext := clientSSL(t, map[string]any{"crypto_method": int(hooks.CryptoAnyClient)}), serverSSL(t)
		for _, c := range []struct {
			method hooks.CryptoMethod
			want   string
		}{{hooks.CryptoTLSv12Client, "TLSv1.2"}, {0, "TLSv1.3"}, {hooks.CryptoTLSv12Client, "TLSv1.2"}, {hooks.CryptoTLSClient, "TLSv1.3"}} {
			client, server := plainPair(ctx, t, clientContext, serverContext)
			a, b := encrypt(ctx, t, client, server, c.method, 0)
			if a != nil || b != nil || client.GetMetaData().Crypto.Protocol != c.want {
				t.Errorf("method %d: %v, %v, %+v", c.method, a, b, client.GetMetaData().Crypto)
			}
			client.Close()
			server.Close()
		}
	})
}

func TestOptionsOfOneStream(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		cert, ca := certFile(t), caFile(t)
		none := withContext(t, streamOptions{"ssl": {"verify_peer": false}})
		client, server := plainPair(ctx, t, withContext(t, nil), none)
		check(t, server.SetContextOption("ssl", "local_cert", cert))
		check(t, server.SetContextOption("ssl", "verify_peer", nil))
		check(t, server.SetContextOption("ssl", "alpn_protocols", "h2,smtp"))
		check(t, client.SetContextOption("ssl", "cafile", ca))
		check(t, client.SetContextOption("ssl", "alpn_protocols", "smtp"))
		if err := client.SetContextOption("socket", "tcp_nodelay", true); err == nil {
			t.Error("a socket option comes in time")
		}
		if err := client.SetContextOption("http", "method", "GET"); err == nil {
			t.Error("an option of http is taken")
		}
		a, b := encrypt(ctx, t, client, server, 0, 0)
		if a != nil || b != nil {
			t.Fatal(a, b)
		}
		if alpn := server.GetMetaData().Crypto.ALPN; alpn != "smtp" {
			t.Errorf("ALPN %q", alpn)
		}
		wantError(t, "an option that comes too late", client.SetContextOption("ssl", "peer_name", "x"), socket.ErrSSLActive)
		if got := client.Context().Options()["ssl"]["cafile"]; got != ca {
			t.Errorf("cafile is %v", got)
		}
		client.Close()
		server.Close()
	})
}

func TestServersWithoutACertificate(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for name, c := range map[string]struct {
			url     string
			options hooks.StreamOption
			option  string
		}{
			"none":              {"tls://127.0.0.1:0", withContext(t, nil), "local_cert"},
			"a missing file":    {"tls://127.0.0.1:0", withContext(t, streamOptions{"ssl": {"local_cert": "/nowhere/cert.pem"}}), ""},
			"of a later TLS":    {"tcp://127.0.0.1:0", withContext(t, streamOptions{"ssl": {"local_cert": "/nowhere/cert.pem"}}), ""},
			"a client's option": {"tls://127.0.0.1:0", serverSSL(t, map[string]any{"peer_name": "x"}), "peer_name"},
		} {
			_, err := hooks.StreamSocketServer(ctx, c.url, c.options)
			if wrong, ok := errors.AsType[*hooks.StreamOptionError](err); c.option != "" && (!ok || wrong.Wrapper != "ssl" || wrong.Option != c.option) {
				t.Errorf("%s: %v", name, err)
			}
			if _, ok := errors.AsType[*tlsconfig.CertificateError](err); c.option == "" && !ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestURLsThatNameAVersion(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for transport, want := range map[string]string{"tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3", "tls": "TLSv1.2"} {
			options := map[string]any{}
			if transport == "tls" {
				options["max_proto_version"] = 32
			} else {
				options["crypto_method"] = int(hooks.CryptoTLSClient) // the URL says more
			}
			listener := streamServer(ctx, t, "tls://127.0.0.1:0", serverSSL(t))
			client, err := hooks.StreamSocketClient(ctx, transport+"://"+listener.GetName(false), clientSSL(t, options), hooks.WithAsyncConnect())
			check(t, err)
			server, err := hooks.StreamSocketAccept(ctx, listener, patience)
			check(t, err)
			write(ctx, t, client, "x")
			readFull(ctx, t, server, "x")
			for _, s := range []*hooks.Stream{client, server} {
				if m := s.GetMetaData(); m.Crypto.Protocol != want {
					t.Errorf("%s: %+v", transport, m.Crypto)
				}
			}
			if uri := client.GetMetaData().URI; !strings.HasPrefix(uri, transport+"://") {
				t.Errorf("URI %q", uri)
			}
			client.Close()
			server.Close()
			listener.Close()
		}
		// A URL and a context that contradict each other.
		_, err := hooks.StreamSocketClient(ctx, "tlsv1.3://127.0.0.1:1", clientSSL(t, map[string]any{"max_proto_version": 32}))
		if _, ok := errors.AsType[*hooks.StreamOptionError](err); !ok {
			t.Errorf("TLS 1.3 and at most 1.2: %v", err)
		}
	})
}

func TestSessionsAreResumedWithinAContext(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tls://127.0.0.1:0", serverSSL(t))
		shared := clientSSL(t)
		for i := range 3 {
			client, err := hooks.StreamSocketClient(ctx, "tls://"+listener.GetName(false), shared, hooks.WithAsyncConnect())
			check(t, err)
			server, err := hooks.StreamSocketAccept(ctx, listener, patience)
			check(t, err)
			write(ctx, t, server, "with the ticket before it")
			readFull(ctx, t, client, "with the ticket before it")
			if state, _ := client.ConnectionState(); state.DidResume != (i > 0) {
				t.Errorf("connection %d: resumed is %v", i, state.DidResume)
			}
			client.Close()
			server.Close()
		}
		listener.Close()
	})
}

func TestNamesOfCiphers(t *testing.T) {
	// As "openssl ciphers -v" has them: name, bits, version.
	want := map[uint16]hooks.StreamCrypto{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       {CipherName: "ECDHE-ECDSA-AES128-GCM-SHA256", CipherBits: 128, CipherVersion: "TLSv1.2"},
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         {CipherName: "ECDHE-RSA-AES256-GCM-SHA384", CipherBits: 256, CipherVersion: "TLSv1.2"},
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   {CipherName: "ECDHE-RSA-CHACHA20-POLY1305", CipherBits: 256, CipherVersion: "TLSv1.2"},
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          {CipherName: "ECDHE-ECDSA-AES256-SHA", CipherBits: 256, CipherVersion: "TLSv1.0"},
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:         {CipherName: "ECDHE-RSA-AES128-SHA256", CipherBits: 128, CipherVersion: "TLSv1.2"},
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA:           {CipherName: "ECDHE-RSA-DES-CBC3-SHA", CipherBits: 112, CipherVersion: "TLSv1.0"},
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256:               {CipherName: "AES128-GCM-SHA256", CipherBits: 128, CipherVersion: "TLSv1.2"},
		tls.TLS_RSA_WITH_AES_256_CBC_SHA:                  {CipherName: "AES256-SHA", CipherBits: 256, CipherVersion: "SSLv3"},
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:                 {CipherName: "DES-CBC3-SHA", CipherBits: 112, CipherVersion: "SSLv3"},
		tls.TLS_RSA_WITH_RC4_128_SHA:                      {CipherName: "RC4-SHA", CipherBits: 128, CipherVersion: "SSLv3"},
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: {CipherName: "ECDHE-ECDSA-CHACHA20-POLY1305", CipherBits: 256, CipherVersion: "TLSv1.2"},
	}
	for id, want := range want {
		want.Protocol = "TLSv1.2"
		if got := *hooks.CipherOf(tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: id}); got != want {
			t.Errorf("%s: %+v, want %+v", tls.CipherSuiteName(id), got, want)
		}
	}
	for version, protocol := range map[uint16]string{tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS13: "TLSv1.3"} {
		if got := hooks.CipherOf(tls.ConnectionState{Version: version}); got.Protocol != protocol {
			t.Errorf("version %x: %q, want %q", version, got.Protocol, protocol)
		}
	}
	got := *hooks.CipherOf(tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, NegotiatedProtocol: "h2"})
	if want := (hooks.StreamCrypto{"TLSv1.3", "TLS_AES_128_GCM_SHA256", 128, "TLSv1.3", "h2"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
