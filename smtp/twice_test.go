//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// moods is a hook for an mta that does whatever a server may do at any command: refuse it, go down,
// hang up before the answer or in its middle, or after it.
func moods(random *rand.Rand) func(s *script, line string) string {
	return func(s *script, line string) string {
		switch random.IntN(60) {
		case 0, 1, 2:
			return "450 later\r\n"
		case 3:
			return "550 never\r\n"
		case 4:
			return "421 going down\r\n"
		case 5:
			s.Close()
			return "250 that nobody hears\r\n"
		case 6:
			io.WriteString(s.Conn, "25")
			s.Close()
			return "250 that nobody hears\r\n"
		case 7:
			if line == "." { // accepted, and then the connection is gone
				io.WriteString(s.Conn, "250 ok\r\n")
				s.Close()
				return "250 that nobody hears\r\n"
			}
		}
		return ""
	}
}

// Whatever a server does, nobody gets a mail twice, and what Send says of each recipient is true.
func TestNobodyGetsAMailTwice(t *testing.T) {
	for name, lmtp := range map[string]bool{"SMTP": false, "LMTP": true} {
		t.Run(name, func(t *testing.T) { nobodyGetsAMailTwice(t, lmtp) })
	}
}

func nobodyGetsAMailTwice(t *testing.T, lmtp bool) {
	const mails, senders = 600, 12
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &mta{hook: moods(rand.New(rand.NewPCG(seed, 1))), lmtp: lmtp}
	config := plaintext()
	config.LMTP = lmtp
	coroutine(t, func(ctx context.Context, t *testing.T) {
		p, err := smtp.NewPool(smtp.PoolConfig{
			Address: m.start(t), Config: config, MaxConns: 6, FirstDelay: 1,
			MaxDelay: 1, MaxMessages: 20, Attempts: 4,
		})
		check(t, err)
		var results sync.Map
		var all runtime.WaitGroup
		for sender := range senders {
			check(t, all.GoSpread(ctx, func(ctx context.Context) {
				for i := sender; i < mails; i += senders {
					results.Store(i, outcomeOf(ctx, p, i))
				}
			}))
		}
		check(t, all.Wait(ctx))
		check(t, p.Close(ctx))
		times := map[string]int{}
		for _, mail := range m.received() {
			for _, to := range mail.to {
				times[to]++
			}
		}
		kinds := map[string]int{}
		results.Range(func(_, value any) bool {
			for to, said := range value.(map[string]string) {
				kinds[said]++
				n := times[to]
				if n > 1 || said == "sent" && n != 1 || said == "refused" && n != 0 {
					t.Errorf("%s: %s, and came %d times", to, said, n)
				}
			}
			return true
		})
		if len(kinds) != 3 {
			t.Errorf("%v", kinds) // so the test doesn't see all it is for
		}
		t.Log(kinds, p.Stats())
	})
}

// outcomeOf sends a mail to two and returns what Send says of each of them: "sent", "refused" or
// "in doubt".
func outcomeOf(ctx context.Context, p *smtp.Pool, i int) map[string]string {
	to := []string{fmt.Sprintf("a%d@you.test", i), fmt.Sprintf("b%d@you.test", i)}
	r, err := p.Send(ctx, letter("Subject: x\n\n"+strings.Repeat("x\n", i), to...))
	said := map[string]string{}
	for _, recipient := range to {
		switch {
		case errors.Is(err, smtp.ErrInDoubt), slices.Contains(r.InDoubt, recipient):
			said[recipient] = "in doubt"
		case err != nil || slices.ContainsFunc(r.Refused, func(e *smtp.Error) bool {
			return e.Recipient == recipient
		}):
			said[recipient] = "refused"
		default:
			said[recipient] = "sent"
		}
	}
	return said
}
