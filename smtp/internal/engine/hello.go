package engine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/internal/reply"
)

// Extensions are what a server offers in its answer to EHLO.
type Extensions struct {
	lines string // the keywords with their parameters, in upper case, each line ended by LF

	StartTLS, Pipelining, Chunking, Binary, EightBit, UTF8, DSN, RequireTLS, Priority bool

	SizeLimit int64  // bytes of a message; 0: none is known
	AuthNames string // the mechanisms, separated by spaces
}

// Param returns a keyword's parameters, in upper case, and whether the server has the extension.
func (x *Extensions) Param(keyword string) (params string, ok bool) {
	keyword = strings.ToUpper(keyword)
	for line := range strings.Lines(x.lines) {
		if of, params := cutKeyword(strings.TrimSuffix(line, "\n")); of == keyword {
			return params, true
		}
	}
	return "", false
}

// HasAuth reports whether a mechanism is offered.
func (x *Extensions) HasAuth(mechanism string) bool {
	for name := range strings.FieldsSeq(x.AuthNames) {
		if name == mechanism {
			return true
		}
	}
	return false
}

// cutKeyword parts a line. Keywords are compared in any case; what only begins with one is another
// one.
func cutKeyword(line string) (keyword, params string) {
	keyword, params, _ = strings.Cut(line, " ")
	return keyword, strings.TrimSpace(params)
}

// read makes Extensions of a reply. The first line is the server's name.
func (x *Extensions) read(r *reply.Reply) {
	*x = Extensions{}
	var lines strings.Builder
	first := true
	r.Lines(func(text []byte) {
		if !first && len(text) > 0 {
			lines.WriteString(strings.ToUpper(string(text)))
			lines.WriteByte('\n')
		}
		first = false
	})
	x.lines = lines.String()
	var mechanisms []string
	for line := range strings.Lines(x.lines) {
		keyword, params := cutKeyword(strings.TrimSuffix(line, "\n"))
		if keyword == "AUTH" {
			mechanisms = append(mechanisms, params)
		}
		x.add(keyword, params)
	}
	x.AuthNames = strings.Join(mechanisms, " ")
}

func (x *Extensions) add(keyword, params string) {
	switch keyword {
	case "STARTTLS":
		x.StartTLS = params == "" // it has no parameters, RFC 3207, section 4
	case "PIPELINING":
		x.Pipelining = true
	case "CHUNKING":
		x.Chunking = true
	case "BINARYMIME":
		x.Binary = true
	case "8BITMIME":
		x.EightBit = true
	case "SMTPUTF8":
		x.UTF8 = true
	case "DSN":
		x.DSN = true
	case "REQUIRETLS":
		x.RequireTLS = true
	case "MT-PRIORITY":
		x.Priority = true
	case "SIZE":
		if limit, err := strconv.ParseInt(params, 10, 64); err == nil && limit > 0 {
			x.SizeLimit = limit
		}
	}
}

func (e *Engine) onGreeting(r *reply.Reply) error {
	if r.Code != 220 {
		e.broken = true
		return e.refusal(r)
	}
	e.hello()
	return nil
}

func (e *Engine) hello() {
	verb := "EHLO "
	if e.config.LMTP {
		verb = "LHLO "
	}
	e.say(verb, e.name)
	e.await(Hello, (*Engine).onHello)
}

func (e *Engine) onHello(r *reply.Reply) error {
	switch {
	case r.Code == 250:
		e.offers.read(r)
	case (r.Code == 500 || r.Code == 502) && e.mayBeOld():
		e.say("HELO ", e.name)
		e.await(Hello, (*Engine).onHelo)
		return nil
	default:
		e.broken = true
		return e.refusal(r)
	}
	return e.helloDone()
}

// mayBeOld reports whether a server is allowed not to know EHLO, and so nothing of TLS either. It
// isn't where whoever sits on the wire would gain by it.
func (e *Engine) mayBeOld() bool {
	return !e.config.LMTP && e.config.Security != Mandatory && !e.upgraded
}

func (e *Engine) onHelo(r *reply.Reply) error {
	if r.Code != 250 {
		e.broken = true
		return e.refusal(r)
	}
	return e.helloDone()
}

// helloDone asks for TLS where that is due. What the server offers in plaintext is good for that
// question only.
func (e *Engine) helloDone() error {
	switch {
	case e.secure:
		e.action = Done
	case e.offers.StartTLS:
		e.say("STARTTLS")
		e.parser.BareCode = false
		e.await(StartTLS, (*Engine).onStartTLS)
	case e.config.Security == Opportunistic:
		e.action = Done
	default:
		return e.fail(ErrNoTLS)
	}
	return nil
}

// onStartTLS takes only one answer for a yes.
func (e *Engine) onStartTLS(r *reply.Reply) error {
	e.offers = Extensions{}
	if r.Code != 220 {
		e.broken = true
		return e.refusal(r)
	}
	e.action = Secure
	return nil
}

// Secured tells the Engine that the connection is over TLS now. All that was said in plaintext is
// forgotten, RFC 3207, section 4.2.
func (e *Engine) Secured() {
	e.secure, e.upgraded = true, true
	e.parser = reply.Parser{BareCode: true}
	e.hello()
}

// CheckName returns an error unless name can be the argument of EHLO: a domain or an address
// literal.
func CheckName(name string) error {
	for _, c := range []byte(name) {
		if !isAlphanumeric(c) && !strings.ContainsRune("-._:[]", rune(c)) {
			return fmt.Errorf("%w: %s is no name for EHLO", ErrInvalid, reply.Quote([]byte(name)))
		}
	}
	if name == "" || len(name) > 255 {
		return fmt.Errorf("%w: a name for EHLO has 1 to 255 characters", ErrInvalid)
	}
	return nil
}
