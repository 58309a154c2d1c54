package engine_test

import (
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// An address that is accepted makes exactly one command.
func FuzzAddress(f *testing.F) {
	for _, address := range []string{"a@b", `"a b"@c`, "a@[IPv6:::1]", "jörg@bücher.test",
		"a@b>\r\nRSET", `"\"@a`, "postmaster"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		e := begin(t, engine.Config{}, "PIPELINING", "SMTPUTF8")
		if e.Mail(&engine.Envelope{From: "a@b", To: []string{address}}) != nil {
			if out := e.Output(); len(out) > 0 {
				t.Fatalf("%q was sent", out)
			}
			return
		}
		out := string(e.Output())
		before, rest, _ := strings.Cut(out, "\r\n")
		if before != "MAIL FROM:<a@b>" && before != "MAIL FROM:<a@b> SMTPUTF8" ||
			rest != "RCPT TO:<"+address+">\r\nDATA\r\n" {
			t.Fatalf("%q", out)
		}
		if strings.ContainsAny(address, "\r\n\x00") {
			t.Fatalf("%q", address)
		}
		// Outside quotes nothing ends the path.
		quoted := false
		for i := 0; i < len(address); i++ {
			switch address[i] {
			case '\\':
				i++
			case '"':
				quoted = !quoted
			case '<', '>', ' ':
				if !quoted {
					t.Fatalf("%q", address)
				}
			}
		}
	})
}

// Whatever a server says, the Engine says nothing that it wasn't meant to, and comes to an end.
func FuzzEngine(f *testing.F) {
	f.Add("220 a\n250-b\n250-PIPELINING\n250 STARTTLS\n220 go\n250 x\n235 in\n"+
		"250 a\n250 b\n550 c\n354 d\n250 e\n", uint8(0))
	f.Add("220 a\n502 b\n250 c\n250 a\n250 b\n250 c\n354 d\n250 e\n", uint8(2))
	f.Add("220 a\n250-b\n250 CHUNKING\n235 in\n250 a\n250 b\n450 c\n250 e\n421 f\n", uint8(1))
	f.Fuzz(func(t *testing.T, script string, mode uint8) {
		lines := strings.SplitAfter(script, "\n")
		e := new(engine.Engine)
		e.Init(&engine.Config{Security: engine.Security(mode % 3), LMTP: mode&4 != 0}, "me.test")
		secure := e.IsSecure()
		run := func() (ok bool) {
			for {
				for line := range strings.SplitSeq(string(e.Output()), "\r\n") {
					verb, _, _ := strings.Cut(line, " ")
					if line != "" && !secure && mode%3 == uint8(engine.Mandatory) &&
						!strings.Contains(" EHLO LHLO STARTTLS ", " "+verb+" ") {
						t.Fatalf("%q in plaintext", line)
					}
				}
				switch e.Next() {
				case engine.Done:
					return !e.Broken()
				case engine.Secure:
					secure = true
					e.Secured()
				case engine.Content:
					if e.Chunked() {
						e.Chunk(1, len(lines)%2 == 0)
					} else {
						e.ContentSent()
					}
				case engine.Receive:
					if len(lines) == 0 {
						return false
					}
					line := strings.TrimSuffix(lines[0], "\n") + "\r\n"
					lines = lines[1:]
					if e.Line([]byte(line)) != nil && e.Next() != engine.Done {
						t.Fatal("it goes on after an error")
					}
				}
			}
		}
		e.Begin()
		if !run() {
			return
		}
		if e.Auth(&words{proven: true}) == nil && !run() {
			return
		}
		for range 3 {
			if e.Mail(&engine.Envelope{To: []string{"a", "b"},
				Chunked: e.Offers().Chunking}) != nil || !run() {
				return
			}
			refused, err := len(e.Refused()), e.Outcome()
			if refused > 2 || err == nil && !e.ContentBegun() {
				t.Fatalf("%d refused of 2, %v", refused, err)
			}
			if err != nil && reply.Printable(err.Error()) != err.Error() {
				t.Fatalf("%q", err)
			}
		}
	})
}
