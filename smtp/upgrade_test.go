//go:build linux

package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// An attack is a server, or somebody on the wire, that misbehaves around the upgrade, by the id of
// the case, and what has to come of it. Whatever it is, nobody is logged in and no mail is begun.
type attack struct {
	name string
	play func(s *script)
	want func(err error) bool
	text string // in the error: the phase, and the cause
	old  bool   // with Opportunistic, it may be an old server
}

// is is for errors that errors.Is finds.
func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// refused is for refusals with this code.
func refused(code int) func(error) bool {
	return func(err error) bool {
		refused, ok := errors.AsType[*smtp.Error](err)
		return ok && refused.Code == code
	}
}

// handshake is for handshakes that fail for this reason.
func handshake(reason explain.Reason) func(error) bool {
	return func(err error) bool {
		failed, ok := errors.AsType[*explain.HandshakeError](err)
		return ok && failed.Reason == reason
	}
}

// injected is for plaintext behind the server's agreement. What comes late is seen when the
// handshake has begun.
func injected(err error) bool {
	return errors.Is(err, socket.ErrPlaintextPending) || handshake(explain.ReasonPlaintext)(err) ||
		handshake(explain.ReasonProtocolError)(err) || handshake(explain.ReasonAlert)(err)
}

// answers is a server that offers STARTTLS and gives this answer to it.
func answers(answer string) func(*script) {
	return func(s *script) {
		s.hello("STARTTLS")
		s.ask("STARTTLS", answer)
	}
}

