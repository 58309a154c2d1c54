// Package dialogue is what client and server say to each other up to STARTTLS, and what the client
// asks again once TLS is on. It does no I/O and knows no clock: bytes go in, bytes and a verdict
// come out.
//
// Both roles implement the Framer of package packet, so that a socket finds the answers, and the
// commands, and whatever follows them stays unread in the socket, which then refuses to begin TLS
// behind it (CVE-2011-0411). What can be seen of it at once, the dialogue refuses itself.
//
// Everything is bounded: a line, the lines of an answer, an answer, the commands of a client. Only
// the exact answer of the protocol is a yes. An answer that can be read in two ways is an error,
// since on a wire in plaintext somebody else may have a say in it.
//
// A protocol is an entry in the table of protocols.go, and a file with its answers.
package dialogue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/reply"
)

// What can go wrong with a server. A connection that fails is not among it: it is the caller's.
var (
	// ErrNotOffered means that the server doesn't know STARTTLS, or hides it.
	ErrNotOffered = errors.New("the server does not offer TLS")
	// ErrRefused means a clear no: of a server that doesn't serve, or doesn't want TLS now.
	ErrRefused = errors.New("the server refuses")
	// ErrProtocol means an answer that the protocol doesn't have here.
	ErrProtocol = errors.New("the server breaks the protocol")
	// ErrPreauth means that an IMAP server has logged the client in before it was asked, after
	// which there is no STARTTLS.
	ErrPreauth = errors.New("the server has logged in by itself (PREAUTH), which rules out TLS")
	// ErrInjected means that there is plaintext behind the server's agreement.
	ErrInjected = errors.New("plaintext was sent behind the agreement to TLS")
)

// A Phase is a part of a dialogue.
type Phase string

// The phases, in order. Not each protocol has all of them.
const (
	Greeting     Phase = "greeting"
	Capabilities Phase = "capabilities"
	StartTLS     Phase = "starttls"
	Secure       Phase = "session over TLS" // what is asked again there
)

// An Error is what is wrong with a server.
type Error struct {
	Phase Phase
	Code  int    // the code of a refusal, where the protocol has codes, or 0
	Text  string // what the server has said, as quote makes it; may be empty
	Why   string // what is wrong with that; may be empty
	Err   error  // one of the errors above
}

func (e *Error) Error() string {
	text := e.Err.Error()
	if e.Why != "" {
		text += ": " + e.Why
	}
	if e.Text != "" {
		text += ": it says " + e.Text
		if e.Phase != Secure {
			text += " (in plaintext: anybody on the wire could have said so)"
		}
	}
	return text
}

// Unwrap returns which of this package's errors it is.
func (e *Error) Unwrap() error { return e.Err }

// What an answer may have at most.
const (
	maxLine   = 2048
	maxLines  = 200
	maxAnswer = 32 << 10
)

// Params are what a client says of itself, and of whom it wants.
type Params struct {
	Name   string // of the client, for EHLO and LHLO
	Domain string // of an XMPP server
}

// A Protocol is one that has STARTTLS.
type Protocol struct {
	Name    string // "smtp" and so on
	Port    int    // where a server usually speaks it
	TLSPort int    // where it does with TLS from the start; 0: nowhere
	ALPN    string // its registered name for ALPN (RFC 7301); empty: none

	plain  []exchange
	secure []exchange           // what is to be asked, or heard, over TLS
	early  string               // bytes that begin what a server may say without being asked
	hello  func(*Params) string // see Hello
	server *responder           // nil: there is no server's role
}

// An exchange is a command and the server's answer.
type exchange struct {
	phase Phase
	send  func(*Params) string // nil: the server speaks by itself

	// How the answer is judged: by lines, without their CR LF, of which judge says whether it was
	// the last one; or by whole returning the length of the answer that data begins with, 0 if it
	// isn't complete. Neither: there is no answer.
	judge func(c *Client, line []byte) (last bool, err error)
	whole func(c *Client, data []byte) (n int, err error)
}

// say is a command that is always the same.
func say(command string) func(*Params) string { return func(*Params) string { return command } }

// Names returns the names of all protocols, in order.
func Names() []string { return slices.Sorted(maps.Keys(protocols)) }

// ServerNames returns the names of the protocols that have the server's role, in order.
func ServerNames() []string {
	unserved := func(name string) bool { return protocols[name].server == nil }
	return slices.DeleteFunc(Names(), unserved)
}

// Lookup finds a protocol by its name, such as "smtp".
func Lookup(name string) (*Protocol, error) {
	p, ok := protocols[name]
	if !ok {
		return nil, fmt.Errorf("%q is no protocol with STARTTLS that is known here; known are %s",
			name, strings.Join(Names(), ", "))
	}
	return p, nil
}

// LookupServer is Lookup for those that have the server's role.
func LookupServer(name string) (*Protocol, error) {
	p, err := Lookup(name)
	if err == nil && p.server == nil {
		return nil, fmt.Errorf("%s has no server here, those that have are %s", name,
			strings.Join(ServerNames(), ", "))
	}
	return p, err
}

// Hello is a first command for a client to send over TLS, to which every server has an answer;
// empty if the server speaks first there.
func (p *Protocol) Hello(params *Params) []byte {
	if p.hello == nil {
		return nil
	}
	return []byte(p.hello(params))
}

// HasBanner reports whether the server speaks first.
func (p *Protocol) HasBanner() bool { return p.plain[0].send == nil }

// Client makes the client's side of the dialogue in plaintext.
func (p *Protocol) Client(params *Params) *Client {
	return p.client(params, p.plain)
}

