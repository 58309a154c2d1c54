//go:build linux

package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/smtp"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) {
	childtest.Main(servePeer)
	leaktest.Main(m)
}

// What other packages' tests have, too.
var (
	check     = leaktest.Check
	wantError = leaktest.WantError
)

// both runs a test in a coroutine and again on a plain goroutine. It must leave neither goroutines
// nor descriptors behind.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Both(t, runtimetest.Quiet, test)
}

// coroutine runs a test in a coroutine.
func coroutine(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Coroutine(t, runtimetest.Quiet, test)
}

// authority has issued the certificate of the servers, for 127.0.0.1 and mail.test.
var authority = sync.OnceValue(func() *devca.CA {
	ca, err := devca.New("Whorl test CA")
	if err != nil {
		panic(err)
	}
	return ca
})

var certificate = sync.OnceValue(func() tls.Certificate {
	cert, err := authority().Issue("127.0.0.1", "mail.test")
	if err != nil {
		panic(err)
	}
	return cert
})

// plaintext is a configuration for servers without TLS.
func plaintext() smtp.Config { return smtp.Config{Security: smtp.Opportunistic, Hello: "me.test"} }

// secured is one for servers with STARTTLS.
func secured() smtp.Config {
	return smtp.Config{
		Hello:  "me.test",
		Client: client.Config{TLS: &tls.Config{RootCAs: authority().Pool()}},
	}
}

// dial begins a session, which ends with the test.
func dial(ctx context.Context, t testing.TB, address string, config smtp.Config) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(ctx, address, config)
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// letter is a mail to some recipients.
func letter(text string, to ...string) *smtp.Mail {
	return &smtp.Mail{From: "me@me.test", To: to, Message: strings.NewReader(text)}
}

// script is one connection of a server that does what the test says. A failure ends the script, and
// the test has failed.
type script struct {
	t testing.TB
	net.Conn
	raw    net.Conn // below TLS
	r      *bufio.Reader
	number int           // of the connection, from 1
	hasty  bool          // the client may leave at any time
	over   chan struct{} // closed when the test is over
}

// serve starts a server that runs play for each connection, and returns its address. At the end of
// the test the connections are closed, and the scripts have to end.
func serve(t testing.TB, play func(s *script)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var mu sync.Mutex
	var open []net.Conn
	var scripts sync.WaitGroup
	over := make(chan struct{})
	scripts.Go(func() {
		for number := 1; ; number++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			conn.SetDeadline(time.Now().Add(leaktest.Patience))
			scripts.Go(func() {
				defer conn.Close()
				play(&script{t: t, Conn: conn, raw: conn, r: bufio.NewReader(conn), number: number,
					over: over})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(over)
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		scripts.Wait()
	})
	return l.Addr().String()
}

// ok ends the script if err is an error.
func (s *script) ok(err error) {
	s.t.Helper()
	if err == nil {
		return
	}
	if !s.hasty && !errors.Is(err, net.ErrClosed) {
		s.t.Errorf("script: %v", err)
	}
	goruntime.Goexit()
}

func (s *script) say(text string) {
	s.t.Helper()
	_, err := io.WriteString(s.Conn, text)
	s.ok(err)
}

// line returns what the client says next, without its end.
func (s *script) line() string {
	s.t.Helper()
	line, err := s.r.ReadString('\n')
	s.ok(err)
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		s.ok(fmt.Errorf("a line that ends with LF alone: %q", line))
	}
	return text
}

// hear expects the client to say these lines.
func (s *script) hear(lines ...string) {
	s.t.Helper()
	for _, want := range lines {
		if got := s.line(); got != want {
			s.ok(fmt.Errorf("heard %q, want %q", got, want))
		}
	}
}

// hearBytes expects the client to say this, which isn't lines.
func (s *script) hearBytes(want string) {
	s.t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(s.r, got)
	s.ok(err)
	if string(got) != want {
		s.ok(fmt.Errorf("heard %q, want %q", got, want))
	}
}

// ask expects a line and answers it.
func (s *script) ask(line, answer string) {
	s.t.Helper()
	s.hear(line)
	s.say(answer)
}

// nothingHeard expects that nothing has come that wasn't heard.
func (s *script) nothingHeard() {
	s.t.Helper()
	s.raw.SetReadDeadline(time.Now().Add(soon))
	defer s.raw.SetReadDeadline(time.Now().Add(leaktest.Patience))
	if _, err := s.r.Peek(1); err == nil {
		p, _ := s.r.Peek(s.r.Buffered())
		s.ok(fmt.Errorf("heard %q too soon", p))
	}
}

// drip has all that the server says from now on leave byte by byte.
func (s *script) drip() {
	s.raw = dripping{s.raw}
	s.Conn = s.raw
}

type dripping struct{ net.Conn }

func (d dripping) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// soon is a time-out for what is not going to happen.
const soon = 30 * time.Millisecond

// data returns a message as it comes, without the dot at its end.
func (s *script) data() string {
	s.t.Helper()
	var message strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		s.ok(err)
		if line == ".\r\n" {
			return message.String()
		}
		message.WriteString(line)
	}
}

