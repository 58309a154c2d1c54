package dialogue

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// clientName is what the client calls itself where a protocol asks for a name (RFC 2606: it is
// nobody's).
const clientName = "whorl-bench.invalid"

var protocols = map[string]*Protocol{
	// RFC 3207. "220" and nothing else begins TLS.
	"smtp": {
		Name: "smtp",
		exchanges: []exchange{
			{line: smtpReply(220, ErrMalformed)},
			{send: "EHLO " + clientName + "\r\n", line: smtpCapabilities},
			{send: "STARTTLS\r\n", line: smtpReply(220, ErrRefused)},
		},
		hello:  "EHLO " + clientName + "\r\n",
		server: responder{greeting: "220 localhost ESMTP whorl bench\r\n", answer: smtpAnswer},
	},
	// RFC 9051, section 6.2.1.
	"imap": {
		Name: "imap",
		exchanges: []exchange{
			{line: imapGreeting},
			{send: "a CAPABILITY\r\n", line: imapCapabilities},
			{send: "b STARTTLS\r\n", line: imapTagged("b", ErrRefused)},
		},
		hello: "c CAPABILITY\r\n",
		server: responder{greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] whorl " +
			"bench\r\n", answer: imapAnswer},
	},
	// RFC 2595, section 4. CAPA is optional, and a server without STLS says so.
	"pop3": {
		Name: "pop3",
		exchanges: []exchange{
			{line: pop3Reply(ErrMalformed)},
			{send: "STLS\r\n", line: pop3Reply(ErrRefused)},
		},
		hello:  "CAPA\r\n",
		server: responder{greeting: "+OK whorl bench\r\n", answer: pop3Answer},
	},
	// PostgreSQL's frontend/backend protocol, SSLRequest. The answer is one byte.
	"postgres": {
		Name:      "postgres",
		exchanges: []exchange{{send: postgresRequest(80877103), octet: postgresOctet}},
		hello:     postgresStartup,
		server:    responder{size: 8, answer: postgresAnswer},
	},
}

// smtpReply takes a reply of one code (RFC 5321, section 4.2.1); another code is the error.
func smtpReply(want int, otherwise error) func(*Client, []byte) (bool, error) {
	return func(c *Client, line []byte) (bool, error) {
		code, last, err := smtpLine(c, line)
		if err == nil && code != want {
			err = fmt.Errorf("%w: it answers %s", otherwise, quote(line))
		}
		return last, err
	}
}

func smtpLine(c *Client, line []byte) (code int, last bool, err error) {
	if len(line) < 3 || !digits(line[:3]) || line[0] < '2' || line[0] > '5' || len(line) > 3 &&
		line[3] != ' ' && line[3] != '-' {
		return 0, false, fmt.Errorf("%w: %s", ErrMalformed, quote(line))
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if c.lines > 1 && code != c.code {
		return 0, false, fmt.Errorf("%w: a reply with two codes, %d and %d", ErrMalformed, c.code,
			code)
	}
	c.code = code
	return code, len(line) == 3 || line[3] == ' ', nil
}

// smtpCapabilities takes the answer to EHLO. Its first line is the server's name; the others begin
// with a keyword each.
func smtpCapabilities(c *Client, line []byte) (bool, error) {
	code, last, err := smtpLine(c, line)
	if err != nil {
		return false, err
	}
	if code != 250 {
		return false, fmt.Errorf("%w: EHLO is answered with %s", ErrNotOffered, quote(line))
	}
	if c.lines > 1 && len(line) > 4 && strings.EqualFold(string(line[4:]), "STARTTLS") {
		c.offered = true
	}
	if last && !c.offered {
		return false, ErrNotOffered
	}
	return last, nil
}

func digits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// imapGreeting takes "* OK". After "* PREAUTH" there is no STARTTLS any more, and going on in
// plaintext is what an attacker would want.
func imapGreeting(_ *Client, line []byte) (bool, error) {
	switch word := imapWord(line, "*"); word {
	case "OK":
		return true, nil
	case "PREAUTH", "BYE":
		return false, fmt.Errorf("%w: it greets with %s", ErrRefused, quote(line))
	default:
		return false, fmt.Errorf("%w: %s", ErrMalformed, quote(line))
	}
}

// imapCapabilities takes the answer to "a CAPABILITY".
func imapCapabilities(c *Client, line []byte) (bool, error) {
	if imapWord(line, "*") == "CAPABILITY" {
		for word := range strings.FieldsSeq(string(line)) {
			c.offered = c.offered || strings.EqualFold(word, "STARTTLS")
		}
	}
	last, err := imapTagged("a", ErrNotOffered)(c, line)
	if err == nil && last && !c.offered {
		err = ErrNotOffered
	}
	return last, err
}

// imapTagged takes lines up to the one with the tag, which has to say OK.
func imapTagged(tag string, otherwise error) func(*Client, []byte) (bool, error) {
	return func(_ *Client, line []byte) (bool, error) {
		if imapWord(line, "*") == "BYE" {
			return false, fmt.Errorf("%w: it says %s", ErrRefused, quote(line))
		}
		if bytes.HasPrefix(line, []byte("* ")) {
			return false, nil
		}
		switch imapWord(line, tag) {
		case "OK":
			return true, nil
		case "NO", "BAD":
			return false, fmt.Errorf("%w: it answers %s", otherwise, quote(line))
		}
		return false, fmt.Errorf("%w: %s", ErrMalformed, quote(line))
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

func pop3Reply(otherwise error) func(*Client, []byte) (bool, error) {
	return func(_ *Client, line []byte) (bool, error) {
		switch word, _, _ := bytes.Cut(line, []byte(" ")); string(word) {
		case "+OK":
			return true, nil
		case "-ERR":
			return false, fmt.Errorf("%w: it answers %s", otherwise, quote(line))
		}
		return false, fmt.Errorf("%w: %s", ErrMalformed, quote(line))
	}
}

// postgresStartup asks for version 3.0 of the protocol.
var postgresStartup = func() string {
	body := "\x00\x03\x00\x00user\x00whorl\x00database\x00whorl\x00\x00"
	return string(binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))) + body
}()

// postgresRequest is a packet that is just a length and a code.
func postgresRequest(code uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code))
}