// Secure makes the client's side of what follows over TLS, for which nothing is known of the server
// yet. It may be done from the start.
func (p *Protocol) Secure(params *Params) *Client {
	c := p.client(params, p.secure)
	c.secure = true
	return c
}

func (p *Protocol) client(params *Params, exchanges []exchange) *Client {
	c := &Client{protocol: p, params: params, exchanges: exchanges}
	c.replies.FTP = p.Name == "ftp"
	return c
}

// A Client is the client's side. While it isn't Done: send what Command returns, if anything; then,
// unless it is Done by that, receive one packet with the Client as the socket's Framer. Done in
// plaintext means that TLS begins now. A Client is for one connection.
type Client struct {
	protocol  *Protocol
	params    *Params
	exchanges []exchange
	secure    bool

	step    int          // which of the exchanges
	lines   int          // of the answer that were judged
	scanned int          // bytes of the answer that were judged
	depth   int          // of its elements there, where it is XML
	replies reply.Parser // of the answer, where it has a code
	offered bool         // STARTTLS is among the capabilities
	list    []string     // capabilities over TLS
	err     error
}

// Phase returns where the dialogue is.
func (c *Client) Phase() Phase {
	if c.secure {
		return Secure
	}
	return c.exchanges[min(c.step, len(c.exchanges)-1)].phase
}

// Command returns what to send now; nil if the server speaks next.
func (c *Client) Command() []byte {
	if c.Done() || c.exchanges[c.step].send == nil {
		return nil
	}
	x := &c.exchanges[c.step]
	command := []byte(x.send(c.params))
	if x.judge == nil && x.whole == nil {
		c.step++
	}
	return command
}

// Done reports whether all was said, and nothing was wrong with it.
func (c *Client) Done() bool { return c.step == len(c.exchanges) && c.err == nil }

// List returns what the server has said over TLS that it can do: the lines of its list, and for
// IMAP the words of it. In plaintext it is empty.
func (c *Client) List() []string { return c.list }

// Next finds one answer of the server's and judges it. An answer that isn't the right one is an
// *Error, which is final.
func (c *Client) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if c.err != nil || c.Done() {
		return 0, nil, c.err
	}
	n, err := c.answer(data)
	if err != nil {
		c.err = err
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, nil
	}
	c.step, c.lines, c.scanned, c.depth = c.step+1, 0, 0, 0
	if err := c.Unasked(data[n:]); err != nil {
		return 0, nil, err
	}
	return n, data[:n:n], nil
}

// Unasked judges what has come without being asked for, before the next command is sent or TLS
// begins. Next does that with what it sees.
func (c *Client) Unasked(text []byte) error {
	if c.err != nil || len(text) == 0 {
		return c.err
	}
	switch {
	case c.agreed():
		why := ""
		if isRecord(text) {
			why = "it looks like a record of TLS"
		}
		c.err = c.fail(ErrInjected, 0, why, text)
	case strings.IndexByte(c.protocol.early, text[0]) < 0:
		c.err = c.broken("an answer to what was not asked", text)
	}
	return c.err
}

// agreed reports whether TLS is what follows.
func (c *Client) agreed() bool {
	for _, x := range c.exchanges[c.step:] {
		if x.judge != nil || x.whole != nil {
			return false
		}
	}
	return !c.secure
}

// isRecord reports whether text begins as a record of TLS does, RFC 8446, section 5.1.
func isRecord(text []byte) bool {
	return len(text) > 1 && 20 <= text[0] && text[0] <= 24 && text[1] == 3
}

// answer returns the length of the answer that data begins with, 0 if it isn't complete. Lines that
// were judged are not judged again.
func (c *Client) answer(data []byte) (int, error) {
	x := &c.exchanges[c.step]
	if x.whole != nil {
		n, err := x.whole(c, data[:min(len(data), maxAnswer)])
		if n == 0 && err == nil && len(data) >= maxAnswer {
			err = c.tooLong()
		}
		return n, err
	}
	for {
		line, n, why := lineOf(data[c.scanned:], maxLine)
		if why != "" {
			return 0, c.broken(why, line)
		}
		if n == 0 {
			return 0, nil
		}
		c.scanned += n
		if c.lines++; c.lines > maxLines || c.scanned > maxAnswer {
			return 0, c.tooLong()
		}
		if last, err := x.judge(c, line); err != nil {
			return 0, err
		} else if last {
			return c.scanned, nil
		}
	}
}

// offer notes a capability.
func (c *Client) offer(text []byte, isTLS bool) {
	if c.secure {
		c.list = append(c.list, string(text))
	}
	c.offered = c.offered || isTLS
}

// end is the end of a list of capabilities, in which there has to be STARTTLS unless it is on.
func (c *Client) end() (bool, error) {
	if !c.secure && !c.offered {
		return false, c.fail(ErrNotOffered, 0, "", nil)
	}
	return true, nil
}

func (c *Client) fail(err error, code int, why string, said []byte) *Error {
	e := &Error{Phase: c.Phase(), Code: code, Why: why, Err: err}
	if len(said) > 0 {
		e.Text = quote(said)
	}
	return e
}

func (c *Client) broken(why string, said []byte) *Error {
	return c.fail(ErrProtocol, 0, why, said)
}

func (c *Client) tooLong() *Error { return c.broken("an answer without end", nil) }

// Want and Reset make it a Framer.
func (c *Client) Want() int { return 0 }

// Reset does nothing: what was said was said.
func (c *Client) Reset() {}
