//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// openssl starts openssl s_server for some connections, one after the other, and returns its
// address. -msg has it print the handshake messages.
func openssl(t *testing.T, ca *devca.CA, args ...string) (server *servers.Process, addr string) {
	t.Helper()
	dir := servers.NewFolder(t)
	dir.Certify(ca)
	server = dir.Start(servers.Find(t, "openssl"), append([]string{"s_server", "-accept", "127.0.0.1:0", "-msg", "-CAfile", "ca.pem", "-cert", "cert.pem",
		"-key", "key.pem"}, args...)...)
	return server, "localhost:" + server.Match(`ACCEPT 127\.0\.0\.1:(\d+)\n`)[1]
}

// upgrade connects in plaintext and turns the connection into TLS.
func upgrade(ctx context.Context, addr string, config *tls.Config) (*client.Client, error) {
	c := client.New(client.Config{EOF: "\n", TLS: config, ReadTimeout: leaktest.Patience, HandshakeTimeout: leaktest.Patience})
	if err := c.Connect(ctx, "tcp", addr); err != nil {
		return nil, err
	}
	return c, c.EnableSSL(ctx)
}

// converse has both sides say something. The server types what it gets; what is typed into it, it
// sends.
func converse(ctx context.Context, c *client.Client, server *servers.Process, word string) error {
	if _, err := c.Send(ctx, []byte("client says "+word+"\n")); err != nil {
		return err
	}
	if _, err := runtime.Await(ctx, func() (struct{}, error) {
		server.Expect("client says " + word)
		server.Tell("server says " + word)
		return struct{}{}, nil
	}); err != nil {
		return err
	}
	line, err := c.Recv(ctx)
	if err != nil {
		return err
	}
	if string(line) != "server says "+word+"\n" {
		return fmt.Errorf("received %q", line)
	}
	return nil
}

func TestOpenSSL(t *testing.T) {
	ca := servers.NewCA(t)
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"TLS 1.2", "TLS 1.2", []string{"-tls1_2"}},
		{"TLS 1.2, ChaCha20", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}},
		{"TLS 1.3", "TLS 1.3", []string{"-tls1_3"}},
		{"TLS 1.3, ChaCha20", "TLS_CHACHA20_POLY1305_SHA256", []string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}},
		{"TLS 1.3, HelloRetryRequest", "CurveP384", []string{"-tls1_3", "-groups", "P-384"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, addr := openssl(t, ca, test.args...)
			err := runtime.Run(func(ctx context.Context) error {
				c, err := upgrade(ctx, addr, &tls.Config{RootCAs: ca.Pool()})
				if err != nil {
					return err
				}
				defer c.Close()
				state, _ := c.ConnectionState()
				if got := tlsconfig.Describe(state).String(); !strings.Contains(got, test.want) {
					t.Errorf("agreed on %s, want %s", got, test.want)
				}
				return converse(ctx, c, server, "hello")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// The server changes its keys and asks the client to change its own, RFC 8446, section 4.6.3. "K"
// has s_server do that.
func TestKeyUpdateByOpenSSL(t *testing.T) {
	ca := servers.NewCA(t)
	server, addr := openssl(t, ca, "-tls1_3")
	err := runtime.Run(func(ctx context.Context) error {
		c, err := upgrade(ctx, addr, &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range 3 {
			if err := converse(ctx, c, server, fmt.Sprintf("before %d", i)); err != nil {
				return err
			}
			server.Tell("K")
			// s_server takes for a command what it reads at once, so the next line has to come
			// after what it does about this one.
			if _, err := runtime.Await(ctx, func() (struct{}, error) {
				return struct{}{}, awaitKeyUpdates(server, ">>>", i+1)
			}); err != nil {
				return err
			}
			if err := converse(ctx, c, server, fmt.Sprintf("after %d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The client's last answer went out when it read the server's last line: nothing that has been
	// waited for says that it has arrived.
	if err := awaitKeyUpdates(server, "<<<", 3); err != nil {
		t.Error(err)
	}
}

// awaitKeyUpdates waits until the server has printed that many KeyUpdate messages of one direction,
// and fails if they don't come or if there are more.
func awaitKeyUpdates(server *servers.Process, direction string, want int) error {
	server.Until(func(said string) bool { return keyUpdates(said, direction) >= want })
	if n := keyUpdates(server.Said(), direction); n != want {
		return fmt.Errorf("%d KeyUpdate messages %s, want %d", n, direction, want)
	}
	return nil
}

func keyUpdates(messages, direction string) int {
	n := 0
	for line := range strings.Lines(messages) {
		if strings.HasPrefix(line, direction) && strings.Contains(line, "KeyUpdate") {
			n++
		}
	}
	return n
}

func TestResumptionWithOpenSSL(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			ca := servers.NewCA(t)
			server, addr := openssl(t, ca, version)
			config := &tls.Config{RootCAs: ca.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			err := runtime.Run(func(ctx context.Context) error {
				for _, resumed := range []bool{false, true} {
					c, err := upgrade(ctx, addr, config)
					if err != nil {
						return err
					}
					if state, _ := c.ConnectionState(); state.DidResume != resumed {
						t.Errorf("resumed %v, want %v", state.DidResume, resumed)
					}
					if err := converse(ctx, c, server, fmt.Sprintf("hello %v", resumed)); err != nil {
						return err
					}
					c.Close()
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClientCertificateForOpenSSL(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			ca := servers.NewCA(t)
			cert := servers.Sign(t, ca, devca.Request{CommonName: "a client of the tests", Client: true})
			server, addr := openssl(t, ca, version, "-Verify", "1", "-verify_return_error")
			err := runtime.Run(func(ctx context.Context) error {
				c, err := upgrade(ctx, addr, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{cert}})
				if err != nil {
					return err
				}
				defer c.Close()
				return converse(ctx, c, server, "hello")
			})
			if err != nil {
				t.Error(err)
			}
			server.Expect("CN = a client of the tests")
		})
		t.Run(version+" without one", func(t *testing.T) {
			ca := servers.NewCA(t)
			_, addr := openssl(t, ca, version, "-Verify", "1", "-verify_return_error")
			err := runtime.Run(func(ctx context.Context) error {
				c, err := upgrade(ctx, addr, &tls.Config{RootCAs: ca.Pool()})
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Recv(ctx) // under TLS 1.3 the server's no comes only now
				return err
			})
			want := explain.ReasonClientCertRequired
			if version == "-tls1_2" {
				want = explain.ReasonHandshakeFailure // the alert for it is one of TLS 1.3
			}
			handshake, ok := errors.AsType[*explain.HandshakeError](err)
			if !ok || handshake.Reason != want || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("error %v, want %q that speaks of a certificate", err, want)
			}
		})
	}
}
