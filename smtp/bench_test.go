//go:build linux

package smtp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	netsmtp "net/smtp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/wneessen/go-mail"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// Each benchmark stands next to its peers, the same work done with net/smtp and with go-mail, in
// the same run. The server, emersion/go-smtp, is in another process; what is reported as cpu-… is
// this process's user and system time.

// peer says where the server is.
type peer struct {
	Plain   string // "127.0.0.1:port"
	TLS     string // with TLS from the start
	Delayed string // Plain, each way 25 ms away
	CA      []byte // that has issued the certificate of TLS
}

const roundTrip = 50 * time.Millisecond

// servePeer starts the server, in that process.
func servePeer() (where any, err error) {
	p := peer{CA: authority().PEM()}
	server := gosmtp.NewServer(sinks{})
	server.Domain, server.ErrorLog = "mail.test", log.New(io.Discard, "", 0)
	for _, l := range []struct {
		addr   *string
		config *tls.Config
	}{{&p.Plain, nil}, {&p.TLS, &tls.Config{Certificates: []tls.Certificate{certificate()}}}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*l.addr = listener.Addr().String()
		if l.config != nil {
			listener = tls.NewListener(listener, l.config)
		}
		go server.Serve(listener)
	}
	p.Delayed, err = childtest.Listen("tcp", "127.0.0.1:0", nil, func(conn net.Conn) error {
		return delay(conn, p.Plain)
	})
	return p, err
}

// sinks is a backend that takes all mails and keeps none.
type sinks struct{}

func (sinks) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return sinks{}, nil }
func (sinks) Reset()                                          {}
func (sinks) Logout() error                                   { return nil }
func (sinks) Mail(string, *gosmtp.MailOptions) error          { return nil }
func (sinks) Rcpt(string, *gosmtp.RcptOptions) error          { return nil }
func (sinks) Data(r io.Reader) error {
	_,
		err := io.Copy(io.Discard, r)
	return err
}

// delay connects two sides that are half a round trip away from each other.
func delay(near net.Conn, address string) error {
	far, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	type piece struct {
		due  time.Time
		data []byte
	}
	carry := func(to, from net.Conn) {
		pieces := make(chan piece, 1000)
		go func() {
			defer close(pieces)
			for {
				buffer := make([]byte, 16<<10)
				n, err := from.Read(buffer)
				if err != nil {
					return
				}
				pieces <- piece{time.Now().Add(roundTrip / 2), buffer[:n]}
			}
		}()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				break
			}
		}
		to.Close()
		for range pieces {
		}
	}
	go carry(near, far)
	carry(far, near)
	return nil
}

// A sender sends mails of one kind, one after the other on one connection.
type sender struct {
	send func() error
	quit func() error
}

// A contestant makes senders.
type contestant struct {
	name string
	dial func(ctx context.Context, b *testing.B, address string, recipients int) (sender, error)
}

var contestants = []contestant{
	{"whorl", whorlSender}, {"net-smtp", netSender}, {"whorl-Msg", whorlMsgSender},
	{"go-mail", goMailSender},
}

const letterSize = 1 << 10

// text is a mail of letterSize bytes.
func text() []byte {
	var b bytes.Buffer
	b.WriteString("From: <me@me.test>\r\nTo: <you@you.test>\r\nSubject: A benchmark\r\n" +
		"Message-ID: <1@me.test>\r\n\r\n")
	for b.Len() < letterSize {
		b.WriteString("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do " +
			"eiusmod.\r\n")
	}
	return b.Bytes()
}

func recipients(n int) (to []string) {
	for i := range n {
		to = append(to, fmt.Sprintf("you%d@you.test", i))
	}
	return to
}

// msg is the same mail, made by go-mail.
func msg(b *testing.B, n int) *mail.Msg {
	m := mail.NewMsg(mail.WithEncoding(mail.EncodingUSASCII))
	check(b, m.From("me@me.test"))
	check(b, m.To(recipients(n)...))
	m.Subject("A benchmark")
	_, body, _ := strings.Cut(string(text()), "\r\n\r\n")
	m.SetBodyString(mail.TypeTextPlain, body)
	return m
}

