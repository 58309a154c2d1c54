package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

const (
	testUser     = "alice"
	testPassword = "correct horse battery staple"
)

// authority signs the certificates of the servers here.
var authority = sync.OnceValue(func() *devca.CA {
	ca, err := devca.New("test authority")
	if err != nil {
		panic(err)
	}
	return ca
})

func issue(t *testing.T, ca *devca.CA, request devca.Request) tls.Certificate {
	t.Helper()
	cert, err := ca.Sign(request)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A peer is a server that does what a script says, for one connection.
type peer struct {
	t    *testing.T
	addr string
	cert tls.Certificate
	conn net.Conn
	done chan struct{}

	// After done.
	wire  tap
	heard []string // lines that came over TLS
}

// A tap keeps what came over the wire, encrypted or not.
type tap struct {
	net.Conn
	received bytes.Buffer
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Write(p[:n])
	return n, err
}

// startPeer starts a server with a certificate for localhost and 127.0.0.1. After the script it
// listens until the client closes.
func startPeer(t *testing.T, script func(*peer)) *peer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, addr: listener.Addr().String(), done: make(chan struct{})}
	p.cert = issue(t, authority(), devca.Request{Names: []string{"localhost", "127.0.0.1"}})
	go func() {
		defer close(p.done)
		conn, err := listener.Accept()
		listener.Close()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		p.wire.Conn = conn
		p.conn = &p.wire
		script(p)
		io.Copy(io.Discard, p.conn)
	}()
	t.Cleanup(func() { listener.Close(); <-p.done })
	return p
}

// say ends the script when the client has gone.
func (p *peer) say(text string) {
	if _, err := io.WriteString(p.conn, text); err != nil {
		goruntime.Goexit()
	}
}

// hear reads a line and ends the script when there is none or it is another one.
func (p *peer) hear(prefix string) {
	var text []byte
	for one := make([]byte, 1); !bytes.HasSuffix(text, []byte("\r\n")); text = append(text, one...) { // no byte too many: TLS may follow
		if _, err := p.conn.Read(one); err != nil {
			goruntime.Goexit()
		}
	}
	if _, ok := p.conn.(*tls.Conn); ok {
		p.heard = append(p.heard, strings.TrimSuffix(string(text), "\r\n"))
	}
	if !strings.HasPrefix(string(text), prefix) {
		p.t.Errorf("the client said %q, not %q", text, prefix)
		p.say("500 what?\r\n")
		goruntime.Goexit()
	}
}

func (p *peer) ask(prefix, answer string) {
	p.hear(prefix)
	p.say(answer)
}

func (p *peer) startTLS() {
	conn := tls.Server(p.conn, &tls.Config{Certificates: []tls.Certificate{p.cert}})
	if err := conn.Handshake(); err != nil {
		io.Copy(io.Discard, p.conn)
		goruntime.Goexit()
	}
	p.conn = conn
}

// end closes this side.
func (p *peer) end() { p.wire.Conn.(*net.TCPConn).CloseWrite() }

// The stations of the usual dialogue. Each includes those before it.

func toSTARTTLS(p *peer) {
	p.say("220 mail.test ESMTP\r\n")
	p.ask("EHLO ", "250-mail.test\r\n250 STARTTLS\r\n")
	p.hear("STARTTLS")
}

func toTLS(p *peer) {
	toSTARTTLS(p)
	p.say("220 go ahead\r\n")
	p.startTLS()
}

func toAUTH(p *peer) {
	toTLS(p)
	p.ask("EHLO ", "250-mail.test\r\n250 AUTH PLAIN LOGIN\r\n")
	p.hear("AUTH PLAIN")
}

func toMAIL(p *peer) {
	toAUTH(p)
	p.say("334 \r\n")
	p.ask("", "235 welcome\r\n")
	p.hear("MAIL FROM:<alice@example.com>")
}

func toRCPT(p *peer) {
	toMAIL(p)
	p.say("250 ok\r\n")
	p.hear("RCPT TO:<bob@example.com>")
}

func toDATA(p *peer) {
	toRCPT(p)
	p.say("250 ok\r\n")
	p.hear("DATA")
}

func toEnd(p *peer) {
	toDATA(p)
	p.say("354 go on\r\n")
	for len(p.heard) == 0 || p.heard[len(p.heard)-1] != "." {
		p.hear("")
	}
}

func toQUIT(p *peer) {
	toEnd(p)
	p.say("250 queued\r\n")
	p.hear("QUIT")
}

// attempt runs the program against an address, with login, and returns what it printed.
func attempt(t *testing.T, addr string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string][]byte{"ca.pem": authority().PEM(), "password": []byte(testPassword + "\n")}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args = append([]string{
		"-addr", addr, "-from", "alice@example.com", "-to", "bob@example.com", "-ca", filepath.Join(dir, "ca.pem"),
		"-user", testUser, "-password-file", filepath.Join(dir, "password"),
	}, args...)
	var out, errs bytes.Buffer
	status = runAs(args, &out, &errs)
	return status, out.String(), errs.String()
}

// secrets are the forms of the password that must not be seen.
func secrets() []string {
	return []string{
		testPassword,
		base64.StdEncoding.EncodeToString([]byte(testPassword)),
		base64.StdEncoding.EncodeToString([]byte("\x00" + testUser + "\x00" + testPassword)),
	}
}

// checkWire checks that nothing was said in plaintext but EHLO, STARTTLS and QUIT.
func (p *peer) checkWire(t *testing.T) {
	t.Helper()
	received := p.wire.received.String()
	for _, secret := range append(secrets(), "AUTH ", "MAIL FROM", "example.com") {
		if strings.Contains(received, secret) {
			t.Errorf("%q was sent in plaintext", secret)
		}
	}
	clear, _, _ := strings.Cut(received, "\x16\x03") // where TLS begins
	for _, text := range strings.Split(strings.TrimSuffix(clear, "\r\n"), "\r\n") {
		if text != "" && !strings.HasPrefix(text, "EHLO ") && text != "STARTTLS" && text != "QUIT" {
			t.Errorf("sent in plaintext: %q", text)
		}
	}
}

// verbs returns what was said over TLS: the first word of each line, * for a secret, the mail as
// one word.
func (p *peer) verbs() string {
	var verbs []string
	inMail := false
	for _, text := range p.heard {
		verb, _, _ := strings.Cut(text, " ")
		switch {
		case inMail:
			if inMail = text != "."; !inMail {
				verbs = append(verbs, "message")
			}
			continue
		case text == secrets()[1] || text == secrets()[2]:
			verb = "*"
		}
		inMail = verb == "DATA" && slices.Contains(p.heard, ".")
		verbs = append(verbs, verb)
	}
	return strings.Join(verbs, " ")
}
