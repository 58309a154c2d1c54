//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A mailbox is a mail server, which refuses recipients that begin with "no".
type mailbox struct {
	address, ca string
	mails       chan boxed
}

type boxed struct {
	user, from, text string
	to               []string
}

type boxSession struct {
	box  *mailbox
	mail boxed
}

func (s *boxSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *boxSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "correct horse" {
			return smtp.ErrAuthFailed
		}
		s.mail.user = user
		return nil
	}), nil
}

func (s *boxSession) Reset()        { s.mail = boxed{user: s.mail.user} }
func (s *boxSession) Logout() error { return nil }

func (s *boxSession) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.from = from
	return nil
}

func (s *boxSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "no") {
		return &smtp.SMTPError{
			Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user",
		}
	}
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *boxSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mail.text = string(text)
	s.box.mails <- s.mail
	return err
}

// LMTPData accepts the mail for all but the last recipient.
func (s *boxSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	err := s.Data(r)
	for i, to := range s.mail.to {
		if i < len(s.mail.to)-1 {
			status.SetStatus(to, nil)
		} else {
			status.SetStatus(to, errors.New("the mailbox is full"))
		}
	}
	return err
}

// mailServed starts a mail server on a listener of a network; "tls" is TCP with TLS from the start.
func mailServed(t *testing.T, network string, set func(s *smtp.Server)) *mailbox {
	t.Helper()
	ca, err := devca.New("test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("127.0.0.1", "mail.test")
	if err != nil {
		t.Fatal(err)
	}
	box := &mailbox{mails: make(chan boxed, 1), ca: textFile(t, "ca.pem", string(ca.PEM()))}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &boxSession{box: box}, nil
	}))
	server.ErrorLog = log.New(io.Discard, "", 0)
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	if set != nil {
		set(server)
	}
	place := "127.0.0.1:0"
	if network == "unix" {
		place = filepath.Join(t.TempDir(), "lmtp")
	}
	l, err := net.Listen(strings.Replace(network, "tls", "tcp", 1), place)
	if err != nil {
		t.Fatal(err)
	}
	box.address = l.Addr().String()
	if network == "tls" {
		l = tls.NewListener(l, server.TLSConfig)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return box
}

func textFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMailIsSent(t *testing.T) {
	box := mailServed(t, "tcp", nil)
	status, stdout, stderr := piped(t, "Hello.\n.\nThe end.\n", "mail", "--server", box.address,
		"--ca", box.ca, "--user", "me", "--password-file",
		textFile(t, "password", "correct horse\n"), "--from", "Me <me@example.com>",
		"--to", `"You, there" <you@example.com>, her@example.com`, "--cc", "boss@example.com",
		"--bcc", "secretly@example.com", "--subject", "Grüße", "--header", "X-Ticket: 17",
		"--attach", textFile(t, "a.txt", "attached"), "--attach", textFile(t, "b.txt", "too"),
		"--verbose")
	if status != 0 || !strings.HasPrefix(stdout, "Accepted by "+box.address+": ") {
		t.Fatalf("status %d, %q, %s", status, stdout, stderr)
	}
	got := <-box.mails
	if got.user != "me" || got.from != "me@example.com" || strings.Join(got.to, " ") !=
		"you@example.com her@example.com boss@example.com secretly@example.com" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"Subject: =?UTF-8?q?Gr=C3=BC=C3=9Fe?=\r\n", "From: \"Me\" <me@example.com>\r\n",
		"X-Ticket: 17\r\n", "\r\nHello.\r\n.\r\nThe end.\r\n", `filename="a.txt"`,
		`filename="b.txt"`, "Cc: <boss@example.com>\r\n",
	} {
		if !strings.Contains(got.text, want) {
			t.Errorf("%q is missing in\n%s", want, got.text)
		}
	}
	if strings.Contains(got.text, "secretly") {
		t.Errorf("all are told of the --bcc:\n%s", got.text)
	}
	for _, want := range []string{"C: STARTTLS\n(TLS 1.3, ", "C: AUTH PLAIN ***\nS: 235 "} {
		if !strings.Contains(strings.ReplaceAll(stderr, "S: 220 2.0.0 Ready to start TLS\n", ""),
			want) {
			t.Errorf("%q is missing in\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, "correct") || strings.Contains(stderr, "Y29ycmVjd") {
		t.Errorf("the dialogue has the password:\n%s", stderr)
	}
}

func TestMailInEachManner(t *testing.T) {
	t.Setenv(passwordVariable, "correct horse")
	lmtp := func(s *smtp.Server) { s.LMTP = true }
	for name, test := range map[string]struct {
		network, scheme string
		set             func(s *smtp.Server)
		args            []string
	}{
		"implicit":      {"tls", "", nil, []string{"--security", "implicit", "--user", "me"}},
		"smtps":         {"tls", "smtps://me@", nil, nil},
		"smtp":          {"tcp", "smtp://", nil, []string{"--user", "me"}},
		"LMTP":          {"unix", "", lmtp, []string{"--lmtp", "--server-name", "mail.test"}},
		"opportunistic": {"tcp", "", nil, []string{"--security", "opportunistic"}},
		"plaintext": {"tcp", "", func(s *smtp.Server) { s.TLSConfig = nil },
			[]string{"--security", "opportunistic"}},
		"html": {"tcp", "", nil, []string{"--html", "<b>Hello</b>", "--text", "Hello"}},
	} {
		t.Run(name, func(t *testing.T) {
			box := mailServed(t, test.network, test.set)
			to := "you@example.com"
			if name == "LMTP" {
				to += ",full@example.com"
			}
			status, stdout, stderr := piped(t, "Hello", append([]string{"mail",
				"--server", test.scheme + box.address, "--ca", box.ca,
				"--from", "me@example.com", "--to", to}, test.args...)...)
			want := 0
			if name == "LMTP" {
				want = exitFailed
				if !strings.Contains(stderr, `Refused: end of message "full@example.com"`) {
					t.Error(stderr)
				}
			}
			if status != want || !strings.Contains(stdout, "Accepted by ") {
				t.Fatalf("status %d, %q, %s", status, stdout, stderr)
			}
			got := <-box.mails
			if html := strings.Contains(got.text, "text/html"); html != (name == "html") ||
				!strings.Contains(got.text, "\r\nHello\r\n") {
				t.Error(got.text)
			}
		})
	}
}

func TestMailThatIsRefused(t *testing.T) {
	box := mailServed(t, "tcp", nil)
	bare := mailServed(t, "tcp", func(s *smtp.Server) { s.TLSConfig = nil })
	local := mailServed(t, "unix", func(s *smtp.Server) { s.LMTP, s.TLSConfig = true, nil })
	wrong := textFile(t, "password", "wrong")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	l, err = net.Listen("tcp", "127.0.0.1:0") // which accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent := l.Addr().String()
	for _, test := range []struct {
		server, to string
		args       []string
		status     int
		said       []string
	}{
		{box.address, "you@example.com,nobody@example.com", nil, exitFailed,
			[]string{`Refused: RCPT "nobody@example.com": refused with 550 5.1.1 "no such user"`}},
		{box.address, "no@example.com,nobody@example.com", nil, exitFailed, []string{
			"has refused all recipients\n", `RCPT "no@example.com"`, `RCPT "nobody@example.com"`}},
		{box.address, "you@example.com", []string{"--user", "me", "--password-file", wrong},
			exitFailed, []string{"AUTH PLAIN: refused with 535"}},
		{box.address, "you@example.com", []string{"--server-name", "other.test"}, exitFailed,
			[]string{"other.test", "--server-name NAME"}},
		{box.address, "you@example.com", []string{"--ca", bare.ca}, exitFailed,
			[]string{"on this command line: --ca FILE"}},
		{silent, "you@example.com", []string{"--timeout", "100ms"}, exitFailed,
			[]string{"greeting", "--security implicit"}},
		{box.address, "you@example.com", []string{"--security", "implicit"}, exitFailed,
			[]string{"tls handshake", "--security mandatory"}},
		{bare.address, "you@example.com", nil, exitFailed, []string{
			"TLS is mandatory\n"}},
		{local.address, "you@example.com", []string{"--lmtp"}, exitFailed, []string{
			"doesn't offer STARTTLS", "--security opportunistic"}},
		{nobody, "you@example.com", nil, probe.ExitUnreachable, []string{"refused"}},
		{filepath.Join(t.TempDir(), "none"), "you@example.com", nil, probe.ExitUnreachable,
			[]string{"no such file"}},
	} {
		status, stdout, stderr := whorl(t, append([]string{"mail", "--server", test.server,
			"--ca", box.ca, "--from", "me@example.com", "--to", test.to, "--text", "x"},
			test.args...)...)
		if status != test.status {
			t.Errorf("%+v: status %d", test, status)
		}
		for _, said := range test.said {
			if !strings.Contains(stderr, said) {
				t.Errorf("%q is missing in %q", said, stderr)
			}
		}
		partly := strings.HasPrefix(test.to, "you@example.com,")
		if strings.Contains(stdout, "Accepted") != partly || strings.Contains(stderr, "wrong") {
			t.Errorf("%+v: %q, %q", test, stdout, stderr)
		}
		if partly {
			<-box.mails
		}
	}
}

func TestMailDryRunConnectsToNobody(t *testing.T) {
	status, stdout, stderr := whorl(t, "mail", "--server", "smtp://me@127.0.0.1:1", "--dry-run",
		"--password-file", textFile(t, "password", "correct horse"),
		"--from", "me@example.com", "--to", "you@example.com", "--text", "Hello")
	if status != 0 || stderr != "" || strings.Contains(stdout, "correct") {
		t.Errorf("status %d, %q\n%s", status, stderr, stdout)
	}
	for _, want := range []string{
		"C: STARTTLS\n", "C: AUTH SCRAM-SHA-256-PLUS ***\n", "C: MAIL FROM:<me@example.com>",
		"S: 221 2.0.0 bye\n\n", "\nFrom: <me@example.com>\n", "\n\nHello\n",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "Subject") {
		t.Errorf("a subject that nobody gave:\n%s", stdout)
	}
}

func TestMailUsage(t *testing.T) {
	to := func(args ...string) []string {
		return append([]string{"--server", "127.0.0.1:1", "--from", "a@b.test", "--to", "c@d.test",
			"--text", "x"}, args...)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "--server is missing"},
		{[]string{"--server", "localhost:25"}, "--from is missing"},
		{[]string{"--server", "localhost:25", "--from", "a@b.test"}, "--to is missing"},
		{to("extra"), "unknown command"},
		{to("--nope"), "unknown flag"},
		{to("--server", "localhost"), "want HOST:PORT"},
		{to("--server", ":25"), "want HOST:PORT"},
		{to("--server", "localhost:mail"), "port"},
		{to("--server", "smtp://localhost:0"), "port"},
		{to("--server", "http://localhost"), "want smtp, smtps or lmtp"},
		{to("--server", "smtp://me:secret@localhost"), "a password in a URL"},
		{to("--server", "smtp://localhost/x"), "nothing may follow"},
		{to("--server", "smtp://localhost", "--lmtp"), "--lmtp contradicts"},
		{to("--server", "smtps://localhost", "--security", "opportunistic"), "contradicts smtps"},
		{to("--security", "none"), "want mandatory, implicit or opportunistic"},
		{to("--user", "me"), "--password-file"},
		{to("--password-file", "x"), "without --user"},
		{to("--user", "me", "--password-file", "/nonexistent"), "--password-file"},
		{to("--ca", "/nonexistent"), "--ca"},
		{to("--attach", "/nonexistent"), "--attach"},
		{to("--attach", t.TempDir()), "--attach"},
		{to("--timeout", "0s"), "--timeout"},
		{to("--from", "nobody"), "--from"},
		{to("--to", "c@d.test\r\nDATA"), "--to"},
		{to("--to", "c@d.test>, x"), "--to"},
		{to("--subject", "x\r\nBcc: x@y.test"), "--subject: a line end"},
		{to("--subject", "x\x00"), "--subject: a line end"},
		{to("--from", "=?utf-8?q?M=0D=0ABcc?= <a@b.test>"), "--from: a line end"},
		{to("--cc", "=?utf-8?q?M=0D=0ABcc?= <a@b.test>"), "--cc: a line end"},
		{to("--attach", textFile(t, "a\r\nX: y.txt", "x")), "--attach: a line end"},
		{to("--header", "X-Ticket"), `want "Name: value"`},
		{to("--header", "X Ticket: 1"), `want "Name: value"`},
		{to("--header", "X-Ticket: 1\r\nBcc: x@y.test"), "a line end"},
		{to("--header", "X-Ticket: 1", "--header", "x-ticket: 2"), "only once"},
		{to("--header", "bcc: x@y.test"), "set elsewhere"},
		{to("--header", "Content-Type: text/html"), "set elsewhere"},
		{to("--to", `"a\"b"@`+strings.Repeat("x", 260)), "no mail address"},
	} {
		status, stdout, stderr := whorl(t, append([]string{"mail"}, test.args...)...)
		if status != probe.ExitUsage || !strings.Contains(stderr, test.want) || stdout != "" ||
			strings.Contains(stderr, "secret") {
			t.Errorf("%q: status %d, %q, %q", test.args, status, stderr, stdout)
		}
	}
}
