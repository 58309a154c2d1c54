package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig"
)

// maxReplyLine is how long a line of a reply may be. RFC 5321, section 4.5.3.1.5, has 512 bytes;
// some servers say more.
const maxReplyLine = 1024

// An order is what a session is to do.
type order struct {
	addr       string         // host:port
	serverName string         // the certificate's name; empty: the host of addr
	roots      *x509.CertPool // nil: the system's
	from, to   string
	user       string // empty: no AUTH
	password   string
	timeout    time.Duration // of each step
}

// A session is one SMTP dialogue (RFC 5321) over STARTTLS (RFC 3207): from the connection to QUIT,
// in a coroutine.
//
// Until the handshake is done, anybody on the wire can read what is said and make things up.
// Package starttls sees to it that nothing comes of that; login and mail go over TLS only.
type session struct {
	order
	conn *client.Client
	show func(line) // prints a line of the dialogue

	secure  bool     // over TLS
	offers  []string // what the server says over TLS that it can do
	secrets []string // what was sent and must not be shown, not even if the server repeats it

	// Results.
	times    []timing
	tls      tlsconfig.Summary
	accepted string // the server's last word about the mail
}

// A line of the dialogue. What the server says is made printable, what this side says has its
// secrets masked.
type line struct {
	secure bool
	who    string // "C" or "S"
	text   string
}

// A timing is how long a phase took.
type timing struct {
	phase string
	took  time.Duration
}

func newSession(o order, show func(line)) *session {
	return &session{order: o, show: show, conn: client.New(client.Config{
		EOF:       "\r\n", // a packet is a line, so Recv returns lines
		MaxPacket: maxReplyLine,
		TLS:       &tls.Config{RootCAs: o.roots, ServerName: o.serverName},

		ConnectTimeout:   o.timeout, // with DNS and all addresses
		ReadTimeout:      o.timeout, // of one line; ask bounds the whole reply
		WriteTimeout:     o.timeout,
		HandshakeTimeout: o.timeout, // of all round trips together
	})}
}

// run holds the dialogue. Its errors begin with the phase.
func (s *session) run(ctx context.Context) error {
	defer s.conn.Close()
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"connect", s.connect},
		{"upgrade", s.upgrade},
		{"login", s.login},
		{"mail", s.mail},
		{"quit", s.quit},
	} {
		began := time.Now()
		if err := phase.do(ctx); err != nil {
			// The two sides still understand each other.
			if _, ok := errors.AsType[*refusal](err); ok {
				s.say(ctx, "QUIT")
			}
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		s.times = append(s.times, timing{phase.name, time.Since(began)})
	}
	return nil
}

func (s *session) connect(ctx context.Context) error {
	if err := s.conn.Connect(ctx, "tcp", s.addr); err != nil {
		return s.explain(err)
	}
	return nil
}

// upgrade has the connection become TLS. If that fails, it is closed: there is no way back to
// plaintext.
func (s *session) upgrade(ctx context.Context) error {
	upgraded, err := starttls.Upgrade(ctx, s.conn, starttls.SMTP, starttls.Options{Trace: s.trace})
	if err != nil {
		return s.explain(err)
	}
	s.offers = upgraded.Capabilities
	state, _ := s.conn.ConnectionState()
	s.tls = tlsconfig.Describe(state)
	s.secure = true
	return nil
}

// trace shows what Upgrade sends and receives.
func (s *session) trace(in starttls.Phase, sent bool, text []byte) {
	who := "S"
	if sent {
		who = "C"
	}
	for shown := range strings.Lines(string(text)) {
		s.show(line{in == starttls.PhaseSession, who, reply.Printable(strings.TrimRight(shown, "\r\n"))})
	}
}

// login logs in if there is a user.
func (s *session) login(ctx context.Context) error {
	if s.user == "" {
		return nil
	}
	mechanisms, ok := s.mechanisms()
	switch {
	case !ok:
		return &refusal{"the server does not offer AUTH over TLS"}
	case slices.Contains(mechanisms, "PLAIN"):
		return s.auth(ctx, "PLAIN", "\x00"+s.user+"\x00"+s.password) // RFC 4616
	case slices.Contains(mechanisms, "LOGIN"):
		return s.auth(ctx, "LOGIN", s.user, s.password)
	}
	return &refusal{fmt.Sprintf("the server offers AUTH %s, this program knows PLAIN and LOGIN",
		quote(strings.Join(mechanisms, " ")))}
}

// mechanisms returns how one can log in, as the server says over TLS.
func (s *session) mechanisms() (names []string, ok bool) {
	for _, offer := range s.offers {
		if words := strings.Fields(strings.ToUpper(offer)); len(words) > 0 && words[0] == "AUTH" {
			return words[1:], true
		}
	}
	return nil, false
}

