//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// nodemailer#1105
func TestRetriesAreBounded(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		for name, hook := range map[string]func(s *script, line string) string{
			"dropped at once": func(s *script, _ string) string { return s.drop() },
			"dropped at MAIL": func(s *script, line string) string {
				if strings.HasPrefix(line, "MAIL") {
					return s.drop()
				}
				return ""
			},
			"refused for now": func(s *script, line string) string {
				if strings.HasPrefix(line, "RCPT") {
					return "450 greylisted\r\n"
				}
				return ""
			},
		} {
			m := &mta{hook: hook}
			p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), Attempts: 4,
				FirstDelay: 1, MaxDelay: 2})
			_, err := p.Send(ctx, note())
			if stats := p.Stats(); err == nil || stats.Retried != 3 || stats.Failed != 1 {
				t.Errorf("%s: %v, %+v", name, err, stats)
			}
			_, refused := errors.AsType[*smtp.Error](err)
			if refused != (name == "refused for now") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestTemporaryFailuresAreTriedAgainOnANewConnection(t *testing.T) {
	for _, at := range []string{"MAIL", "RCPT", "DATA", "."} {
		t.Run(at, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				refusals := 2
				m := &mta{hook: func(_ *script, line string) string {
					if strings.HasPrefix(line, at) && refusals > 0 {
						refusals--
						return "451 4.7.1 later\r\n"
					}
					return ""
				}}
				p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(),
					FirstDelay: 1})
				_, err := p.Send(ctx, note())
				check(t, err)
				if got := m.received(); len(got) != 1 || got[0].conn != 3 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestPermanentFailuresAreNotTriedAgain(t *testing.T) {
	for _, at := range []string{"EHLO", "MAIL", "RCPT", "DATA", "."} {
		coroutine(t, func(ctx context.Context, t *testing.T) {
			var times atomic.Int32
			m := &mta{hook: func(_ *script, line string) string {
				if strings.HasPrefix(line, at) {
					times.Add(1)
					return "554 5.7.1 no\r\n"
				}
				return ""
			}}
			p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), FirstDelay: 1})
			_, err := p.Send(ctx, note())
			if refused, ok := errors.AsType[*smtp.Error](err); !ok || refused.Temporary() ||
				times.Load() != 1 {
				t.Errorf("%s: %v, %d times", at, err, times.Load())
			}
		})
	}
}

// With a wrong password each mail would be a failed login, which locks accounts.
func TestRefusedLoginIsNotTriedForEachMail(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		var logins atomic.Int32
		address := serve(t, func(s *script) {
			s.helloTLS("AUTH PLAIN")
			s.line()
			if logins.Add(1) == 3 {
				s.drop()
			}
			s.say("535 5.7.8 no\r\n")
			s.hear("QUIT")
		})
		config := secured()
		config.Auth = smtp.Password("me", "wrong")
		p := pool(t, smtp.PoolConfig{Address: address, Config: config, MaxConns: 5, FirstDelay: 1})
		send := func(ctx context.Context) {
			t.Helper()
			_, err := p.Send(ctx, note())
			refused, ok := errors.AsType[*smtp.Error](err)
			if !ok || refused.Code != 535 || smtp.Temporary(err) ||
				strings.Count(err.Error(), "smtp: ") != 1 {
				t.Errorf("%v", err)
			}
		}
		for range 20 {
			send(ctx)
		}
		if logins.Load() != 1 {
			t.Errorf("%d logins", logins.Load())
		}
		smtp.EndRefusalPause(p)
		var group runtime.WaitGroup
		for range 20 { // one of them asks
			group.Go(ctx, send)
		}
		check(t, group.Wait(ctx))
		if logins.Load() != 2 {
			t.Errorf("%d logins", logins.Load())
		}
		smtp.EndRefusalPause(p)
		send(ctx) // whose connection is lost before the answer, so that it asks once more
		if logins.Load() != 4 {
			t.Errorf("%d logins", logins.Load())
		}
	})
}

// What a mail has failed with tells whether it may be sent later.
func TestTemporary(t *testing.T) {
	full := &smtp.Error{Code: 452, Command: "RCPT", Recipient: "full@b"}
	unknown := &smtp.Error{Code: 550, Command: "RCPT", Recipient: "unknown@b"}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{full, true},
		{unknown, false},
		{&smtp.RecipientsError{Refused: []*smtp.Error{unknown, full}}, true},
		{&smtp.RecipientsError{Refused: []*smtp.Error{unknown, unknown}}, false},
		{fmt.Errorf("end of message: %w", os.ErrDeadlineExceeded), true},
		{fmt.Errorf("%w; %w", os.ErrDeadlineExceeded, smtp.ErrInDoubt), false},
		{fmt.Errorf("%w; %w", full, smtp.ErrInDoubt), false},
		{syscall.ECONNREFUSED, true},
		{context.DeadlineExceeded, true},
		{smtp.ErrPoolFull, true},
		{smtp.ErrPoolClosed, true},
		{smtp.ErrInvalid, false},
		{&smtp.SizeError{}, false},
		{&smtp.ExtensionError{}, false},
		{&explain.HandshakeError{Err: io.EOF}, false},
		{&explain.HandshakeError{Reason: explain.ReasonUnknownAuthority}, false},
		{&explain.HandshakeError{Reason: explain.ReasonTimeout}, true},
	} {
		if got := smtp.Temporary(test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
	}
	// Who asks the first Error only isn't told that a mail is lost which may be sent later.
	err := error(&smtp.RecipientsError{Refused: []*smtp.Error{unknown, full}})
	if first, _ := errors.AsType[*smtp.Error](err); first != full {
		t.Errorf("the first refusal is %v", first)
	}
}