func whorlSender(ctx context.Context, b *testing.B, address string, n int) (sender, error) {
	message := text()
	return whorlSenderOf(ctx, address, &smtp.Mail{From: "me@me.test", To: recipients(n),
		Message: writes(message)})
}

func whorlMsgSender(ctx context.Context, b *testing.B, address string, n int) (sender, error) {
	return whorlSenderOf(ctx, address, &smtp.Mail{From: "me@me.test", To: recipients(n),
		Message: msg(b, n)})
}

// writes is a message that is there already.
type writes []byte

func (w writes) WriteTo(to io.Writer) (int64, error) { n, err := to.Write(w); return int64(n), err }

func whorlSenderOf(ctx context.Context, address string, mail *smtp.Mail) (sender, error) {
	c, err := smtp.Dial(ctx, address, plaintext())
	return sender{
		send: func() error { _, err := c.Send(ctx, mail); return err },
		quit: func() error { return c.Quit(ctx) },
	}, err
}

func netSender(_ context.Context, b *testing.B, address string, n int) (sender, error) {
	c, err := netsmtp.Dial(address)
	if err != nil {
		return sender{}, err
	}
	message, to := text(), recipients(n)
	return sender{send: func() error {
		if err := c.Mail("me@me.test"); err != nil {
			return err
		}
		for _, to := range to {
			if err := c.Rcpt(to); err != nil {
				return err
			}
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		if _, err := w.Write(message); err != nil {
			return err
		}
		return w.Close()
	}, quit: c.Quit}, c.Hello("me.test")
}

// goMailSender leaves out what go-mail says for its own comfort, NOOP and RSET.
func goMailSender(ctx context.Context, b *testing.B, address string, n int) (sender, error) {
	host, number, err := net.SplitHostPort(address)
	check(b, err)
	port, err := strconv.Atoi(number)
	check(b, err)
	c, err := mail.NewClient(host, mail.WithPort(port), mail.WithTLSPolicy(mail.NoTLS),
		mail.WithHELO("me.test"), mail.WithoutNoop(), mail.WithoutRset(),
		mail.WithTimeout(time.Minute))
	check(b, err)
	m := msg(b, n)
	return sender{send: func() error { return c.Send(m) }, quit: c.Close}, c.DialWithContext(ctx)
}

// Mails of 1 KiB to one recipient, on kept connections.
func BenchmarkMails(b *testing.B) {
	var p peer
	childtest.Peer(b, &p)
	for _, connections := range []int{1, 64} {
		for _, c := range contestants {
			b.Run(fmt.Sprintf("%s/connections=%d", c.name, connections), func(b *testing.B) {
				sendMany(b, c, p.Plain, connections)
			})
		}
	}
}

// sendMany sends b.N mails on so many connections, each of which has a coroutine, or a goroutine if
// that is the contestant's way.
func sendMany(b *testing.B, c contestant, address string, connections int) {
	work := func(run func(fn func(ctx context.Context, i int))) {
		var failed sync.Map
		senders := make([]sender, connections)
		run(func(ctx context.Context, i int) {
			var err error
			if senders[i], err = c.dial(ctx, b, address, 1); err == nil {
				err = senders[i].send()
			}
			if err != nil {
				failed.Store(i, err)
			}
		})
		b.ReportAllocs()
		b.ResetTimer()
		before := childtest.CPUTime()
		run(func(ctx context.Context, i int) {
			for range (i+1)*b.N/connections - i*b.N/connections {
				if err := senders[i].send(); err != nil {
					failed.Store(i, err)
					return
				}
			}
		})
		used := childtest.CPUTime() - before
		b.StopTimer()
		b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/mail")
		b.ReportMetric(float64(b.N)/used.Seconds(), "mails/cpu-s")
		run(func(_ context.Context, i int) { senders[i].quit() })
		failed.Range(func(_, err any) bool { b.Error(err); return true })
	}
	if !strings.HasPrefix(c.name, "whorl") {
		work(func(fn func(ctx context.Context, i int)) {
			var group sync.WaitGroup
			for i := range connections {
				group.Go(func() { fn(context.Background(), i) })
			}
			group.Wait()
		})
		return
	}
	// One loop, on which the connections stay: the senders keep their coroutine's context.
	check(b, runtime.Run(func(ctx context.Context) error {
		work(func(fn func(ctx context.Context, i int)) {
			check(b, runtime.ForEach(ctx, connections,
				func(_ context.Context, i int) error { fn(ctx, i); return nil }))
		})
		return nil
	}))
}

// A mail to ten recipients, at a round trip of 50 ms, on a kept connection: how many round trips it
// takes.
func BenchmarkRoundTrips(b *testing.B) {
	var p peer
	childtest.Peer(b, &p)
	for _, c := range contestants {
		b.Run(c.name, func(b *testing.B) {
			run := func(ctx context.Context) error {
				s, err := c.dial(ctx, b, p.Delayed, 10)
				if err != nil {
					return err
				}
				b.ResetTimer()
				for range b.N {
					if err := s.send(); err != nil {
						return err
					}
				}
				b.StopTimer()
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/roundTrip.Seconds(),
					"round-trips/mail")
				return s.quit()
			}
			if !strings.HasPrefix(c.name, "whorl") {
				check(b, run(context.Background()))
				return
			}
			check(b, runtime.Run(run))
		})
	}
}

