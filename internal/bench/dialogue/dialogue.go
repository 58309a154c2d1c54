// Package dialogue is what client and server say to each other before STARTTLS, for as much as a
// benchmark needs of each protocol: the greeting, the question for the upgrade, the consent. It
// does no I/O: bytes go in, bytes come out.
//
// Both sides implement the Framer of package packet, so that a socket finds the packets and
// whatever follows them stays unread in the socket, which then refuses to begin TLS behind it
// (CVE-2011-0411).
//
// Another protocol is one more entry in protocols.
package dialogue

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Errors of a dialogue, by which to tell what went wrong.
var (
	ErrRefused    = errors.New("the server refuses STARTTLS")
	ErrNotOffered = errors.New("the server doesn't offer STARTTLS")
	ErrMalformed  = errors.New("not an answer of the protocol")
	ErrTooLong    = errors.New("an answer without end")
)

// What an answer, and a command, may have at most.
const (
	maxLine    = 2048
	maxLines   = 128
	maxCommand = 1024
)

// A Protocol is one that has STARTTLS.
type Protocol struct {
	Name string // "smtp" and so on

	exchanges []exchange // of the client; the first one is the greeting if it sends nothing
	hello     string     // the client's first command over TLS
	server    responder
}

// exchange is a command and what has to come in answer.
type exchange struct {
	send string

	// line judges one line of the answer, without its CR LF, and says whether it is the last one.
	// nil: the answer is the single byte that octet judges.
	line  func(c *Client, line []byte) (last bool, err error)
	octet func(b byte) error
}

// Names returns the names of all protocols, in order.
func Names() []string { return slices.Sorted(maps.Keys(protocols)) }

// Lookup finds a protocol by its name, such as "smtp".
func Lookup(name string) (*Protocol, error) {
	p, ok := protocols[name]
	if !ok {
		return nil, fmt.Errorf("%q is no protocol with STARTTLS that is known here; known are %s",
			name, strings.Join(Names(), ", "))
	}
	return p, nil
}

// Hello is a first command for a client to send over TLS, to which every server has an answer.
func (p *Protocol) Hello() []byte { return []byte(p.hello) }

// HasBanner reports whether the server speaks first.
func (p *Protocol) HasBanner() bool { return p.exchanges[0].send == "" }

// Client makes the client's side of a dialogue.
func (p *Protocol) Client() *Client { return &Client{protocol: p} }

// Server makes the server's side of a dialogue.
func (p *Protocol) Server() *Server { return &Server{protocol: p} }

// A Client is the client's side. Send what Command returns, if anything, then receive one packet
// with the Client as the socket's Framer, and so on until Done. A Client is for one connection.
type Client struct {
	protocol *Protocol
	step     int // which of the exchanges
	lines    int // of the answer that were judged, in scanned bytes
	scanned  int
	code     int  // of the answer's first line, where the protocol has codes
	offered  bool // STARTTLS is among the capabilities
	err      error
}

// Command returns what to send now; nil if the server speaks next.
func (c *Client) Command() []byte {
	if c.Done() || c.protocol.exchanges[c.step].send == "" {
		return nil
	}
	return []byte(c.protocol.exchanges[c.step].send)
}

// Done reports whether the server has agreed: TLS begins now.
func (c *Client) Done() bool { return c.step == len(c.protocol.exchanges) }

// Next finds one answer of the server's and judges it. An answer that isn't the right one is an
// error, which is final.
func (c *Client) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if c.err != nil || c.Done() {
		return 0, nil, c.err
	}
	n, err := c.answer(data)
	if err != nil {
		c.err = fmt.Errorf("%s: %w", c.protocol.Name, err)
		return 0, nil, c.err
	}
	if n == 0 {
		return 0, nil, nil
	}
	c.step, c.lines, c.scanned, c.code = c.step+1, 0, 0, 0
	return n, data[:n:n], nil
}