// A connection that is lost in the handshake is a lost connection like others.
func TestLostHandshakeIsTriedAgain(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		var conns atomic.Int32
		address := serve(t, func(s *script) {
			conns.Add(1)
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n")
		})
		p := pool(t, smtp.PoolConfig{Address: address, Config: secured(), FirstDelay: 1})
		_, err := p.Send(ctx, note())
		if _, ok := errors.AsType[*explain.HandshakeError](err); !ok || !smtp.Temporary(err) {
			t.Errorf("%v", err)
		}
		if conns.Load() != 3 {
			t.Errorf("%d attempts", conns.Load())
		}
	})
}

// What a message can't be made of, it can't be made of later.
func TestErrorOfAMessageIsNotTemporary(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		p := pool(t, smtp.PoolConfig{Address: new(mta).start(t), Config: plaintext()})
		broken := errors.New("broken")
		mail := note()
		mail.Message = smtp.Reader(iotest.ErrReader(broken))
		_, err := p.Send(ctx, mail)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), ": message: broken") ||
			smtp.Temporary(err) {
			t.Errorf("%v", err)
		}
	})
}

// A mail that the server may have accepted isn't sent once more.
func TestNothingIsSentTwice(t *testing.T) {
	for _, test := range []struct {
		at    string
		doubt bool
	}{{".", true}, {"354", false}} {
		t.Run(test.at, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				var datas atomic.Int32
				m := &mta{hook: func(s *script, line string) string {
					if line == "DATA" {
						datas.Add(1)
						if test.at == "354" {
							s.say("354 go\r\n")
							s.r.ReadString('\n')
							return s.drop()
						}
					}
					if line == "." {
						return s.drop()
					}
					return ""
				}}
				p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(),
					FirstDelay: 1})
				_, err := p.Send(ctx, letter(strings.Repeat("line\n", 4<<20/5), "a@b"))
				if err == nil || test.doubt && !errors.Is(err, smtp.ErrInDoubt) ||
					datas.Load() != 1 {
					t.Errorf("%v, DATA came %d times", err, datas.Load())
				}
				if stats := p.Stats(); stats.Failed != 1 || test.doubt && stats.InDoubt != 1 {
					t.Errorf("%+v", stats)
				}
			})
		})
	}
}

// One refused recipient of many doesn't stop the others, and only those that were refused for now
// are tried again.
func TestRecipientsAreTriedEachForItself(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		later := map[string]int{"c@x": 1, "d@x": 100}
		m := &mta{hook: func(_ *script, line string) string {
			to := strings.TrimSuffix(strings.TrimPrefix(line, "RCPT TO:<"), ">")
			switch {
			case to == "b@x":
				return "550 5.1.1 unknown\r\n"
			case later[to] > 0:
				later[to]--
				return "450 4.2.1 later\r\n"
			}
			return ""
		}}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), FirstDelay: 1})
		receipt, err := p.Send(ctx, letter("x\n", "a@x", "b@x", "c@x", "d@x"))
		check(t, err)
		var refused []string
		for _, r := range receipt.Refused {
			refused = append(refused, r.Recipient)
		}
		if got := strings.Join(refused, " "); got != "b@x d@x" || receipt.Text != "queued" {
			t.Errorf("%+v, refused %s", receipt, got)
		}
		got := m.received()
		if len(got) != 2 || strings.Join(got[0].to, " ") != "a@x" ||
			strings.Join(got[1].to, " ") != "c@x" {
			t.Errorf("%+v", got)
		}
		if stats := p.Stats(); stats.Accepted != 1 || stats.Refused != 2 || stats.Retried != 2 {
			t.Errorf("%+v", stats)
		}
	})
}

// A mail that was let in isn't turned away when it is tried again, however many others come.
func TestFurtherAttemptsAreNotTurnedAway(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		refusals := 15
		m := &mta{hook: func(_ *script, line string) string {
			if line == "MAIL FROM:<later@x>" && refusals > 0 {
				refusals--
				return "451 later\r\n"
			}
			return ""
		}}
		p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), MaxConns: 1,
			MaxQueue: 2, Attempts: 20, FirstDelay: 2 * time.Millisecond,
			MaxDelay: 2 * time.Millisecond})
		over := false
		var others runtime.WaitGroup
		for range 4 {
			check(t, others.Go(ctx, func(ctx context.Context) {
				for !over {
					_, err := p.Send(ctx, note())
					if err != nil && !errors.Is(err, smtp.ErrPoolFull) {
						t.Error(err)
					}
					runtime.Yield(ctx)
				}
			}))
		}
		mail := note()
		mail.From = "later@x"
		_, err := p.Send(ctx, mail)
		for errors.Is(err, smtp.ErrPoolFull) && p.Stats().Retried == 0 { // it wasn't let in
			runtime.Yield(ctx)
			_, err = p.Send(ctx, mail)
		}
		over = true
		check(t, err)
		check(t, others.Wait(ctx))
	})
}

// Of what can't be mended by waiting nothing is tried again.
func TestSessionsThatCanNotBegin(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		var dialled atomic.Int32
		m.hook = func(_ *script, line string) string {
			if line == "" {
				dialled.Add(1)
			}
			return ""
		}
		address := m.start(t)
		config := secured()
		config.Auth = smtp.Password("me", "secret")
		for _, security := range []smtp.Security{smtp.Mandatory, smtp.Implicit,
			smtp.Opportunistic} {
			dialled.Store(0)
			config.Security = security
			config.Timeouts.Greeting = leaktest.Patience
			p := pool(t, smtp.PoolConfig{Address: address, Config: config, FirstDelay: 1})
			_, err := p.Send(ctx, note())
			if err == nil || p.Stats().Retried != 0 {
				t.Errorf("%v: %v, %+v", security, err, p.Stats())
			}
		}
	})
}
