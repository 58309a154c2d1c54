//go:build linux

package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// mail is the configuration of a client for the dialogs in these tests.
func mail() client.Config { return client.Config{EOF: "\r\n", TLS: trusting()} }

// starttls is the server's part of the dialog before the handshake.
func (s *script) starttls() {
	s.say("220 mail.test ESMTP\r\n")
	s.hear("STARTTLS\r\n")
	s.say("220 go ahead\r\n")
}

// upgradable returns a client that has come to the end of that dialog.
func upgradable(ctx context.Context, t testing.TB, config client.Config, address string) *client.Client {
	t.Helper()
	c := connect(ctx, t, config, "tcp", address)
	ask(ctx, t, c)
	return c
}

// ask has the server agree to TLS.
func ask(ctx context.Context, t testing.TB, c *client.Client) {
	t.Helper()
	recv(ctx, t, c, "220 mail.test ESMTP\r\n")
	send(ctx, t, c, "STARTTLS\r\n")
	recv(ctx, t, c, "220 go ahead\r\n")
}

// echoLines sends back each line over TLS, until the client closes, in order.
func (s *script) echoLines() {
	lines := bufio.NewReaderSize(s.Conn, 2<<20)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			return
		}
		s.ok(err)
		_, err = s.Write(line)
		s.ok(err)
	}
}

func TestEnableSSL(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.starttls()
					config := serverTLS()
					config.MaxVersion = version
					s.secure(config)
					s.echoLines()
				})
				c := upgradable(ctx, t, mail(), address)
				if _, ok := c.ConnectionState(); ok || c.PeerCertificates() != nil {
					t.Error("there is TLS before EnableSSL")
				}
				check(t, c.EnableSSL(ctx))
				state, ok := c.ConnectionState()
				if !ok || state.Version != version || len(state.VerifiedChains) == 0 || !c.Connected() {
					t.Errorf("TLS is %v: %v", ok, tlsconfig.Describe(state))
				}
				if got := c.PeerCertificates(); len(got) != 1 || !bytes.Equal(got[0].Raw, certificate().Certificate[0]) {
					t.Errorf("peer's certificates: %v", got)
				}
				for _, line := range []string{"EHLO client\r\n", "\r\n", strings.Repeat("x", 1<<20) + "\r\n"} {
					wait := start(ctx, t, func(ctx context.Context) error {
						_, err := c.Send(ctx, []byte(line))
						return err
					})
					recv(ctx, t, c, line)
					check(t, wait())
				}
				wantError(t, "second EnableSSL", c.EnableSSL(ctx), socket.ErrSSLActive)
				send(ctx, t, c, "still there\r\n")
				recv(ctx, t, c, "still there\r\n")
				check(t, c.Close())
			})
		})
	}
}

// The server says something over TLS first, and in one segment with the end of its handshake.
func TestServerSpeaksFirstOverTLS(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.starttls()
			s.secure(serverTLS())
			s.say("OK \"ManageSieve speaks first\"\r\nOK again\r\n")
			s.rest()
		})
		c := upgradable(ctx, t, mail(), address)
		check(t, c.EnableSSL(ctx))
		recv(ctx, t, c, "OK \"ManageSieve speaks first\"\r\n")
		recv(ctx, t, c, "OK again\r\n")
	})
}

// A server's handshake that arrives byte by byte is as good as any.
func TestHandshakeByteByByte(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.starttls()
					config := serverTLS()
					config.MaxVersion = version
					s.ok(s.handshake(&tapped{Conn: s.raw, onWrite: func(p []byte) (int, error) {
						for i := range p {
							if _, err := s.raw.Write(p[i : i+1]); err != nil {
								return i, err
							}
						}
						return len(p), nil
					}}, config))
					s.echoLines()
				})
				c := upgradable(ctx, t, mail(), address)
				check(t, c.EnableSSL(ctx))
				send(ctx, t, c, "NOOP\r\n")
				recv(ctx, t, c, "NOOP\r\n")
				check(t, c.Close())
			})
		})
	}
}

