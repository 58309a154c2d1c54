//go:build linux

package starttls_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/starttls"
)

// converse is the server's side of package dialogue on a script, up to TLS and as far over it as a
// client asks. It ends with "end\r\n".
func converse(s *script, p *dialogue.Protocol) {
	for _, talk := range []*dialogue.Server{p.Server(), p.SecureServer()} {
		s.say(string(talk.Greeting()))
		var unread []byte
		for upgraded := false; !upgraded; {
			_, command, err := talk.Next(unread, false)
			if err != nil {
				s.t.Errorf("the server doesn't understand %q: %v", unread, err)
				return
			}
			if command == nil {
				one := make([]byte, 1)
				if _, err := s.Read(one); err != nil {
					return
				}
				if unread = append(unread, one...); string(unread) == "end\r\n" {
					return
				}
				continue
			}
			reply, action := talk.Answer(command)
			s.say(string(reply))
			unread = nil
			if upgraded = action == dialogue.Upgrade; upgraded {
				s.secure(serverTLS(s.t))
			}
		}
	}
}

// The protocols whose server is in package dialogue, with clients of all kinds of framing, which is
// theirs again afterwards.
func TestUpgradeAndWhatFollows(t *testing.T) {
	for protocol, want := range map[starttls.Protocol][]string{
		starttls.SMTP: {"8BITMIME", "AUTH PLAIN"}, starttls.LMTP: {"8BITMIME", "AUTH PLAIN"},
		starttls.IMAP: {"IMAP4rev1", "AUTH=PLAIN"}, starttls.POP3: {"USER"}, starttls.Postgres: nil,
	} {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprint(protocol, " byte by byte: ", single), func(t *testing.T) {
				both(t, func(ctx context.Context, t *testing.T) {
					p, err := dialogue.Lookup(string(protocol))
					check(t, err)
					s := serve(t, single, func(s *script) {
						converse(s, p)
						s.say("well done\r\nand on\r\n")
					})
					c := dial(ctx, t, config(), s.address)
					session, err := starttls.Upgrade(ctx, c, protocol, starttls.Options{})
					check(t, err)
					if !slices.Equal(session.Capabilities, want) || session.Greeting != nil {
						t.Errorf("session: %q, want %q", session, want)
					}
					if _, secure := c.ConnectionState(); !secure {
						t.Error("there is no TLS")
					}
					if protocol != starttls.Postgres {
						_, err = c.Send(ctx, []byte("end\r\n"))
						check(t, err)
						for _, want := range []string{"well done\r\n", "and on\r\n"} {
							if line, err := c.Recv(ctx); err != nil || string(line) != want {
								t.Errorf("received %q, %v; want %q", line, err, want)
							}
						}
					}
					_, err = starttls.Upgrade(ctx, c, protocol, starttls.Options{})
					wantError(t, "a second Upgrade", err, socket.ErrSSLActive) // C13
					if !c.Connected() {
						t.Error("the connection is closed by it")
					}
				})
			})
		}
	}
}

// A plain is a dialogue as its server sees it: what it says, and what it hears behind that.
type plain struct {
	protocol          starttls.Protocol
	answers, commands []string
	after             []string // the same over TLS
	asked             []string
	list              []string
}

const (
	xmppOffer = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' " +
		"xmlns:stream='http://etherx.jabber.org/streams'><stream:features><starttls " +
		"xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
	xmppProceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
	xmppWish    = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
	ldapWish    = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
	ldapYes     = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
	mysqlBody   = "\x0a8.0\x00\x07\x00\x00\x00scramble\x00\xff\xff\x21\x02\x00\xff\xdf\x15\x00\x00"
	mysqlHello  = "\x1c\x00\x00\x00" + mysqlBody
)

var mysqlWish = "\x20\x00\x00\x01\x05\xaa\x08\x00\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23)

func xmppHeader(space, domain string) string {
	return "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' " +
		"xmlns='" + space + "' to='" + domain + "' version='1.0'>"
}