// trusted is a server that has this certificate.
func trusted(request devca.Request) func(*script) {
	return func(s *script) {
		answers("220 go\r\n")(s)
		cert, err := authority().Sign(request)
		s.ok(err)
		tls.Server(s.raw, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
	}
}

// greets is a server that says this and no more.
func greets(greeting string) func(*script) { return func(s *script) { s.say(greeting) } }

var attacks = []attack{
	{"B1 replies behind 220", answers("220 go\r\n250-x\r\n250 AUTH LOGIN\r\n"), injected, "TLS: ",
		false},
	{"B2 a part of one", answers("220 go\r\n250-INJ"), injected, "TLS: ", false},
	{"B3 in place of the handshake", func(s *script) {
		answers("220 go\r\n")(s)
		if _, err := s.r.Peek(3); err == nil { // the client's hello
			s.say("250 AUTH PLAIN\r\n")
		}
	}, handshake(explain.ReasonPlaintext), "TLS: ", false},
	{"B4 a reply before 220", answers("250 SIZE 1\r\n220 go\r\n"), is(smtp.ErrProtocol),
		`STARTTLS: answered "250 SIZE 1" (in plaintext: anybody on the wire`, false},
	{"B4 220 before the question", func(s *script) {
		s.say("220 mail.test\r\n")
		s.hear("EHLO me.test")
		s.say(ehlo("STARTTLS") + "220 go\r\n")
		s.ask("STARTTLS", "220 go\r\n") // the server's own
	}, func(err error) bool { return errors.Is(err, smtp.ErrProtocol) || injected(err) }, "",
		false},
	{"B6 421 behind", answers("220 go\r\n421 bye\r\n"), injected, "TLS: ", false},
	{"B6 221 behind", answers("220 go\r\n221 bye\r\n"), injected, "TLS: ", false},
	{"B7 an alert behind", answers("220 go\r\n\x15\x03\x03\x00\x02\x02\x28"), func(err error) bool {
		return injected(err) || handshake(explain.ReasonHandshakeFailure)(err)
	}, "TLS: ", false},
	{"B7 a ServerHello behind", answers("220 go\r\n\x16\x03\x03\x00\x04\x02\x00\x00\x00"), injected,
		"TLS: ", false},
	{"B9 bare LF", answers("220 go\n220 on\r\n"), is(smtp.ErrProtocol), "STARTTLS: ", false},
	{"B9 bare CR", answers("220 go\r220 on\r\n"), is(smtp.ErrProtocol), "STARTTLS: ", false},
	{"B9 bare LF in the greeting", greets("220 mail.test\n220 mail.test\r\n"),
		is(smtp.ErrProtocol), "greeting: ", false},
	{"B10 words over TLS before EHLO", func(s *script) {
		answers("220 go\r\n")(s)
		s.secure()
		s.say(ehlo("AUTH PLAIN") + "250 more\r\n")
	}, is(smtp.ErrProtocol), "", false},
	{"B10 an answer to EHLO right behind the handshake", func(s *script) {
		answers("220 go\r\n")(s)
		held := &holding{Conn: s.raw}
		if d, ok := s.raw.(dripping); ok {
			held.Conn = d.Conn // what comes too late can't be told from an answer
		}
		conn := tls.Server(held, &tls.Config{
			Certificates: []tls.Certificate{certificate()}, MaxVersion: tls.VersionTLS12,
		})
		s.ok(conn.Handshake())
		s.Conn, s.r = conn, bufio.NewReader(conn)
		s.say(ehlo("AUTH PLAIN"))
		s.ok(held.letGo())
	}, is(smtp.ErrProtocol), "out of turn", false},
	{"N1 O_1 not offered", func(s *script) { s.hello("AUTH PLAIN") }, func(err error) bool {
		// N12: with Opportunistic it is the login that has no TLS.
		return errors.Is(err, smtp.ErrNoTLS) || errors.Is(err, smtp.ErrAuthNeedsTLS)
	}, "TLS", false},
	{"N4 a line without text", answers("\r\n"), is(smtp.ErrProtocol), "STARTTLS: ", false},
	{"N5 D_1 neither EHLO nor STARTTLS", func(s *script) {
		s.say("220 mail.test\r\n")
		s.ask("EHLO me.test", "502 what?\r\n")
	}, refused(502), `EHLO: refused with 502 "what?" (in plaintext`, true},
	{"N6 closed after STARTTLS", func(s *script) {
		s.hello("STARTTLS")
		s.hear("STARTTLS")
		s.raw.Close()
	}, is(io.ErrUnexpectedEOF), "STARTTLS: the server has closed", false},
	{"N6 closed after 220", func(s *script) {
		answers("220 go\r\n")(s)
		s.raw.Close()
	}, func(err error) bool {
		return handshake(explain.ReasonClosed)(err) || handshake(explain.ReasonReset)(err)
	}, "TLS: ", false},
	{"N7 expired", trusted(devca.Request{Names: []string{"127.0.0.1"},
		NotAfter: time.Now().Add(-48 * time.Hour)}), handshake(explain.ReasonExpired),
		"TLS: ", false},
	{"N9 EHLO refused over TLS", func(s *script) {
		answers("220 go\r\n")(s)
		s.secure()
		s.ask("EHLO me.test", "502 what?\r\n")
	}, refused(502), `EHLO: refused with 502 "what?"`, false},
	{"N11 what is not quite STARTTLS", func(s *script) {
		s.hello("XSTARTTLS", "HELP STARTTLS", "STARTTLS foo")
	}, func(err error) bool {
		return errors.Is(err, smtp.ErrNoTLS) || errors.Is(err, smtp.ErrAuthNeedsTLS)
	}, "TLS", false},
	{"N13 554", greets("554 no\r\n"), refused(554), "greeting: refused with 554", false},
	{"N13 421", greets("421 busy\r\n"), refused(421), "greeting: refused with 421", false},
	{"N13 junk", greets("\x1b[2J\u202e\r\n"), is(smtp.ErrProtocol), `greeting: `, false},
	{"N13 another protocol", greets("a1 OK ready\r\n"), is(smtp.ErrProtocol), `"a1 OK ready"`,
		false},
	{"N15 the greeting's name", func(s *script) {
		s.say("220 evil.test\r\n")
		s.ask("EHLO me.test", "250-evil.test\r\n250 STARTTLS\r\n")
		s.ask("STARTTLS", "220 go\r\n")
		cert, err := authority().Issue("evil.test")
		s.ok(err)
		tls.Server(s.raw, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
	}, handshake(explain.ReasonNameMismatch), "TLS: ", false},
	{"X_1 mechanisms in plaintext", func(s *script) {
		s.hello("AUTH "+strings.Join(exotic(), " "), "AUTH="+strings.Join(exotic(), " "))
	}, func(err error) bool {
		return errors.Is(err, smtp.ErrNoTLS) || errors.Is(err, smtp.ErrAuthNeedsTLS)
	}, "TLS", false},
}

// holding is a connection that holds back what is written from the second time on: with TLS 1.2
// that is the end of the server's handshake.
type holding struct {
	net.Conn
	writes int
	held   []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.Conn.Write(p)
	}
	h.held = append(h.held, p...)
	return len(p), nil
}

// letGo writes all of it at once.
func (h *holding) letGo() error {
	_, err := h.Conn.Write(h.held)
	h.writes, h.held = 0, nil
	return err
}

// exotic are sixty mechanisms, ours among them.
func exotic() []string {
	names := []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "XOAUTH2"}
	for i := len(names); i < 60; i++ {
		names = append(names, fmt.Sprintf("EXOTIC-%d", i))
	}
	return names
}

