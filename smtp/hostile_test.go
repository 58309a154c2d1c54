//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// A server of LMTP that goes down has delivered to those to whom it has said so, and may have
// delivered to all whom it hasn't refused.
func TestLMTPServerThatGoesDown(t *testing.T) {
	for name, test := range map[string]struct {
		replies string
		doubt   bool
		sent    int // times
	}{
		"for the first of two":       {"421 going down\r\n", true, 1},
		"after one that has it":      {"250 ok\r\n421 going down\r\n", true, 1},
		"after one that was refused": {"550 no\r\n421 going down\r\n", false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int32
			address := serve(t, func(s *script) {
				s.hasty = true
				s.say("220 mail.test\r\n")
				s.ask("LHLO me.test", ehlo("PIPELINING"))
				for s.line() != "DATA" {
					s.say("250 ok\r\n")
				}
				s.say("354 go on\r\n")
				s.data()
				sent.Add(1)
				s.say(test.replies)
			})
			coroutine(t, func(ctx context.Context, t *testing.T) {
				config := plaintext()
				config.LMTP = true
				p, err := smtp.NewPool(smtp.PoolConfig{
					Address: address, Config: config, Attempts: 2, FirstDelay: 1,
				})
				check(t, err)
				defer p.Close(ctx)
				_, err = p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test", "b@you.test"))
				if errors.Is(err, smtp.ErrInDoubt) != test.doubt || err == nil {
					t.Errorf("in doubt %v, %v", !test.doubt, err)
				}
				if n := int(sent.Load()); n != test.sent {
					t.Errorf("sent %d times: %v", n, err)
				}
			})
		})
	}
}

// What a server says is in errors and receipts, once for each recipient: it must not be much.
func TestWordsOfTheServerAreCut(t *testing.T) {
	long := strings.Repeat("250-"+strings.Repeat("x", 500)+"\r\n", 100) + "250 end\r\n"
	m := &mta{keywords: []string{"PIPELINING", "AUTH " + strings.Repeat("NONE ", 2000)}}
	m.hook = func(_ *script, line string) string {
		switch {
		case strings.HasPrefix(line, "RCPT TO:<no"):
			return strings.ReplaceAll(long, "250", "550")
		case line == ".":
			return long
		}
		return ""
	}
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := m.start(t)
		c := dial(ctx, t, address, plaintext())
		r, err := c.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test", "no@you.test"))
		check(t, err)
		if n, refused := len(r.Text), len(r.Refused[0].Text); n > 5000 || refused > 5000 {
			t.Errorf("%d bytes and %d bytes are kept", n, refused)
		}
		if !strings.HasPrefix(r.Refused[0].Text, "xxx") || r.Refused[0].Code != 550 {
			t.Errorf("%+v", r.Refused[0])
		}
	})
}

func TestOffersInErrorsAreCut(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.helloTLS("AUTH " + strings.Repeat("NONE ", 2000))
			s.hear("QUIT")
		})
		config := secured()
		config.Auth = smtp.Password("me", "secret")
		_, err := smtp.Dial(ctx, address, config)
		wantError(t, "Dial", err, smtp.ErrNoMechanism)
		if len(err.Error()) > 500 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

// Whoever gives up while a connection is looked at doesn't take the others with it.
func TestGivingUpLeavesTheIdleConnections(t *testing.T) {
	noops := make(chan struct{}, 10)
	m := &mta{}
	m.hook = func(s *script, line string) string {
		if line == "NOOP" {
			noops <- struct{}{}
			<-s.over
		}
		return ""
	}
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := m.start(t)
		p, err := smtp.NewPool(smtp.PoolConfig{
			Address: address, Config: plaintext(), MaxConns: 3, CheckAfter: 1,
		})
		check(t, err)
		var all runtime.WaitGroup
		for range 3 {
			check(t, all.Go(ctx, func(ctx context.Context) {
				_, err := p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
				check(t, err)
			}))
		}
		check(t, all.Wait(ctx))
		if s := p.Stats(); s.Idle != 3 {
			t.Fatalf("%+v", s)
		}
		check(t, runtime.Sleep(ctx, 20*time.Millisecond)) // so that they are looked at
		hasty, cancel := context.WithCancel(ctx)
		check(t, all.Go(hasty, func(hasty context.Context) {
			_, err := p.Send(hasty, letter("Subject: x\n\nx\n", "a@you.test"))
			wantError(t, "Send", err, context.Canceled)
		}))
		_, err = runtime.Await(ctx, func() (struct{}, error) { return <-noops, nil })
		check(t, err)
		cancel()
		check(t, all.Wait(ctx))
		if s := p.Stats(); s.Idle != 2 {
			t.Errorf("of 3 connections %d are left", s.Idle)
		}
		check(t, p.Close(ctx))
	})
}

