//go:build unix

package main

import (
	"strings"
	"testing"
)

// Each dialogue is of commands and the codes of their replies.
func TestDialogues(t *testing.T) {
	for _, test := range []struct {
		name   string
		secure bool
		lines  []string
	}{
		{"plaintext", false, []string{
			"NOOP 250", "STARTTLS now 501", "EHLO 501", "EHLO client 250",
			"MAIL FROM:<a@b> 530", "RCPT TO:<a@b> 530", "DATA 530", "AUTH PLAIN AGEAYg== 530", "VRFY a 530", "RSET 250", "STARTTLS 220",
		}},
		{"STARTTLS without EHLO, in small letters", false, []string{"starttls 220"}},
		{"TLS", true, []string{
			"MAIL FROM:<a@b> 503", "AUTH PLAIN AGEAYg== 503", "HELO 501", "EHLO client 250", "STARTTLS 503",
			"RCPT TO:<a@b> 503", "DATA 503", "mail from:<a@b> 250", "MAIL FROM:<a@b> 503", "RCPT TO:<a@b> 550", "DATA 503",
		}},
		{"RSET forgets the sender", true, []string{"HELO client 250", "MAIL FROM:<a@b> 250", "RSET 250", "RCPT TO:<a@b> 503", "MAIL FROM:<a@b> 250", "QUIT 221"}},
		{"EHLO forgets the sender", true, []string{"EHLO client 250", "MAIL FROM:<a@b> 250", "EHLO client 250", "RCPT TO:<a@b> 503"}},
		{"unknown commands", true, []string{"EHLO client 250", "AUTH PLAIN AGEAYg== 500", " 500", "\xff\xfe 500"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &session{secure: test.secure}
			for _, line := range test.lines {
				i := strings.LastIndex(line, " ")
				command, code := line[:i], line[i+1:]
				reply, then := s.command(command)
				want := goOn
				switch code {
				case "220":
					want = startTLS
				case "221":
					want = hangUp
				}
				if !strings.HasPrefix(reply, code) || then != want {
					t.Errorf("%q: %q, %v; want %s, %v", command, reply, then, code, want)
				}
			}
		})
	}
}

func TestSTARTTLSIsOfferedInPlaintextOnly(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := &session{secure: secure}
		if reply, _ := s.command("EHLO client"); strings.Contains(reply, "STARTTLS") == secure {
			t.Errorf("over TLS: %v: %q", secure, reply)
		}
	}
}

func TestControlCharactersAreRefused(t *testing.T) {
	for _, line := range []string{"STARTTLS\nRSET", "EHLO a\rb", "EHLO \x00", "\n", "NOOP \x1b[2J"} {
		if reply, then := new(session).command(line); !strings.HasPrefix(reply, "500 ") || then != hangUp {
			t.Errorf("%q: %q, %v", line, reply, then)
		}
	}
}

func TestAClientThatGuessesIsLeft(t *testing.T) {
	s := new(session)
	for range maxErrors - 1 {
		if reply, then := s.command("AUTH PLAIN AGEAYg=="); then != goOn {
			t.Fatalf("%q, %v", reply, then)
		}
	}
	if reply, then := s.command("AUTH PLAIN AGEAYg=="); !strings.HasPrefix(reply, "421 ") || then != hangUp {
		t.Errorf("%q, %v", reply, then)
	}
}
