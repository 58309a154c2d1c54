// Package reply reads the replies of SMTP, LMTP, FTP and NNTP servers, line by line: a code of
// three digits, and text. It does no I/O. It takes no liberties, since a reply that can be read in
// two ways is one that somebody else can have a say in.
//
// RFC 5321, section 4.2 (replies); RFC 2034 and 3463 (enhanced status codes); RFC 959, section 4.2
// (FTP).
package reply

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what a server can have us keep, in bytes with line ends. RFC 5321, section 4.5.3.1.5,
// has replies in lines of 512 bytes, RFC 4954, section 4, challenges in lines of 12,288.
const (
	MaxLine  = 12_288
	MaxReply = 65_536
)

// ErrMalformed is in all errors of a [Parser]: what has come is no reply. What follows it can't be
// made sense of either, so the connection is of no use any more.
var ErrMalformed = errors.New("malformed reply")

// A Reply is what a server answers. It is valid until the Parser begins the next one.
type Reply struct {
	Code  int    // 100 to 599
	lines []byte // the text of each line, ended by LF
}

// Text returns what the server says, without codes. Lines are separated by LF. It is the server's:
// it may have any byte but CR and NUL.
func (r *Reply) Text() string {
	code := r.Enhanced()
	if !code.Known() {
		return string(bytes.TrimSuffix(r.lines, []byte{'\n'}))
	}
	var text strings.Builder
	for line := range bytes.Lines(r.lines) {
		if of, rest := cutEnhanced(line[:len(line)-1]); of == code {
			line = append(rest[:len(rest):len(rest)], '\n')
		}
		text.Write(line)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// Lines calls fn with the text of each line, the enhanced status code included. The text is valid
// as long as the Reply.
func (r *Reply) Lines(fn func(text []byte)) {
	for line := range bytes.Lines(r.lines) {
		fn(line[:len(line)-1])
	}
}

// Enhanced returns the enhanced status code that the first line begins with; the zero one if there
// is none, or one of another class than the code's.
func (r *Reply) Enhanced() Enhanced {
	first, _, _ := bytes.Cut(r.lines, []byte{'\n'})
	code, _ := cutEnhanced(first)
	if int(code.Class) != r.Code/100 {
		return Enhanced{}
	}
	return code
}

// String returns the reply on one line, as it is safe to print.
func (r *Reply) String() string {
	return Printable(fmt.Sprintf("%d %s", r.Code, bytes.TrimSuffix(r.lines, []byte{'\n'})))
}

// Enhanced is an enhanced status code, RFC 3463: 5.1.1.
type Enhanced struct {
	Class           uint8 // 2, 4 or 5; 0: there is no code
	Subject, Detail uint16
}

// Known reports whether there is a code.
func (e Enhanced) Known() bool { return e.Class != 0 }

// String returns the code as it is written, and "" if there is none.
func (e Enhanced) String() string {
	if !e.Known() {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", e.Class, e.Subject, e.Detail)
}

// cutEnhanced takes an enhanced status code off a text that begins with one.
func cutEnhanced(text []byte) (Enhanced, []byte) {
	if len(text) < 5 || text[1] != '.' || text[0] != '2' && text[0] != '4' && text[0] != '5' {
		return Enhanced{}, text
	}
	subject, rest, ok := cutNumber(text[2:])
	if !ok || len(rest) == 0 || rest[0] != '.' {
		return Enhanced{}, text
	}
	detail, rest, ok := cutNumber(rest[1:])
	if !ok || len(rest) > 0 && rest[0] != ' ' {
		return Enhanced{}, text
	}
	return Enhanced{text[0] - '0', subject, detail}, bytes.TrimPrefix(rest, []byte{' '})
}

// cutNumber takes a number of one to three digits off a text.
func cutNumber(text []byte) (n uint16, rest []byte, ok bool) {
	i := 0
	for ; i < len(text) && i < 3 && isDigit(text[i]); i++ {
		n = 10*n + uint16(text[i]-'0')
	}
	return n, text[i:], i > 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// A Parser makes replies of lines. The zero one is for SMTP.
type Parser struct {
	// FTP has only a line with the first line's code and a space end the reply; what is between
	// them may be anything. RFC 959.
	FTP bool

	// BareCode takes a last line without text and space, "250\r\n", which RFC 5321, section 4.2,
	// tells clients to do.
	BareCode bool

	reply Reply
	begun bool
	size  int
}

// Line takes a line as it was received, with its end. It returns the reply that the line completes,
// or nil. After an error, which is an [ErrMalformed], the Parser begins anew.
func (p *Parser) Line(line []byte) (*Reply, error) {
	if !p.begun {
		if cap(p.reply.lines) > keep {
			p.reply.lines = nil
		}
		p.reply.lines, p.size = p.reply.lines[:0], 0
	}
	last, err := p.add(line)
	p.begun = !last && err == nil
	if !last || err != nil {
		return nil, err
	}
	return &p.reply, nil
}

// keep is how many bytes of room a Parser keeps between replies.
const keep = 512

// Begun reports whether a reply has begun that isn't complete.
func (p *Parser) Begun() bool { return p.begun }

func (p *Parser) add(line []byte) (last bool, err error) {
	p.size += len(line)
	if len(line) > MaxLine || p.size > MaxReply {
		return false, fmt.Errorf("%w: longer than any has to be", ErrMalformed)
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.ContainsAny(text, "\r\n\x00") {
		return false, fmt.Errorf("%w: a stray CR, LF or NUL in %s", ErrMalformed, Quote(line))
	}
	code, separator, ok := p.code(text)
	if p.FTP && p.begun && (!ok || code != p.reply.Code || separator != ' ') {
		p.keep(text)
		return false, nil
	}
	switch {
	case !ok:
		return false, fmt.Errorf("%w: %s", ErrMalformed, Quote(text))
	case !p.begun:
		p.reply.Code = code
	case code != p.reply.Code:
		return false, fmt.Errorf(
			"%w: two codes, %d and then %s", ErrMalformed, p.reply.Code, Quote(text))
	}
	p.keep(text[min(4, len(text)):])
	return separator == ' ', nil
}

func (p *Parser) keep(text []byte) {
	p.reply.lines = append(append(p.reply.lines, text...), '\n')
}

// code returns what a line begins with: a code, and a space or a hyphen.
func (p *Parser) code(text []byte) (code int, separator byte, ok bool) {
	if len(text) < 3 || text[0] < '1' || text[0] > '5' || !isDigit(text[1]) || !isDigit(text[2]) {
		return 0, 0, false
	}
	code = int(text[0]-'0')*100 + int(text[1]-'0')*10 + int(text[2]-'0')
	if len(text) == 3 {
		return code, ' ', p.BareCode
	}
	return code, text[3], text[3] == ' ' || text[3] == '-'
}

// Printable returns s with a '?' for whatever is not a printable character, and a space for LF:
// what a server says must not move the cursor, colour the terminal or fake a line of a log.
func Printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n':
			return ' '
		case c == unicode.ReplacementChar || !unicode.IsPrint(c):
			return '?'
		}
		return c
	}, s)
}

// Quote returns what was received in quotes, with escapes for whatever is not printable, and no
// longer than an error's text may be.
func Quote(received []byte) string {
	const most = 160
	if len(received) > most {
		return strconv.Quote(string(received[:most])) + "…"
	}
	return strconv.Quote(string(received))
}