// What answers STARTTLS is no yes but for 220: N2 to N4, O_2 to O_4.
func init() {
	for _, code := range []int{200, 221, 250, 251, 334, 354} {
		attacks = append(attacks, attack{fmt.Sprint("N4 ", code),
			answers(fmt.Sprint(code, " 220 go\r\n")), is(smtp.ErrProtocol),
			fmt.Sprintf(`STARTTLS: answered "%d 220 go"`, code), false})
	}
	for _, code := range []int{421, 451, 454, 500, 501, 502, 503, 504, 530, 550, 554} {
		attacks = append(attacks, attack{fmt.Sprint("N2 N3 ", code),
			answers(fmt.Sprint(code, " 220 go\r\n")), refused(code),
			fmt.Sprintf(`STARTTLS: refused with %d "220 go" (in plaintext`, code), false})
	}
	for _, line := range []string{"220", "22O go", "220_go", " 220 go", "2200 go", "+OK",
		"A1 OK begin", "620 go", "220-go\r\n221 on"} {
		attacks = append(attacks, attack{"N4 " + line, answers(line + "\r\n"),
			is(smtp.ErrProtocol), "STARTTLS: ", false})
	}
	attacks = append(attacks, attack{"B8 a flood behind",
		answers("220 go\r\n" + strings.Repeat("250 x\r\n", 4<<20/7)), injected, "TLS: ", false})
}

// Each of the cases, with each security, the server's words whole and byte by byte.
func TestAttacksOnTheUpgrade(t *testing.T) {
	for _, a := range attacks {
		for _, security := range []smtp.Security{smtp.Mandatory, smtp.Opportunistic} {
			for _, single := range []bool{false, true} {
				if a.old && security == smtp.Opportunistic {
					continue
				}
				if single && strings.HasPrefix(a.name, "B8") {
					continue // 4 MiB in single bytes take their time
				}
				name := fmt.Sprintf("%.40q, security %d, byte by byte: %v", a.name, security,
					single)
				t.Run(name, func(t *testing.T) {
					coroutine(t, func(ctx context.Context, t *testing.T) {
						a.try(ctx, t, security, single)
					})
				})
			}
		}
	}
}

func (a *attack) try(ctx context.Context, t *testing.T, security smtp.Security, single bool) {
	rest := make(chan string, 10)
	address := serve(t, func(s *script) {
		s.hasty = true
		defer func() { rest <- s.rest() }() // say ends the script when the client has gone
		if single {
			s.drip()
		}
		a.play(s)
	})
	config := secured()
	config.Security, config.Auth = security, smtp.Password("me", "secret")
	c, err := smtp.Dial(ctx, address, config)
	if err == nil {
		c.Close()
		t.Fatal("the session has begun")
	}
	text := err.Error()
	if !a.want(err) || !strings.Contains(text, a.text) {
		t.Errorf("the error is %v, want %q", err, a.text)
	}
	if strings.ContainsFunc(text, func(r rune) bool {
		return r < ' ' || r == 0x7f ||
			r == '\u202e'
	}) ||
		strings.Contains(text, "secret") || len(text) > 800 {
		t.Errorf("the error is %q", text)
	}
	said, _ := runtime.Await(ctx, func() (string, error) { return <-rest, nil })
	for _, no := range []string{"AUTH", "MAIL", "HELO", encoded("\x00me\x00secret")} {
		if strings.Contains(said, no) {
			t.Errorf("it said %q", said)
		}
	}
	if len(rest) > 0 {
		t.Error("it has connected again")
	}
}