// rest returns all that the client still says until it leaves.
func (s *script) rest() string {
	got, _ := io.ReadAll(s.r) // a reset is a way of leaving
	return string(got)
}

// idle neither reads nor says anything until the test is over.
func (s *script) idle() { <-s.over }

// secure makes a TLS handshake.
func (s *script) secure() {
	s.t.Helper()
	conn := tls.Server(s.raw, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	s.ok(conn.Handshake())
	s.Conn, s.r = conn, bufio.NewReader(conn)
}

// hello is the beginning of a session in plaintext.
func (s *script) hello(keywords ...string) {
	s.t.Helper()
	s.say("220 mail.test ESMTP\r\n")
	s.ask("EHLO me.test", ehlo(keywords...))
}

// helloTLS is the beginning of a session over STARTTLS.
func (s *script) helloTLS(keywords ...string) {
	s.t.Helper()
	s.hello("STARTTLS", "PIPELINING")
	s.ask("STARTTLS", "220 go\r\n")
	s.secure()
	s.ask("EHLO me.test", ehlo(keywords...))
}

func ehlo(keywords ...string) string {
	lines := append([]string{"mail.test"}, keywords...)
	var b strings.Builder
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		b.WriteString("250" + separator + line + "\r\n")
	}
	return b.String()
}

// An mta is a server that takes mails. hook may answer a line, or the end of a message, which is
// ".", in its place; an answer "" leaves it to the mta.
type mta struct {
	keywords []string
	lmtp     bool // each recipient has an answer of its own
	hook     func(s *script, line string) (answer string)

	hooks sync.Mutex // held while hook is called

	mu    sync.Mutex
	mails []received
	quits int
}

// hooked does what a hook must not do at the same time.
func (m *mta) hooked(fn func()) {
	m.hooks.Lock()
	defer m.hooks.Unlock()
	fn()
}

// peerCertificates are what clients see of the servers.
func peerCertificates() []*x509.Certificate {
	return []*x509.Certificate{certificate().Leaf}
}

type received struct {
	from string
	to   []string
	text string
	conn int // number of the connection
}

func (m *mta) start(t testing.TB) (address string) {
	if m.keywords == nil {
		m.keywords = []string{"PIPELINING"}
	}
	return serve(t, m.play)
}

func (m *mta) play(s *script) {
	s.hasty = true
	var mail received
	answer := func(line, usual string) bool {
		a := ""
		if m.hook != nil {
			m.hooked(func() { a = m.hook(s, line) })
		}
		if a == "" {
			a = usual
		}
		well := a[0] == '2' || a[0] == '3'
		if line == "." && well { // there before the client knows
			m.mu.Lock()
			m.mails = append(m.mails, mail)
			m.mu.Unlock()
		}
		s.say(a)
		return well
	}
	if !answer("", "220 mail.test\r\n") {
		return
	}
	for {
		line := s.line()
		verb, _, _ := strings.Cut(line, " ")
		switch verb {
		case "EHLO", "LHLO":
			answer(line, ehlo(m.keywords...))
		case "MAIL":
			mail = received{}
			if answer(line, "250 ok\r\n") {
				mail = received{from: line, conn: s.number}
			}
		case "RCPT":
			if mail.from == "" {
				s.say("503 MAIL first\r\n")
			} else if answer(line, "250 ok\r\n") {
				mail.to = append(mail.to, strings.TrimSuffix(strings.TrimPrefix(line, "RCPT TO:<"),
					">"))
			}
		case "DATA":
			if len(mail.to) == 0 {
				s.say("503 RCPT first\r\n")
				continue
			} else if !answer(line, "354 go on\r\n") {
				continue
			}
			mail.text = s.data()
			if !m.lmtp {
				answer(".", "250 queued\r\n")
				continue
			}
			recipients := mail.to
			for i := range recipients {
				mail.to = recipients[i : i+1]
				answer(".", "250 delivered\r\n")
			}
		case "QUIT":
			m.mu.Lock()
			m.quits++
			m.mu.Unlock()
			s.say("221 bye\r\n")
			return
		default:
			answer(line, "250 ok\r\n")
		}
	}
}

func (m *mta) received() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}
