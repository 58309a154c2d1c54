//go:build linux

package farside

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
)

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func TestRoles(t *testing.T) {
	t.Run("echo", func(t *testing.T) {
		s := started(t, Config{Role: Echo})
		for range 20 { // on both loops
			conn := dial(t, s)
			_, err := conn.Write([]byte("hello"))
			check(t, err)
			buf := make([]byte, 5)
			if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
				t.Fatalf("%q, %v", buf, err)
			}
		}
		if stats := s.Stats(); stats.Accepted != 20 || stats.Failed != 0 {
			t.Errorf("%+v", stats)
		}
	})
	t.Run("sink", func(t *testing.T) {
		conn := dial(t, started(t, Config{Role: Sink})).(*net.TCPConn)
		_, err := conn.Write(make([]byte, 1<<20))
		check(t, err)
		check(t, conn.CloseWrite())
		if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil {
			t.Errorf("%d bytes, %v; want the end", n, err)
		}
	})
	t.Run("source", func(t *testing.T) {
		conn := dial(t, started(t, Config{Role: Source, Size: 10, Framing: message.EOF}))
		lines := bufio.NewReader(conn)
		for range 10_000 {
			if line, err := lines.ReadString('\n'); err != nil || line != "wwwwwwww\r\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
}

func TestASecondServerIsRefusedTheAddress(t *testing.T) {
	s := started(t, Config{Role: Echo})
	if _, err := Start(s.rt, Config{Role: Echo, Listen: s.Addr(),
		Timeout: patience}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error: %v", err)
	}
}

// wishes are what a client asks for TLS with.
var wishes = map[string]string{
	"smtp": "STARTTLS\r\n", "lmtp": "STARTTLS\r\n", "imap": "a STARTTLS\r\n", "pop3": "STLS\r\n",
	"postgres": "\x00\x00\x00\x08\x04\xd2\x16\x2f",
}

// upgrading starts a server that echoes over TLS, after the dialogue of a protocol.
func upgrading(t *testing.T, protocol string) *Server {
	t.Helper()
	config, err := new(Identity).Config()
	check(t, err)
	p, err := dialogue.LookupServer(protocol)
	check(t, err)
	return started(t, Config{Role: Echo, TLS: config, StartTLS: p})
}

// failed waits until so many connections have failed, and none has come to TLS.
func failed(t *testing.T, s *Server, want int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.Stats().Failed != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %d failed", s.Stats(), want)
		}
	}
	if s.Stats().Handshakes != 0 {
		t.Errorf("%+v", s.Stats())
	}
}

// rest returns what the server still says until it closes.
func rest(t *testing.T, conn net.Conn) string {
	t.Helper()
	said, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	return string(said)
}

// ST-S-1, 2 and 4. What is there behind the wish for TLS is neither executed nor taken for TLS, in
// one segment or byte by byte.
func TestPlaintextBehindTheWishForTLS(t *testing.T) {
	for _, protocol := range dialogue.ServerNames() {
		t.Run(protocol, func(t *testing.T) {
			s := upgrading(t, protocol)
			tries := int64(0)
			for _, behind := range []string{"EHLO injected\r\n", "a NOOP\r\n", "CAPA\r\n",
				"RS\r\nRS", "\x16\x03\x01\x00\x05hello"} {
				for _, single := range []bool{false, true} {
					conn := dial(t, s)
					text := []byte(wishes[protocol] + behind)
					if !single {
						_, err := conn.Write(text)
						check(t, err)
					} else {
						for i := range text {
							if _, err := conn.Write(text[i : i+1]); err != nil {
								break // the server has had enough
							}
						}
					}
					// Byte by byte the wish may be answered before the rest is there. An alert of
					// TLS follows that, and nothing else.
					said := rest(t, conn)
					greeting := string(s.config.StartTLS.Server().Greeting())
					if !single && !strings.HasPrefix(greeting, said) || strings.Count(said,
						"\n") > 2 {
						t.Errorf("%q behind %q: the server says %q", behind, wishes[protocol], said)
					}
					tries++
				}
			}
			failed(t, s, tries)
		})
	}
}

