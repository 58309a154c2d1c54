//go:build linux

package dropin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/smtp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/wneessen/go-mail"

	"github.com/whorl-go/whorl/hooks"
)

// A post is a mail server over hooks.Listen that keeps what it is sent.
type post struct {
	addr    string
	arrived chan struct{} // gets one for each mail that has begun to come

	mu    sync.Mutex
	mails []string // guarded by mu
}

func (p *post) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return delivery{p}, nil }

func (p *post) received() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.mails, "\x00")
}

type delivery struct{ to *post }

func (delivery) Reset()                                 {}
func (delivery) Logout() error                          { return nil }
func (delivery) Mail(string, *gosmtp.MailOptions) error { return nil }
func (delivery) Rcpt(string, *gosmtp.RcptOptions) error { return nil }

func (d delivery) Data(r io.Reader) error {
	d.to.arrived <- struct{}{}
	mail, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	d.to.mu.Lock()
	defer d.to.mu.Unlock()
	d.to.mails = append(d.to.mails, string(mail))
	return nil
}

// servePost starts a mail server that offers STARTTLS, or with TLS from the first byte on.
func servePost(ctx context.Context, t testing.TB, wrapped bool) (p *post, stop func()) {
	t.Helper()
	l := listen(ctx, t)
	p = &post{addr: l.Addr().String(), arrived: make(chan struct{}, 100)}
	server := gosmtp.NewServer(p)
	server.Domain, server.ErrorLog = "localhost", log.New(io.Discard, "", 0)
	_, server.TLSConfig = configs()
	if wrapped {
		l = tls.NewListener(l, server.TLSConfig)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return p, func() {
		check(t, await(ctx, server.Close))
		if err := await(ctx, func() error { return <-ended }); err != nil && !errors.Is(err, gosmtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// trust returns what clients need to trust the servers of these tests.
func trust() *tls.Config {
	config, _ := configs()
	config.ServerName = "localhost"
	return config
}

// dialMail connects net/smtp's client. Its caller may be a coroutine: net/smtp only reads and
// writes.
func dialMail(ctx context.Context, addr string, wrapped bool, config *tls.Config) (*smtp.Client, error) {
	conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	if wrapped {
		conn = tls.Client(conn, config)
	}
	c, err := smtp.NewClient(conn, "localhost")
	if err == nil && !wrapped {
		err = c.StartTLS(config)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// sendMail sends one mail whose subject is its own.
func sendMail(c *smtp.Client, subject string) error {
	if err := c.Mail("alice@mail.test"); err != nil {
		return err
	}
	if err := c.Rcpt("bob@mail.test"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "Subject: %s\r\n\r\n%s\r\n", subject, strings.Repeat("a line\r\n", 5_000)); err != nil {
		return err
	}
	return w.Close()
}

// eachWrapping runs a test with STARTTLS and with TLS from the first byte on.
func eachWrapping(t *testing.T, test func(ctx context.Context, t *testing.T, wrapped bool)) {
	for name, wrapped := range map[string]bool{"STARTTLS": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) { test(ctx, t, wrapped) })
		})
	}
}

func TestNetSMTP(t *testing.T) {
	eachWrapping(t, func(ctx context.Context, t *testing.T, wrapped bool) {
		p, stop := servePost(ctx, t, wrapped)
		defer stop()
		check(t, many(ctx, 5, func(ctx context.Context, i int) error {
			c, err := dialMail(ctx, p.addr, wrapped, trust())
			if err != nil {
				return err
			}
			defer c.Close()
			for n := range 3 {
				if err := sendMail(c, fmt.Sprintf("<%d.%d>", i, n)); err != nil {
					return err
				}
			}
			return c.Quit()
		}))
		for i := range 15 {
			wantText(t, "mails", p.received(), fmt.Sprintf("<%d.%d>", i/3, i%3))
		}
	})
}

// A connection that is cut in the middle of a mail is an error, and the mail isn't taken for whole.
func TestNetSMTPConnectionCut(t *testing.T) {
	eachWrapping(t, func(ctx context.Context, t *testing.T, wrapped bool) {
		p, stop := servePost(ctx, t, wrapped)
		defer stop()
		between := proxy(t, p.addr)
		c, err := dialMail(ctx, between.Addr(), wrapped, trust())
		check(t, err)
		defer c.Close()
		check(t, c.Mail("alice@mail.test"))
		check(t, c.Rcpt("bob@mail.test"))
		w, err := c.Data()
		check(t, err)
		check(t, await(ctx, func() error { <-p.arrived; return nil }))
		between.CutAll()
		io.WriteString(w, "half a mail\r\n") // may go into a buffer
		if err := w.Close(); err == nil {
			t.Error("the mail was taken")
		}
		if got := p.received(); got != "" {
			t.Errorf("the server has got %q", got)
		}
	})
}

func TestNetSMTPDeadline(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		p, stop := servePost(ctx, t, false)
		defer stop()
		silent := proxy(t, p.addr)
		silent.Silence(true)
		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", silent.Addr())
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = smtp.NewClient(conn, "localhost")
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("error is %v, want a time-out", err)
		}
	})
}

