package proxy

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const nameConnect = "HTTP CONNECT"

const (
	// maxHead bounds everything before the tunnel, in bytes: interim answers, status line and
	// header fields. Proxies send a few hundred; the loquacious ones, with cookies and policies, a
	// few thousand.
	maxHead = 16 << 10

	// maxReason bounds what of a reason phrase gets into an error, in bytes.
	maxReason = 128

	versionPrefix = "HTTP/1." // HTTP/1.0 proxies know CONNECT, too
)

// connect goes through
//
//	client: CONNECT target, Host, Proxy-Authorization
//	proxy:  1xx status line, fields, empty line    statusLine, field; any number of times
//	proxy:  status line                            statusLine; anything but 2xx fails here
//	proxy:  fields, empty line                     field; the tunnel begins right behind
//
// An answer of 2xx has no content; Content-Length and Transfer-Encoding in it have to be ignored
// (RFC 9110 section 9.3.6). So the fields are checked for their form only.
type connect struct {
	exchange
	left    int      // how much of maxHead is not used up yet
	interim bool     // the fields being read are those of a 1xx answer
	secrets [][]byte // what must not be quoted from the proxy's text
}

// NewConnect prepares an HTTP CONNECT handshake for a tunnel to target, which is host:port. A host
// that is no IP address is resolved by the proxy. User and password both empty: no credentials.
// Otherwise they go with the request, legible to whoever can read the connection to the proxy; the
// user must not contain a colon, and neither may contain control characters. An error means that an
// argument is invalid.
func NewConnect(target, user, password string) (Handshake, error) {
	to, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	authority := to.authority()
	request := "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n"
	c := &connect{left: maxHead}
	if user != "" || password != "" {
		if err := checkCredentials(user, password); err != nil {
			return nil, err
		}
		if strings.Contains(user, ":") {
			return nil, errors.New("proxy: colon in the user name, which Basic credentials cannot express")
		}
		token := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		request += "Proxy-Authorization: Basic " + token + "\r\n"
		// Without a password, the user name is an access token.
		c.secrets = [][]byte{[]byte(token), []byte(cmp.Or(password, user))}
	}
	c.opening = []byte(request + "\r\n")
	c.step = c.statusLine
	return c, nil
}

// statusLine reads the first line of an answer, RFC 9112 section 4.
func (c *connect) statusLine(in []byte) (used int, out []byte, err error) {
	// Judged before the line is complete: a peer that speaks something else may never send a line
	// end.
	if n := min(len(in), len(versionPrefix)); string(in[:n]) != versionPrefix[:n] {
		return 0, nil, malformed(nameConnect, "it does not begin with HTTP/1")
	}
	line, used, err := c.line(in)
	if err != nil || used == 0 {
		return 0, nil, err
	}
	status, reason, ok := parseStatus(line)
	switch {
	case !ok:
		return 0, nil, malformed(nameConnect, "bad status line")
	case status == 101:
		return 0, nil, malformed(nameConnect, "it switches to a protocol that was not asked for")
	case status == 407:
		return 0, nil, c.failed(status, ErrAuth, reason)
	case status >= 300:
		return 0, nil, c.failed(status, ErrRefused, reason)
	}
	c.interim = status < 200
	c.step = c.field
	return used, nil, nil
}

// parseStatus takes a status line apart. The space behind the status may be missing together with
// the reason phrase: RFC 9112 asks for it, but proxies leave it out.
func parseStatus(line []byte) (status int, reason []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(versionPrefix))
	if !ok || len(rest) < 5 || !isDigit(rest[0]) || rest[1] != ' ' {
		return 0, nil, false
	}
	for _, digit := range rest[2:5] {
		if !isDigit(digit) {
			return 0, nil, false
		}
		status = status*10 + int(digit-'0')
	}
	reason = rest[5:]
	if status < 100 || len(reason) > 0 && reason[0] != ' ' {
		return 0, nil, false
	}
	return status, reason, true
}

// field reads one header field, or the empty line that ends the answer.
func (c *connect) field(in []byte) (used int, out []byte, err error) {
	line, used, err := c.line(in)
	if err != nil || used == 0 {
		return 0, nil, err
	}
	if len(line) == 0 {
		if c.step = nil; c.interim {
			c.step = c.statusLine
		}
		return used, nil, nil
	}
	// Folded lines are deprecated since RFC 7230, and their reading as continuation or as a field
	// of its own is what implementations differ about.
	if line[0] == ' ' || line[0] == '\t' {
		return 0, nil, malformed(nameConnect, "folded header field")
	}
	name, _, colon := bytes.Cut(line, []byte(":"))
	if !colon || len(name) == 0 || bytes.ContainsFunc(name, notInToken) {
		return 0, nil, malformed(nameConnect, "bad header field")
	}
	return used, nil, nil
}

// line cuts the first line off in and counts it against maxHead; used is 0 while the line is
// incomplete. Lines end in CR LF and nothing else: who takes a bare LF or a bare CR for a line end
// as well finds the empty line, and with it the beginning of the tunnel, at another place than who
// does not.
func (c *connect) line(in []byte) (line []byte, used int, err error) {
	end := bytes.IndexByte(in[:min(len(in), c.left)], '\n')
	if end < 0 {
		if len(in) > c.left {
			return nil, 0, malformed(nameConnect, fmt.Sprintf("head of more than %d bytes", maxHead))
		}
		return nil, 0, nil
	}
	line, ok := bytes.CutSuffix(in[:end], []byte("\r"))
	if !ok {
		return nil, 0, malformed(nameConnect, "line ends in a bare LF")
	}
	if bytes.ContainsAny(line, "\r\x00") {
		return nil, 0, malformed(nameConnect, "bare CR or NUL in a line")
	}
	c.left -= end + 1
	return line, end + 1, nil
}

// failed is the error for a status other than 2xx. Of the proxy's reason phrase it keeps printable
// ASCII, so that neither a terminal nor a log is at the peer's mercy, and nothing at all if the
// phrase repeats our credentials.
func (c *connect) failed(status int, kind error, reason []byte) error {
	short := bytes.TrimSpace(reason)
	text := strings.Map(printable, string(short[:min(len(short), maxReason)]))
	for _, secret := range c.secrets {
		if bytes.Contains(reason, secret) || strings.Contains(text, string(secret)) {
			text = ""
		}
	}
	if text != "" {
		kind = fmt.Errorf("%w: %s", kind, text)
	}
	return &Error{Proxy: nameConnect, Answer: status, Err: kind}
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// notInToken reports whether r is outside the characters of a field name, RFC 9110 section 5.6.2.
func notInToken(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
