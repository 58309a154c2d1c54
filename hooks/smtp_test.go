//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/smtp"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// mailbox is a mail server's backend that keeps what it is sent.
type mailbox struct {
	mu    sync.Mutex
	mails []string
}

func (m *mailbox) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return mailSession{m}, nil }

func (m *mailbox) received() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mails
}

type mailSession struct{ to *mailbox }

func (mailSession) Reset()                                 {}
func (mailSession) Logout() error                          { return nil }
func (mailSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (mailSession) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (s mailSession) Data(r io.Reader) error {
	mail, err := io.ReadAll(r)
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	s.to.mails = append(s.to.mails, string(mail))
	return err
}

// net/smtp's client, with STARTTLS, and a server that knows nothing of Whorl, over the Dialer and a
// listener.
func TestNetSMTP(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		client, config := configs()
		box := new(mailbox)
		server := gosmtp.NewServer(box)
		server.Domain, server.TLSConfig = "localhost", config
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()

		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		client.ServerName = "127.0.0.1"
		check(t, sendMail(conn, func(c *smtp.Client) error { return c.StartTLS(client) }, "Subject: hooked\r\n\r\nHello\r\n"))
		if got := box.received(); len(got) != 1 || got[0] != "Subject: hooked\r\n\r\nHello\r\n" {
			t.Errorf("the server has got %q", got)
		}
		check(t, closeServer(ctx, server))
		_, err = runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, <-served })
		if err != nil && !errors.Is(err, gosmtp.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func sendMail(conn net.Conn, secure func(*smtp.Client) error, mail string) error {
	c, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		conn.Close()
		return err
	}
	defer c.Close()
	if err := secure(c); err != nil {
		return err
	}
	if err := c.Mail("a@example.com"); err != nil {
		return err
	}
	if err := c.Rcpt("b@example.com"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, mail); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}
