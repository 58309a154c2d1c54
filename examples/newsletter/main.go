// Newsletter sends a mail to each of many subscribers, through a pool of connections.
//
//	go run ./examples/newsletter
//
// sends 10,000 mails to an SMTP server in the same process, which is like real ones: some
// subscribers it doesn't know, and some it takes only the second time. A bar shows how far it is,
// if standard error is a terminal, and in the end it prints
//
//	10000 subscribers: 9900 mails accepted in 1.09 s, 9093 in a second; 100 refused, 0 for later.
//	200 further attempts; 208 connections for all, 8 at a time.
//	The server has 9900 mails for 9900 subscribers.
//
// Each mail is built when its turn comes, so that no more are in memory than are under way.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/schollz/progressbar/v3"
	"github.com/wneessen/go-mail"
	"golang.org/x/term"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/examples/mailserver"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

func main() { program.Main("newsletter", run) }

// A campaign is one issue for all subscribers.
type campaign struct {
	subscribers int
	pool        *smtp.Pool

	// Only coroutines of one loop use these.
	next    int
	refused int   // subscribers that don't exist
	later   int   // those to whom another try may get through, some hours later
	failed  error // the first error that isn't a subscriber's
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("newsletter", flag.ContinueOnError)
	mails := flags.Int("mails", 10_000, "how many subscribers there are")
	connections := flags.Int("connections", 8, "how many connections there may be at a time")
	rate := flags.Float64("rate", 0, "mails in a second; 0: as many as can be")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	if *mails < 1 || *connections < 1 || *rate < 0 {
		return program.Usage("there have to be subscribers, connections, and a rate of 0 or more")
	}
	subscribers := newSubscribers()
	server, err := mailserver.Start(mailserver.Config{
		Recipient: subscribers.check, Received: subscribers.receive,
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	pool, err := smtp.NewPool(smtp.PoolConfig{
		Address: server.Addr,
		Config: smtp.Config{
			Auth:   smtp.Password(server.User, server.Password),
			Client: client.Config{TLS: &tls.Config{RootCAs: server.Roots}},
		},
		MaxConns: *connections, MaxMessages: 1000, Rate: *rate,
		FirstDelay: 10 * time.Millisecond, // greylisting takes minutes elsewhere
	})
	if err != nil {
		return err
	}
	c := &campaign{subscribers: *mails, pool: pool}
	stop := watch(os.Stderr, pool, *mails)
	began := time.Now()
	err = c.run(ctx, *connections)
	took := time.Since(began)
	stop()
	if err != nil {
		return err
	}
	return c.report(stdout, took, *connections, subscribers)
}

// run sends all mails, on one loop. Twice as many are under way as there are connections, so that
// one is ready when a connection is free.
func (c *campaign) run(ctx context.Context, connections int) error {
	return runtime.Run(func(co context.Context) error {
		co, cancel := context.WithCancel(co)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		err := runtime.ForEach(co, 2*connections, func(co context.Context, _ int) error {
			for c.next < c.subscribers && c.failed == nil {
				c.next++
				c.send(co, c.next)
			}
			return nil
		})
		return errors.Join(c.failed, err, c.pool.Close(co))
	}, runtime.WithLoops(1))
}

// send sends the mail of one subscriber.
func (c *campaign) send(co context.Context, number int) {
	const from = "news@example.com"
	to := address(number)
	m := mail.NewMsg()
	if err := errors.Join(m.From(from), m.To(to)); err != nil {
		c.failed = err
		return
	}
	m.Subject(fmt.Sprintf("News, number %d", number))
	m.SetDate()
	m.SetMessageID()
	m.SetBulk()
	m.SetBodyString(mail.TypeTextPlain,
		fmt.Sprintf("Dear subscriber %d,\n\nno news is good news.\n", number))
	m.AddAlternativeString(mail.TypeTextHTML,
		fmt.Sprintf("<p>Dear subscriber %d,</p><p>no news is <b>good</b> news.</p>", number))
	_, err := c.pool.Send(co, &smtp.Mail{From: from, To: []string{to}, Message: m})
	_, refused := errors.AsType[*smtp.RecipientsError](err)
	switch {
	case err == nil:
	case smtp.Temporary(err):
		c.later++
	case refused:
		c.refused++
	case c.failed == nil:
		c.failed = err
	}
}

// report prints the summary.
func (c *campaign) report(
	stdout io.Writer, took time.Duration, connections int, s *subscribers,
) error {
	st := c.pool.Stats()
	mails, who := s.received()
	_, err := fmt.Fprintf(stdout, "%d subscribers: "+
		"%d mails accepted in %.2f s, %.0f in a second; "+
		"%d refused, %d for later.\n"+
		"%d further attempts; %d connections for all, %d at a time.\n"+
		"The server has %d mails for %d subscribers.\n",
		c.subscribers, st.Accepted, took.Seconds(), float64(st.Accepted)/took.Seconds(),
		c.refused, c.later, st.Retried, st.Dialed, connections, mails, who)
	return err
}

// watch shows how far the pool is, until it is stopped. It runs beside the loop, since a terminal
// may block.
func watch(w *os.File, pool *smtp.Pool, mails int) (stop func()) {
	if !term.IsTerminal(int(w.Fd())) {
		return func() {}
	}
	bar := progressbar.NewOptions(mails, progressbar.OptionSetWriter(w),
		progressbar.OptionSetWidth(30), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("mails"), progressbar.OptionClearOnFinish())
	bar.RenderBlank() // its clock begins now
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				bar.Finish()
				return
			case <-tick.C:
				st := pool.Stats()
				bar.Set64(min(st.Accepted+st.Failed, int64(mails)-1)) // the last step is Finish's
			}
		}
	})
	return func() {
		close(over)
		watching.Wait()
	}
}

func address(number int) string { return fmt.Sprintf("subscriber%d@example.com", number) }

// subscribers are the server's idea of them: it doesn't know every hundredth one, and takes every
// fiftieth one of the others only the second time.
type subscribers struct {
	mu    sync.Mutex
	tried map[string]bool
	got   map[string]int
}

func newSubscribers() *subscribers {
	return &subscribers{tried: make(map[string]bool), got: make(map[string]int)}
}

func (s *subscribers) check(to string) error {
	var number int
	if _, err := fmt.Sscanf(to, "subscriber%d@", &number); err != nil || number%100 == 0 {
		return &gosmtp.SMTPError{
			Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such subscriber",
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if number%50 == 1 && !s.tried[to] {
		s.tried[to] = true
		return &gosmtp.SMTPError{
			Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 7, 1}, Message: "greylisted",
		}
	}
	return nil
}

func (s *subscribers) receive(m mailserver.Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[strings.Join(m.To, " ")]++
}

// received returns how many mails the server has got, and for how many subscribers.
func (s *subscribers) received() (mails, who int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.got {
		mails += n
	}
	return mails, len(s.got)
}
