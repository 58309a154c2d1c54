package text

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of what is printed of a peer's words.
const (
	MaxName = 64  // bytes of a name from a certificate
	MaxText = 300 // bytes of an error text
)

// cut returns at most limit bytes of s, and whether there was more. It doesn't cut a character in
// two.
func cut(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// Quoted returns s in double quotes, with escapes for all that is not printable, cut to MaxName
// bytes before that.
func Quoted(s string) string {
	s, more := cut(s, MaxName)
	if more {
		return strconv.Quote(s) + "…"
	}
	return strconv.Quote(s)
}

// Printable returns s on one line, with a '?' for all that is not printable, cut to limit bytes
// before that.
func Printable(s string, limit int) string {
	s, more := cut(s, limit)
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	if more {
		s += "…"
	}
	return s
}
