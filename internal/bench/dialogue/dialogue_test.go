package dialogue

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// feed gives a framer the stream in pieces of so many bytes, as a socket would, and returns the
// first packet and what of the stream is left.
func feed(next func([]byte, bool) (int, []byte, error), stream []byte, piece int) (packet,
	rest []byte, err error) {
	for have := min(piece, len(stream)); ; have = min(have+piece, len(stream)) {
		advance, packet, err := next(stream[:have], false)
		if packet != nil || err != nil {
			return packet, stream[advance:], err
		}
		if have == len(stream) {
			return nil, stream, nil
		}
	}
}

func TestClientAndServerComeToTLS(t *testing.T) {
	for _, name := range Names() {
		for _, piece := range []int{1, 3, 1 << 20} {
			p, err := Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			client, server := p.Client(), p.Server()
			toClient := bytes.Clone(server.Greeting())
			if (len(toClient) > 0) != p.HasBanner() {
				t.Errorf("%s: HasBanner is %v, the greeting %q", name, p.HasBanner(), toClient)
			}
			upgraded := false
			for turn := 0; !client.Done(); turn++ {
				if turn > 10 {
					t.Fatalf("%s: no end", name)
				}
				if command := client.Command(); command != nil {
					packet, rest, err := feed(server.Next, command, piece)
					if err != nil || len(rest) > 0 {
						t.Fatalf("%s: the server makes %q, rest %q, %v of %q", name, packet, rest,
							err, command)
					}
					reply, action := server.Answer(packet)
					upgraded = action == Upgrade
					toClient = append(toClient, reply...)
				}
				_, rest, err := feed(client.Next, toClient, piece)
				if err != nil {
					t.Fatalf("%s in pieces of %d: %v", name, piece, err)
				}
				toClient = rest
			}
			if len(toClient) > 0 || !upgraded || client.Command() != nil {
				t.Errorf("%s: the client is done, %q is left, the server goes on to TLS: %v", name,
					toClient, upgraded)
			}
			if len(p.Hello()) == 0 {
				t.Errorf("%s has no first command over TLS", name)
			}
		}
	}
}

// what a hostile or broken server says, packet by packet, and what the client is to find.
var servers = []struct {
	name, protocol string
	answers        []string
	want           error // nil: TLS
	rest           string
}{
	{"a banner of several lines", "smtp", []string{"220-a\r\n220-b\r\n220 c\r\n",
		"250-x\r\n250 starttls\r\n", "220 go\r\n"}, nil, ""},
	{"replies without text", "smtp", []string{"220\r\n", "250-x\r\n250 STARTTLS\r\n", "220\r\n"},
		nil, ""},
	{"response injection", "smtp", []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n",
		"220 go\r\n250 AUTH PLAIN\r\n"}, nil, "250 AUTH PLAIN\r\n"},
	{"half an injected line", "smtp", []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n",
		"220 go\r\n250-INJ"}, nil, "250-INJ"},
	{"stripped", "smtp", []string{"220 a\r\n", "250-x\r\n250 AUTH PLAIN\r\n"}, ErrNotOffered, ""},
	{"only the name is STARTTLS", "smtp", []string{"220 a\r\n", "250 STARTTLS\r\n"}, ErrNotOffered,
		""},
	{"something like it", "smtp",
		[]string{"220 a\r\n",
			"250-x\r\n250-XSTARTTLS\r\n250-HELP STARTTLS\r\n250 STARTTLS now\r\n"}, ErrNotOffered, ""},
	{"EHLO is unknown", "smtp", []string{"220 a\r\n", "502 what\r\n"}, ErrNotOffered, ""},
	{"refused", "smtp", []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n", "454 not now\r\n"},
		ErrRefused, ""},
	{"354 do something else", "smtp", []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n",
		"354 go\r\n"}, ErrRefused, ""},
	{"250 instead of 220", "smtp", []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n", "250 go\r\n"},
		ErrRefused, ""},
	{"a reply before the right one", "smtp", []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n",
		"250 SIZE 1\r\n220 go\r\n"}, ErrRefused, ""},
	{"two codes", "smtp", []string{"220-a\r\n250 b\r\n"}, ErrMalformed, ""},
	{"a letter in the code", "smtp", []string{"22O a\r\n"}, ErrMalformed, ""},
	{"not there", "smtp", []string{"554 no\r\n"}, ErrMalformed, ""},
	{"a bare LF", "smtp", []string{"220 a\n"}, ErrMalformed, ""},
	{"a bare CR", "smtp", []string{"220 a\rb\r\n"}, ErrMalformed, ""},
	{"an empty line", "smtp", []string{"\r\n"}, ErrMalformed, ""},
	{"a line without end", "smtp", []string{strings.Repeat("2", maxLine)}, ErrTooLong, ""},
	{"a reply without end", "smtp", []string{strings.Repeat("220-a\r\n", maxLines+1)}, ErrTooLong,
		""},

	{"untagged data between", "imap",
		[]string{"* OK\r\n", "* CAPABILITY IMAP4rev1 starttls\r\n* 3 EXISTS\r\na OK\r\n",
			"* x\r\nb OK go\r\n"}, nil, ""},
	{"PREAUTH", "imap", []string{"* PREAUTH hello\r\n"}, ErrRefused, ""},
	{"BYE", "imap", []string{"* BYE busy\r\n"}, ErrRefused, ""},
	{"a tagged greeting", "imap", []string{"a OK\r\n"}, ErrMalformed, ""},
	{"stripped", "imap", []string{"* OK\r\n", "* CAPABILITY IMAP4rev1\r\na OK\r\n"}, ErrNotOffered,
		""},
	{"no CAPABILITY", "imap", []string{"* OK\r\n", "a BAD\r\n"}, ErrNotOffered, ""},
	{"refused", "imap", []string{"* OK\r\n", "* CAPABILITY STARTTLS\r\na OK\r\n", "b NO\r\n"},
		ErrRefused, ""},
	{"a continuation", "imap", []string{"* OK\r\n", "* CAPABILITY STARTTLS\r\na OK\r\n",
		"+ go on\r\n"}, ErrMalformed, ""},
	{"the answer to something else", "imap",
		[]string{"* OK\r\n", "* CAPABILITY STARTTLS\r\na OK\r\n", "z OK\r\n"}, ErrMalformed, ""},
	{"BYE instead", "imap", []string{"* OK\r\n", "* CAPABILITY STARTTLS\r\na OK\r\n", "* BYE\r\n"},
		ErrRefused, ""},
	{"response injection", "imap", []string{"* OK\r\n", "* CAPABILITY STARTTLS\r\na OK\r\n",
		"b OK\r\n* CAPABILITY AUTH=PLAIN\r\n"}, nil, "* CAPABILITY AUTH=PLAIN\r\n"},

	{"no", "pop3", []string{"+OK\r\n", "-ERR what\r\n"}, ErrRefused, ""},
	{"not there", "pop3", []string{"-ERR busy\r\n"}, ErrMalformed, ""},
	{"another protocol", "pop3", []string{"+OK\r\n", "+OKAY\r\n"}, ErrMalformed, ""},
	{"response injection", "pop3", []string{"+OK\r\n", "+OK\r\n+OK\r\n"}, nil, "+OK\r\n"},

	{"no", "postgres", []string{"N"}, ErrRefused, ""},
	{"an error", "postgres", []string{"E\x00\x00\x00\x10"}, ErrRefused, ""},
	{"something else", "postgres", []string{"H"}, ErrMalformed, ""},
	{"response injection", "postgres", []string{"SX"}, nil, "X"},
}

