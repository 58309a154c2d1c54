//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// startServer has a Server listen on a port until the test ends.
func startServer(t *testing.T, network string, port server.Port) (s *server.Server, addr string) {
	t.Helper()
	rt := runtimetest.Start(t)
	s = server.New(server.Config{Port: port})
	l, err := s.Listen(rt.Context(), network, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(rt.Context()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// answer says what it hears, and who from. It is for ports with lines.
func answer(ctx context.Context, c *server.Conn, line []byte) {
	state, _ := c.ConnectionState()
	who := "somebody"
	if len(state.PeerCertificates) > 0 {
		who = state.PeerCertificates[0].Subject.CommonName
	}
	c.Send(ctx, fmt.Appendf(nil, "server heard %s from %s, resumed %v\n", strings.TrimSpace(string(line)), who, state.DidResume))
}

// sClient starts openssl s_client, which verifies the server with ca.pem of dir.
func sClient(t *testing.T, addr string, dir *servers.Folder, args ...string) *servers.Process {
	t.Helper()
	return servers.Start(t, "openssl", append([]string{"s_client", "-connect", addr, "-CAfile", dir.Path("ca.pem"), "-verify_return_error",
		"-verify_hostname", "localhost", "-servername", "localhost"}, args...)...)
}

// serverTLS writes ca.pem, cert.pem and key.pem, and returns the configuration of a server with
// them.
func serverTLS(t *testing.T, options tlsconfig.ServerOptions) (config *tls.Config, dir *servers.Folder, ca *devca.CA) {
	t.Helper()
	ca, dir = servers.NewCA(t), servers.NewFolder(t)
	dir.Certify(ca)
	options.Certificates = []tlsconfig.ServerCertificate{{CertFile: dir.Path("cert.pem"), KeyFile: dir.Path("key.pem")}}
	if options.ClientCerts != tlsconfig.ClientCertsNone {
		options.ClientCAPEM = ca.PEM()
	}
	certificates, err := tlsconfig.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	return certificates.Config(), dir, ca
}

// startSTARTTLSServer runs examples/starttls-server.
func startSTARTTLSServer(t *testing.T) (server *servers.Process, addr string, dir *servers.Folder) {
	t.Helper()
	dir = servers.NewFolder(t)
	dir.Certify(servers.NewCA(t))
	server = dir.Start(buildExample(t, "starttls-server"), "-listen", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem")
	return server, server.Match(`Server: (127\.0\.0\.1:\d+)\n`)[1], dir
}

func TestOpenSSLAndTheSTARTTLSServer(t *testing.T) {
	server, addr, dir := startSTARTTLSServer(t)
	for option, version := range map[string]string{"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"} {
		t.Run(version, func(t *testing.T) {
			c := sClient(t, addr, dir, "-starttls", "smtp", "-crlf", "-ign_eof", option)
			c.Expect("Verify return code: 0 (ok)")
			c.Expect("New, " + version)
			for _, test := range []struct{ command, reply string }{ // in small letters, as s_client takes some capitals for commands to itself
				{"mail from:<alice@localhost>", "503 5.5.1 EHLO first"},
				{"ehlo client", "250 ENHANCEDSTATUSCODES"},
				{"starttls", "503 5.5.1 TLS is on already"},
				{"mail from:<alice@localhost>", "250 2.1.0 Ok"},
				{"rcpt to:<bob@localhost>", "550 5.1.1"},
				{"quit", "221 2.0.0 Bye"},
			} {
				c.Tell(test.command)
				c.Expect(test.reply)
			}
			c.Ended() // as the server closes after QUIT
		})
	}
	t.Run("a client that trusts another authority", func(t *testing.T) {
		other := servers.NewFolder(t)
		other.Certify(servers.NewCA(t))
		c := sClient(t, addr, other, "-starttls", "smtp")
		c.Expect("verify error")
		if c.Ended() == 0 {
			t.Error("s_client has taken the certificate")
		}
	})
	t.Run("the server is told to end", func(t *testing.T) {
		c := sClient(t, addr, dir, "-starttls", "smtp", "-crlf", "-ign_eof")
		c.Expect("Verify return code: 0 (ok)")
		c.Tell("ehlo client")
		c.Expect("250 ENHANCEDSTATUSCODES")
		server.Signal(syscall.SIGINT)
		c.Expect("421 4.3.2 The server shuts down")
		if status := server.Ended(); status != 0 {
			t.Errorf("it ended with %d", status)
		}
		server.Expect("Handshakes, ok: 3\n")
		server.Expect("Handshakes, certificate refused: 1\n")
	})
}

func TestOpenSSLAsTheClient(t *testing.T) {
	config, dir, _ := serverTLS(t, tlsconfig.ServerOptions{ALPN: []string{"lines", "h2"}})
	_, addr := startServer(t, "tls", server.Port{EOF: "\n", OnReceive: answer, TLS: config})
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"TLS 1.2", "New, TLSv1.2", []string{"-tls1_2"}},
		{"TLS 1.2, ChaCha20", "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}},
		{"TLS 1.3", "New, TLSv1.3", []string{"-tls1_3"}},
		{"TLS 1.3, ChaCha20", "Cipher is TLS_CHACHA20_POLY1305_SHA256", []string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}},
		{"TLS 1.3, HelloRetryRequest", "Server Temp Key: ECDH, prime256v1", []string{"-tls1_3", "-groups", "X448:P-256"}}, // crypto/tls has no X448
		{"ALPN", "ALPN protocol: lines", []string{"-alpn", "x,lines"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := sClient(t, addr, dir, test.args...)
			c.Expect("Verify return code: 0 (ok)")
			c.Expect(test.want)
			c.Tell("hello")
			c.Expect("server heard hello from somebody, resumed false")
		})
	}
	t.Run("ALPN, nothing in common", func(t *testing.T) {
		c := sClient(t, addr, dir, "-alpn", "x")
		c.Expect("alert no application protocol")
	})
	t.Run("key updates", func(t *testing.T) {
		c := sClient(t, addr, dir, "-tls1_3", "-msg")
		c.Expect("Verify return code: 0 (ok)")
		for i := range 3 {
			c.Tell(fmt.Sprint("before ", i))
			c.Expect(fmt.Sprint("server heard before ", i))
			c.Tell("K") // s_client changes its keys and asks the server to do so
			if err := awaitKeyUpdates(c, ">>>", i+1); err != nil {
				t.Fatal("s_client: ", err)
			}
			c.Tell(fmt.Sprint("after ", i))
			c.Expect(fmt.Sprint("server heard after ", i))
		}
		if err := awaitKeyUpdates(c, "<<<", 3); err != nil {
			t.Error("the server: ", err)
		}
	})
}

func TestOpenSSLResumesSessions(t *testing.T) {
	config, dir, _ := serverTLS(t, tlsconfig.ServerOptions{})
	s, addr := startServer(t, "tls", server.Port{EOF: "\n", OnReceive: answer, TLS: config})
	for _, option := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(option, func(t *testing.T) {
			session := dir.Path("session" + option)
			first := sClient(t, addr, dir, option, "-sess_out", session)
			first.Expect("New, ")
			first.Tell("hello")
			first.Expect("server heard hello from somebody, resumed false")
			leaktest.Until(t, "the session is written", func() bool {
				written, _ := os.ReadFile(session)
				return strings.Contains(string(written), "-----END")
			})
			second := sClient(t, addr, dir, option, "-sess_in", session)
			second.Expect("Reused, ")
			second.Tell("hello")
			second.Expect("server heard hello from somebody, resumed true")
		})
	}
	t.Run("-reconnect", func(t *testing.T) {
		before := s.Stats().Handshakes["ok"]
		c := sClient(t, addr, dir, "-tls1_2", "-reconnect")
		if !c.Until(func(said string) bool { return strings.Count(said, "Reused, TLSv1.2") >= 5 }) {
			t.Error("fewer than 5 sessions were resumed")
		}
		c.Tell("hello")
		c.Expect("server heard hello from somebody, resumed true")
		// s_client is done with a resumed handshake before the server has read its last message.
		leaktest.Until(t, "the server has counted 6 handshakes", func() bool { return s.Stats().Handshakes["ok"]-before == 6 })
	})
}

func TestClientCertificateOfOpenSSL(t *testing.T) {
	config, dir, ca := serverTLS(t, tlsconfig.ServerOptions{ClientCerts: tlsconfig.ClientCertsRequire})
	s, addr := startServer(t, "tls", server.Port{EOF: "\n", OnReceive: answer, TLS: config})
	request := devca.Request{CommonName: "a client of the tests", Client: true}
	give := func(t *testing.T, name string, from *devca.CA) []string {
		chain, key, err := devca.EncodePEM(servers.Sign(t, from, request))
		if err != nil {
			t.Fatal(err)
		}
		return []string{"-cert", dir.Write(name+".pem", string(chain)), "-key", dir.Write(name+".key", string(key))}
	}
	known, stranger := give(t, "known", ca), give(t, "stranger", servers.NewCA(t))
	for _, option := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(option, func(t *testing.T) {
			c := sClient(t, addr, dir, append(known, option)...)
			c.Expect("Verify return code: 0 (ok)")
			c.Tell("hello")
			c.Expect("server heard hello from a client of the tests")
		})
		for name, args := range map[string][]string{" without one": nil, " with a stranger's": stranger} {
			t.Run(option+name, func(t *testing.T) {
				before := s.Stats().Handshakes["ok"]
				c := sClient(t, addr, dir, append(args, option)...)
				c.Expect("alert")
				if c.Ended(); strings.Contains(c.Said(), "server heard") {
					t.Error("the server talks to it")
				}
				if n := s.Stats().Handshakes["ok"]; n != before {
					t.Errorf("%d handshakes were taken", n-before)
				}
			})
		}
	}
	for outcome, want := range map[string]uint64{
		"ok": 2, string(explain.ReasonClientCertRequired): 2, string(explain.ReasonClientCertRefused): 2,
	} {
		leaktest.Until(t, fmt.Sprint(want, " handshakes ended so: ", outcome), func() bool { return s.Stats().Handshakes[outcome] == want })
	}
}

