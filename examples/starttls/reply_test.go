package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestReplyOfSeveralLines(t *testing.T) {
	t.Parallel()
	var r reply
	lines := []string{"250-mail.test\r\n", "250-size 10 \r\n", "250-AUTH plain LOGIN\r\n", "250- \r\n", "250 StartTLS\r\n"}
	for i, line := range lines {
		last, err := r.add(line)
		if err != nil || last != (i == len(lines)-1) {
			t.Fatalf("%q: %v, %v", line, last, err)
		}
	}
	if want := []string{"mail.test", "size 10 ", "AUTH plain LOGIN", " ", "StartTLS"}; !slices.Equal(r.text, want) {
		t.Errorf("%q, want %q", r.text, want)
	}
}

// Whatever a server sends, a reply that is accepted is made of lines that say the same thing to
// every reader.
func FuzzReply(f *testing.F) {
	f.Add("220 mail.test ESMTP\r\n")
	f.Add("250-mail.test\r\n250-SIZE\r\n250 AUTH PLAIN\r\n")
	f.Add("250-a\r\n220 b\r\n")
	f.Add("22O go\r\n")
	f.Add("220\r\n")
	f.Add("250 a\rb\n\r\n")
	f.Add("550 \x1b[2J\u202e\xff\x00\r\n")
	f.Fuzz(func(t *testing.T, stream string) {
		var r reply
		for line := range strings.SplitAfterSeq(stream, "\r\n") {
			last, err := r.add(line)
			if err != nil {
				return
			}
			code, separator, text := line[:3], line[3], strings.TrimSuffix(line[4:], "\r\n")
			if code != fmt.Sprint(r.code) || last != (separator == ' ') || !last && separator != '-' {
				t.Fatalf("%q was taken for a line of %d, last %v", line, r.code, last)
			}
			if text != r.text[len(r.text)-1] || strings.ContainsAny(text, "\r\n\x00") || len(r.text) > maxReplyLines {
				t.Fatalf("%q became %q", line, r.text)
			}
			shown := printable(text) + quote(r.String())
			for _, c := range shown {
				if c < ' ' || c == 0x7f || c == '\u202e' {
					t.Fatalf("%q would be shown as %q", text, shown)
				}
			}
			if last {
				return
			}
		}
	})
}
