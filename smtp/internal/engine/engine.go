// Package engine is the client's side of SMTP and LMTP as a state machine: lines of the server go
// in, commands come out. It does no I/O and knows no clock.
//
// Its user goes by [Engine.Next]: it sends what [Engine.Output] has, and then receives a line for
// [Engine.Line], turns the connection into TLS, sends the message, or is done.
//
//	Begin     greeting · EHLO · [STARTTLS · TLS · EHLO]
//	Auth      AUTH · challenges
//	Mail      [RSET ·] MAIL · RCPT … · DATA · message · a reply, with LMTP one for each recipient
//	Command   VRFY, NOOP, RSET, QUIT
//
// What one of these begins has to be done before the next one. With PIPELINING the commands of Mail
// leave together, up to the end of the group that RFC 2920 allows. After an error of any of the
// methods that isn't an [Error] with Lost false, the connection is of no use any more, see
// [Engine.Broken].
//
// RFC 5321 (SMTP), 2033 (LMTP), 3207 (STARTTLS), 4954 (AUTH), 2920 (PIPELINING), 3030 (CHUNKING,
// BINARYMIME), 6152 (8BITMIME), 6531 (SMTPUTF8), 1870 (SIZE), 3461 (DSN), 8689 (REQUIRETLS), 6710
// (MT-PRIORITY).
package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/whorl-go/whorl/internal/reply"
)

// Errors that a caller decides by.
var (
	// ErrProtocol is in errors about a server that doesn't speak SMTP, or has lost its thread.
	ErrProtocol = errors.New("protocol error")

	// ErrNoTLS is returned when a server doesn't offer STARTTLS and TLS is mandatory.
	ErrNoTLS = errors.New("the server doesn't offer STARTTLS, and TLS is mandatory")
)

// Security says when a session is secured by TLS.
type Security uint8

// What a session does about TLS.
const (
	Mandatory     Security = iota // STARTTLS, or nothing is sent
	Implicit                      // TLS from the start
	Opportunistic                 // STARTTLS if it is offered
)

// Config is what sessions of a kind have in common.
type Config struct {
	Security Security
	LMTP     bool

	// ASCII makes A-labels of a domain, for servers without SMTPUTF8.
	ASCII func(domain string) (string, error)
}

// An Action is what an Engine's user has to do, once it has sent the Output.
type Action uint8

// What there is to do.
const (
	Done    Action = iota
	Receive        // a line, and hand it to Line
	Secure         // make a TLS handshake, then call Secured
	Content        // send the message, see Engine.Chunked, then call ContentSent
)

// A Step is what a server is waited for.
type Step uint8

// The steps of a session. RFC 5321, section 4.5.3.2, has a client wait for different times in them.
const (
	Greeting Step = iota
	Hello
	StartTLS
	Auth
	Reset
	Mail
	Rcpt
	DataInit
	DataBlock
	DataEnd
	Other
	Steps // how many there are
)

var stepNames = [Steps]string{
	"greeting", "EHLO", "STARTTLS", "AUTH", "RSET", "MAIL", "RCPT", "DATA", "message",
	"end of message", "command",
}

func (s Step) String() string { return stepNames[s] }

// An Engine is one session.
type Engine struct {
	config *Config
	parser reply.Parser
	out    []byte
	action Action
	step   Step
	on     func(*Engine, *reply.Reply) error // takes the next reply

	due   int // replies to what was said
	fresh int // of them, those to what is still in out

	name     string     // of this side, for EHLO
	offers   Extensions // what the server has said last
	secure   bool       // TLS is on
	upgraded bool       // by STARTTLS
	dirty    bool       // a transaction is open that nobody wants any more
	broken   bool

	auth    authentication
	command string // that Command waits for
	answer  string // its reply
	mail    transaction
}

// Init prepares an Engine for a connection. name is for EHLO, see CheckName.
func (e *Engine) Init(config *Config, name string) {
	*e = Engine{config: config, name: name, secure: config.Security == Implicit}
	e.parser.BareCode = true
}

// Begin begins a session.
func (e *Engine) Begin() {
	e.due = 1
	e.await(Greeting, (*Engine).onGreeting)
}

// Next returns what there is to do after the Output was sent.
func (e *Engine) Next() Action { return e.action }

// Step returns what the server is waited for.
func (e *Engine) Step() Step { return e.step }

// IsSecure reports whether the session is over TLS.
func (e *Engine) IsSecure() bool { return e.secure }

// Offers returns what the server offers, by its last word.
func (e *Engine) Offers() *Extensions { return &e.offers }

// Broken reports whether the connection is of no use any more.
func (e *Engine) Broken() bool { return e.broken }

// Output returns what has to be sent before anything else, and forgets it. It is valid until the
// next call.
func (e *Engine) Output() []byte {
	out := e.out
	e.fresh = 0
	if cap(e.out) > 1<<10 {
		e.out = nil
	} else {
		e.out = e.out[:0]
	}
	return out
}

