//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// pool makes a Pool that is closed with the test.
func pool(t testing.TB, config smtp.PoolConfig) *smtp.Pool {
	t.Helper()
	p, err := smtp.NewPool(config)
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaktest.Patience)
		defer cancel()
		check(t, p.Close(ctx))
	})
	return p
}

// drop closes the connection and ends the script.
func (s *script) drop() string {
	s.raw.Close()
	goruntime.Goexit()
	return ""
}

// note is a letter to a@b.
func note() *smtp.Mail { return letter("x\n", "a@b") }

func TestPoolReusesConnections(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), MaxMessages: 3})
		for range 7 {
			_, err := p.Send(ctx, note())
			check(t, err)
		}
		var conns []int
		for _, mail := range m.received() {
			conns = append(conns, mail.conn)
		}
		if got := fmt.Sprint(conns); got != "[1 1 1 2 2 2 3]" {
			t.Errorf("the mails came on connections %s", got)
		}
		if stats := p.Stats(); stats.Open != 1 || stats.Idle != 1 || stats.Dialed != 3 ||
			stats.Accepted != 7 {
			t.Errorf("%+v", stats)
		}
		check(t, p.Close(ctx))
		eventually(ctx, t, "each connection was ended by QUIT", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.quits == 3
		})
		_, err := p.Send(ctx, note())
		wantError(t, "Send after Close", err, smtp.ErrPoolClosed)
	})
}

// eventually is until for coroutines and goroutines.
func eventually(ctx context.Context, t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(leaktest.Patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
		check(t, runtime.Sleep(ctx, time.Millisecond))
	}
}

// nodemailer#1151
func TestConnectionsHaveATimeToLive(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(),
			MaxAge: time.Nanosecond})
		for range 3 {
			_, err := p.Send(ctx, note())
			check(t, err)
		}
		if stats := p.Stats(); stats.Dialed != 3 || stats.Open != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

func TestIdleConnectionsAreEnded(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(),
			MaxIdle: 20 * time.Millisecond})
		_, err := p.Send(ctx, note())
		check(t, err)
		eventually(ctx, t, "it is ended",
			func() bool {
				m.mu.Lock()
				defer m.mu.Unlock()
				return m.quits == 1 &&
					p.Stats().Open == 0
			})
	})
}

// nodemailer#511
func TestConnectionThatDiedIdleLosesNoMail(t *testing.T) {
	for name, die := range map[string]func(s *script){
		"closed":   func(s *script) { s.raw.Close() },
		"reset":    func(s *script) { s.raw.(*net.TCPConn).SetLinger(0); s.raw.Close() },
		"with 421": func(s *script) { s.say("421 time is up\r\n"); s.raw.Close() },
	} {
		for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
			t.Run(fmt.Sprint(name, " ", wait), func(t *testing.T) {
				coroutine(t, func(ctx context.Context, t *testing.T) {
					var first atomic.Pointer[script]
					m := &mta{hook: func(s *script,
						_ string) string {
						first.CompareAndSwap(nil, s)
						return ""
					}}
					p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), Attempts: 1})
					_, err := p.Send(ctx, note())
					check(t, err)
					die(first.Load())
					check(t, runtime.Sleep(ctx, wait))
					_, err = p.Send(ctx, note())
					check(t, err)
					if got := m.received(); len(got) != 2 || got[1].conn != 2 {
						t.Errorf("%+v", got)
					}
					// After a while it is looked at before the mail: that is no further attempt.
					if s := p.Stats(); wait > 0 && (s.Lost != 1 || s.Retried != 0) {
						t.Errorf("%+v", s)
					}
				})
			})
		}
	}
}

// The same, when the server closes just as the mail comes.
func TestConnectionThatDiesAtMAILLosesNoMail(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		mails := 0
		m := &mta{hook: func(s *script, line string) string {
			if strings.HasPrefix(line, "MAIL") {
				if mails++; mails == 2 {
					return s.drop()
				}
			}
			return ""
		}}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), Attempts: 1})
		for range 2 {
			_, err := p.Send(ctx, note())
			check(t, err)
		}
		if got := m.received(); len(got) != 2 {
			t.Errorf("%+v", got)
		}
	})
}