var plains = []plain{
	{starttls.SMTP, []string{"220 a\r\n",
		"250-a\r\n250-AUTH PLAIN\r\n250-SIZE 10\r\n250 STARTTLS\r\n", "220 go\r\n"},
		[]string{"EHLO [127.0.0.1]\r\n", "STARTTLS\r\n"},
		[]string{"", "250-a\r\n250-STARTTLS\r\n250 SIZE 99\r\n"}, []string{"EHLO [127.0.0.1]\r\n"},
		[]string{"STARTTLS", "SIZE 99"}},
	{starttls.LMTP, []string{"220 a\r\n", "250-a\r\n250 STARTTLS\r\n", "220 go\r\n"},
		[]string{"LHLO [127.0.0.1]\r\n", "STARTTLS\r\n"},
		[]string{"", "250 a\r\n"}, []string{"LHLO [127.0.0.1]\r\n"}, nil},
	{starttls.POP3, []string{"+OK\r\n", "+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n", "+OK\r\n"},
		[]string{"CAPA\r\n", "STLS\r\n"},
		[]string{"", "+OK\r\nTOP\r\n.\r\n"}, []string{"CAPA\r\n"}, []string{"TOP"}},
	{starttls.IMAP, []string{"* OK\r\n", "* CAPABILITY IMAP4rev1 AUTH=LOGIN STARTTLS\r\na OK\r\n",
		"b OK\r\n"},
		[]string{"a CAPABILITY\r\n", "b STARTTLS\r\n"},
		[]string{"", "* CAPABILITY IMAP4rev1\r\nc OK\r\n"}, []string{"c CAPABILITY\r\n"},
		[]string{"IMAP4rev1"}},
	{starttls.Sieve, []string{"\"SASL\" \"PLAIN\"\r\n\"STARTTLS\"\r\nOK\r\n", "OK\r\n"},
		[]string{"STARTTLS\r\n"},
		[]string{"\"SASL\" \"SCRAM-SHA-1\"\r\nOK\r\n"}, nil, []string{"\"SASL\" \"SCRAM-SHA-1\""}},
	{starttls.FTP, []string{"220 a\r\n", "234 go\r\n"}, []string{"AUTH TLS\r\n"},
		[]string{"", "200 ok\r\n", "200 ok\r\n"}, []string{"PBSZ 0\r\n", "PROT P\r\n"}, nil},
	{starttls.NNTP, []string{"200 a\r\n", "101 a\r\nSTARTTLS\r\n.\r\n", "382 go\r\n"},
		[]string{"CAPABILITIES\r\n", "STARTTLS\r\n"},
		[]string{"", "101 a\r\nREADER\r\n.\r\n"}, []string{"CAPABILITIES\r\n"}, []string{"READER"}},
	{starttls.XMPPClient, []string{"", xmppOffer, xmppProceed},
		[]string{xmppHeader("jabber:client", "127.0.0.1"), xmppWish}, nil, nil, nil},
	{starttls.XMPPServer, []string{"", xmppOffer, xmppProceed},
		[]string{xmppHeader("jabber:server", "127.0.0.1"), xmppWish}, nil, nil, nil},
	{starttls.IRC, []string{":a NOTICE * :hi\r\n", ":a 670 * :go\r\n"}, []string{"STARTTLS\r\n"},
		nil, nil, nil},
	{starttls.LDAP, []string{"", ldapYes}, []string{ldapWish}, nil, nil, nil},
	{starttls.Postgres, []string{"", "S"}, []string{"\x00\x00\x00\x08\x04\xd2\x16\x2f"}, nil, nil,
		nil},
	{starttls.MySQL, []string{mysqlHello, ""}, []string{mysqlWish}, nil, nil, nil},
}

// start has the dialogue in plaintext, but for the last answers.
func (p *plain) start(s *script, drop int) {
	s.dialogue(p.commands, p.answers[:len(p.answers)-drop]...)
}

// play has all of the dialogue.
func (p *plain) play(s *script) {
	p.start(s, 0)
	s.secure(serverTLS(s.t))
	s.dialogue(p.asked, p.after...)
}