// A panic in what a session is begun with costs no place in the pool.
func TestPanickingMechanismsCostNoConnections(t *testing.T) {
	m, busy := &mta{}, true
	m.hook = func(_ *script, line string) string {
		if strings.HasPrefix(line, "RCPT") && busy {
			return "450 later\r\n"
		}
		return ""
	}
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := m.start(t)
		config := plaintext()
		broken := true
		config.Trace = func(string) {
			if broken {
				panic("by the test")
			}
		}
		p, err := smtp.NewPool(smtp.PoolConfig{
			Address: address, Config: config, MaxConns: 2, Attempts: 2, FirstDelay: 1,
			CheckAfter: 1,
		})
		check(t, err)
		panics := func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
		}
		for range 3 {
			panics()
		}
		broken = false
		// Two attempts, each on a connection of its own, for both of which there is a place.
		_, err = p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
		if refused, ok := errors.AsType[*smtp.Error](err); !ok || refused.Code != 450 {
			t.Errorf("error is %v", err)
		}
		if s := p.Stats(); s.Open != 2 || s.Idle != 2 {
			t.Errorf("%+v", s)
		}
		m.hooked(func() { busy = false })
		broken = true // a mail, and then the look at a connection
		panics()
		check(t, runtime.Sleep(ctx, 20*time.Millisecond))
		panics()
		broken = false
		if s := p.Stats(); s.Open != 0 || s.Idle != 0 {
			t.Errorf("%+v", s)
		}
		_, err = p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
		check(t, err)
		check(t, p.Close(ctx))
	})
}

func TestPoolsThatAreClosedTwice(t *testing.T) {
	m, came := &mta{}, make(chan struct{})
	m.hook = func(s *script, line string) string {
		if line == "." {
			close(came)
			<-s.over
		}
		return ""
	}
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := m.start(t)
		p, err := smtp.NewPool(smtp.PoolConfig{Address: address, Config: plaintext()})
		check(t, err)
		var all runtime.WaitGroup
		check(t, all.Go(ctx, func(ctx context.Context) {
			_, err := p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
			wantError(t, "Send", err, smtp.ErrInDoubt)
		}))
		_, err = runtime.Await(ctx, func() (struct{}, error) { return <-came, nil })
		check(t, err)
		over, cancel := context.WithCancel(ctx)
		cancel()
		wantError(t, "Close", p.Close(over), context.Canceled)
		wantError(t, "Close", p.Close(over), context.Canceled)
		check(t, all.Wait(ctx))
		check(t, p.Close(ctx))
		_, err = p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
		wantError(t, "Send", err, smtp.ErrPoolClosed)
	})
}

func TestRatesThatAreNone(t *testing.T) {
	for _, rate := range []float64{math.NaN(), math.Inf(-1), -1} {
		_, err := smtp.NewPool(smtp.PoolConfig{Rate: rate})
		wantError(t, "NewPool", err, smtp.ErrInvalid)
	}
}

// A rate that is next to nothing is no leave to send at once.
func TestVeryLowRates(t *testing.T) {
	m := &mta{}
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := m.start(t)
		p, err := smtp.NewPool(smtp.PoolConfig{
			Address: address, Config: plaintext(), Rate: 1e-20, Attempts: 1,
		})
		check(t, err)
		_, err = p.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
		check(t, err)
		for range 2 {
			soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			_, err = p.Send(soon, letter("Subject: x\n\nx\n", "a@you.test"))
			wantError(t, "Send", err, context.DeadlineExceeded)
			cancel()
		}
		check(t, p.Close(ctx))
	})
}

// An acceptance that is there before the message is none.
func TestAcceptanceBeforeTheMessage(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := &mta{}
		m.hook = func(_ *script, line string) string {
			if line == "DATA" {
				return "354 go on\r\n250 queued\r\n"
			}
			return ""
		}
		c := dial(ctx, t, m.start(t), plaintext())
		_, err := c.Send(ctx, letter("Subject: x\n\nx\n", "a@you.test"))
		wantError(t, "Send", err, smtp.ErrProtocol)
		if errors.Is(err, smtp.ErrInDoubt) {
			t.Errorf("in doubt, and nothing was sent: %v", err)
		}
	})
}