// A server that has gone without a word is noticed by NOOP.
func TestMuteConnectionIsCheckedBeforeMAIL(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		var noops atomic.Int32
		m := &mta{hook: func(s *script, line string) string {
			if line == "NOOP" && noops.Add(1) == 2 {
				return s.drop()
			}
			return ""
		}}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), CheckAfter: 1})
		for range 3 {
			_, err := p.Send(ctx, note())
			check(t, err)
		}
		if stats := p.Stats(); noops.Load() != 2 || stats.Lost != 1 || stats.Dialed != 2 ||
			stats.Retried != 0 {
			t.Errorf("%d NOOPs, %+v", noops.Load(), stats)
		}
	})
}

// nodemailer#827
func TestRateHoldsOverThePool(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		const mails, rate = 12, 100
		m := new(mta)
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), MaxConns: 4,
			Rate: rate})
		began := time.Now()
		check(t, runtime.ForEach(ctx, mails, func(ctx context.Context, _ int) error {
			_, err := p.Send(ctx, note())
			return err
		}))
		if took, least := time.Since(began), time.Second*(mails-1)/rate; took < least {
			t.Errorf("%d mails took %v, at %d in a second that is at least %v", mails, took, rate,
				least)
		}
	})
}

// nodemailer-smtp-pool#7: whatever goes wrong, the connection's place is free afterwards.
func TestPoolIsNeverLeftBusy(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		number, well := 0, false
		m := new(mta)
		m.hook = func(s *script, line string) string {
			if well || !strings.HasPrefix(line, "MAIL") && line != "." {
				return ""
			}
			number++
			switch number % 5 {
			case 0:
				return s.drop()
			case 1:
				return "554 no\r\n"
			case 2:
				return "421 bye\r\n"
			case 3:
				return "what?\r\n"
			}
			return ""
		}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), MaxConns: 1,
			FirstDelay: 1, Attempts: 1})
		for i := range 40 {
			mail := note()
			switch i % 5 {
			case 1:
				mail.To = []string{"a\r\n"}
			case 2:
				mail.Message = panics{}
			}
			ctx, cancel := context.WithTimeout(ctx, leaktest.Patience)
			if i%5 == 3 {
				cancel()
			}
			p.Send(ctx, mail)
			cancel()
		}
		m.hooked(func() { well = true })
		_, err := p.Send(ctx, note())
		check(t, err)
		if stats := p.Stats(); stats.Waiting != 0 || stats.Open > 1 {
			t.Errorf("%+v", stats)
		}
	})
}

type panics struct{}

func (panics) WriteTo(io.Writer) (int64, error) { panic("on purpose") }

func TestQueueIsBoundedAndServedInOrder(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		hold := make(chan struct{})
		m := &mta{hook: func(_ *script, line string) string {
			if line == "MAIL FROM:<0@x>" {
				<-hold
			}
			return ""
		}}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), MaxConns: 1,
			MaxQueue: 3})
		send := func(ctx context.Context, i int) error {
			mail := note()
			mail.From = fmt.Sprintf("%d@x", i)
			_, err := p.Send(ctx, mail)
			return err
		}
		var group runtime.WaitGroup
		for i := range 3 {
			check(t, group.Go(ctx, func(ctx context.Context) {
				if err := send(ctx, i); err != nil {
					t.Error(err)
				}
			}))
		}
		gone, cancel := context.WithCancel(ctx)
		check(t, group.Go(ctx, func(context.Context) {
			wantError(t, "who has gone", send(gone, 9),
				context.Canceled)
		}))
		eventually(ctx, t, "three wait", func() bool { return p.Stats().Waiting == 3 })
		wantError(t, "one too many", send(ctx, 8), smtp.ErrPoolFull)
		cancel()
		eventually(ctx, t, "two wait", func() bool { return p.Stats().Waiting == 2 })
		close(hold)
		check(t, group.Wait(ctx))
		var order string
		for _, mail := range m.received() {
			order += mail.from[len("MAIL FROM:<"):][:1]
		}
		if order != "012" {
			t.Error(order)
		}
	})
}