// Whom a client asks for, and verifies, is the host that it has dialled.
func TestServerName(t *testing.T) {
	for _, tc := range []struct {
		name, host, configured string
		sni                    string
		fails                  bool
	}{
		{"name", "localhost", "", "localhost", false},
		{"address", "127.0.0.1", "", "", false},
		{"name in the configuration", "127.0.0.1", "mail.test", "mail.test", false},
		{"another name in the configuration", "localhost", "evil.test", "evil.test", true},
		{"no SNI", "localhost", tlsconfig.NoSNI, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				asked := make(chan string, 1)
				config := serverTLS()
				config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					asked <- hello.ServerName
					return nil, nil
				}
				address := serve(t, func(s *script) {
					s.starttls()
					if s.handshake(s.raw, config) == nil {
						s.rest()
					}
				})
				_, port, _ := net.SplitHostPort(address)
				options := mail()
				options.TLS.ServerName = tc.configured
				c := connect(ctx, t, options, "tcp", net.JoinHostPort(tc.host, port))
				ask(ctx, t, c)
				err := c.EnableSSL(ctx)
				if sni := receive(ctx, t, asked); sni != tc.sni {
					t.Errorf("asked for %q, want %q", sni, tc.sni)
				}
				if (err != nil) != tc.fails {
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}

// The second connection of a Client resumes the session of the first. Another Client has no part in
// that, even if its configuration is the same, unless that brings a cache.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				config := serverTLS()
				config.MaxVersion = version
				address := serve(t, func(s *script) {
					s.starttls()
					s.secure(config)
					s.say("hello\r\n")
					s.rest()
				})
				resumes := func(c *client.Client) bool {
					t.Helper()
					check(t, c.Connect(ctx, "tcp", address))
					defer c.Close()
					ask(ctx, t, c)
					check(t, c.EnableSSL(ctx))
					recv(ctx, t, c, "hello\r\n") // with TLS 1.3, the session comes with this
					state, _ := c.ConnectionState()
					if len(state.PeerCertificates) != 1 || len(state.VerifiedChains) == 0 {
						t.Error("the server isn't verified")
					}
					return state.DidResume
				}
				options := mail()
				one, other := client.New(options), client.New(options)
				if resumes(one) {
					t.Error("the first connection has resumed a session")
				}
				for range 2 {
					if !resumes(one) {
						t.Error("a later connection has not resumed the session")
					}
				}
				if resumes(other) {
					t.Error("another Client has resumed the session")
				}
				options.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				resumes(client.New(options))
				if !resumes(client.New(options)) {
					t.Error("a Client with the same cache has not resumed the session")
				}
			})
		})
	}
}

// The Client has a copy of the configuration: what is done to it later has no effect.
func TestConfigurationIsCopied(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.starttls()
			if s.handshake(s.raw, serverTLS()) == nil {
				s.ok(errors.New("the handshake has succeeded"))
			}
		})
		options := client.Config{EOF: "\r\n", TLS: &tls.Config{}}
		c := client.New(options)
		options.TLS.InsecureSkipVerify = true
		check(t, c.Connect(ctx, "tcp", address))
		defer c.Close()
		ask(ctx, t, c)
		wantReason(t, c.EnableSSL(ctx), explain.ReasonUnknownAuthority)
	})
}

func wantReason(t testing.TB, err error, want explain.Reason) *explain.HandshakeError {
	t.Helper()
	h, ok := errors.AsType[*explain.HandshakeError](err)
	if !ok || h.Reason != want {
		t.Fatalf("error is %v (%T), want %q", err, err, want)
	}
	return h
}

func TestClientCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				config := serverTLS()
				config.MaxVersion = version
				config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, authority().Pool()
				address := serve(t, func(s *script) {
					s.starttls()
					if s.handshake(s.raw, config) != nil {
						return
					}
					peer := s.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
					s.say(fmt.Sprintf("235 welcome, %s\r\n", peer.Subject.CommonName))
					s.rest()
				})
				own, err := authority().Sign(devca.Request{CommonName: "alice", Client: true})
				check(t, err)
				options := mail()
				options.TLS.Certificates = []tls.Certificate{own}
				c := upgradable(ctx, t, options, address)
				check(t, c.EnableSSL(ctx))
				recv(ctx, t, c, "235 welcome, alice\r\n")

				foreign, err := devca.SelfSigned(devca.Request{CommonName: "mallory", Client: true})
				check(t, err)
				missing := explain.ReasonClientCertRequired
				if version == tls.VersionTLS12 { // it has no alert for that
					missing = explain.ReasonHandshakeFailure
				}
				for reason, certificates := range map[explain.Reason][]tls.Certificate{
					missing:                         nil,
					explain.ReasonClientCertRefused: {foreign},
				} {
					options.TLS.Certificates = certificates
					// A client sends only what fits the server's list of authorities, unless it is
					// told to.
					options.TLS.GetClientCertificate = nil
					if certificates != nil {
						options.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
					}
					c := upgradable(ctx, t, options, address)
					err := c.EnableSSL(ctx)
					if version == tls.VersionTLS13 { // the client is done before the server has looked at its certificate
						check(t, err)
						_, err = c.Recv(ctx)
					}
					if h := wantReason(t, err, reason); h.Alert < 0 || h.Host != "127.0.0.1" {
						t.Errorf("alert %d, host %q", h.Alert, h.Host)
					}
				}
			})
		})
	}
}

// A server that drops the connection without close_notify may not have been the one to do so.
func TestTruncation(t *testing.T) {
	for _, inRecord := range []bool{false, true} {
		t.Run(fmt.Sprintf("inRecord=%v", inRecord), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.starttls()
					lost := 0
					s.ok(s.handshake(&tapped{Conn: s.raw, onWrite: func(p []byte) (int, error) {
						n, err := s.raw.Write(p[:len(p)-lost])
						return n + lost, err
					}}, serverTLS()))
					s.say("250 whole\r\n")
					if inRecord {
						lost = 5
						s.say("250 torn\r\n")
					}
					s.halfClose()
					s.rest()
				})
				c := upgradable(ctx, t, mail(), address)
				check(t, c.EnableSSL(ctx))
				recv(ctx, t, c, "250 whole\r\n")
				for range 2 {
					_, err := c.Recv(ctx)
					wantError(t, "Recv", err, io.ErrUnexpectedEOF)
					if !inRecord {
						wantError(t, "Recv", err, socket.ErrTruncated)
					}
					if err == io.EOF {
						t.Error("it looks like the server's own end")
					}
				}
			})
		})
	}
}

// TLS over a Unix socket has no host to verify, so it needs a name.
func TestEnableSSLOnUnixSocket(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serveOn(t, "unix", socketPath(t), func(s *script) {
			s.starttls()
			if s.handshake(s.raw, serverTLS()) == nil {
				s.echoLines()
			}
		})
		for _, name := range []string{"mail.test", ""} {
			options := mail()
			options.TLS.ServerName = name
			c := connect(ctx, t, options, "unix", address)
			ask(ctx, t, c)
			err := c.EnableSSL(ctx)
			if name == "" {
				if _, ok := errors.AsType[*explain.HandshakeError](err); !ok {
					t.Errorf("without a name: %v", err)
				}
				continue
			}
			check(t, err)
			send(ctx, t, c, "NOOP\r\n")
			recv(ctx, t, c, "NOOP\r\n")
			check(t, c.Close())
		}
	})
}

// What can't be decrypted is explained after the handshake, too: both sides have to agree since
// when new keys hold.
func TestRecordThatCannotBeDecrypted(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.handshake(s.raw, serverTLS())
			s.raw.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...)) // application data under no key (RFC 8446, section 5.1)
			io.Copy(io.Discard, s.raw)
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, "tls", address)
		_, err := c.Recv(ctx)
		e, ok := errors.AsType[*explain.HandshakeError](err)
		if !ok || e.Reason != explain.ReasonProtocolError || !strings.Contains(e.Error(), "KeyUpdate") {
			t.Errorf("%v", err)
		}
	})
}
