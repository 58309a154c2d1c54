package reply_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/reply"
)

// parse feeds a Parser the lines of a stream, as a framer by CRLF has them, until the first reply
// is complete.
func parse(p *reply.Parser, stream string) (r *reply.Reply, err error) {
	for line := range strings.SplitAfterSeq(stream, "\r\n") {
		if r, err = p.Line([]byte(line)); r != nil || err != nil {
			return r, err
		}
	}
	return nil, nil
}

func TestReplies(t *testing.T) {
	for _, test := range []struct {
		stream, text, enhanced string
		code                   int
	}{
		{"220 mail.test ESMTP\r\n", "mail.test ESMTP", "", 220},
		{"250-a\r\n250-\r\n250 b\r\n", "a\n\nb", "", 250},
		{"250 \r\n", "", "", 250},
		{"550 5.1.1 no such user\r\n", "no such user", "5.1.1", 550},
		{"550-5.1.1 no\r\n550-5.1.2 other\r\n550 5.1.1 such\r\n", "no\n5.1.2 other\nsuch", "5.1.1",
			550},
		{"250 2.123.999\r\n", "", "2.123.999", 250},
		{"550 4.1.1 of another class\r\n", "4.1.1 of another class", "", 550},
		{"250 2.1234.1 x\r\n", "2.1234.1 x", "", 250},
		{"250 2.1.1x\r\n", "2.1.1x", "", 250},
		{"250 2..1 x\r\n", "2..1 x", "", 250},
		{"354 3.1.1 x\r\n", "3.1.1 x", "", 354},
	} {
		var p reply.Parser
		r, err := parse(&p, test.stream)
		if err != nil || r == nil {
			t.Errorf("%q: %v, %v", test.stream, r, err)
			continue
		}
		if r.Code != test.code || r.Text() != test.text || r.Enhanced().String() != test.enhanced {
			t.Errorf("%q: %d %q %q", test.stream, r.Code, r.Enhanced(), r.Text())
		}
	}
}

func TestRepliesThatAreNone(t *testing.T) {
	for _, stream := range []string{
		"\r\n", "22\r\n", "220\r\n", "22O go\r\n", "220_go\r\n", "999 x\r\n", "099 x\r\n",
		"020 x\r\n", " 220 x\r\n",
		"250 a\nb\r\n", "250 a\rb\r\n", "250 a\x00\r\n", "250-a\n250 b\r\n", "250 a\r\r\n",
		"250-a\r\n220 b\r\n", "250-a\r\nhello\r\n", "250-a\r\n250\r\n",
		"250 " + strings.Repeat("x", reply.MaxLine) + "\r\n",
		strings.Repeat("250-\r\n", reply.MaxReply),
		"250 cut",
	} {
		var p reply.Parser
		if r, err := parse(&p, stream); r != nil || !errors.Is(err, reply.ErrMalformed) {
			t.Errorf("%.40q was taken for %v, %v", stream, r, err)
		} else if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("%.40q: the error is %q", stream, err)
		}
		if r, err := parse(&p, "220 anew\r\n"); err != nil || r.Text() != "anew" {
			t.Errorf("after %.40q: %v, %v", stream, r, err)
		}
	}
}

func TestBareCodesAreTakenIfAskedFor(t *testing.T) {
	p := reply.Parser{BareCode: true}
	for stream, text := range map[string]string{"250\r\n": "", "250-a\r\n250\r\n": "a\n"} {
		if r, err := parse(&p, stream); err != nil || r.Code != 250 || r.Text() != text {
			t.Errorf("%q: %v, %v", stream, r, err)
		}
	}
}

func TestFTPEndsWithItsOwnCode(t *testing.T) {
	p := reply.Parser{FTP: true}
	r, err := parse(&p, "230-a\r\n 230 indented\r\n331 another\r\n230-b\r\n\r\nfree\r\n230 end\r\n")
	if err != nil || r.Code != 230 ||
		r.Text() != "a\n 230 indented\n331 another\n230-b\n\nfree\nend" {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := parse(&p, "hello\r\n"); r != nil || err == nil {
		t.Errorf("%v, %v", r, err)
	}
}

func TestLinesAreTheServersWords(t *testing.T) {
	var p reply.Parser
	r, err := parse(&p, "250-mail.test\r\n250-SIZE 10\r\n250 2.0.0 x\r\n")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	r.Lines(func(text []byte) { lines = append(lines, string(text)) })
	if got := strings.Join(lines, "|"); got != "mail.test|SIZE 10|2.0.0 x" {
		t.Error(got)
	}
}

func TestRepliesArePrintedHarmlessly(t *testing.T) {
	var p reply.Parser
	r, err := parse(&p, "550-\x1b[2J\r\n550 \u202e\xff\r\n")
	if err != nil || r.String() != "550 ?[2J ??" {
		t.Errorf("%q, %v", r, err)
	}
}

func TestNoAllocationsPerReply(t *testing.T) {
	p := new(reply.Parser)
	line := []byte("250 2.1.5 fine\r\n")
	if n := testing.AllocsPerRun(100, func() { p.Line(line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever a server sends, a reply that is accepted is made of lines that say the same thing to
// every reader, and takes no more room than its lines.
func FuzzParser(f *testing.F) {
	for _, stream := range []string{
		"220 mail.test ESMTP\r\n", "250-mail.test\r\n250-SIZE\r\n250 AUTH PLAIN\r\n",
		"250-a\r\n220 b\r\n", "22O go\r\n", "220\r\n",
		"250 a\rb\n\r\n", "550 5.1.1 \x1b[2J\u202e\xff\x00\r\n", "230-a\r\nb\r\n230 c\r\n",
	} {
		f.Add(stream, false, false)
		f.Add(stream, true, true)
	}
	f.Fuzz(func(t *testing.T, stream string, ftp, bare bool) {
		p := reply.Parser{FTP: ftp, BareCode: bare}
		var heard []string // of this reply
		for line := range strings.SplitAfterSeq(stream, "\r\n") {
			r, err := p.Line([]byte(line))
			if err != nil {
				if p.Begun() {
					t.Fatal("a reply goes on after an error")
				}
				heard = nil
				continue
			}
			heard = append(heard, line)
			if r == nil {
				continue
			}
			check(t, r, heard, ftp, bare)
			heard = nil
		}
	})
}

func check(t *testing.T, r *reply.Reply, heard []string, ftp, bare bool) {
	t.Helper()
	code, i := fmt.Sprint(r.Code), 0
	r.Lines(func(text []byte) {
		line, last := heard[i], i == len(heard)-1
		rest, ok := strings.CutPrefix(line, code)
		switch {
		case ok && bare && last && rest == "\r\n":
			rest = " \r\n"
		case ftp && i > 0 && !last:
			rest, ok = "-"+line, true
		}
		want := "-"
		if last {
			want = " "
		}
		if !ok || rest != want+string(text)+"\r\n" {
			t.Fatalf("%q was taken for line %d of %q: %q", line, i, heard, text)
		}
		i++
	})
	if i != len(heard) {
		t.Fatalf("%d lines of %q", i, heard)
	}
	for _, shown := range []string{r.String(), reply.Quote([]byte(r.Text()))} {
		if bytes.ContainsAny([]byte(shown), "\r\n\x00\x1b\u202e") {
			t.Fatalf("%q is printed", shown)
		}
	}
	if strings.ContainsAny(r.Text(), "\r\x00") || len(r.Text()) > reply.MaxReply {
		t.Fatalf("text %q", r.Text())
	}
}
