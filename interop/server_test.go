//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
)

// startServer has a Server listen on a port until the test ends.
func startServer(t *testing.T, network string, port server.Port) (s *server.Server, addr string) {
	t.Helper()
	rt, err := runtime.New()
	if err == nil {
		err = rt.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	within := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), patience)
	}
	t.Cleanup(func() {
		ctx, cancel := within()
		defer cancel()
		if err := rt.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
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
func sClient(t *testing.T, addr, dir string, args ...string) *process {
	t.Helper()
	return start(t, "openssl", append([]string{"s_client", "-connect", addr, "-CAfile", filepath.Join(dir, "ca.pem"), "-verify_return_error",
		"-verify_hostname", "localhost", "-servername", "localhost"}, args...)...)
}

// serverTLS writes ca.pem, cert.pem and key.pem, and returns the configuration of a server with them.
func serverTLS(t *testing.T, options tlsconfig.ServerOptions) (config *tls.Config, dir string, ca *tlsconfig.CA) {
	t.Helper()
	need(t, "openssl")
	ca, dir = newCA(t), folder(t)
	certificate(t, dir, ca)
	options.Certificates = []tlsconfig.ServerCertificate{{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}}
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
func startSTARTTLSServer(t *testing.T) (server *process, addr, dir string) {
	t.Helper()
	need(t, "openssl")
	dir = folder(t)
	certificate(t, dir, newCA(t))
	program := filepath.Join(dir, "starttls-server")
	if out, err := exec.Command("go", "build", "-o", program, "../examples/starttls-server").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	server = start(t, program, "-listen", "127.0.0.1:0", "-cert", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"))
	server.expect("Server: 127.0.0.1:")
	_, addr, _ = strings.Cut(server.said(), "Server: ")
	addr, _, _ = strings.Cut(addr, "\n")
	return server, addr, dir
}

func TestOpenSSLAndTheSTARTTLSServer(t *testing.T) {
	server, addr, dir := startSTARTTLSServer(t)
	for option, version := range map[string]string{"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"} {
		t.Run(version, func(t *testing.T) {
			c := sClient(t, addr, dir, "-starttls", "smtp", "-crlf", "-ign_eof", option)
			c.expect("Verify return code: 0 (ok)")
			c.expect("New, " + version)
			for _, test := range []struct{ command, reply string }{ // in small letters, as s_client takes some capitals for commands to itself
				{"mail from:<alice@localhost>", "503 5.5.1 EHLO first"},
				{"ehlo client", "250 ENHANCEDSTATUSCODES"},
				{"starttls", "503 5.5.1 TLS is on already"},
				{"mail from:<alice@localhost>", "250 2.1.0 Ok"},
				{"rcpt to:<bob@localhost>", "550 5.1.1"},
				{"quit", "221 2.0.0 Bye"},
			} {
				c.tell(test.command)
				c.expect(test.reply)
			}
			if !eventually(c.over) {
				t.Error("the server doesn't close after QUIT")
			}
		})
	}
	t.Run("a client that trusts another authority", func(t *testing.T) {
		other := folder(t)
		write(t, other, "ca.pem", newCA(t).PEM())
		c := sClient(t, addr, other, "-starttls", "smtp")
		c.expect("verify error")
		if !eventually(c.over) || c.cmd.ProcessState.ExitCode() == 0 {
			t.Error("s_client goes on")
		}
	})
	t.Run("the server is told to end", func(t *testing.T) {
		c := sClient(t, addr, dir, "-starttls", "smtp", "-crlf", "-ign_eof")
		c.expect("Verify return code: 0 (ok)")
		c.tell("ehlo client")
		c.expect("250 ENHANCEDSTATUSCODES")
		server.cmd.Process.Signal(os.Interrupt)
		c.expect("421 4.3.2 The server shuts down")
		if !eventually(server.over) || server.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("it ended with %v", server.cmd.ProcessState)
		}
		server.expect("Handshakes, ok: 3\n")
		server.expect("Handshakes, certificate refused: 1\n")
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
			c.expect("Verify return code: 0 (ok)")
			c.expect(test.want)
			c.tell("hello")
			c.expect("server heard hello from somebody, resumed false")
		})
	}
	t.Run("ALPN, nothing in common", func(t *testing.T) {
		c := sClient(t, addr, dir, "-alpn", "x")
		c.expect("alert no application protocol")
	})
	t.Run("key updates", func(t *testing.T) {
		c := sClient(t, addr, dir, "-tls1_3", "-msg")
		c.expect("Verify return code: 0 (ok)")
		for i := range 3 {
			c.tell(fmt.Sprint("before ", i))
			c.expect(fmt.Sprint("server heard before ", i))
			c.tell("K") // s_client changes its keys and asks the server to do so
			if !eventually(func() bool { return keyUpdates(c.said(), ">>>") == i+1 }) {
				t.Fatal("s_client sends no KeyUpdate")
			}
			c.tell(fmt.Sprint("after ", i))
			c.expect(fmt.Sprint("server heard after ", i))
		}
		if n := keyUpdates(c.said(), "<<<"); n != 3 {
			t.Errorf("the server has changed its keys %d times, want 3", n)
		}
	})
}

func TestOpenSSLResumesSessions(t *testing.T) {
	config, dir, _ := serverTLS(t, tlsconfig.ServerOptions{})
	s, addr := startServer(t, "tls", server.Port{EOF: "\n", OnReceive: answer, TLS: config})
	for _, option := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(option, func(t *testing.T) {
			session := filepath.Join(dir, "session"+option)
			first := sClient(t, addr, dir, option, "-sess_out", session)
			first.expect("New, ")
			first.tell("hello")
			first.expect("server heard hello from somebody, resumed false")
			if !eventually(func() bool { written, _ := os.ReadFile(session); return strings.Contains(string(written), "-----END") }) {
				t.Fatal("there is no session")
			}
			second := sClient(t, addr, dir, option, "-sess_in", session)
			second.expect("Reused, ")
			second.tell("hello")
			second.expect("server heard hello from somebody, resumed true")
		})
	}
	t.Run("-reconnect", func(t *testing.T) {
		before := s.Stats().Handshakes["ok"]
		c := sClient(t, addr, dir, "-tls1_2", "-reconnect")
		reused := func() int { return strings.Count(c.said(), "Reused, TLSv1.2") }
		if !eventually(func() bool { return reused() == 5 }) {
			t.Errorf("%d sessions were resumed, want 5", reused())
		}
		c.tell("hello")
		c.expect("server heard hello from somebody, resumed true")
		if n := s.Stats().Handshakes["ok"] - before; n != 6 {
			t.Errorf("%d handshakes, want 6", n)
		}
	})
}

func TestClientCertificateOfOpenSSL(t *testing.T) {
	config, dir, ca := serverTLS(t, tlsconfig.ServerOptions{ClientCerts: tlsconfig.ClientCertsRequire})
	s, addr := startServer(t, "tls", server.Port{EOF: "\n", OnReceive: answer, TLS: config})
	request := tlsconfig.Request{CommonName: "a client of the tests", Client: true}
	give := func(t *testing.T, name string, from *tlsconfig.CA) []string {
		chain, key, err := tlsconfig.EncodePEM(sign(t, from, request))
		if err != nil {
			t.Fatal(err)
		}
		return []string{"-cert", write(t, dir, name+".pem", chain), "-key", write(t, dir, name+".key", key)}
	}
	known, stranger := give(t, "known", ca), give(t, "stranger", newCA(t))
	for _, option := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(option, func(t *testing.T) {
			c := sClient(t, addr, dir, append(known, option)...)
			c.expect("Verify return code: 0 (ok)")
			c.tell("hello")
			c.expect("server heard hello from a client of the tests")
		})
		for name, args := range map[string][]string{" without one": nil, " with a stranger's": stranger} {
			t.Run(option+name, func(t *testing.T) {
				before := s.Stats().Handshakes["ok"]
				c := sClient(t, addr, dir, append(args, option)...)
				c.expect("alert")
				if !eventually(c.over) || strings.Contains(c.said(), "server heard") {
					t.Error("s_client goes on")
				}
				if n := s.Stats().Handshakes["ok"]; n != before {
					t.Errorf("%d handshakes were taken", n-before)
				}
			})
		}
	}
	outcomes := s.Stats().Handshakes
	if outcomes["ok"] != 2 || outcomes[string(tlsconfig.ReasonClientCertRequired)] != 2 || outcomes[string(tlsconfig.ReasonClientCertRefused)] != 2 {
		t.Errorf("outcomes: %v", outcomes)
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
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			sTime := exec.CommandContext(ctx, "openssl", "s_time", "-connect", addr, "-CAfile", filepath.Join(dir, "ca.pem"), "-verify", "3", kind, "-time", "1")
			out, err := sTime.CombinedOutput()
			found := counted.FindSubmatch(out)
			if err != nil || found == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			n, _ := strconv.Atoi(string(found[1]))
			if !eventually(func() bool { return s.Stats().Handshakes["ok"]-before >= uint64(n) }) || n == 0 {
				t.Errorf("openssl counts %d connections, the server %d", n, s.Stats().Handshakes["ok"]-before)
			}
		})
	}
	if !eventually(func() bool { return s.Stats().Connections == 0 }) {
		t.Errorf("%d connections are left", s.Stats().Connections)
	}
	for outcome, n := range s.Stats().Handshakes {
		if outcome != "ok" {
			t.Errorf("%s: %d", outcome, n)
		}
	}
}
