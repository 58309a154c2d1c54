//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	t.Parallel()
	exampletest.Demonstration(t, run)
}

func serve(t *testing.T, args ...string) (address string, stop func() string) {
	t.Helper()
	return exampletest.Serve(t, run, "Server: ", args...)
}

// A peer is a client that says what it likes.
type peer struct {
	t *testing.T
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, address string) *peer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, exampletest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(exampletest.Patience))
	p := &peer{t, conn, bufio.NewReader(conn)}
	p.expect("220 ")
	return p
}

func (p *peer) say(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) expect(prefix string) {
	p.t.Helper()
	if line, err := p.lines.ReadString('\n'); !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("%q, %v; want %q", line, err, prefix)
	}
}

// secure is the client's side of the handshake.
func (p *peer) secure(roots *x509.CertPool) error {
	conn := tls.Client(p.Conn, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	p.Conn, p.lines = conn, bufio.NewReader(conn)
	return conn.Handshake()
}

func rootsFrom(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(file)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s: %v, %q", file, err, pem)
	}
	return roots
}

func TestServingUntilToldToEnd(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	address, stop := serve(t, "-ca", ca)
	secure, plain := dial(t, address), dial(t, address)
	secure.say("EHLO client\r\nSTARTTLS\r\n")
	secure.expect("250-localhost")
	secure.expect("250-ENHANCED")
	secure.expect("250 STARTTLS")
	secure.expect("220 ")
	if err := secure.secure(rootsFrom(t, ca)); err != nil {
		t.Fatal(err)
	}
	secure.say("NOOP\r\nMAIL FROM:<a@b>\r\n")
	secure.expect("250 ")
	secure.expect("503 5.5.1 EHLO first")

	printed := stop()
	for _, p := range []*peer{secure, plain} {
		p.expect("421 4.3.2 ")
		if line, err := p.lines.ReadString('\n'); line != "" || err != io.EOF {
			t.Errorf("after the end of the server: %q, %v", line, err)
		}
	}
	if printed != "\nConnections: 2\nHandshakes, ok: 1\n" {
		t.Errorf("printed %q", printed)
	}
}

// What is behind STARTTLS in plaintext is never executed, and there is no TLS behind it.
func TestPlaintextBehindSTARTTLS(t *testing.T) {
	t.Parallel()
	address, stop := serve(t)
	for _, text := range []string{
		"STARTTLS\r\nEHLO injected\r\n",
		"STARTTLS\r\nRS",
		"EHLO a\r\nSTARTTLS\r\n\r\n",
		"STARTTLS\r\n\x16\x03\x01\x00\x05hello", // the handshake, too early
		"STARTTLS\nRSET\r\n",
	} {
		p := dial(t, address)
		p.say(text)
		for {
			line, err := p.lines.ReadString('\n')
			if err != nil {
				if line != "" {
					t.Errorf("%q: %q at the end", text, line)
				}
				break
			}
			if !strings.Contains(text, "EHLO a") && !strings.HasPrefix(line, "220 ") && !strings.HasPrefix(line, "500 5.5.2") || strings.Contains(line, "injected") {
				t.Errorf("%q: %q", text, line)
			}
		}
	}
	if printed := stop(); !strings.Contains(printed, "Connections: 5\nHandshakes, plaintext pending: 4\n") {
		t.Errorf("printed %q", printed)
	}
}

func TestAHandshakeThatIsNone(t *testing.T) {
	t.Parallel()
	address, stop := serve(t)
	p := dial(t, address)
	p.say("STARTTLS\r\n")
	p.expect("220 ")
	p.say("EHLO client\r\n")
	if rest, _ := io.ReadAll(p.lines); bytes.Contains(rest, []byte("250")) || bytes.Contains(rest, []byte("500")) {
		t.Errorf("the server goes on: %q", rest)
	}
	if printed := stop(); !strings.HasSuffix(printed, "Connections: 1\nHandshakes, plaintext client: 1\n") {
		t.Errorf("printed %q", printed)
	}
}

func TestALineThatIsTooLong(t *testing.T) {
	t.Parallel()
	address, _ := serve(t)
	p := dial(t, address)
	p.say("EHLO " + strings.Repeat("x", maxLine-len("EHLO \r\n")) + "\r\n")
	p.expect("250-")
	p.expect("250-")
	p.expect("250 ")
	p.say(strings.Repeat("x", maxLine+1)) // it gets no longer, so that the reply isn't lost in a reset
	p.expect("500 5.5.2 ")
	if line, err := p.lines.ReadString('\n'); err == nil {
		t.Errorf("the server goes on: %q", line)
	}
}

func TestCertificateFromFiles(t *testing.T) {
	t.Parallel()
	ca, err := devca.New("a test's CA")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := devca.WritePEM(cert, certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, "-cert", certFile, "-key", keyFile)
	p := dial(t, address)
	p.say("STARTTLS\r\n")
	p.expect("220 ")
	if err := p.secure(ca.Pool()); err != nil {
		t.Fatal(err)
	}
	p.say("QUIT\r\n")
	p.expect("221 ")
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none", "ca.pem")
	exampletest.Flags(t, run, map[string][]string{
		"-ca is for the certificate for development": {"-ca", "a", "-cert", "b"},
		"-key is for -cert":                          {"-key", "a"},
		"-cert is for -listen":                       {"-cert", "a"},
		"not defined: -x":                            {"-x"},
		"no such file":                               {"-ca", none},
		none:                                         {"-listen", "127.0.0.1:0", "-cert", none},
		"not an IP address":                          {"-listen", "example.com:0"},
	}, "-listen", "-cert", "-key", "-ca")
}
