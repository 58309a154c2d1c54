//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// A mailServer is a server under test, and how to look at what it has got.
type mailServer struct {
	address string
	config  smtp.Config
	inboxes func() []string // the text of each mail, or files with several

	utf8, dsn bool
	reports   bool // of deliveries come in
}

// trusting is the configuration for a server with STARTTLS.
func trusting(roots *x509.CertPool) smtp.Config {
	return smtp.Config{
		Hello:  "client.test",
		Client: client.Config{TLS: &tls.Config{RootCAs: roots, ServerName: "localhost"}},
	}
}

// files returns what is in the files that a pattern matches.
func files(pattern string) func() []string {
	return func() (contents []string) {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if content, err := os.ReadFile(name); err == nil {
				contents = append(contents, string(content))
			}
		}
		return contents
	}
}

// has reports whether a mail has come, byte for byte, but for the header fields that servers put in
// front and the line ends of their files. It returns how often.
func (m *mailServer) has(text string) (times int) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for _, content := range m.inboxes() {
		content = strings.ReplaceAll(content, "\r\n", "\n")
		for {
			_, behind, ok := strings.Cut(content, text)
			if !ok {
				break
			}
			content = behind
			if behind = strings.TrimLeft(behind, "\n"); behind == "" ||
				strings.HasPrefix(behind, "From ") {
				times++
			}
		}
	}
	return times
}

// lines are bytes of all kinds, in lines, some of which begin with dots.
func lines() string {
	var b strings.Builder
	for c := range 256 {
		if c == '\n' || c == '\r' || c == 0 {
			continue
		}
		fmt.Fprintf(&b, "%c%c line\r\n", '.', byte(c))
		b.WriteByte(byte(c))
		b.WriteString("\r\n.\r\n..\r\n")
	}
	return b.String()
}

func attachment(size int) string {
	p := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(p)
	encoded := base64.StdEncoding.EncodeToString(p)
	var b strings.Builder
	for len(encoded) > 76 {
		b.WriteString(encoded[:76] + "\r\n")
		encoded = encoded[76:]
	}
	return b.String() + encoded + "\r\n"
}

// test sends mails of all kinds and looks whether they arrive as they were.
func (m *mailServer) test(t *testing.T, to, utf8To string, refused []string, many []string) {
	header := func(id string, more string) string {
		return "X-Mail: " + id +
			"\r\nFrom: <sender@client.test>\r\nTo: <someone@mail.test>\r\nSubject: " + id +
			"\r\nDate: Sun, 29 Nov 2026 15:00:00 +0000\r\n" +
			"Message-ID: <" + id + "@client.test>\r\nMIME-Version: 1.0\r\n" + more + "\r\n"
	}
	for _, chunking := range []bool{false, true} {
		config := m.config
		config.Chunking = chunking
		id := func(name string) string { return fmt.Sprintf("%s-%v", name, chunking) }
		err := runtime.Run(func(ctx context.Context) error {
			c, err := smtp.Dial(ctx, m.address, config)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, ok := c.Extension("PIPELINING"); !ok {
				t.Error("the server has no PIPELINING")
			}
			send := func(name string, mail smtp.Mail, text string) smtp.Receipt {
				t.Helper()
				if mail.From == "" {
					mail.From = "sender@client.test"
				}
				mail.Message = strings.NewReader(text)
				receipt, err := c.Send(ctx, &mail)
				if err != nil {
					t.Errorf("%s: %v", id(name), err)
				}
				return receipt
			}
			arrives := func(name, text string, times int) {
				t.Helper()
				runtime.Await(ctx, func() (struct{}, error) {
					leaktest.Until(t, fmt.Sprintf("%s has arrived %d times as it was", id(name),
						times), func() bool { return m.has(text) == times })
					return struct{}{}, nil
				})
			}

			text := header(id("8-bit"),
				"Content-Type: text/plain; charset=iso-8859-1\r\n"+eightBit) + lines()
			send("8-bit", smtp.Mail{To: []string{to}}, text)
			arrives("8-bit", text, 1)

			text = header(id("large"),
				"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n") +
				attachment(10<<20)
			send("large", smtp.Mail{To: []string{to}}, text)
			arrives("large", text, 1)

			if m.utf8 {
				text = header(id("utf8"),
					"X-Name: Jörg Grüße\r\nContent-Type: text/plain; charset=utf-8\r\n"+eightBit) +
					"Grüße\r\n"
				send("utf8", smtp.Mail{From: "jörg@bücher.test", To: []string{utf8To}}, text)
				arrives("utf8", text, 1)
			}
			if m.dsn {
				notify := []string{"FAILURE", "DELAY"}
				if m.reports {
					notify = append(notify, "SUCCESS")
				}
				text = header(id("dsn"), "") + "x\r\n"
				send("dsn", smtp.Mail{From: to, To: []string{to}, DSN: smtp.DSN{
					Notify: notify, Return: "HDRS", EnvelopeID: id("a b+c"),
				}}, text)
				arrives("dsn", text, 1)
			}
			if m.reports { // to the sender, on the mail that they name
				runtime.Await(ctx, func() (struct{}, error) {
					leaktest.Until(t, id("dsn")+" is reported", func() bool {
						all := strings.Join(m.inboxes(), "\n")
						return strings.Contains(all, "\nOriginal-Envelope-Id: "+id("a b+c")+"\n") &&
							strings.Contains(all, "\nOriginal-Recipient: rfc822;"+to+"\n")
					})
					return struct{}{}, nil
				})
			}

			text = header(id("many"), "") + "x\r\n"
			receipt := send("many", smtp.Mail{To: many}, text)
			var got []string
			for _, r := range receipt.Refused {
				got = append(got, r.Recipient)
				if r.Temporary() {
					t.Errorf("%v", r)
				}
			}
			if strings.Join(got, " ") != strings.Join(refused, " ") {
				t.Errorf("%s: refused were %q, want %q", id("many"), got, refused)
			}
			arrives("many", text, len(many)-len(refused))
			return c.Quit(ctx)
		}, runtime.WithWatchdog(0))
		leaktest.Check(t, err)
	}
}