// ST-S-2: a line that ends otherwise is no command.
func TestWishesForTLSThatAreNone(t *testing.T) {
	s := upgrading(t, "smtp")
	for _, text := range []string{"STARTTLS\n", "STARTTLS\nRSET\r\n", "STARTTLS\rRSET\r\n"} {
		conn := dial(t, s)
		_, err := conn.Write([]byte(text))
		check(t, err)
		if said := rest(t, conn); strings.Count(said, "\r\n") != 1 {
			t.Errorf("%q: the server says %q", text, said)
		}
	}
	failed(t, s, 3)
}

// ST-S-7, S6: behind a handshake that is none the connection ends, and nothing is said in plaintext.
func TestHandshakesThatAreNone(t *testing.T) {
	for _, protocol := range dialogue.ServerNames() {
		t.Run(protocol, func(t *testing.T) {
			s := upgrading(t, protocol)
			conn := dial(t, s)
			_, err := conn.Write([]byte(wishes[protocol]))
			check(t, err)
			var said []byte
			for yes := map[string]string{"smtp": "220 2.0.0", "lmtp": "220 2.0.0", "imap": "a OK",
				"pop3": "+OK begin", "postgres": "S"}[protocol]; !strings.Contains(string(said), yes); {
				buf := make([]byte, 100)
				n, err := conn.Read(buf)
				check(t, err)
				said = append(said, buf[:n]...)
			}
			_, err = conn.Write([]byte("EHLO client\r\n"))
			check(t, err)
			if more := rest(t, conn); strings.ContainsAny(more, "\r\n") || len(more) > 7 {
				t.Errorf("the server says %q", more)
			}
			failed(t, s, 1)
		})
	}
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	for name, config := range map[string]Config{
		"a role":      {Role: "x", Timeout: 1},
		"no message":  {Role: Source, Timeout: 1},
		"STARTTLS":    {Role: Echo, Timeout: 1, StartTLS: new(dialogue.Protocol)},
		"no time-out": {Role: Echo},
	} {
		if config.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	id := Identity{CAOut: filepath.Join(dir, "ca.pem"), ClientAuth: true,
		ClientOut: filepath.Join(dir, "client.pem"), Names: []string{"mail.test"}}
	config, err := id.Config()
	check(t, err)
	if config.ClientAuth != tls.RequireAndVerifyClientCert ||
		config.Certificates[0].Leaf.DNSNames[0] != "mail.test" {
		t.Errorf("config: %+v", config)
	}
	if _, err := tls.LoadX509KeyPair(id.ClientOut, id.ClientOut); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(id.ClientOut); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the client's key may be read by all: %v, %v", info, err)
	}
	client, err := dialect.SwooleClient(map[string]any{"ssl_cafile": id.CAOut})
	check(t, err)
	if _, err := config.Certificates[0].Leaf.Verify(x509.VerifyOptions{Roots: client.RootCAs,
		DNSName: "mail.test"}); err != nil {
		t.Error(err)
	}

	ca, err := devca.New("another")
	check(t, err)
	cert, err := ca.Issue("localhost")
	check(t, err)
	chain, key, err := devca.EncodePEM(cert)
	check(t, err)
	own := filepath.Join(dir, "own.pem")
	check(t, os.WriteFile(own, append(chain, key...), 0o600))
	authority := filepath.Join(dir, "authority.pem")
	check(t, os.WriteFile(authority, ca.PEM(), 0o600))
	if config,
		err = (&Identity{CertFile: own, KeyFile: own, ClientAuth: true,
		ClientCA: authority}).Config(); err != nil || !config.ClientCAs.Equal(ca.Pool()) {
		t.Errorf("with files: %v", err)
	}
	for name, bad := range map[string]Identity{
		"a certificate without key": {CertFile: own},
		"a CA that isn't there": {CertFile: own, KeyFile: own,
			CAOut: filepath.Join(dir, "x")},
		"a client nobody asks for": {ClientOut: filepath.Join(dir, "x")},
		"a client of another authority": {ClientAuth: true, ClientCA: authority,
			ClientOut: filepath.Join(dir, "x")},
		"a file that isn't there":        {ClientAuth: true, ClientCA: filepath.Join(dir, "none")},
		"a file without certificates":    {ClientAuth: true, ClientCA: filepath.Join(dir, "empty")},
		"a directory that isn't there":   {CAOut: filepath.Join(dir, "none", "ca.pem")},
		"a certificate that isn't there": {CertFile: filepath.Join(dir, "none"), KeyFile: own},
	} {
		check(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
		if _, err := bad.Config(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
