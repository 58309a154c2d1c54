//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

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
