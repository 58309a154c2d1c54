package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/whorl-go/whorl/internal/reply"
)

// ErrInvalid is in errors about what must not be sent: an address, a parameter or a header that
// could be taken for more than one, by CR, LF, NUL and the like. Nothing was sent.
var ErrInvalid = errors.New("not valid")

// An ExtensionError says that a mail needs an extension that the server doesn't offer. Nothing of
// the mail was sent.
type ExtensionError struct {
	Keyword string // of EHLO
	For     string // what needs it
}

// Error names the extension and what needs it.
func (e *ExtensionError) Error() string {
	return fmt.Sprintf("the server doesn't offer %s, which is needed for %s", e.Keyword, e.For)
}

// A SizeError says that a message is larger than what the server takes. Nothing of the mail was
// sent.
type SizeError struct{ Size, Limit int64 } // in bytes, RFC 1870

// Error has both sizes.
func (e *SizeError) Error() string {
	return fmt.Sprintf("a message of %d bytes, and the server takes %d", e.Size, e.Limit)
}

// prepare checks an Envelope and makes the parameters of its commands.
func (e *Engine) prepare(t *transaction) error {
	if len(t.To) == 0 {
		return fmt.Errorf("%w: a mail without recipients", ErrInvalid)
	}
	if t.Body == Binary {
		t.Chunked = true
	}
	if err := e.prepareAddresses(t); err != nil {
		return err
	}
	x := &e.offers
	t.reports = t.Return+t.EnvelopeID != "" || t.Notify != nil
	for _, need := range [...]struct {
		needed, offered bool
		keyword, what   string
	}{
		{t.Chunked, x.Chunking, "CHUNKING", "a message in chunks"},
		{t.Body == Binary, x.Binary, "BINARYMIME", "a binary message"},
		{t.Body == EightBit, x.EightBit, "8BITMIME", "a message with 8-bit characters"},
		{t.RequireTLS, x.RequireTLS && e.secure, "REQUIRETLS", "a mail that must stay on TLS"},
		{t.Priority != 0, x.Priority, "MT-PRIORITY", "a mail with a priority"},
		{t.reports, x.DSN, "DSN", "delivery reports as asked for"},
	} {
		if need.needed && !need.offered {
			return &ExtensionError{need.keyword, need.what}
		}
	}
	if x.SizeLimit > 0 && t.Size > x.SizeLimit {
		return &SizeError{t.Size, x.SizeLimit}
	}
	return e.prepareParams(t)
}

// prepareAddresses checks the addresses. Without SMTPUTF8 a domain can be sent in A-labels, and
// what is before it must be ASCII: RFC 6531, section 3.2.
func (e *Engine) prepareAddresses(t *transaction) error {
	from, err := e.address(t.From, t)
	if err != nil && t.From != "" {
		return err
	}
	t.from = from
	for i, address := range t.To {
		sent, err := e.address(address, t)
		if err != nil {
			return err
		}
		if sent != address && t.to == nil {
			t.to = append([]string(nil), t.To...)
		}
		if t.to != nil {
			t.to[i] = sent
		}
	}
	if t.UTF8 && !e.offers.UTF8 {
		t.UTF8 = false // the header's characters are 8-bit ones, as they always have been
	}
	return nil
}

func (e *Engine) address(address string, t *transaction) (string, error) {
	if err := CheckAddress(address); err != nil || isASCII(address) {
		return address, err
	}
	if e.offers.UTF8 {
		t.UTF8 = true
		return address, nil
	}
	at := strings.LastIndexByte(address, '@')
	if at < 0 || !isASCII(address[:at]) {
		return "", &ExtensionError{"SMTPUTF8", "the address " + reply.Quote([]byte(address))}
	}
	domain, err := e.config.ASCII(address[at+1:])
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return address[:at+1] + domain, nil
}

