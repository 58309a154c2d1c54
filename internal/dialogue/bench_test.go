package dialogue

import (
	"strings"
	"testing"
)

// BenchmarkClient is the client's side of each dialogue in plaintext, with whole answers.
func BenchmarkClient(b *testing.B) {
	for _, name := range Names() {
		answers := make([][]byte, len(good[name].answers))
		for i, answer := range good[name].answers {
			answers[i] = []byte(answer)
		}
		b.Run(name, func(b *testing.B) {
			p, _ := Lookup(name)
			b.ReportAllocs()
			for b.Loop() {
				c := p.Client(me)
				for _, answer := range answers {
					c.Command()
					if _, _, err := c.Next(answer, false); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkServer is the server's side of SMTP, up to TLS.
func BenchmarkServer(b *testing.B) {
	p, _ := Lookup("smtp")
	commands := strings.SplitAfter("EHLO a\r\nSTARTTLS\r\n", "\r\n")[:2]
	b.ReportAllocs()
	for b.Loop() {
		s := p.Server()
		s.Greeting()
		for _, command := range commands {
			_, line, err := s.Next([]byte(command), false)
			if err != nil {
				b.Fatal(err)
			}
			s.Answer(line)
		}
	}
}