func TestUpgradeOfEachProtocol(t *testing.T) {
	if len(plains) != len(dialogue.Names()) {
		t.Errorf("%d of %d protocols have a test", len(plains), len(dialogue.Names()))
	}
	for _, p := range plains {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprint(p.protocol, " byte by byte: ", single), func(t *testing.T) {
				coroutine(t, func(ctx context.Context, t *testing.T) {
					s := serve(t, single, func(s *script) {
						p.play(s)
						s.hear("more\r\n")
						s.say("well done")
					})
					cfg := config()
					cfg.EOF, cfg.Length = "", packet.LengthField{Func: func([]byte) (int,
						error) {
						return len("well done"), nil
					}}
					c := dial(ctx, t, cfg, s.address)
					session, err := starttls.Upgrade(ctx, c, p.protocol, starttls.Options{})
					check(t, err)
					if !slices.Equal(session.Capabilities, p.list) { // C7, N8, N10
						t.Errorf("capabilities: %q, want %q", session.Capabilities, p.list)
					}
					if p.protocol == starttls.MySQL && string(session.Greeting) != mysqlBody {
						t.Errorf("greeting: %q, want %q", session.Greeting, mysqlBody)
					}
					_, err = c.Send(ctx, []byte("more\r\n"))
					check(t, err)
					if p, err := c.Recv(ctx); err != nil || string(p) != "well done" {
						t.Errorf("received %q, %v", p, err)
					}
					c.Close()
					if got, want := s.plaintext(ctx), strings.Join(p.commands, ""); got != want {
						t.Errorf("in plaintext the client said %q, want %q", got, want)
					}
				})
			})
		}
	}
}

func TestNamesComeFromTheProgram(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, false, func(s *script) {
			s.say("220 evil.test\r\n")
			s.hear("EHLO me.example\r\n")
			s.say("250-evil.test\r\n250 STARTTLS\r\n")
			s.hear("STARTTLS\r\n")
			s.say("220 go\r\n")
			s.secure(serverTLS(s.t))
			s.hear("EHLO me.example\r\n")
			s.say("250 evil.test\r\n")
		})
		c := dial(ctx, t, config(), s.address)
		_, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{Name: "me.example"})
		check(t, err)
	})
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, false, func(s *script) {
			s.hear(xmppHeader("jabber:client", "bücher.example"))
			s.say(xmppOffer)
			s.hear(xmppWish)
			s.say(xmppProceed)
			s.secure(serverTLS(s.t, "xn--bcher-kva.example"))
		})
		cfg := config()
		cfg.TLS.ServerName = "bücher.example"
		c := dial(ctx, t, cfg, s.address)
		_, err := starttls.Upgrade(ctx, c, starttls.XMPPClient,
			starttls.Options{Domain: "bücher.example"})
		check(t, err)
	})
}

// ST-C-I1: nothing is sent, and the connection is as it was.
func TestOptionsThatMakeNoSense(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, false, func(s *script) {})
		c := dial(ctx, t, config(), s.address)
		for _, o := range []starttls.Options{
			{Name: "a\r\nMAIL FROM:<x@y>"}, {Name: "a b"}, {Name: "a\x00"}, {Name: "ä"}, {Name: "<a>"},
			{Name: strings.Repeat("a", 256)},
			{Domain: "a.test"}, {Domain: "127.0.0.1'/><x a='"}, {Domain: "a\nb"},
		} {
			if _, err := starttls.Upgrade(ctx, c, starttls.XMPPClient,
				o); err == nil || !strings.Contains(err.Error(), "Options: ") {
				t.Errorf("%+v: %v", o, err)
			}
		}
		if _, err := starttls.Upgrade(ctx, c, "gopher", starttls.Options{}); err == nil {
			t.Error("gopher is upgraded")
		}
		if !c.Connected() {
			t.Error("the connection is closed")
		}
		c.Close()
		_, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{})
		wantError(t, "after Close", err, socket.ErrNotConnected)
		if said := s.plaintext(ctx); said != "" {
			t.Errorf("the client said %q", said)
		}
	})
}

