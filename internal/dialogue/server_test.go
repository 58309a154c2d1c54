package dialogue

import (
	"errors"
	"strings"
	"testing"
)

func TestAnswersToClients(t *testing.T) {
	for _, c := range []struct {
		protocol        string
		secure          bool
		commands, reply string // of the last command
		action          Action
	}{
		{"smtp", false, "noop\r\n", "250 ", Continue},
		{"smtp", false, "EHLO\r\n", "501 ", Continue},
		{"smtp", false, "EHLO a\r\n", "250-localhost\r\n250-8BITMIME\r\n250 STARTTLS\r\n",
			Continue},
		{"smtp", false, "HELO a\r\n", "250 localhost\r\n", Continue},
		{"smtp", false, "MAIL FROM:<a@b>\r\n", "530 ", Continue},
		{"smtp", false, "AUTH PLAIN x\r\n", "530 ", Continue}, // S5, ST-S-8
		{"smtp", false, "VRFY a\r\n", "502 ", Continue},
		{"smtp", false, "QUIT\r\n", "221 ", Hangup},
		{"smtp", false, "starttls\r\n", "220 ", Upgrade},
		{"smtp", false, "STARTTLS now\r\n", "501 ", Continue},
		{"smtp", true, "MAIL FROM:<a@b>\r\n", "503 ", Continue}, // S4, ST-S-5
		{"smtp", true, "EHLO a\r\n", "250-localhost\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
			Continue},
		{"smtp", true, "EHLO a\r\nMAIL FROM:<a@b>\r\n", "554 ", Continue},
		{"smtp", true, "STARTTLS\r\n", "503 ", Continue}, // C13, ST-S-6
		{"lmtp", false, "LHLO a\r\n", "250-", Continue},
		{"lmtp", false, "EHLO a\r\n", "502 ", Continue},
		{"lmtp", false, "HELO a\r\n", "502 ", Continue},
		{"imap", false, "7 noop\r\n", "7 OK", Continue},
		{"imap", false, "7 LOGIN a b\r\n", "7 NO", Continue},
		{"imap", false, "7 LOGOUT\r\n", "* BYE", Hangup},
		{"imap", false, "STARTTLS\r\n", "* BAD", Continue},
		{"imap", false, "* STARTTLS\r\n", "* BAD", Continue},
		{"imap", false, "x1 STARTTLS x\r\n", "x1 BAD", Continue},
		{"imap", false, "x1 starttls\r\n", "x1 OK", Upgrade},
		{"imap", true, "x1 starttls\r\n", "x1 BAD", Continue},
		{"pop3", false, "CAPA\r\n", "+OK\r\nSTLS", Continue},
		{"pop3", false, "USER a\r\n", "-ERR", Continue},
		{"pop3", false, "QUIT\r\n", "+OK", Hangup},
		{"pop3", false, "STLS\r\n", "+OK", Upgrade},
		{"pop3", true, "STLS\r\n", "-ERR", Continue},
		{"pop3", true, "CAPA\r\n", "+OK\r\nUSER\r\n.\r\n", Continue},
		{"postgres", false, postgresRequest(postgresGSSENC), "N", Continue},
		{"postgres", false, postgresRequest(postgresSSL), "S", Upgrade},
		{"postgres", false, postgresRequest(196608), "", Hangup},
	} {
		p, _ := Lookup(c.protocol)
		for _, piece := range []int{1, 1 << 20} {
			s := p.Server()
			if c.secure {
				s = p.SecureServer()
			}
			var reply []byte
			var action Action
			for rest := []byte(c.commands); len(rest) > 0; {
				packet, after, err := feed(s.Next, rest, piece)
				if err != nil || packet == nil {
					t.Fatalf("%s: %q: %q, %v", c.protocol, c.commands, packet, err)
				}
				reply, action = s.Answer(packet)
				rest = after
			}
			if !strings.HasPrefix(string(reply), c.reply) || action != c.action {
				t.Errorf("%s, TLS %v: %q is answered %q, %d; want %q, %d", c.protocol, c.secure,
					c.commands, reply, action, c.reply, c.action)
			}
		}
	}
}

// S1, S2, ST-S-1, ST-S-2, ST-S-4: there is no TLS behind a command that is there already, nor is
// the command carried out.
func TestPlaintextBehindTheWishForTLS(t *testing.T) {
	for protocol, command := range map[string]string{
		"smtp": "STARTTLS\r\n", "lmtp": "STARTTLS\r\n", "imap": "a STARTTLS\r\n", "pop3": "STLS\r\n",
		"postgres": postgresRequest(postgresSSL),
	} {
		for _, behind := range []string{"EHLO inj\r\n", "RS", "a NOOP\r\n",
			"\x16\x03\x01\x00\x05hello"} {
			p, _ := Lookup(protocol)
			s := p.Server()
			packet, rest, err := feed(s.Next, []byte(command+behind), 1<<20)
			if err != nil || string(packet) != command || string(rest) != behind {
				t.Errorf("%s: packet %q, rest %q, %v", protocol, packet, rest, err)
				continue
			}
			if reply, action := s.Answer(packet); reply != nil || action != Hangup {
				t.Errorf("%s: %q behind %q is answered %q, %d", protocol, behind, command, reply,
					action)
			}
		}
	}
}

func TestServerBounds(t *testing.T) {
	for _, name := range []string{"smtp", "lmtp", "imap", "pop3"} {
		p, _ := Lookup(name)
		for _, stream := range []string{
			strings.Repeat("x",
				maxCommand), "STARTTLS\n", "STARTTLS\nRSET\r\n", "STARTTLS\rx\r\n", "a\x00\r\n",
		} {
			s := p.Server()
			for range 2 { // the error stays
				if _, _, err := s.Next([]byte(stream), false); !errors.Is(err, ErrCommand) {
					t.Errorf("%.20q: %v, want %v", stream, err, ErrCommand)
				}
			}
		}
		s := p.Server()
		for range maxCommands {
			if _, action := s.Answer([]byte("NOOP\r\n")); action != Continue {
				t.Fatal("hangs up early")
			}
		}
		if _, action := s.Answer([]byte("NOOP\r\n")); action != Hangup {
			t.Error("a client may go on without end")
		}
	}
}
