package dialogue

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// However the stream is cut, the client comes to the same, it never takes more than it was given,
// and it doesn't begin TLS in front of something.
func FuzzClient(f *testing.F) {
	for name, g := range good {
		f.Add(name, false, []byte(strings.Join(g.answers, "")), uint8(1))
		f.Add(name, true, []byte(strings.Join(g.secure, "")), uint8(2))
	}
	for _, h := range hostiles {
		if stream := strings.Join(h.answers, ""); len(stream) < 1000 {
			f.Add(h.protocol, false, []byte(stream), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, name string, secure bool, stream []byte, piece uint8) {
		p, err := Lookup(name)
		if err != nil {
			return
		}
		type outcome struct {
			steps, left int
			failed      bool
			list        string
		}
		var outcomes []outcome
		for _, size := range []int{max(1, int(piece)), 1} {
			c := p.Client(me)
			if secure {
				c = p.Secure(me)
			}
			rest := stream
			var err error
			for !c.Done() && err == nil {
				if c.Command(); c.Done() {
					break
				}
				var packet []byte
				before := len(rest)
				// What is at hand ends with the answer, so that both have the same behind it.
				packet, rest, err = feed(c.Next, rest, size)
				if err != nil || packet == nil {
					break
				}
				if len(packet)+len(rest) != before || len(packet) > maxAnswer {
					t.Fatalf("a packet of %d bytes, %d left of %d", len(packet), len(rest), before)
				}
				err = c.Unasked(rest)
			}
			if err == nil && c.Done() && !secure && len(rest) > 0 {
				t.Fatalf("TLS begins in front of %q", rest)
			}
			if err != nil {
				rest = nil // of which one has seen more than the other
			}
			outcomes = append(outcomes, outcome{c.step, len(rest), err != nil,
				strings.Join(c.List(), "\n")})
		}
		if outcomes[0] != outcomes[1] {
			t.Errorf("in pieces of %d and of 1: %+v", piece, outcomes)
		}
	})
}

// Whatever a client says, the server's answers end with a line, and are bounded.
func FuzzServer(f *testing.F) {
	f.Add("smtp", false, []byte("EHLO a\r\nSTARTTLS\r\n"))
	f.Add("lmtp", true, []byte("LHLO a\r\nMAIL FROM:<>\r\n"))
	f.Add("imap", false, []byte("a CAPABILITY\r\nb STARTTLS\r\n"))
	f.Add("pop3", false, []byte("CAPA\r\nSTLS\r\n"))
	f.Add("postgres", false, slices.Concat([]byte(postgresRequest(postgresGSSENC)),
		[]byte(postgresRequest(postgresSSL))))
	f.Fuzz(func(t *testing.T, name string, secure bool, stream []byte) {
		p, err := Lookup(name)
		if err != nil || p.server == nil {
			return
		}
		s := p.Server()
		if secure {
			s = p.SecureServer()
		}
		for range maxCommands + 2 {
			packet, rest, err := feed(s.Next, stream, 7)
			if packet == nil || err != nil {
				return
			}
			reply, action := s.Answer(packet)
			if name != "postgres" && len(reply) > 0 && !bytes.HasSuffix(reply, []byte("\r\n")) ||
				len(reply) > 2*maxCommand || secure && action == Upgrade && name != "postgres" {
				t.Fatalf("%q is answered with %q, %d", packet, reply, action)
			}
			if action != Continue {
				return
			}
			stream = rest
		}
		t.Fatal("a dialogue without end")
	})
}
