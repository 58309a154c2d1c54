package dialogue

import (
	"errors"
	"fmt"
)

// ErrCommand means that a client breaks the protocol.
var ErrCommand = errors.New("not a command")

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
	answer   func(s *Server, command []byte) (reply string, action Action)
}

// What a client may say before it asks for TLS, and as long over TLS.
const (
	maxCommand  = 1024
	maxCommands = 32
)

// A Server is the server's side. Send its Greeting, if any, then receive one packet with the Server
// as the socket's Framer, send what Answer says, and so on. A Server is for one connection in
// plaintext, or over TLS: there begins another one, which knows nothing of what was said before.
type Server struct {
	protocol *Protocol
	secure   bool
	commands int
	behind   bool // there is something behind the last command
	greeted  bool // by the client, where mail has to wait for that
	err      error
}

// Server makes the server's side of a dialogue in plaintext. The protocol is one of ServerNames.
func (p *Protocol) Server() *Server { return &Server{protocol: p} }

// SecureServer makes the server's side of what follows over TLS.
func (p *Protocol) SecureServer() *Server { return &Server{protocol: p, secure: true} }

// Greeting returns what the server says first; nil if the client speaks first.
func (s *Server) Greeting() []byte {
	if s.secure || s.protocol.server.greeting == "" {
		return nil
	}
	return []byte(s.protocol.server.greeting)
}

// Next finds one command of the client's.
func (s *Server) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if s.err != nil {
		return 0, nil, s.err
	}
	n := s.protocol.server.size
	if n == 0 {
		line, length, why := lineOf(data, maxCommand)
		if why != "" {
			s.err = fmt.Errorf("%w: %s: %s", ErrCommand, why, quote(line))
			return 0, nil, s.err
		}
		n = length
	}
	if n == 0 || len(data) < n {
		return 0, nil, nil
	}
	s.behind = len(data) > n
	return n, data[:n:n], nil
}

// Answer returns the answer to a command, as Next has found it, and what comes after that. Who asks
// for TLS waits for the answer: what is behind that already may be somebody else's, and is a reason
// to hang up.
func (s *Server) Answer(command []byte) (reply []byte, action Action) {
	if s.commands++; s.commands > maxCommands {
		return nil, Hangup
	}
	text, action := s.protocol.server.answer(s, command)
	if action == Upgrade && s.behind {
		return nil, Hangup
	}
	return []byte(text), action
}

// Want and Reset make it a Framer.
func (s *Server) Want() int { return s.protocol.server.size }

// Reset forgets nothing: there is nothing to forget.
func (s *Server) Reset() {}
