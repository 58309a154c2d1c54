package dialogue

import (
	"bytes"
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

var me = &Params{Name: "me.test", Domain: "xmpp.test"}

// play has a client hear the answers, each after its command, in pieces of so many bytes. Before
// each command, and at the end, the client is shown what is left, as a socket shows it.
func play(c *Client, answers []string, piece int) (sent []string, left string, err error) {
	for _, answer := range answers {
		if c.Done() {
			return sent, left + answer, nil
		}
		if command := c.Command(); command != nil {
			sent = append(sent, string(command))
		}
		packet, rest, err := feed(c.Next, []byte(left+answer), piece)
		if err != nil {
			return sent, string(rest), err
		}
		if left = string(rest); packet == nil {
			continue // the rest is to come
		}
		if err := c.Unasked(rest); err != nil {
			return sent, left, err
		}
	}
	if command := c.Command(); command != nil {
		sent = append(sent, string(command))
	}
	return sent, left, nil
}

const ldapYes = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"

// ldapSays is an ExtendedResponse with a code and a text.
func ldapSays(number, code byte, text string) string {
	body := "\x0a\x01" + string(code) + "\x04\x00\x04" + string(rune(len(text))) + text
	return "\x30" + string(rune(len(body)+5)) + "\x02\x01" + string(number) + "\x78" +
		string(rune(len(body))) + body
}

// mysqlHello is a server's handshake that has these abilities.
func mysqlHello(able uint16) string {
	body := "\x0a" + "8.0.36\x00" + "\x07\x00\x00\x00" + "scramble" + "\x00" +
		string([]byte{byte(able), byte(able >> 8)}) + "\x21\x02\x00\xff\xdf\x15" +
		strings.Repeat("\x00", 10) + "morescramble\x00" + "caching_sha2_password\x00"
	return mysqlPacket(0, body)
}

const (
	xmppOpen = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>"
	xmppOffer = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/>" +
		"</starttls><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN" +
		"</mechanism></mechanisms></stream:features>"
	xmppYes = `<proceed xmlns="urn:ietf:params:xml:ns:xmpp-tls"/>`
)

func xmppAsks(space string) []string {
	return []string{"<?xml version='1.0'?><stream:stream " +
		"xmlns:stream='http://etherx.jabber.org/streams' " +
		"xmlns='" + space + "' to='xmpp.test' version='1.0'>",
		"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"}
}

// How each protocol goes when all is well, byte by byte.
var good = map[string]struct {
	answers, sent []string // in plaintext
	secure, asked []string // over TLS
	list          []string
}{
	"smtp": {
		answers: []string{"220-a\r\n220 b\r\n", "250-x\r\n250-AUTH PLAIN\r\n250 starttls\r\n",
			"220-go\r\n220 on\r\n"},
		sent:   []string{"EHLO me.test\r\n", "STARTTLS\r\n"},
		secure: []string{"250-x\r\n250-STARTTLS\r\n250-SIZE 99\r\n250 AUTH SCRAM-SHA-256\r\n"},
		asked:  []string{"EHLO me.test\r\n"},
		list:   []string{"STARTTLS", "SIZE 99", "AUTH SCRAM-SHA-256"},
	},
	"lmtp": {
		answers: []string{"220 b\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\n"},
		sent:    []string{"LHLO me.test\r\n", "STARTTLS\r\n"},
		secure:  []string{"250 x\r\n"},
		asked:   []string{"LHLO me.test\r\n"},
	},
	"pop3": {
		answers: []string{"+OK <1@x>\r\n", "+OK\r\nUSER\r\nSTLS\r\nSASL PLAIN\r\n.\r\n",
			"+OK go\r\n"},
		sent:   []string{"CAPA\r\n", "STLS\r\n"},
		secure: []string{"+OK list\r\nSASL SCRAM-SHA-1\r\n.\r\n"},
		asked:  []string{"CAPA\r\n"},
		list:   []string{"SASL SCRAM-SHA-1"},
	},
	"imap": {
		answers: []string{"* OK hi\r\n* OK still here\r\n",
			"* CAPABILITY IMAP4rev1 starttls AUTH=PLAIN\r\na OK\r\n", "* OK x\r\nb OK go\r\n"},
		sent:   []string{"a CAPABILITY\r\n", "b STARTTLS\r\n"},
		secure: []string{"* CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-1\r\nc OK done\r\n"},
		asked:  []string{"c CAPABILITY\r\n"},
		list:   []string{"IMAP4rev1", "AUTH=SCRAM-SHA-1"},
	},
	"sieve": {
		answers: []string{"\"IMPLEMENTATION\" \"x\"\r\n\"starttls\"\r\nOK \"hi\"\r\n", "OK\r\n"},
		sent:    []string{"STARTTLS\r\n"},
		secure:  []string{"\"SASL\" \"PLAIN\"\r\nok (TAG \"x\") \"hi\"\r\n"},
		list:    []string{"\"SASL\" \"PLAIN\""},
	},
	"ftp": {
		answers: []string{"220-hi\r\n 220 not yet\r\n\r\n220 hi\r\n", "234 go\r\n"},
		sent:    []string{"AUTH TLS\r\n"},
		secure:  []string{"200 ok\r\n", "200 ok\r\n"},
		asked:   []string{"PBSZ 0\r\n", "PROT P\r\n"},
	},
	"nntp": {
		answers: []string{"201 hi\r\n", "101 list\r\nVERSION 2\r\nSTARTTLS\r\n.\r\n", "382 go\r\n"},
		sent:    []string{"CAPABILITIES\r\n", "STARTTLS\r\n"},
		secure:  []string{"101 list\r\nVERSION 2\r\nAUTHINFO USER\r\n.\r\n"},
		asked:   []string{"CAPABILITIES\r\n"},
		list:    []string{"VERSION 2", "AUTHINFO USER"},
	},
	"xmpp-client": {
		answers: []string{xmppOpen + "\n" + xmppOffer, xmppYes},
		sent:    xmppAsks("jabber:client"),
	},
	"xmpp-server": {
		answers: []string{strings.ReplaceAll(xmppOpen, "client", "server") + xmppOffer, xmppYes},
		sent:    xmppAsks("jabber:server"),
	},
	"irc": {
		answers: []string{":irc.test NOTICE * :*** looking up\r\n:irc.test 670 * :go\r\n"},
		sent:    []string{"STARTTLS\r\n"},
	},
	"ldap": {
		answers: []string{ldapYes},
		sent:    []string{"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"},
	},
	"postgres": {
		answers: []string{"S"},
		sent:    []string{"\x00\x00\x00\x08\x04\xd2\x16\x2f"},
	},
	"mysql": {
		answers: []string{mysqlHello(0xffff)},
		sent: []string{"\x20\x00\x00\x01\x05\xaa\x08\x00\x00\x00\x00\x01\x21" +
			strings.Repeat("\x00", 23)},
	},
}

func TestEachProtocolComesToTLS(t *testing.T) {
	for _, name := range Names() {
		p, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		g, ok := good[name]
		if !ok {
			t.Errorf("%s has no test", name)
			continue
		}
		if p.HasBanner() != (len(g.answers) > len(g.sent) || name == "mysql") {
			t.Errorf("%s: HasBanner is %v", name, p.HasBanner())
		}
		for _, piece := range []int{1, 3, 1 << 20} {
			c := p.Client(me)
			sent, left, err := play(c, g.answers, piece)
			if err != nil || !c.Done() || left != "" || !slices.Equal(sent, g.sent) {
				t.Errorf("%s in pieces of %d: done %v, left %q, %v; sent %q, want %q", name, piece,
					c.Done(), left, err, sent, g.sent)
			}
			if c.Command() != nil || c.List() != nil {
				t.Errorf("%s: after the end it says %q and knows %q", name, c.Command(), c.List())
			}
			c = p.Secure(me)
			asked, left, err := play(c, g.secure, piece)
			if err != nil || !c.Done() || left != "" || !slices.Equal(asked, g.asked) ||
				!slices.Equal(c.List(), g.list) {
				t.Errorf("%s over TLS in pieces of %d: done %v, left %q, %v; sent %q, want %q; "+
					"list %q, want %q",
					name, piece, c.Done(), left, err, asked, g.asked, c.List(), g.list)
			}
		}
		if hello := p.Hello(me); (len(hello) == 0) != (name == "sieve") {
			t.Errorf("%s begins with %q over TLS", name, hello)
		}
	}
}

// The two sides here understand each other, in plaintext and over TLS.
func TestClientAndServer(t *testing.T) {
	for _, name := range ServerNames() {
		for _, piece := range []int{1, 3, 1 << 20} {
			p, err := Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, sides := range []struct {
				client *Client
				server *Server
				want   Action
			}{{p.Client(me), p.Server(), Upgrade}, {p.Secure(me), p.SecureServer(), Continue}} {
				client, server := sides.client, sides.server
				toClient, last := bytes.Clone(server.Greeting()), Continue
				for turn := 0; !client.Done(); turn++ {
					if turn > 10 {
						t.Fatalf("%s: no end", name)
					}
					if command := client.Command(); command != nil {
						packet, rest, err := feed(server.Next, command, piece)
						if err != nil || len(rest) > 0 {
							t.Fatalf("%s: the server makes %q, rest %q, %v of %q", name, packet,
								rest, err, command)
						}
						var reply []byte
						reply, last = server.Answer(packet)
						toClient = append(toClient, reply...)
					}
					_, rest, err := feed(client.Next, toClient, piece)
					if err != nil {
						t.Fatalf("%s in pieces of %d: %v", name, piece, err)
					}
					toClient = rest
				}
				if len(toClient) > 0 || last != sides.want {
					t.Errorf("%s: %q is left, the server's last action is %d, want %d", name,
						toClient, last, sides.want)
				}
			}
		}
	}
}

func TestLookupNamesWhatThereIs(t *testing.T) {
	if _, err := Lookup("gopher"); err == nil ||
		!strings.Contains(err.Error(), "ftp, imap, irc, ldap, lmtp, mysql, nntp, pop3, postgres") {
		t.Errorf("error: %v", err)
	}
}