// Sessions over TLS, all at once, each in a coroutine, that have sent a mail and wait for the next
// one, which they send after that. The memory of each is counted three times: what is alive in the
// heap, the stacks, and all that the process has grown by (resident, what is free given back): the
// runtime's own books, what lies between, everything.
func BenchmarkSessions(b *testing.B) {
	sessions := 5000
	if testing.Short() {
		sessions = 100
	}
	var p peer
	childtest.Peer(b, &p)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA)
	d, err := smtp.NewDialer(smtp.Config{
		Security: smtp.Implicit, Hello: "me.test",
		Client: client.Config{TLS: &tls.Config{RootCAs: roots, ServerName: "mail.test"}},
	})
	check(b, err)
	note := &smtp.Mail{From: "me@me.test", To: []string{"you@you.test"}, Message: writes(text())}
	b.Run(fmt.Sprint("whorl/sessions=", sessions), func(b *testing.B) {
		for range b.N {
			check(b, runtime.Run(func(ctx context.Context) error {
				return hold(ctx, b, d, p.TLS,
					note, sessions)
			}, runtime.WithWatchdog(0)))
		}
	})
}

// hold opens sessions, a few at a time, has each send a mail, measures what they take, and has each
// send another one.
func hold(
	ctx context.Context, b *testing.B, d *smtp.Dialer, address string, mail *smtp.Mail,
	sessions int,
) error {
	before := proc.TakeMemory()
	var ready, over, gone runtime.WaitGroup
	over.Add(1)
	var failed error
	sent := 0
	for done := 0; done < sessions && failed == nil; {
		n := min(64, sessions-done)
		ready.Add(n)
		for range n {
			err := gone.Go(ctx, func(ctx context.Context) {
				c, err := d.Dial(ctx, address)
				if err == nil {
					_, err = c.Send(ctx, mail)
				}
				failed = errors.Join(failed, err)
				ready.Done()
				over.Wait(ctx)
				if err == nil {
					if _, err = c.Send(ctx, mail); err == nil {
						sent++
					}
					failed = errors.Join(failed, err, c.Quit(ctx))
				}
			})
			if err != nil {
				return err
			}
		}
		if err := ready.Wait(ctx); err != nil {
			return err
		}
		done += n
	}
	each := proc.TakeMemory().Per(int64(sessions), before)
	b.ReportMetric(each.Heap, "heap-B/session")
	b.ReportMetric(each.Stack, "stack-B/session")
	b.ReportMetric(each.RSS, "resident-B/session")
	over.Done()
	if err := gone.Wait(ctx); err != nil {
		return err
	}
	if failed == nil && sent != sessions {
		failed = fmt.Errorf("%d of %d sessions have sent a second mail", sent, sessions)
	}
	return failed
}