// prepareParams makes the parameters, of what is offered.
func (e *Engine) prepareParams(t *transaction) error {
	x := &e.offers
	var p []byte
	if _, ok := x.Param("SIZE"); ok && t.Size > 0 {
		p = strconv.AppendInt(append(p, " SIZE="...), t.Size, 10)
	}
	switch t.Body {
	case EightBit:
		p = append(p, " BODY=8BITMIME"...)
	case Binary:
		p = append(p, " BODY=BINARYMIME"...)
	}
	if t.UTF8 {
		p = append(p, " SMTPUTF8"...)
	}
	if t.RequireTLS {
		p = append(p, " REQUIRETLS"...)
	}
	if t.Priority != 0 {
		if t.Priority < -9 || t.Priority > 9 { // RFC 6710, section 4
			return fmt.Errorf("%w: a priority is -9 to 9, not %d", ErrInvalid, t.Priority)
		}
		p = strconv.AppendInt(append(p, " MT-PRIORITY="...), int64(t.Priority), 10)
	}
	switch t.Return {
	case "":
	case "FULL", "HDRS":
		p = append(append(p, " RET="...), t.Return...)
	default:
		return fmt.Errorf("%w: RET is FULL or HDRS", ErrInvalid)
	}
	if t.EnvelopeID != "" {
		if err := checkText("envelope ID", t.EnvelopeID); err != nil || !isASCII(t.EnvelopeID) {
			return errors.Join(err, fmt.Errorf("%w: an envelope ID is ASCII", ErrInvalid))
		}
		p = append(append(p, " ENVID="...), xtext(t.EnvelopeID)...)
	}
	t.params = string(p)
	return t.prepareNotify()
}

func (t *transaction) prepareNotify() error {
	for _, event := range t.Notify {
		switch event {
		case "SUCCESS", "FAILURE", "DELAY":
		case "NEVER":
			if len(t.Notify) > 1 {
				return fmt.Errorf("%w: NOTIFY=NEVER is for itself", ErrInvalid)
			}
		default:
			return fmt.Errorf("%w: no event of NOTIFY: %s", ErrInvalid, reply.Quote([]byte(event)))
		}
	}
	if len(t.Notify) > 0 {
		t.rcptParams = " NOTIFY=" + strings.Join(t.Notify, ",")
	}
	return nil
}

// original is the parameter of RCPT by which reports name a recipient as this side knows it,
// wherever the mail was passed on to. RFC 3461, section 4.2, has it be the address of the command.
// For UTF-8 it would be of a type that not all servers know, RFC 6533.
func (t *transaction) original(address string) string {
	if !t.reports || !isASCII(address) {
		return ""
	}
	return " ORCPT=rfc822;" + xtext(address)
}

// xtext encodes a parameter's value, RFC 3461, section 4.
func xtext(value string) string {
	var encoded strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&encoded, "+%02X", c)
		} else {
			encoded.WriteByte(c)
		}
	}
	return encoded.String()
}

// CheckAddress returns an error unless address can be sent in a command as one address and nothing
// else: what is before the @ is a dot-string or a quoted string, what follows a domain or an
// address literal, both with UTF-8 (RFC 5321, section 4.1.2; RFC 6531, section 3.3). There may be
// no @, as in RCPT TO:<postmaster>, and with LMTP. Whether anybody has the address is the server's
// to say.
func CheckAddress(address string) error {
	local, domain, at := address, "", strings.LastIndexByte(address, '@')
	if at >= 0 {
		local, domain = address[:at], address[at+1:]
	}
	if len(address) <= 254 && utf8.ValidString(address) && isLocal(local) &&
		(at < 0 || isDomain(domain)) {
		return nil
	}
	return fmt.Errorf("%w: %s is no mail address", ErrInvalid, reply.Quote([]byte(address)))
}

func isLocal(local string) bool {
	if quoted, ok := strings.CutPrefix(local, `"`); ok {
		return isQuoted(quoted)
	}
	for _, c := range []byte(local) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`"(),:;<>@[\]`, c) >= 0 {
			return false
		}
	}
	return local != ""
}

// isQuoted reports whether a text is the rest of a quoted string, with its end.
func isQuoted(rest string) bool {
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == '"':
			return i == len(rest)-1
		case c == '\\':
			if i++; i == len(rest) || rest[i] < ' ' || rest[i] >= 0x7f {
				return false
			}
		}
	}
	return false
}

func isDomain(domain string) bool {
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		return ok && literal != "" && all(literal, func(c byte) bool {
			return isAlphanumeric(c) || c == '.' || c == ':' || c == '-'
		})
	}
	return domain != "" && all(domain, func(c byte) bool {
		return isAlphanumeric(c) || c == '.' || c == '-' || c == '_' || c >= 0x80
	})
}

func all(text string, is func(c byte) bool) bool {
	for i := range len(text) {
		if !is(text[i]) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

func isASCII(text string) bool { return all(text, func(c byte) bool { return c < 0x80 }) }

// checkText refuses what would end a command line, and other control characters.
func checkText(what, text string) error {
	if all(text, func(c byte) bool { return c >= ' ' && c != 0x7f }) && utf8.ValidString(text) {
		return nil
	}
	return fmt.Errorf("%w: control characters in the %s", ErrInvalid, what)
}
