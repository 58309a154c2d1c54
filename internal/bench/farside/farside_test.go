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

func TestPlaintextBehindStartTLSIsNoCommandOverTLS(t *testing.T) {
	id := Identity{}
	config, err := id.Config()
	check(t, err)
	p, err := dialogue.Lookup("smtp")
	check(t, err)
	s := started(t, Config{Role: Echo, TLS: config, StartTLS: p})
	conn := dial(t, s)
	_, err = conn.Write([]byte("EHLO a\r\nSTARTTLS\r\nEHLO injected\r\n"))
	check(t, err)
	said, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if strings.Contains(string(said), "go ahead") {
		t.Errorf("the server goes on to TLS: %q", said)
	}
	for deadline := time.Now().Add(patience); s.Stats().Failed != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.Stats())
		}
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
