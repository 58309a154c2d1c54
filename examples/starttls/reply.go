package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// RFC 5321, section 4.5.3.1.5: a reply line has up to 512 bytes. Some servers say more.
const (
	maxReplyLine  = 1024
	maxReplyLines = 100
)

// A reply is what an SMTP server answers: some lines with one code. The zero reply is ready for its
// first line.
type reply struct {
	code int
	text []string
}

// add adds a line, as it was received, and returns whether it is the last one:
//
//	250-mail.example.com
//	250-SIZE 10240000
//	250 STARTTLS
//
// It takes no liberties: a reply that can be read in two ways is one that somebody else can have a
// say in.
func (r *reply) add(line string) (last bool, err error) {
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\n\x00") {
		return false, fmt.Errorf("a line of the reply has a stray CR, LF or NUL: %s", quote(line))
	}
	if len(text) < 4 || !digits(text[:3]) || text[0] < '2' || text[0] > '5' ||
		text[3] != ' ' && text[3] != '-' {
		return false, fmt.Errorf("not an SMTP reply: %s", quote(text))
	}
	code, _ := strconv.Atoi(text[:3])
	if r.code == 0 {
		r.code = code
	}
	switch {
	case code != r.code:
		return false, fmt.Errorf("a reply with two codes: %d, then %s", r.code, quote(text))
	case len(r.text) == maxReplyLines:
		return false, errors.New("a reply without end")
	}
	r.text = append(r.text, text[4:])
	return text[3] == ' ', nil
}

func digits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// String returns the reply on one line.
func (r *reply) String() string { return fmt.Sprintf("%d %s", r.code, strings.Join(r.text, " ")) }

// printable returns s with a '?' for whatever is not a printable character: what a server says must
// not move the cursor, colour the terminal or fake a line of ours.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// quote returns s in quotes, with escapes for whatever is not printable, and no longer than an
// error text may be.
func quote(s string) string {
	const most = 160
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
