//go:build linux

package main

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A mailbox is a mail server that hands on the one mail it gets.
type mailbox chan string

func (m mailbox) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return session{m}, nil }

type session struct{ mailbox }

func (session) Reset()                                 {}
func (session) Logout() error                          { return nil }
func (session) Mail(string, *gosmtp.MailOptions) error { return nil }
func (session) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (s session) Data(r io.Reader) error {
	mail, err := io.ReadAll(r)
	s.mailbox <- string(mail)
	return err
}

func TestRun(t *testing.T) {
	ca, err := devca.New("Whorl example CA")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box := make(mailbox, 1)
	server := gosmtp.NewServer(box)
	server.Domain, server.TLSConfig = "localhost", &tls.Config{Certificates: []tls.Certificate{certificate}}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		server.Close()
		<-ended
	}()

	args := []string{"-addr", l.Addr().String(), "-from", "a@mail.test", "-to", "b@mail.test"}
	var out strings.Builder
	if err := run(append(args, "-ca", authority), strings.NewReader("the text"), &out); err != nil {
		t.Fatal(err)
	}
	if mail := <-box; !strings.Contains(mail, "the text") || out.String() != "sent to b@mail.test\n" {
		t.Errorf("the server has got %q; the output is %q", mail, &out)
	}
	if err := run(args, strings.NewReader("the text"), &out); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without -ca: error is %v", err)
	}
}
