//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/smtp"
)

// traced has a configuration's dialogue kept.
func traced(config smtp.Config) (smtp.Config, *[]string) {
	lines := new([]string)
	config.Trace = func(line string) { *lines = append(*lines, line) }
	return config, lines
}

func TestRehearsalIsTheDialogueOfASession(t *testing.T) {
	const message = "Subject: x\r\n\r\nHello.\r\n"
	config := secured()
	config.Auth = smtp.Password("me", "secret")
	config, lines := traced(config)
	check(t, smtp.Rehearse(t.Context(), config, letter(message, "a@you.test", "b@you.test")))
	want := []string{
		"S: 220 server.invalid, a rehearsal", "C: EHLO me.test", "C: STARTTLS", "(TLS)",
		"C: EHLO me.test", "C: AUTH SCRAM-SHA-256-PLUS ***", "S: 235 2.7.0 welcome",
		"C: MAIL FROM:<me@me.test> SIZE=22", "C: RCPT TO:<a@you.test>",
		"C: RCPT TO:<b@you.test>", "C: DATA", "S: 354 go ahead",
		"C: (25 bytes of the message)", "S: 250 2.0.0 accepted", "C: QUIT", "S: 221 2.0.0 bye",
	}
	got := *lines
	for _, line := range want {
		i := slices.Index(got, line)
		if i < 0 {
			t.Fatalf("%q is missing, or not in its place:\n%s", line, strings.Join(*lines, "\n"))
		}
		got = got[i+1:]
	}
}

func TestRehearsalsInEachManner(t *testing.T) {
	long := "Subject: x\r\n\r\n" + strings.Repeat("Grüße\r\n.\r\n", 100_000)
	type change func(c *smtp.Config, m *smtp.Mail)
	for name, change := range map[string]change{
		"C: LHLO me.test":     func(c *smtp.Config, _ *smtp.Mail) { c.LMTP = true },
		"C: BDAT 1048576":     func(c *smtp.Config, _ *smtp.Mail) { c.Chunking = true },
		" SIZE=1200014 ":      nil,
		" BODY=BINARYMIME":    func(_ *smtp.Config, m *smtp.Mail) { m.Binary = true },
		" SMTPUTF8":           func(_ *smtp.Config, m *smtp.Mail) { m.From = "ü@me.test" },
		" REQUIRETLS":         func(_ *smtp.Config, m *smtp.Mail) { m.RequireTLS = true },
		"C: EHLO [192.0.2.1]": func(c *smtp.Config, _ *smtp.Mail) { c.Hello = "" },
	} {
		for _, security := range []smtp.Security{
			smtp.Mandatory, smtp.Implicit, smtp.Opportunistic,
		} {
			config := secured()
			config.Security = security
			mail := letter(long, "a@you.test", "b@you.test")
			if change != nil {
				change(&config, mail)
			}
			config, lines := traced(config)
			check(t, smtp.Rehearse(t.Context(), config, mail))
			text := strings.Join(*lines, "\n")
			if !strings.Contains(text, name) || !strings.HasSuffix(text, "S: 221 2.0.0 bye") ||
				strings.Contains(text, "STARTTLS\n") != (security != smtp.Implicit) {
				t.Errorf("%v: %q is missing:\n%s", security, name, text)
			}
		}
	}
}

func TestRehearsalsFindWhatCannotBeSent(t *testing.T) {
	config, lines := traced(secured())
	for _, mail := range []*smtp.Mail{
		letter("Subject: x\r\n\r\n", "a@you.test>\r\nDATA"),
		letter("Subject: x\n\ry\n\n", "a@you.test"),
		letter("", ""),
	} {
		err := smtp.Rehearse(t.Context(), config, mail)
		wantError(t, "Rehearse", err, smtp.ErrInvalid)
	}
	if text := strings.Join(*lines, "\n"); strings.Contains(text, "C: MAIL") {
		t.Errorf("a mail was begun:\n%s", text)
	}
}

func TestTraceHasNoCredentials(t *testing.T) {
	const user, password = "alice@me.test", "correct horse"
	for mechanism, says := range map[string]func(s *script){
		"PLAIN": func(s *script) { s.line() },
		"LOGIN": func(s *script) {
			s.line()
			s.say("334 VXNlcm5hbWU6\r\n")
			s.line()
			s.say("334 UGFzc3dvcmQ6\r\n")
			s.line()
		},
		"CRAM-MD5": func(s *script) {
			s.line()
			s.say("334 PDEyM0BtYWlsLnRlc3Q+\r\n")
			s.line()
		},
	} {
		t.Run(mechanism, func(t *testing.T) {
			address := serve(t, func(s *script) {
				s.helloTLS("AUTH " + mechanism)
				says(s)
				s.say("535 5.7.8 no\x1b[2J\r\n")
				s.ask("QUIT", "221 bye\r\n")
			})
			coroutine(t, func(ctx context.Context, t *testing.T) {
				config := secured()
				config.Auth = smtp.Password(user, password)
				config, lines := traced(config)
				_, err := smtp.Dial(ctx, address, config)
				if _, ok := errors.AsType[*smtp.Error](err); !ok {
					t.Errorf("Dial: %v", err)
				}
				text := strings.Join(*lines, "\n")
				for _, part := range []string{user, password} {
					code := encoded(part)
					plain := encoded("\x00" + user + "\x00" + password)
					for _, secret := range []string{part, code, plain, "PDEyM0"} {
						if strings.Contains(text, secret) {
							t.Errorf("%q is in it:\n%s", secret, text)
						}
					}
				}
				for _, line := range []string{
					"C: EHLO me.test\n", "C: STARTTLS\n", "(TLS 1.3, ", "C: AUTH " + mechanism,
					"***", "S: 535 5.7.8 no?[2J\nC: QUIT",
				} {
					if !strings.Contains(text, line) {
						t.Errorf("%q is missing:\n%s", line, text)
					}
				}
			})
		})
	}
}
