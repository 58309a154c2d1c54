package tlsconfig

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a peer sends ends up in logs and on terminals, and every error here is one line. So names out of certificates
// are quoted and cut, and error texts that may contain some are cut and cleaned.

const (
	maxName = 64  // bytes of a name from a certificate
	maxText = 300 // bytes of an error text
)

// cut returns at most limit bytes of s, and whether there was more. It doesn't cut a character in two.
func cut(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// quoted returns s in double quotes, with escapes for all that is not printable, cut to maxName bytes before that.
func quoted(s string) string {
	s, more := cut(s, maxName)
	if more {
		return strconv.Quote(s) + "…"
	}
	return strconv.Quote(s)
}

// printable returns s on one line, with a '?' for all that is not printable, cut to limit bytes before that.
func printable(s string, limit int) string {
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
