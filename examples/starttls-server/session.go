package main

import (
	"strings"
	"unicode"
)

// A session is the state of an SMTP dialogue (RFC 5321) as far as STARTTLS (RFC 3207) needs it. It
// knows no connection: lines in, replies out.
//
//   - In plaintext it takes EHLO, STARTTLS, NOOP, RSET and QUIT. Mail, and who the client is, must
//     wait for TLS.
//   - Over TLS begins a new session. Nothing said in plaintext counts, since anybody on the wire
//     could have said it.
//   - TLS begins once.
type session struct {
	secure bool
	name   string // the client's, from EHLO; empty before that
	sender string // from MAIL
	errors int
}

// A next is what is to be done after a reply.
type next int

const (
	goOn     next = iota
	startTLS      // the client begins the handshake when it has the reply
	hangUp
)

// maxErrors is how many commands a client may get wrong.
const maxErrors = 10

// command answers a line, which comes without its CRLF.
func (s *session) command(line string) (reply string, then next) {
	// "STARTTLS\nRSET" is not two commands, and nothing to guess about.
	if strings.ContainsFunc(line, unicode.IsControl) {
		return "500 5.5.2 A line has a control character", hangUp
	}
	verb, argument, _ := strings.Cut(line, " ")
	reply, then = s.answer(strings.ToUpper(verb), strings.TrimSpace(argument))
	if strings.HasPrefix(reply, "5") {
		if s.errors++; s.errors == maxErrors {
			return "421 4.7.0 Too many errors", hangUp
		}
	}
	return reply, then
}

func (s *session) answer(verb, argument string) (string, next) {
	switch verb {
	case "EHLO", "HELO":
		return s.hello(verb, argument), goOn
	case "STARTTLS":
		switch {
		case s.secure:
			return "503 5.5.1 TLS is on already", goOn
		case argument != "":
			return "501 5.5.4 STARTTLS has no parameters", goOn
		}
		return "220 2.0.0 Go ahead", startTLS
	case "NOOP":
		return "250 2.0.0 Ok", goOn
	case "RSET":
		s.sender = ""
		return "250 2.0.0 Ok", goOn
	case "QUIT":
		return "221 2.0.0 Bye", hangUp
	}
	switch {
	case !s.secure:
		return "530 5.7.0 STARTTLS first", goOn // RFC 3207, section 4
	case s.name == "":
		return "503 5.5.1 EHLO first", goOn
	}
	return s.mail(verb, argument), goOn
}

func (s *session) hello(verb, name string) string {
	if name == "" {
		return "501 5.5.4 " + verb + " needs a name"
	}
	s.name, s.sender = name, ""
	switch {
	case verb == "HELO":
		return "250 localhost"
	case s.secure:
		return "250-localhost\r\n250 ENHANCEDSTATUSCODES"
	}
	return "250-localhost\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS"
}

// mail is where a mail server would begin. In this one nobody has a mailbox.
func (s *session) mail(verb, argument string) string {
	switch verb {
	case "MAIL":
		if s.sender != "" {
			return "503 5.5.1 There is a sender already"
		}
		s.sender = argument
		return "250 2.1.0 Ok"
	case "RCPT":
		if s.sender == "" {
			return "503 5.5.1 MAIL first"
		}
		return "550 5.1.1 Nobody has a mailbox here"
	case "DATA":
		return "503 5.5.1 RCPT first"
	}
	return "500 5.5.1 Unknown command"
}