// Quiet reports whether the server has nothing to say before it gets the Output. If it has said
// something nevertheless, that is out of turn, and would be taken for an answer to what follows.
func (e *Engine) Quiet() bool { return e.due == e.fresh }

// Line takes a line of the server.
func (e *Engine) Line(line []byte) error {
	if e.action != Receive {
		return e.fail(fmt.Errorf("%w: %s out of turn", ErrProtocol, reply.Quote(line)))
	}
	r, err := e.parser.Line(line)
	if err != nil {
		return e.fail(fmt.Errorf("%w: %s: %w", ErrProtocol, e.step, err))
	}
	if r == nil {
		return nil
	}
	e.due--
	// A server that is going down says so in place of any reply, RFC 5321, section 3.8.
	if r.Code == 421 {
		e.broken = true
		e.action = Done
		lost := e.refused(r)
		lost.Lost = true
		return lost
	}
	if err := e.on(e, r); err != nil {
		e.action = Done
		return err
	}
	return nil
}

// Begun reports whether a reply has begun to arrive that isn't complete.
func (e *Engine) Begun() bool { return e.parser.Begun() }

func (e *Engine) await(step Step, on func(*Engine, *reply.Reply) error) {
	e.action, e.step, e.on = Receive, step, on
}

func (e *Engine) say(line ...string) {
	for _, part := range line {
		e.out = append(e.out, part...)
	}
	e.out = append(e.out, "\r\n"...)
	e.due++
	e.fresh++
}

// fail returns an error after which the connection is of no use.
func (e *Engine) fail(err error) error {
	e.broken, e.action = true, Done
	return err
}

// unexpected is the error of a reply that has no meaning where it came.
func (e *Engine) unexpected(r *reply.Reply) error {
	return e.fail(fmt.Errorf("%w: %s: answered %s%s", ErrProtocol, e.step,
		reply.Quote([]byte(r.String())), e.doubt()))
}

// refusal is what a reply means that isn't the one that was hoped for.
func (e *Engine) refusal(r *reply.Reply) error {
	if r.Code < 400 {
		return e.unexpected(r)
	}
	return e.refused(r)
}

// refused makes an Error of a reply.
func (e *Engine) refused(r *reply.Reply) *Error {
	return &Error{
		Code: r.Code, Enhanced: r.Enhanced(), Text: words(r), Command: e.step.String(),
		untrusted: !e.secure,
	}
}

// maxWords is how much is kept of what a server says, in bytes: there may be one such text for each
// recipient.
const maxWords = 2048

// words returns a reply's text, cut.
func words(r *reply.Reply) string {
	text := r.Text()
	if len(text) <= maxWords {
		return text
	}
	return strings.Clone(text[:maxWords]) + "…"
}

// Command begins a command that is answered by one reply: VRFY, NOOP, RSET, QUIT. The reply's text
// is what Answer returns.
func (e *Engine) Command(verb, argument string) error {
	line := verb
	if argument != "" {
		if err := checkText("argument", argument); err != nil {
			return err
		}
		line += " " + argument
	}
	e.command = verb
	e.say(line)
	e.await(Other, (*Engine).onCommand)
	return nil
}

func (e *Engine) onCommand(r *reply.Reply) error {
	e.action = Done
	if r.Code < 200 || r.Code > 299 {
		if r.Code < 400 {
			return e.unexpected(r)
		}
		err := e.refused(r)
		err.Command = e.command
		return err
	}
	switch e.command {
	case "RSET":
		e.dirty = false
	case "QUIT":
		e.broken = true
	}
	e.answer = words(r)
	return nil
}

// Answer returns what the server has said to Command.
func (e *Engine) Answer() string { return e.answer }

// An Error is a server's refusal.
type Error struct {
	Code      int            // of three digits, from 400 on: RFC 5321, section 4.2
	Enhanced  reply.Enhanced // RFC 3463; the zero one if the server gave none
	Text      string         // the server's words, the first 2 KiB; lines are separated by LF
	Command   string         // what was refused: "MAIL", "RCPT", "DATA", "end of message", …
	Recipient string         // which recipient, if it was one

	// Lost says that the server closes the connection: code 421.
	Lost bool

	untrusted bool // said in plaintext
}

// Temporary reports whether the same may succeed later.
func (e *Error) Temporary() bool { return e.Code < 500 }

// Error says what was refused, and has the server's words on one line, as they are safe to print.
func (e *Error) Error() string {
	text := e.Command
	if e.Recipient != "" {
		text += " " + reply.Quote([]byte(e.Recipient))
	}
	text = fmt.Sprintf("%s: refused with %d", text, e.Code)
	if e.Enhanced.Known() {
		text += " " + e.Enhanced.String()
	}
	words := reply.Quote([]byte(reply.Printable(e.Text)))
	if e.untrusted {
		words += doubtful
	}
	return text + " " + words
}

const doubtful = " (in plaintext: anybody on the wire could have said so)"

func (e *Engine) doubt() string {
	if e.secure {
		return ""
	}
	return doubtful
}
