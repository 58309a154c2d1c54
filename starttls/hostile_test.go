//go:build linux

package starttls_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// of returns the dialogue of a protocol.
func of(protocol starttls.Protocol) *plain {
	i := slices.IndexFunc(plains, func(p plain) bool { return p.protocol == protocol })
	return &plains[i]
}

// A trial is a server that misbehaves, and what has to come of it. Whatever it is, the client says
// nothing in plaintext but the commands of the dialogue.
type trial struct {
	name     string // with the id of the case
	protocol starttls.Protocol
	script   func(s *script)
	phase    starttls.Phase
	want     error
	code     int
	said     string // part of it
	reason   explain.Reason
	config   func(c *client.Config)
}

// try makes a trial, with a server that writes each answer at once and one that does it byte by
// byte.
func try(t *testing.T, trials []trial, also func(t *testing.T, single bool,
	failure *starttls.Error)) {
	for _, trial := range trials {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprint(trial.protocol, " ", trial.name, ", byte by byte: ", single),
				func(t *testing.T) {
					coroutine(t, func(ctx context.Context, t *testing.T) {
						s := serve(t, single, trial.script)
						cfg := config()
						if trial.config != nil {
							trial.config(&cfg)
						}
						c := dial(ctx, t, cfg, s.address)
						_, err := starttls.Upgrade(ctx, c, trial.protocol, starttls.Options{})
						failure := wantFailure(ctx, t, c, err, trial.phase)
						if trial.want != nil {
							wantError(t, "Upgrade", err, trial.want)
						}
						if failure.Code != trial.code || !strings.Contains(failure.Said, trial.said) {
							t.Errorf("code %d, said %s; want %d, %q", failure.Code, failure.Said,
								trial.code, trial.said)
						}
						if got := reasonOf(err); trial.reason != "" && got != trial.reason {
							t.Errorf("error: %v, want %s", err, trial.reason)
						}
						if also != nil {
							also(t, single, failure)
						}
						if all, said := strings.Join(of(trial.protocol).commands,
							""), s.plaintext(ctx); !strings.HasPrefix(all, said) {
							t.Errorf("in plaintext the client said %q", said)
						}
					})
				})
		}
	}
}

// reasonOf returns why a handshake has failed, if that is the error.
func reasonOf(err error) explain.Reason {
	if handshake, ok := errors.AsType[*explain.HandshakeError](err); ok {
		return handshake.Reason
	}
	return ""
}

// behind has a text in one write with the server's agreement.
func behind(p *plain, text string) func(*script) {
	agreement := len(p.answers) - 1
	if p.protocol == starttls.MySQL {
		agreement--
	}
	return func(s *script) {
		answers := slices.Clone(p.answers[:agreement+1])
		answers[agreement] += text
		s.dialogue(p.commands, answers...)
	}
}

// ST-C-B1, B2, B6 to B8, and the cases B of IMAP and POP3: what is behind the agreement. Byte by
// byte, the client may see it only when the handshake has begun; either way it doesn't take it.
func TestPlaintextBehindTheAgreement(t *testing.T) {
	var trials []trial
	for _, p := range plains {
		for name, text := range map[string]string{
			"B1 replies":          "250-x\r\n250 AUTH LOGIN\r\n",
			"B1 IMAP":             "* CAPABILITY IMAP4REV1 AUTH=PLAIN\r\nc OK done\r\n",
			"B1 POP3":             "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n",
			"B2 a part of a line": "250-INJ",
			"B2 junk":             "\xff\x00\x01\x02\x03\x04",
			"B3 BYE":              "* BYE close\r\n",
			"B6 refusal":          "421 bye\r\n",
			"B7 record":           "\x16\x03\x03\x00\x04\x02\x00\x00\x00",
			"B8 flood":            strings.Repeat("250 x\r\n", 4<<20/7),
		} {
			if name == "B8 flood" && p.protocol != starttls.SMTP {
				continue
			}
			trials = append(trials, trial{name: name, protocol: p.protocol,
				phase: starttls.PhaseHandshake, script: func(s *script) {
					s.raw.single = s.raw.single &&
						name != "B8 flood" // 4 MiB in single bytes take their time
					behind(&p, text)(s)
				}})
		}
	}
	try(t, trials, func(t *testing.T, single bool, failure *starttls.Error) {
		after := errors.Is(failure, starttls.ErrPlaintextAfterUpgrade) && errors.Is(failure,
			socket.ErrPlaintextPending)
		handshake, during := errors.AsType[*explain.HandshakeError](failure)
		if during && handshake.Reason == explain.ReasonPlaintext {
			during = errors.Is(failure, starttls.ErrPlaintextDuringHandshake)
		}
		if !after && !(single && during) {
			t.Errorf("error: %v", failure)
		}
	})
}