func TestDrain(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := &mta{hook: func(_ *script,
			line string) string {
			time.Sleep(time.Millisecond)
			return ""
		}}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), MaxConns: 2})
		var group runtime.WaitGroup
		for range 10 {
			check(t, group.Go(ctx, func(ctx context.Context) {
				if _, err := p.Send(ctx, note()); err != nil {
					t.Error(err)
				}
			}))
		}
		check(t, p.Close(ctx))
		check(t, group.Wait(ctx))
		if got := m.received(); len(got) != 10 {
			t.Errorf("%d mails of 10", len(got))
		}
	})
}

func TestDrainThatIsCutShort(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.hasty = true; s.hello(); s.idle() })
		p, err := smtp.NewPool(smtp.PoolConfig{Address: address, Config: plaintext(), MaxConns: 2})
		check(t, err)
		var group runtime.WaitGroup
		for range 4 {
			check(t, group.Go(ctx, func(ctx context.Context) {
				if _, err := p.Send(ctx, note()); err == nil {
					t.Error("it was sent")
				}
			}))
		}
		eventually(ctx, t, "two are under way", func() bool { return p.Stats().Open == 2 })
		short, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		wantError(t, "Close", p.Close(short), context.DeadlineExceeded)
		check(t, group.Wait(ctx))
		if stats := p.Stats(); stats.Open != 0 || stats.Waiting != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

// Coroutines of several loops, and goroutines, share the connections.
func TestPoolOnSeveralLoops(t *testing.T) {
	leaktest.Guard(t)
	const senders, each = 20, 20
	m := new(mta)
	address := m.start(t)
	err := runtime.Run(func(ctx context.Context) error {
		p := pool(t, smtp.PoolConfig{Address: address, Config: plaintext(), MaxConns: 3,
			MaxMessages: 7, MaxIdle: time.Millisecond})
		send := func(ctx context.Context) {
			for range each {
				if _, err := p.Send(ctx, note()); err != nil {
					t.Error(err)
				}
			}
		}
		var group runtime.WaitGroup
		for range senders / 2 {
			if err := group.GoSpread(ctx, send); err != nil {
				return err
			}
			group.Add(1)
			go func() {
				defer group.Done()
				send(ctx)
			}()
		}
		return group.Wait(ctx)
	}, append(runtimetest.Quiet(t), runtime.WithLoops(3))...)
	check(t, err)
	if got := m.received(); len(got) != senders*each {
		t.Errorf("%d mails", len(got))
	}
}

// Thousands of sessions are on one loop, all at the same time: no mail is answered before each of
// them has one under way.
func TestThousandsOfSessionsOnOneLoop(t *testing.T) {
	leaktest.Guard(t)
	const sessions = 3000
	var all sync.WaitGroup
	all.Add(sessions)
	address := serve(t, func(s *script) {
		s.hello("PIPELINING")
		s.hear("MAIL FROM:<me@me.test>", "RCPT TO:<a@b>", "DATA")
		all.Done()
		all.Wait()
		s.say("250 a\r\n250 b\r\n354 go\r\n")
		s.data()
		s.say("250 queued\r\n")
		s.hear("QUIT")
	})
	err := runtime.Run(func(ctx context.Context) error {
		p, err := smtp.NewPool(smtp.PoolConfig{
			Address: address, Config: plaintext(), MaxConns: sessions,
		})
		if err != nil {
			return err
		}
		err = runtime.ForEach(ctx, sessions, func(ctx context.Context, _ int) error {
			_, err := p.Send(ctx, note())
			return err
		})
		if s := p.Stats(); s.Open != sessions || s.Accepted != sessions {
			t.Errorf("%+v", s)
		}
		return errors.Join(err, p.Close(ctx))
	}, append(runtimetest.Quiet(t), runtime.WithLoops(1))...)
	check(t, err)
}