// answer returns the length of the answer that data begins with, 0 if it isn't complete. Lines that
// were judged are not judged again.
func (c *Client) answer(data []byte) (int, error) {
	x := c.protocol.exchanges[c.step]
	if x.line == nil {
		if len(data) == 0 {
			return 0, nil
		}
		return 1, x.octet(data[0])
	}
	for {
		line, n, err := lineOf(data[c.scanned:], maxLine)
		if n == 0 || err != nil {
			return 0, err
		}
		if c.lines++; c.lines > maxLines {
			return 0, fmt.Errorf("%w: more than %d lines", ErrTooLong, maxLines)
		}
		c.scanned += n
		last, err := x.line(c, line)
		if err != nil {
			return 0, err
		}
		if last {
			return c.scanned, nil
		}
	}
}

// Want and Reset make it a Framer.
func (c *Client) Want() int { return 0 }

// Reset does nothing: what was said in plaintext was said.
func (c *Client) Reset() {}

// lineOf returns the line that data begins with, without its end, and its length with that; 0 if it
// isn't complete. It takes no liberties: lines end with CR LF, and have neither of the two
// elsewhere.
func lineOf(data []byte, limit int) (line []byte, n int, err error) {
	end := bytes.IndexByte(data[:min(len(data), limit)], '\n')
	switch {
	case end < 0 && len(data) >= limit:
		return nil, 0, fmt.Errorf("%w: a line of more than %d bytes", ErrTooLong, limit)
	case end < 0:
		return nil, 0, nil
	case end == 0 || data[end-1] != '\r' || bytes.ContainsAny(data[:end-1], "\r\x00"):
		return nil, 0, fmt.Errorf("%w: a line with a stray CR, LF or NUL: %s", ErrMalformed,
			quote(data[:end+1]))
	}
	return data[:end-1], end + 1, nil
}

// quote returns what a peer has said in quotes, with escapes for whatever isn't printable, and
// shortened.
func quote(text []byte) string {
	const most = 120
	if len(text) > most {
		return strconv.QuoteToASCII(string(text[:most])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}

// An Action is what a server does after its answer.
type Action uint8

const (
	Continue Action = iota // with the next command
	Upgrade                // to TLS
	Hangup                 // close the connection
)

// responder is the server's side of a protocol.
type responder struct {
	greeting string
	size     int // of a command; 0: commands are lines
	answer   func(command []byte) (reply string, action Action)
}

// maxCommands is how many commands a client may send before it asks for TLS.
const maxCommands = 32

// A Server is the server's side. Send its Greeting, if any, then receive one packet with the Server
// as the socket's Framer, send what Answer says, and so on. A Server is for one connection.
type Server struct {
	protocol *Protocol
	commands int
	err      error
}

// Greeting returns what the server says first; nil if the client speaks first.
func (s *Server) Greeting() []byte {
	if s.protocol.server.greeting == "" {
		return nil
	}
	return []byte(s.protocol.server.greeting)
}

// Next finds one command of the client's.
func (s *Server) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if s.err != nil {
		return 0, nil, s.err
	}
	if size := s.protocol.server.size; size > 0 {
		if len(data) < size {
			return 0, nil, nil
		}
		return size, data[:size:size], nil
	}
	_, n, err := lineOf(data, maxCommand)
	if err != nil {
		s.err = fmt.Errorf("%s: %w", s.protocol.Name, err)
	}
	if n == 0 {
		return 0, nil, s.err
	}
	return n, data[:n:n], nil
}

// Answer returns the answer to a command, as Next has found it, and what comes after that.
func (s *Server) Answer(command []byte) (reply []byte, action Action) {
	if s.commands++; s.commands > maxCommands {
		return nil, Hangup
	}
	text, action := s.protocol.server.answer(command)
	return []byte(text), action
}

// Want and Reset make it a Framer.
func (s *Server) Want() int { return s.protocol.server.size }

// Reset forgets nothing: there is nothing to forget.
func (s *Server) Reset() {}