func TestClientAgainstServers(t *testing.T) {
	for _, s := range servers {
		for _, piece := range []int{1, 1 << 20} {
			p, err := Lookup(s.protocol)
			if err != nil {
				t.Fatal(err)
			}
			client := p.Client()
			var rest []byte
			err = nil
			for _, answer := range s.answers {
				if client.Done() {
					t.Fatalf("%s, %s: done before %q", s.protocol, s.name, answer)
				}
				if _, rest, err = feed(client.Next, []byte(answer), piece); err != nil {
					break
				}
			}
			if !errors.Is(err, s.want) || client.Done() != (s.want == nil) || s.want == nil &&
				string(rest) != s.rest {
				t.Errorf("%s, %s, in pieces of %d: %v, done %v, unread %q; want %v, unread %q",
					s.protocol, s.name, piece, err, client.Done(), rest, s.want, s.rest)
			}
			if _, _, again := client.Next([]byte("220 go\r\n"), false); s.want != nil &&
				!errors.Is(again, s.want) {
				t.Errorf("%s, %s: goes on after its error: %v", s.protocol, s.name, again)
			}
		}
	}
}

func TestServerAgainstClients(t *testing.T) {
	for _, c := range []struct {
		protocol, command, reply string
		action                   Action
	}{
		{"smtp", "noop\r\n", "250 ", Continue},
		{"smtp", "MAIL FROM:<a@b>\r\n", "530 ", Continue},
		{"smtp", "VRFY a\r\n", "502 ", Continue},
		{"smtp", "QUIT\r\n", "221 ", Hangup},
		{"smtp", "starttls\r\n", "220 ", Upgrade},
		{"imap", "7 noop\r\n", "7 OK", Continue},
		{"imap", "7 LOGIN a b\r\n", "7 NO", Continue},
		{"imap", "7 LOGOUT\r\n", "* BYE", Hangup},
		{"imap", "STARTTLS\r\n", "* BAD", Continue},
		{"imap", "* STARTTLS\r\n", "* BAD", Continue},
		{"imap", "x1 starttls\r\n", "x1 OK", Upgrade},
		{"pop3", "CAPA\r\n", "+OK\r\nSTLS", Continue},
		{"pop3", "NOOP\r\n", "+OK", Continue},
		{"pop3", "USER a\r\n", "-ERR", Continue},
		{"pop3", "QUIT\r\n", "+OK", Hangup},
		{"pop3", "STLS\r\n", "+OK", Upgrade},
		{"postgres", postgresRequest(80877104), "N", Continue},
		{"postgres", postgresRequest(80877103), "S", Upgrade},
		{"postgres", postgresRequest(196608), "", Hangup},
	} {
		p, _ := Lookup(c.protocol)
		s := p.Server()
		packet, rest, err := feed(s.Next, []byte(c.command), 1)
		if err != nil || len(rest) > 0 {
			t.Errorf("%s: %q: rest %q, %v", c.protocol, c.command, rest, err)
			continue
		}
		if reply, action := s.Answer(packet); !strings.HasPrefix(string(reply), c.reply) ||
			action != c.action {
			t.Errorf("%s: %q is answered %q, %d; want %q, %d", c.protocol, c.command, reply, action,
				c.reply, c.action)
		}
	}
}