// What is a yes: B5, N10, N11. What was said in plaintext is forgotten: C7, C10, N8.
func TestUpgradesThatGoWell(t *testing.T) {
	for name, test := range map[string]struct{ offer, agreement, again string }{
		"N8": {ehlo("STARTTLS", "SIZE 10", "AUTH PLAIN", "SMTPUTF8"),
			"220 go\r\n", ""},
		"B5 several lines":         {ehlo("STARTTLS"), "220-go\r\n220 on\r\n", ""},
		"N10 offered again":        {ehlo("STARTTLS"), "220 go\r\n", "STARTTLS"},
		"N11 small letters":        {ehlo("starttls"), "220 go\r\n", ""},
		"an enhanced status code":  {ehlo("STARTTLS"), "220 2.0.0 go\r\n", ""},
		"a yes in very odd words":  {ehlo("STARTTLS"), "220 502 454 -ERR NO\r\n", ""},
		"a space behind the offer": {"250-mail.test\r\n250 STARTTLS \r\n", "220 go\r\n", ""},
	} {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", byte by byte: ", single), func(t *testing.T) {
				coroutine(t, func(ctx context.Context, t *testing.T) {
					address := serve(t, func(s *script) {
						if single {
							s.drip()
						}
						s.say("220-mail\r\n220 test\r\n")
						s.ask("EHLO me.test", test.offer)
						s.ask("STARTTLS", test.agreement)
						s.secure()
						s.ask("EHLO me.test", ehlo("SIZE 99", "AUTH LOGIN", test.again))
						s.ask("QUIT", "221\r\n") // without text, RFC 5321, section 4.2
					})
					c := dial(ctx, t, address, secured())
					if _, ok := c.ConnectionState(); !ok {
						t.Error("there is no TLS")
					}
					size, _ := c.Extension("SIZE")
					auth, _ := c.Extension("AUTH")
					if _, ok := c.Extension("SMTPUTF8"); ok || size != "99" || auth != "LOGIN" {
						t.Errorf("SIZE %s, AUTH %s, SMTPUTF8 %v", size, auth, ok)
					}
					check(t, c.Quit(ctx))
				})
			})
		}
	}
}

// N7, C11, C12: after a handshake that has failed nothing more is said, in no kind of security.
func TestNoWayBackToPlaintext(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		for _, security := range []smtp.Security{smtp.Mandatory, smtp.Opportunistic} {
			for name, change := range map[string]func(c *tls.Config){
				"another authority": func(c *tls.Config) { c.RootCAs = x509.NewCertPool() },
				"another name":      func(c *tls.Config) { c.ServerName = "good.test" },
			} {
				var connections atomic.Int32
				rest := make(chan string, 1)
				address := serve(t, func(s *script) {
					connections.Add(1)
					s.hello("STARTTLS", "AUTH PLAIN")
					s.ask("STARTTLS", "220 go\r\n")
					conn := tls.Server(s.raw,
						&tls.Config{Certificates: []tls.Certificate{certificate()}})
					if conn.Handshake() == nil {
						// With TLS 1.3 the server hears of it afterwards.
						if _, err := conn.Read(make([]byte, 1)); err == nil {
							t.Errorf("%s: something was said over TLS", name)
						}
					}
					rest <- s.rest()
				})
				config := secured()
				config.Security, config.Auth = security, smtp.Password("me", "secret")
				change(config.Client.TLS)
				_, err := smtp.Dial(ctx, address, config)
				if _, ok := errors.AsType[*explain.HandshakeError](err); !ok {
					t.Errorf("%s: %v", name, err)
				}
				said, _ := runtime.Await(ctx, func() (string, error) { return <-rest, nil })
				if strings.Contains(said, "QUIT") || strings.Contains(said, "AUTH") ||
					connections.Load() != 1 {
					t.Errorf("%s: it said %q, on %d connections", name, said, connections.Load())
				}
			}
		}
	})
}