// auth answers the server's challenges one by one, RFC 4954.
func (s *session) auth(ctx context.Context, mechanism string, answers ...string) error {
	if !s.secure {
		// Never happens; if it did, the password would be lost.
		return errors.New("AUTH without TLS")
	}
	if err := s.command(ctx, "AUTH "+mechanism, 334); err != nil {
		return err
	}
	for i, answer := range answers {
		want := 334
		if i == len(answers)-1 {
			want = 235
		}
		secret := base64.StdEncoding.EncodeToString([]byte(answer))
		s.secrets = append(s.secrets, secret)
		answer, err := s.ask(ctx, secret)
		if err == nil {
			err = s.expect(answer, want)
		}
		if err != nil {
			return fmt.Errorf("AUTH %s: %w", mechanism, err)
		}
	}
	return nil
}

func (s *session) mail(ctx context.Context) error {
	if err := s.command(ctx, "MAIL FROM:<"+s.from+">", 250); err != nil {
		return err
	}
	// 251: it will be forwarded.
	if err := s.command(ctx, "RCPT TO:<"+s.to+">", 250, 251); err != nil {
		return err
	}
	if err := s.command(ctx, "DATA", 354); err != nil {
		return err
	}
	var message []byte
	for _, text := range compose(s.from, s.to, time.Now()) {
		if strings.HasPrefix(text, ".") {
			text = "." + text // a dot alone would end the mail: RFC 5321, section 4.5.2
		}
		s.show(line{s.secure, "C", text})
		message = append(message, text+"\r\n"...)
	}
	if err := s.send(ctx, message); err != nil {
		return fmt.Errorf("message: %w", err)
	}
	accepted, err := s.ask(ctx, ".")
	if err == nil {
		err = s.expect(accepted, 250)
	}
	if err != nil {
		return fmt.Errorf("end of message: %w", err)
	}
	s.accepted = accepted.String()
	return nil
}

// compose returns the lines of a mail, RFC 5322. Addresses are safe to put in: see checkAddress.
func compose(from, to string, now time.Time) []string {
	_, domain, _ := strings.Cut(from, "@")
	return []string{
		"From: <" + from + ">",
		"To: <" + to + ">",
		"Subject: Hello over STARTTLS",
		"Date: " + now.Format(time.RFC1123Z),
		"Message-ID: <" + rand.Text() + "@" + domain + ">",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=us-ascii",
		"",
		"This mail went through a connection that began in plaintext",
		"and became TLS in place.",
		".A line that begins with a dot gets a second one on its way.",
		".",
		"So does a line that is a dot.",
	}
}

func (s *session) quit(ctx context.Context) error {
	if err := s.command(ctx, "QUIT", 221); err != nil {
		return fmt.Errorf("the mail was accepted, but then: %w", err)
	}
	return nil
}

// command sends a command, whose reply has to have one of these codes.
func (s *session) command(ctx context.Context, text string, want ...int) error {
	answer, err := s.ask(ctx, text)
	if err == nil {
		err = s.expect(answer, want...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb(text), err)
	}
	return nil
}

// ask sends a line and returns the reply. The time-out is for both together.
func (s *session) ask(ctx context.Context, text string) (*reply.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	// SMTP is question and answer. Whatever is there before the question is no answer to it.
	early := make([]byte, maxReplyLine)
	if n, _ := s.conn.Peek(early); n > 0 {
		return nil, fmt.Errorf("the server spoke out of turn: %s", quote(s.mask(string(early[:n]))))
	}
	if err := s.say(ctx, text); err != nil {
		return nil, err
	}
	return s.hear(ctx)
}

// say sends a line.
func (s *session) say(ctx context.Context, text string) error {
	s.show(line{s.secure, "C", s.mask(text)})
	return s.send(ctx, []byte(text+"\r\n"))
}

func (s *session) send(ctx context.Context, p []byte) error {
	if _, err := s.conn.Send(ctx, p); err != nil {
		return s.explain(err)
	}
	return nil
}

// hear receives a reply.
func (s *session) hear(ctx context.Context) (*reply.Reply, error) {
	var parser reply.Parser
	for {
		received, err := s.conn.Recv(ctx)
		if err != nil {
			return nil, s.explain(err)
		}
		text := s.mask(string(received))
		s.show(line{s.secure, "S", reply.Printable(strings.TrimSuffix(text, "\r\n"))})
		r, err := parser.Line([]byte(text))
		if r != nil || err != nil {
			return r, err
		}
	}
}

// mask hides secrets. Some servers repeat a command that they don't understand.
func (s *session) mask(text string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "********")
	}
	return text
}

// expect returns an error unless the reply has one of the codes.
func (s *session) expect(r *reply.Reply, want ...int) error {
	for _, code := range want {
		if r.Code == code {
			return nil
		}
	}
	if r.Code < 400 {
		return fmt.Errorf("unexpected answer %s, want %d", quote(r.String()), want[0])
	}
	return &refusal{"refused with " + quote(r.String())}
}

// A refusal is a clear no of the server. The dialogue can be ended in good order.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

// verb returns a command without its arguments.
func verb(command string) string {
	for _, v := range []string{"MAIL FROM", "RCPT TO"} {
		if strings.HasPrefix(command, v) {
			return v
		}
	}
	v, _, _ := strings.Cut(command, " ")
	return v
}

// quote returns s in quotes, with escapes for whatever is not printable.
func quote(s string) string { return reply.Quote([]byte(s)) }