func TestServerLeavesWhatFollowsStartTLSUnread(t *testing.T) {
	p, _ := Lookup("smtp")
	s := p.Server()
	packet, rest, err := feed(s.Next, []byte("STARTTLS\r\nEHLO injected\r\n"), 1<<20)
	if err != nil || string(packet) != "STARTTLS\r\n" || string(rest) != "EHLO injected\r\n" {
		t.Errorf("packet %q, rest %q, %v", packet, rest, err)
	}
}

func TestServerBounds(t *testing.T) {
	p, _ := Lookup("smtp")
	for stream, want := range map[string]error{
		strings.Repeat("x", maxCommand): ErrTooLong,
		"STARTTLS\n":                    ErrMalformed,
		"STARTTLS\rx\r\n":               ErrMalformed,
	} {
		s := p.Server()
		for range 2 { // the error stays
			if _, _, err := s.Next([]byte(stream), false); !errors.Is(err, want) {
				t.Errorf("%.20q: %v, want %v", stream, err, want)
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

func TestLookupNamesWhatThereIs(t *testing.T) {
	if _, err := Lookup("gopher"); err == nil ||
		!strings.Contains(err.Error(), "imap, pop3, postgres, smtp") {
		t.Errorf("error: %v", err)
	}
}

// However the stream is cut, the client comes to the same, and it never takes more than it was
// given.
func FuzzClient(f *testing.F) {
	for _, s := range servers {
		f.Add(s.protocol, []byte(strings.Join(s.answers, "")), uint8(1))
	}
	f.Fuzz(func(t *testing.T, name string, stream []byte, piece uint8) {
		p, err := Lookup(name)
		if err != nil {
			return
		}
		var steps, rests []int
		var errs []bool
		for _, size := range []int{max(1, int(piece)), len(stream) + 1} {
			client, rest := p.Client(), stream
			var err error
			for !client.Done() && err == nil {
				var packet []byte
				before := len(rest)
				if packet, rest, err = feed(client.Next, rest, size); packet == nil {
					break
				}
				if len(packet)+len(rest) != before {
					t.Fatalf("a packet of %d bytes, %d left of %d", len(packet), len(rest), before)
				}
			}
			steps, rests, errs = append(steps, client.step), append(rests, len(rest)),
				append(errs, err != nil)
		}
		if steps[0] != steps[1] || rests[0] != rests[1] || errs[0] != errs[1] {
			t.Errorf("in pieces of %d and whole: steps %v, left %v, failed %v", piece, steps, rests,
				errs)
		}
	})
}

// Whatever a client says, the server's answers end with a line, and are bounded.
func FuzzServer(f *testing.F) {
	f.Add("smtp", []byte("EHLO a\r\nSTARTTLS\r\n"))
	f.Add("imap", []byte("a CAPABILITY\r\nb STARTTLS\r\n"))
	f.Add("pop3", []byte("CAPA\r\nSTLS\r\n"))
	f.Add("postgres", slices.Concat([]byte(postgresRequest(80877104)),
		[]byte(postgresRequest(80877103))))
	f.Fuzz(func(t *testing.T, name string, stream []byte) {
		p, err := Lookup(name)
		if err != nil {
			return
		}
		s := p.Server()
		for range maxCommands + 2 {
			packet, rest, err := feed(s.Next, stream, 7)
			if packet == nil || err != nil {
				return
			}
			reply, action := s.Answer(packet)
			if name != "postgres" && len(reply) > 0 && !bytes.HasSuffix(reply, []byte("\r\n")) ||
				len(reply) > 2*maxCommand {
				t.Fatalf("%q is answered with %q", packet, reply)
			}
			if action != Continue {
				return
			}
			stream = rest
		}
		t.Fatal("a dialogue without end")
	})
}