// OpenSSL's clients refuse a certificate by an alert that TLS 1.3 has encrypted and they have not.
func TestOpenSSLRefusesTheCertificate(t *testing.T) {
	config, dir, _ := serverTLS(t, tlsconfig.ServerOptions{})
	rejected := make(chan error, 2)
	port := server.Port{EOF: "\n", OnReceive: answer, TLS: config}
	port.OnReject = func(_ context.Context, _ *server.Conn, reason error) { rejected <- reason }
	_, addr := startServer(t, "tls", port)
	dir.Write("ca.pem", string(servers.NewCA(t).PEM()))
	for _, option := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(option, func(t *testing.T) {
			sClient(t, addr, dir, option).Ended()
			reason := <-rejected
			e, ok := errors.AsType[*explain.HandshakeError](reason)
			const unknownCA = 48
			if !ok || e.ID != explain.IDCertRefused || e.Alert != unknownCA {
				t.Errorf("%v", reason)
			}
		})
	}
}

// openssl s_time makes connections as fast as it can, for a second.
func TestManyConnectionsOfOpenSSL(t *testing.T) {
	config, dir, _ := serverTLS(t, tlsconfig.ServerOptions{})
	s, addr := startServer(t, "tls", server.Port{EOF: "\n", OnReceive: answer, TLS: config})
	counted := regexp.MustCompile(`(?m)^(\d+) connections in \d+ real seconds`)
	for _, kind := range []string{"-new", "-reuse"} {
		t.Run(kind, func(t *testing.T) {
			before := s.Stats().Handshakes["ok"]
			ctx, cancel := context.WithTimeout(t.Context(), leaktest.Patience)
			defer cancel()
			sTime := exec.CommandContext(ctx, "openssl", "s_time", "-connect", addr, "-CAfile", dir.Path("ca.pem"), "-verify", "3", kind, "-time", "1")
			out, err := sTime.CombinedOutput()
			found := counted.FindSubmatch(out)
			if err != nil || found == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			n, _ := strconv.Atoi(string(found[1]))
			if n == 0 {
				t.Error("openssl has made no connection")
			}
			leaktest.Until(t, fmt.Sprint("the server has counted ", n, " connections, too"), func() bool { return s.Stats().Handshakes["ok"]-before >= uint64(n) })
		})
	}
	leaktest.Until(t, "no connection is left", func() bool { return s.Stats().Connections == 0 })
	for outcome, n := range s.Stats().Handshakes {
		if outcome != "ok" {
			t.Errorf("%s: %d", outcome, n)
		}
	}
}