const eightBit = "Content-Transfer-Encoding: 8bit\r\n"

// hundred returns a hundred recipients, among them some that are refused.
func hundred(format string, refused ...string) (to []string) {
	for i := range 100 - len(refused) {
		to = append(to, fmt.Sprintf(format, i))
		if i%30 == 20 && i/30 < len(refused) {
			to = append(to, refused[i/30])
		}
	}
	return to
}

func TestMailThroughPostfix(t *testing.T) {
	p := servers.NewPostfix(t, `
message_size_limit = 50000000
virtual_mailbox_limit = 0
virtual_mailbox_maps = inline:{ { bob@mail.test = bob/ }, { jörg@mail.test = joerg/ } }, regexp:{ {/^user[0-9]+@mail\.test$$/ users/} }
smtpd_soft_error_limit = 100
`)
	addrs := p.Start("")
	m := mailServer{address: addrs[0], config: trusting(p.CA.Pool()), utf8: true, dsn: true,
		reports: true, inboxes: files(p.Path("mail/*/new/*"))}
	refused := []string{"nobody1@mail.test", "nobody2@mail.test", "other@elsewhere.test"}
	many := hundred("user%d@mail.test", refused...)
	m.test(t, "bob@mail.test", "jörg@mail.test", refused, many)
}

func TestMailThroughExim(t *testing.T) {
	s := servers.StartExim(t)
	m := mailServer{address: s.Addr, config: trusting(s.TLS.RootCAs), utf8: true, dsn: true,
		inboxes: files(s.Path("mail/*"))}
	refused := []string{"nobody@a.test", "nobody@b.test", "nobody@c.test"}
	m.test(t, "bob@mail.test", "jörg@mail.test", refused, hundred("user%d@mail.test", refused...))
}

// relay is the server behind Dovecot's: it keeps mails in memory.
type relay struct {
	mu    sync.Mutex
	mails []string
}

func (r *relay) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &relayed{relay: r}, nil }
func (r *relay) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.mails...)
}

type relayed struct {
	*relay
	to int
}

func (r *relayed) Reset()                                 { r.to = 0 }
func (r *relayed) Logout() error                          { return nil }
func (r *relayed) Mail(string, *gosmtp.MailOptions) error { return nil }
func (r *relayed) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1},
			Message: "no such user"}
	}
	r.to++
	return nil
}
func (r *relayed) Data(from io.Reader) error {
	text, err := io.ReadAll(from)
	r.mu.Lock()
	defer r.mu.Unlock()
	for range r.to {
		r.mails = append(r.mails, string(text))
	}
	return err
}

func TestMailThroughDovecotSubmission(t *testing.T) {
	behind := new(relay)
	server := gosmtp.NewServer(behind)
	server.Domain, server.ErrorLog = "relay.test", log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	leaktest.Check(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	leaktest.Check(t, err)
	d := servers.StartDovecot(t, port)
	config := trusting(d.TLS.RootCAs)
	config.Auth = smtp.Password("bob", servers.DovecotPassword)
	m := mailServer{address: d.Submission, config: config, inboxes: behind.received}
	refused := []string{"nobody@a.test", "nobody@b.test", "nobody@c.test"}
	m.test(t, "bob@mail.test", "", refused, hundred("user%d@mail.test", refused...))

	config.Auth = smtp.Password("bob", "another")
	err = runtime.Run(func(ctx context.Context) error {
		_, err := smtp.Dial(ctx, d.Submission, config)
		return err
	})
	if refused, ok := errors.AsType[*smtp.Error](err); !ok || refused.Code != 535 {
		t.Errorf("another password: %v", err)
	}
}

func TestMailThroughDovecotLMTP(t *testing.T) {
	d := servers.StartDovecot(t, "25")
	config := trusting(d.TLS.RootCAs)
	config.LMTP = true
	m := mailServer{address: d.LMTP, config: config, inboxes: files(d.Path("mail/*/new/*"))}
	m.test(t, "bob", "", nil, hundred("user%d"))
}

// One pool sends to Postfix what a program has for it, each mail once.
func TestPoolThroughPostfix(t *testing.T) {
	p := servers.NewPostfix(t, "\nvirtual_mailbox_maps = inline:{ { bob@mail.test = bob/ } }\n")
	addrs := p.Start("")
	const mails = 200
	err := runtime.Run(func(ctx context.Context) error {
		pool, err := smtp.NewPool(smtp.PoolConfig{Address: addrs[0], Config: trusting(p.CA.Pool()),
			MaxMessages: 30})
		if err != nil {
			return err
		}
		err = runtime.ForEach(ctx, mails, func(ctx context.Context, i int) error {
			_, err := pool.Send(ctx, &smtp.Mail{From: "a@client.test",
				To:      []string{"bob@mail.test"},
				Message: bytes.NewReader(fmt.Appendf(nil, "Subject: %d\n\nx\n", i))})
			return err
		})
		return errors.Join(err, pool.Close(ctx))
	})
	leaktest.Check(t, err)
	inbox := files(p.Path("mail/bob/new/*"))
	leaktest.Until(t, "all have arrived", func() bool { return len(inbox()) == mails })
	all := strings.Join(inbox(), "")
	for i := range mails {
		if n := strings.Count(all, fmt.Sprintf("\nSubject: %d\n", i)); n != 1 {
			t.Errorf("mail %d has arrived %d times", i, n)
		}
	}
}
