//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/smtp"
)

// N14: whatever step the server stalls at.
func TestTimeOutsNameTheStep(t *testing.T) {
	const short = 50 * time.Millisecond
	mail := func(s *script, steps ...string) {
		s.hello()
		for i, step := range []string{"MAIL FROM:<me@me.test>", "RCPT TO:<a@a.test>", "DATA"} {
			s.hear(step)
			if i == len(steps) {
				break
			}
			s.say(steps[i])
		}
	}
	for step, test := range map[string]struct {
		timeouts smtp.Timeouts
		play     func(s *script)
	}{
		"greeting": {smtp.Timeouts{Greeting: short}, func(s *script) {}},
		"EHLO":     {smtp.Timeouts{Hello: short}, func(s *script) { s.say("220 x\r\n") }},
		"STARTTLS": {smtp.Timeouts{Hello: short},
			func(s *script) { s.hello("STARTTLS"); s.hear("STARTTLS") }},
		"MAIL": {smtp.Timeouts{Mail: short}, func(s *script) { mail(s) }},
		"RCPT": {smtp.Timeouts{Rcpt: short}, func(s *script) { mail(s, "250 a\r\n") }},
		"DATA": {smtp.Timeouts{DataInit: short},
			func(s *script) { mail(s, "250 a\r\n", "250 b\r\n") }},
		"end of message": {smtp.Timeouts{DataEnd: short}, func(s *script) {
			mail(s, "250 a\r\n", "250 b\r\n", "354 c\r\n")
			s.data()
		}},
		"message": {smtp.Timeouts{DataBlock: short}, func(s *script) {
			mail(s, "250 a\r\n", "250 b\r\n", "354 c\r\n") // and reads no more
		}},
		"AUTH": {smtp.Timeouts{Auth: short},
			func(s *script) { s.helloTLS("AUTH PLAIN"); s.line() }},
		"TLS": {smtp.Timeouts{}, func(s *script) { // no ServerHello comes
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n")
		}},
		"EHLO over TLS": {smtp.Timeouts{Hello: time.Second}, func(s *script) { // B_1
			s.hello("STARTTLS")
			s.ask("STARTTLS", "220 go\r\n")
			s.secure()
			s.hear("EHLO me.test")
		}},
	} {
		t.Run(step, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) { s.hasty = true; test.play(s); s.idle() })
				config := plaintext()
				switch step {
				case "AUTH", "TLS", "EHLO over TLS":
					config = secured()
					config.Auth = smtp.Password("me", "secret")
				}
				if step == "TLS" {
					config.Client.HandshakeTimeout = short
				}
				config.Timeouts = test.timeouts
				c, err := smtp.Dial(ctx, address, config)
				if err == nil {
					text := "x\n"
					if step == "message" {
						text = strings.Repeat(strings.Repeat("x", 998)+"\n",
							32<<10) // more than a kernel keeps
					}
					_, err = c.Send(ctx, letter(text, "a@a.test"))
				}
				wantError(t, step, err, os.ErrDeadlineExceeded)
				name, _, _ := strings.Cut(step, " over ")
				if !strings.Contains(err.Error(), ": "+name+":") {
					t.Errorf("the error is %q", err)
				}
				if doubt := errors.Is(err, smtp.ErrInDoubt); doubt != (step == "end of message") {
					t.Errorf("in doubt: %v", doubt)
				}
			})
		})
	}
}

// A server that wants TLS from the start says nothing to a client that waits for its greeting.
func TestMissingGreetingIsExplained(t *testing.T) {
	for name, play := range map[string]func(s *script){
		"silence": func(s *script) { s.idle() },
		"end":     func(*script) {},
	} {
		t.Run(name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) { s.hasty = true; play(s) })
				config := plaintext()
				config.Timeouts.Greeting = 50 * time.Millisecond
				_, err := smtp.Dial(ctx, address, config)
				if err == nil || !strings.Contains(err.Error(),
					"Config.Security has to be Implicit") {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// A time-out is for a whole reply, whatever comes of it meanwhile.
func TestReplyThatTrickles(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hasty = true
			for {
				s.say("220-more\r\n")
				time.Sleep(5 * time.Millisecond)
			}
		})
		config := plaintext()
		config.Timeouts.Greeting = 60 * time.Millisecond
		_, err := smtp.Dial(ctx, address, config)
		wantError(t, "a greeting without end", err, os.ErrDeadlineExceeded)
	})
}