// newMailer makes go-mail's client over the Dialer. Its caller may be a coroutine, if no other one
// uses the same client: it holds a sync.Mutex while it works. wrapped is TLS from the start;
// otherwise it is STARTTLS.
func newMailer(addr string, wrapped bool, config *tls.Config, timeout time.Duration) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	dial := new(hooks.Dialer).DialContext
	options := []mail.Option{mail.WithPort(number), mail.WithTLSPolicy(mail.TLSMandatory), mail.WithTLSConfig(config), mail.WithTimeout(timeout), mail.WithHELO("client.mail.test")}
	if wrapped { // which go-mail leaves to the function that it dials with
		options = append(options, mail.WithSSL())
		dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(hooks.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(conn, config)
			return secure, secure.HandshakeContext(ctx)
		}
	}
	return mail.NewClient(host, append(options, mail.WithDialContextFunc(dial))...)
}

func newMail(subject string) (*mail.Msg, error) {
	m := mail.NewMsg()
	if err := m.From("alice@mail.test"); err != nil {
		return nil, err
	}
	if err := m.To("bob@mail.test"); err != nil {
		return nil, err
	}
	m.Subject(subject)
	m.SetBodyString(mail.TypeTextPlain, strings.Repeat("a line\r\n", 5_000))
	return m, nil
}

// sendByGoMail sends mails over a connection of its own.
func sendByGoMail(ctx context.Context, addr string, wrapped bool, config *tls.Config, subjects ...string) error {
	c, err := newMailer(addr, wrapped, config, patience)
	if err != nil {
		return err
	}
	var mails []*mail.Msg
	for _, subject := range subjects {
		m, err := newMail(subject)
		if err != nil {
			return err
		}
		mails = append(mails, m)
	}
	return c.DialAndSendWithContext(ctx, mails...)
}

func TestGoMail(t *testing.T) {
	eachWrapping(t, func(ctx context.Context, t *testing.T, wrapped bool) {
		p, stop := servePost(ctx, t, wrapped)
		defer stop()
		check(t, many(ctx, 5, func(ctx context.Context, i int) error {
			return sendByGoMail(ctx, p.addr, wrapped, trust(), fmt.Sprintf("<%d.0>", i), fmt.Sprintf("<%d.1>", i))
		}))
		for i := range 10 {
			wantText(t, "mails", p.received(), fmt.Sprintf("<%d.%d>", i/2, i%2))
		}
	})
}

// One client for many senders: they wait for each other in a sync.Mutex, so coroutines call it by
// Await.
func TestGoMailClientShared(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		p, stop := servePost(ctx, t, false)
		defer stop()
		c, err := newMailer(p.addr, false, trust(), patience)
		check(t, err)
		check(t, many(ctx, 5, func(ctx context.Context, i int) error {
			m, err := newMail(fmt.Sprintf("<%d>", i))
			if err != nil {
				return err
			}
			return await(ctx, func() error { return c.DialAndSendWithContext(ctx, m) })
		}))
		for i := range 5 {
			wantText(t, "mails", p.received(), fmt.Sprintf("<%d>", i))
		}
	})
}

func TestGoMailConnectionCut(t *testing.T) {
	eachWrapping(t, func(ctx context.Context, t *testing.T, wrapped bool) {
		p, stop := servePost(ctx, t, wrapped)
		defer stop()
		between := proxy(t, p.addr)
		m, err := newMail("cut")
		check(t, err)
		m.SetBodyWriter(mail.TypeTextPlain, func(w io.Writer) (int64, error) { // writes to the connection
			n, err := w.Write(make([]byte, 1<<20))
			<-p.arrived
			between.CutAll()
			return int64(n), err
		})
		c, err := newMailer(between.Addr(), wrapped, trust(), patience)
		check(t, err)
		if err := await(ctx, func() error { return c.DialAndSendWithContext(ctx, m) }); err == nil {
			t.Error("the mail was taken")
		}
		if got := p.received(); got != "" {
			t.Errorf("the server has got %q", got)
		}
		check(t, sendByGoMail(ctx, between.Addr(), wrapped, trust(), "whole"))
		wantText(t, "mails", p.received(), "whole")
	})
}

func TestGoMailEndsInTime(t *testing.T) {
	eachWrapping(t, func(ctx context.Context, t *testing.T, wrapped bool) {
		p, stop := servePost(ctx, t, wrapped)
		defer stop()
		silent := proxy(t, p.addr)
		silent.Silence(true)
		c, err := newMailer(silent.Addr(), wrapped, trust(), 50*time.Millisecond)
		check(t, err)
		err = c.DialWithContext(ctx)
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("error is %v, want a time-out", err)
		}
		if !wrapped { // only the dialling, of which the handshake is a part otherwise, heeds the context
			return
		}
		c, err = newMailer(silent.Addr(), wrapped, trust(), patience)
		check(t, err)
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		wantError(t, "dial", c.DialWithContext(ctx), context.DeadlineExceeded)
	})
}