func postgresOctet(b byte) error {
	switch b {
	case 'S':
		return nil
	case 'N', 'E':
		// 'E' begins the error of a very old server; whoever is on the wire may have written its
		// text (CVE-2024-10977)
		return fmt.Errorf("%w: it answers %q", ErrRefused, b)
	}
	return fmt.Errorf("%w: %q", ErrMalformed, b)
}

// verb returns a command's first word in upper case.
func verb(command []byte) string {
	word, _, _ := bytes.Cut(bytes.TrimRight(command, "\r\n"), []byte(" "))
	return strings.ToUpper(string(word))
}

func smtpAnswer(command []byte) (string, Action) {
	switch verb(command) {
	case "EHLO":
		return "250-localhost\r\n250-8BITMIME\r\n250 STARTTLS\r\n", Continue
	case "HELO", "NOOP", "RSET":
		return "250 ok\r\n", Continue
	case "STARTTLS":
		return "220 go ahead\r\n", Upgrade
	case "QUIT":
		return "221 bye\r\n", Hangup
	case "MAIL", "RCPT", "DATA", "AUTH":
		return "530 5.7.0 STARTTLS first\r\n", Continue
	}
	return "502 not here\r\n", Continue
}

func imapAnswer(command []byte) (string, Action) {
	fields := bytes.Fields(command)
	if len(fields) < 2 || bytes.ContainsAny(fields[0], `(){%*"\]+`) {
		return "* BAD not a command\r\n", Continue
	}
	tag := string(fields[0])
	switch strings.ToUpper(string(fields[1])) {
	case "CAPABILITY":
		return "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n" + tag + " OK done\r\n", Continue
	case "NOOP":
		return tag + " OK done\r\n", Continue
	case "STARTTLS":
		return tag + " OK begin\r\n", Upgrade
	case "LOGOUT":
		return "* BYE\r\n" + tag + " OK bye\r\n", Hangup
	}
	return tag + " NO STARTTLS first\r\n", Continue
}

func pop3Answer(command []byte) (string, Action) {
	switch verb(command) {
	case "CAPA":
		return "+OK\r\nSTLS\r\n.\r\n", Continue
	case "STLS":
		return "+OK begin\r\n", Upgrade
	case "NOOP":
		return "+OK\r\n", Continue
	case "QUIT":
		return "+OK bye\r\n", Hangup
	}
	return "-ERR STLS first\r\n", Continue
}

// postgresAnswer says no to GSSAPI encryption (80877104), after which a client asks for TLS, and
// hangs up on all else: there is no database here.
func postgresAnswer(command []byte) (string, Action) {
	switch string(command) {
	case postgresRequest(80877103):
		return "S", Upgrade
	case postgresRequest(80877104):
		return "N", Continue
	}
	return "", Hangup
}