// C8, C9 and the cases L, M and "UI spoofing": what an IMAP server says of itself before TLS leaves
// no trace.
func TestWordsBeforeTLSLeaveNoTrace(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, false, func(s *script) {
			s.say("* OK [ALERT] go to http://evil.test/\r\n* OK [REFERRAL imap://evil.test/] x\r\n")
			s.hear("a CAPABILITY\r\n")
			s.say("* NO [BADCHARSET] x\r\n* BAD [PARSE] x\r\n" +
				"* CAPABILITY IMAP4rev1 LOGIN-REFERRALS AUTH=LOGIN STARTTLS\r\na OK [ALERT] x\r\n")
			s.hear("b STARTTLS\r\n")
			s.say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] x\r\nb OK [ALERT] call 555-1234\r\n")
			s.secure(serverTLS(s.t))
			s.hear("c CAPABILITY\r\n")
			s.say("* CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256\r\nc OK done\r\n")
		})
		c := dial(ctx, t, config(), s.address)
		session, err := starttls.Upgrade(ctx, c, starttls.IMAP, starttls.Options{})
		check(t, err)
		if want := []string{"IMAP4rev1", "AUTH=SCRAM-SHA-256"}; !slices.Equal(session.Capabilities, want) {
			t.Errorf("capabilities: %q, want %q", session.Capabilities, want)
		}
	})
}

func TestTraceSeesTheDialogue(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		s := serve(t, true, func(s *script) { plains[2].play(s) })
		c := dial(ctx, t, config(), s.address)
		var seen strings.Builder
		_, err := starttls.Upgrade(ctx, c, starttls.POP3, starttls.Options{
			Trace: func(in starttls.Phase, sent bool, text []byte) {
				fmt.Fprintf(&seen, "%s %v %s",
					in, sent, text)
			}})
		check(t, err)
		want := "greeting false +OK\r\n" +
			"capabilities true CAPA\r\ncapabilities false +OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n" +
			"starttls true STLS\r\nstarttls false +OK\r\n" +
			"session over TLS true CAPA\r\nsession over TLS false +OK\r\nTOP\r\n.\r\n"
		if seen.String() != want {
			t.Errorf("seen:\n%s\nwant:\n%s", &seen, want)
		}
	})
}

func TestProtocolsAreKnownByName(t *testing.T) {
	for _, name := range dialogue.Names() {
		p, err := starttls.ParseProtocol(name)
		if err != nil || string(p) != name || p.Port() == 0 {
			t.Errorf("%s: %q, port %d, %v", name, p, p.Port(), err)
		}
	}
	if _, err := starttls.ParseProtocol("gopher"); err == nil || !strings.Contains(err.Error(),
		"xmpp-server") {
		t.Errorf("error: %v", err)
	}
	if p := starttls.Sieve; p.Port() != 4190 || p.TLSPort() != 0 || p.ALPN() != "managesieve" {
		t.Errorf("%s: %d, %d, %q", p, p.Port(), p.TLSPort(), p.ALPN())
	}
	if p := starttls.Protocol("x"); p.Port() != 0 || p.TLSPort() != 0 || p.ALPN() != "" {
		t.Error("an unknown protocol has ports")
	}
}

// While others use the connection it stays as it is.
func TestUpgradeOfAConnectionInUse(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		goOn := make(chan struct{})
		s := serve(t, false, func(s *script) {
			<-goOn
			s.say("hello\r\n")
			io.Copy(io.Discard, s)
		})
		c := dial(ctx, t, config(), s.address)
		wait := runtimetest.Beside(ctx, t, func(ctx context.Context) error { // which begins at once
			line, err := c.Recv(ctx)
			if string(line) != "hello\r\n" {
				t.Errorf("received %q", line)
			}
			return err
		})
		_, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{})
		wantError(t, "Upgrade", err, socket.ErrBusy)
		close(goOn)
		check(t, wait())
	})
}