// ST-C-B3: the plaintext comes in place of the ServerHello.
func TestPlaintextDuringTheHandshake(t *testing.T) {
	var trials []trial
	for _, p := range plains {
		trials = append(trials, trial{name: "B3", protocol: p.protocol, script: func(s *script) {
			p.start(s, 0)
			s.hear("\x16\x03\x01")
			s.say("250 AUTH PLAIN\r\n")
		}, phase: starttls.PhaseHandshake, want: starttls.ErrPlaintextDuringHandshake})
	}
	try(t, trials, nil)
}

// ST-C-B4, B5, B9, N1 to N6, N11, N13: what answers are no yes.
func TestAnswersThatAreNoYes(t *testing.T) {
	smtp := of(starttls.SMTP)
	instead := func(p *plain, drop int, text string) func(*script) {
		return func(s *script) { p.start(s, drop); s.say(text) }
	}
	first := func(text string) func(*script) { return func(s *script) { s.say(text) } }
	trials := []trial{
		{name: "B4 a reply before", protocol: "smtp", script: instead(smtp, 1,
			"250 SIZE 1\r\n220 go\r\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrProtocol, code: 250, said: "250 SIZE 1"},
		{name: "B9 bare LF", protocol: "smtp", script: instead(smtp, 1, "220 go\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrProtocol},
		{name: "B9 bare CR", protocol: "smtp", script: instead(smtp, 1, "220 go\r220 on\r\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrProtocol},
		{name: "N1 stripped", protocol: "smtp", script: instead(smtp, 2,
			"250-a\r\n250 AUTH PLAIN\r\n"),
			phase: starttls.PhaseCapabilities, want: starttls.ErrNotOffered},
		{name: "N2", protocol: "smtp", script: instead(smtp, 1, "502 no\r\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrRefused, code: 502, said: `"502 no"`},
		{name: "N3", protocol: "smtp", script: instead(smtp, 1, "454-not\r\n454 now\r\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrRefused, code: 454},
		{name: "N4", protocol: "smtp", script: instead(smtp, 1, "354 do something else\r\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrProtocol, code: 354},
		{name: "N5", protocol: "smtp", script: instead(smtp, 2, "502 what\r\n"),
			phase: starttls.PhaseCapabilities, want: starttls.ErrNotOffered, code: 502},
		{name: "N6 closed behind STARTTLS", protocol: "smtp",
			script: func(s *script) { smtp.start(s, 1); s.halfClose() },
			phase:  starttls.PhaseStartTLS, want: io.EOF},
		{name: "N6 closed in a line", protocol: "smtp", script: func(s *script) {
			smtp.start(s,
				1)
			s.say("220")
			s.halfClose()
		},
			phase: starttls.PhaseStartTLS, want: io.ErrUnexpectedEOF},
		{name: "N6 closed behind the 220", protocol: "smtp",
			script: func(s *script) { smtp.start(s, 0); s.halfClose() },
			phase:  starttls.PhaseHandshake, want: io.EOF},
		{name: "N11", protocol: "smtp", script: instead(smtp, 2,
			"250-STARTTLS\r\n250-XSTARTTLS\r\n250-HELP STARTTLS\r\n250 STARTTLS now\r\n"),
			phase: starttls.PhaseCapabilities, want: starttls.ErrNotOffered},
		{name: "N13 554", protocol: "smtp", script: first("554 no\r\n"),
			phase: starttls.PhaseGreeting, want: starttls.ErrRefused, code: 554},
		{name: "N13 421", protocol: "smtp", script: first("421 busy\r\n"),
			phase: starttls.PhaseGreeting, want: starttls.ErrRefused, code: 421},
		{name: "N13 junk", protocol: "smtp", script: first("\x1b[2J\x00\u202e\r\n"),
			phase: starttls.PhaseGreeting, want: starttls.ErrProtocol, said: `"\x1b[2J\x00\u202e\r\n"`},
		{name: "N13 no end", protocol: "smtp", script: first("220 " + strings.Repeat("x",
			100_000)), phase: starttls.PhaseGreeting, want: starttls.ErrProtocol},
		{name: "closed at once", protocol: "smtp", script: (*script).halfClose,
			phase: starttls.PhaseGreeting, want: io.EOF},
		{name: "a binary protocol that speaks first", protocol: "ldap",
			script: func(s *script) { s.say("220 a\r\n"); s.hear(ldapWish) },
			phase:  starttls.PhaseStartTLS, want: starttls.ErrProtocol},
		{name: "P PREAUTH", protocol: "imap",
			script: first("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n"),
			phase:  starttls.PhaseGreeting, want: starttls.ErrPreauth},
		{name: "L a referral", protocol: "imap",
			script: first("* BYE [REFERRAL imap://evil.test/] go there\r\n"),
			phase:  starttls.PhaseGreeting, want: starttls.ErrRefused},
		{name: "tampering", protocol: "imap", script: instead(of(starttls.IMAP), 1,
			"* LIST () \"/\" x\r\nb OK\r\n"),
			phase: starttls.PhaseStartTLS, want: starttls.ErrProtocol},
		{name: "an error in place of an answer", protocol: "postgres",
			script: instead(of(starttls.Postgres), 1, "E\x00\x00\x00\x10SFATAL\x00Mevil"),
			phase:  starttls.PhaseStartTLS, want: starttls.ErrRefused},
	}
	try(t, trials, func(t *testing.T, _ bool, failure *starttls.Error) {
		text := failure.Error()
		if strings.Contains(text, "evil") && failure.Protocol == starttls.Postgres ||
			strings.ContainsFunc(text,
				func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
			t.Errorf("the error is %q", text)
		}
	})
}

// ST-C-N7, N15, C11: a certificate that isn't to be trusted.
func TestCertificatesThatAreNotTrusted(t *testing.T) {
	with := func(request devca.Request) func(*script) {
		return func(s *script) {
			of(starttls.SMTP).start(s, 0)
			certificate, err := authority().Sign(request)
			check(s.t, err)
			config := serverTLS(s.t)
			config.Certificates[0] = certificate
			s.secure(config)
		}
	}
	here := []string{"localhost", "127.0.0.1"}
	trials := []trial{
		{name: "N15 for another name", script: with(devca.Request{Names: []string{"evil.test"}}),
			reason: explain.ReasonNameMismatch},
		{name: "N7 expired", script: with(devca.Request{Names: here,
			NotAfter: time.Now().Add(-48 * time.Hour)}), reason: explain.ReasonExpired},
		{name: "N7 of another authority", script: with(devca.Request{Names: here}),
			reason: explain.ReasonUnknownAuthority,
			config: func(c *client.Config) {
				other, err := devca.New("another")
				check(t, err)
				c.TLS.RootCAs = other.Pool()
			}},
	}
	for i := range trials {
		trials[i].protocol, trials[i].phase = starttls.SMTP, starttls.PhaseHandshake
	}
	try(t, trials, nil)
}

// C14: a connection that was led to another service with the same certificate (ALPACA).
func TestAnotherServiceWithTheSameCertificate(t *testing.T) {
	var trials []trial
	for _, p := range plains {
		name := p.protocol.ALPN()
		if name == "" {
			continue
		}
		trials = append(trials, trial{name: "C14", protocol: p.protocol,
			phase: starttls.PhaseHandshake, reason: explain.ReasonNoCommonALPN,
			script: func(s *script) {
				p.start(s, 0)
				config := serverTLS(s.t)
				config.NextProtos = []string{"http/1.1"}
				s.secure(config)
			},
			config: func(c *client.Config) { c.TLS.NextProtos = []string{name} }})
	}
	if len(trials) < 6 {
		t.Errorf("%d protocols have a name for ALPN", len(trials))
	}
	try(t, trials, nil)
}

// C7, N9, B10 and the case B_1 of SMTP: what comes over TLS is judged, too.
func TestAnswersOverTLS(t *testing.T) {
	instead := func(p *plain, texts ...string) func(*script) {
		return func(s *script) {
			p.start(s, 0)
			s.secure(serverTLS(s.t))
			s.dialogue(p.asked, texts...)
		}
	}
	try(t, []trial{
		{name: "N9", protocol: "smtp", script: instead(of(starttls.SMTP), "", "502 what\r\n"),
			phase: starttls.PhaseSession, want: starttls.ErrRefused, code: 502},
		{name: "B10", protocol: "smtp", script: instead(of(starttls.SMTP), "",
			"250 x\r\n250-x\r\n250 AUTH PLAIN\r\n"),
			phase: starttls.PhaseSession, want: starttls.ErrProtocol},
		{name: "junk", protocol: "imap", script: instead(of(starttls.IMAP), "", "+OK\r\n"),
			phase: starttls.PhaseSession, want: starttls.ErrProtocol},
		{name: "a no", protocol: "ftp", script: instead(of(starttls.FTP), "", "200 ok\r\n",
			"536 no\r\n"), phase: starttls.PhaseSession, want: starttls.ErrRefused, code: 536},
		{name: "BYE", protocol: "sieve", script: instead(of(starttls.Sieve), "BYE \"x\"\r\n"),
			phase: starttls.PhaseSession, want: starttls.ErrRefused},
	}, nil)
}

// ST-C-N14: whatever step the server stalls at, a time-out ends it, whose error names the step.
func TestServerThatStalls(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Second
	for _, p := range plains {
		for step := 0; step <= len(p.answers)+1; step++ {
			if p.protocol != starttls.SMTP && step != len(p.answers)-1 {
				continue
			}
			t.Run(fmt.Sprint(p.protocol, " step ", step), func(t *testing.T) {
				t.Parallel()
				phase := starttls.PhaseHandshake
				s := serve(t, false, func(s *script) {
					switch {
					case step < len(p.answers):
						p.start(s, len(p.answers)-step)
					case step == len(p.answers):
						p.start(s, 0)
					default:
						p.start(s, 0)
						s.secure(serverTLS(s.t))
						s.hear(p.asked[0])
					}
				})
				cfg := config()
				cfg.ReadTimeout = long // a busy machine needs it for the other answers
				switch {
				case p.protocol == starttls.MySQL && step == 1:
					cfg.HandshakeTimeout = short // there is no answer to wait for
				case step < len(p.answers):
					phase = []starttls.Phase{starttls.PhaseGreeting, starttls.PhaseCapabilities,
						starttls.PhaseStartTLS}[max(0, step+3-len(p.answers))]
				case step == len(p.answers):
					cfg.HandshakeTimeout = short
				default:
					phase = starttls.PhaseSession
				}
				err := runtime.Run(func(ctx context.Context) error {
					c := client.New(cfg)
					defer c.Abort()
					if err := c.Connect(ctx, "tcp", s.address); err != nil {
						return err
					}
					_, err := starttls.Upgrade(ctx, c, p.protocol, starttls.Options{})
					wantFailure(ctx, t, c, err, phase, os.ErrDeadlineExceeded)
					return nil
				}, quiet...)
				check(t, err)
			})
		}
	}
}

// A server that goes on with one answer doesn't renew its time.
func TestServerThatDrips(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, false, func(s *script) {
			for {
				s.say("220-a\r\n")
				time.Sleep(5 * time.Millisecond)
			}
		})
		cfg := config()
		cfg.ReadTimeout = 100 * time.Millisecond
		c := dial(ctx, t, cfg, s.address)
		_, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{})
		wantFailure(ctx, t, c, err, starttls.PhaseGreeting, os.ErrDeadlineExceeded)
	})
}

func TestCancellationEndsIt(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		asked := make(chan struct{})
		s := serve(t, false, func(s *script) {
			of(starttls.SMTP).start(s, 1)
			close(asked)
		})
		c := dial(ctx, t, config(), s.address)
		limited, cancel := context.WithCancel(ctx)
		go func() { <-asked; cancel() }()
		_, err := starttls.Upgrade(limited, c, starttls.SMTP, starttls.Options{})
		wantFailure(ctx, t, c, err, starttls.PhaseStartTLS, context.Canceled)
	})
}

// A Trace that panics or ends its coroutine doesn't leave a connection in plaintext behind.
func TestTraceThatPanics(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, false, func(s *script) { of(starttls.SMTP).start(s, 0) })
		c := dial(ctx, t, config(), s.address)
		_, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{
			Trace: func(starttls.Phase, bool, []byte) { panic("no") }})
		if _, ok := errors.AsType[*runtime.PanicError](err); !ok || c.Connected() {
			t.Errorf("error: %v, connected: %v", err, c.Connected())
		}
	})
}
