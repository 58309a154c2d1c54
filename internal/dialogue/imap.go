package dialogue

import (
	"bytes"
	"strings"
)

// IMAP is RFC 9051, section 6.2.1.

// imapGreeting takes "* OK". After "* PREAUTH" there is no STARTTLS any more, and going on in
// plaintext is what an attacker would want.
func imapGreeting(c *Client, line []byte) (bool, error) {
	switch imapWord(line, "*") {
	case "OK":
		return true, nil
	case "PREAUTH":
		return false, c.fail(ErrPreauth, 0, "", line)
	case "BYE":
		return false, c.fail(ErrRefused, 0, "", line)
	}
	return false, c.broken("that is no greeting", line)
}

// imapAnswer takes lines up to the one with the tag, which has to say OK. Before a login a server
// may say something about itself in between, and has nothing to say about mailboxes: that would be
// somebody's who wants it to be there later. A no in plaintext is the error no.
func imapAnswer(tag string, no error) func(*Client, []byte) (bool, error) {
	return func(c *Client, line []byte) (bool, error) {
		switch imapWord(line, "*") {
		case "OK", "NO", "BAD":
			return false, nil
		case "CAPABILITY":
			imapCapability(c, line)
			return false, nil
		case "BYE":
			return false, c.fail(ErrRefused, 0, "", line)
		}
		switch imapWord(line, tag) {
		case "OK":
			return true, nil
		case "NO", "BAD":
			if c.secure {
				return false, c.fail(ErrRefused, 0, "", line)
			}
			return false, c.fail(no, 0, "", line)
		}
		return false, c.broken("that is no answer before a login", line)
	}
}

func imapCapability(c *Client, line []byte) {
	if c.Phase() == StartTLS {
		return
	}
	words := strings.Fields(string(line))
	for _, word := range words[2:] {
		c.offer([]byte(word), strings.EqualFold(word, "STARTTLS"))
	}
}

// imapCapabilities takes the answer to CAPABILITY.
func imapCapabilities(tag string) func(*Client, []byte) (bool, error) {
	answer := imapAnswer(tag, ErrNotOffered)
	return func(c *Client, line []byte) (bool, error) {
		if last, err := answer(c, line); err != nil || !last {
			return false, err
		}
		return c.end()
	}
}

// imapWord returns the word, in upper case, that follows the tag at the beginning of a line; empty
// if it has another tag.
func imapWord(line []byte, tag string) string {
	rest, ok := bytes.CutPrefix(line, []byte(tag+" "))
	if !ok {
		return ""
	}
	word, _, _ := bytes.Cut(rest, []byte(" "))
	return strings.ToUpper(string(word))
}

var (
	imapPlain = []exchange{
		{phase: Greeting, judge: imapGreeting},
		{phase: Capabilities, send: say("a CAPABILITY\r\n"), judge: imapCapabilities("a")},
		{phase: StartTLS, send: say("b STARTTLS\r\n"), judge: imapAnswer("b", ErrRefused)},
	}
	imapSecure = []exchange{
		{phase: Secure, send: say("c CAPABILITY\r\n"), judge: imapCapabilities("c")},
	}
	imapServer = &responder{
		greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Whorl\r\n",
		answer:   imapReply,
	}
)

func imapReply(s *Server, command []byte) (string, Action) {
	fields := strings.Fields(string(command))
	if len(fields) < 2 || strings.ContainsAny(fields[0], `(){%*"\]+`) {
		return "* BAD not a command\r\n", Continue
	}
	tag := fields[0]
	switch strings.ToUpper(fields[1]) {
	case "CAPABILITY":
		able := "STARTTLS LOGINDISABLED"
		if s.secure {
			able = "AUTH=PLAIN"
		}
		return "* CAPABILITY IMAP4rev1 " + able + "\r\n" + tag + " OK done\r\n", Continue
	case "NOOP":
		return tag + " OK done\r\n", Continue
	case "STARTTLS":
		if s.secure || len(fields) > 2 {
			return tag + " BAD not so\r\n", Continue
		}
		return tag + " OK begin\r\n", Upgrade
	case "LOGOUT":
		return "* BYE\r\n" + tag + " OK bye\r\n", Hangup
	}
	if s.secure {
		return tag + " NO nobody has a mailbox here\r\n", Continue
	}
	return tag + " NO STARTTLS first\r\n", Continue
}
