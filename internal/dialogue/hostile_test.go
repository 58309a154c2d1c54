package dialogue

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// upTo returns the answers of a protocol when all is well, but for the last ones, in place of which
// there are others.
func upTo(protocol string, drop int, others ...string) []string {
	answers := good[protocol].answers
	return append(answers[:len(answers)-drop:len(answers)-drop], others...)
}

type hostile struct {
	name, protocol string
	answers        []string
	want           error
	phase          Phase
	code           int
}

// What a hostile or broken server says, and what the client is to make of it.
var hostiles = []hostile{
	{"B1 replies behind the 220", "smtp", upTo("smtp", 1, "220 go\r\n250-x\r\n250 AUTH LOGIN\r\n"),
		ErrInjected, StartTLS, 0},
	{"B2 half a line behind it", "smtp", upTo("smtp", 1, "220 go\r\n250-INJ"), ErrInjected,
		StartTLS, 0},
	{"B4 a reply before it", "smtp", upTo("smtp", 1, "250 SIZE 1\r\n220 go\r\n"), ErrProtocol,
		StartTLS, 250},
	{"B4 it comes before the question", "smtp", upTo("smtp", 2,
		"250-x\r\n250 STARTTLS\r\n220 go\r\n"), ErrProtocol, StartTLS, 0},
	{"the offer comes before the question", "smtp", []string{"220 a\r\n250-x\r\n250 STARTTLS\r\n"},
		ErrProtocol, Capabilities, 0},
	{"B6 421 behind it", "smtp", upTo("smtp", 1, "220 go\r\n421 bye\r\n"), ErrInjected, StartTLS,
		0},
	{"B7 an alert behind it", "smtp", upTo("smtp", 1, "220 go\r\n\x15\x03\x03\x00\x02\x02\x28"),
		ErrInjected, StartTLS, 0},
	{"B8 much behind it", "smtp", upTo("smtp", 1, "220 go\r\n"+strings.Repeat("250 x\r\n", 9000)),
		ErrInjected, StartTLS, 0},
	{"B9 a bare LF", "smtp", upTo("smtp", 1, "220 go\n"), ErrProtocol, StartTLS, 0},
	{"B9 a bare CR", "smtp", upTo("smtp", 1, "220 go\r220 on\r\n"), ErrProtocol, StartTLS, 0},
	{"a NUL", "smtp", upTo("smtp", 1, "220 g\x00o\r\n"), ErrProtocol, StartTLS, 0},
	{"O_1 stripped", "smtp", upTo("smtp", 2, "250-x\r\n250 AUTH PLAIN\r\n"), ErrNotOffered,
		Capabilities, 0},
	{"N11 only the name is STARTTLS", "smtp", upTo("smtp", 2, "250 STARTTLS\r\n"), ErrNotOffered,
		Capabilities, 0},
	{"N11 something like it", "smtp", upTo("smtp", 2,
		"250-x\r\n250-XSTARTTLS\r\n250-HELP STARTTLS\r\n250 STARTTLS now\r\n"),
		ErrNotOffered, Capabilities, 0},
	{"N5 D_1 EHLO is unknown", "smtp", upTo("smtp", 2, "502 what\r\n"), ErrNotOffered,
		Capabilities, 502},
	{"EHLO is refused", "smtp", upTo("smtp", 2, "550-no\r\n550 you\r\n"), ErrRefused, Capabilities,
		550},
	{"two codes", "smtp", upTo("smtp", 2, "250-a\r\n220 STARTTLS\r\n"), ErrProtocol, Capabilities,
		0},
	{"a letter in the code", "smtp", []string{"22O a\r\n"}, ErrProtocol, Greeting, 0},
	{"N13 a no", "smtp", []string{"554 no\r\n"}, ErrRefused, Greeting, 554},
	{"N13 busy", "smtp", []string{"421 busy\r\n"}, ErrRefused, Greeting, 421},
	{"N13 junk", "smtp", []string{"SSH-2.0-x\r\n"}, ErrProtocol, Greeting, 0},
	{"N13 another protocol", "smtp", []string{"a1 OK ready\r\n"}, ErrProtocol, Greeting, 0},
	{"a line without end", "smtp", []string{strings.Repeat("2", maxLine)}, ErrProtocol, Greeting,
		0},
	{"a reply without end", "smtp", []string{strings.Repeat("220-a\r\n", maxLines+1)}, ErrProtocol,
		Greeting, 0},
	{"a long reply", "smtp", []string{strings.Repeat("220-"+strings.Repeat("a", 1000)+"\r\n", 40)},
		ErrProtocol, Greeting, 0},
	{"EHLO in place of LHLO", "lmtp", upTo("lmtp", 2, "500 what\r\n"), ErrNotOffered, Capabilities,
		500},

	{"M PREAUTH with a referral", "imap",
		[]string{"* PREAUTH [REFERRAL imap://evil.test/] go there\r\n"}, ErrPreauth, Greeting, 0},
	{"L a referral", "imap", []string{"* BYE [REFERRAL imap://evil.test/] go there\r\n"},
		ErrRefused, Greeting, 0},
	{"a later PREAUTH", "imap", upTo("imap", 2, "* PREAUTH hello\r\n"), ErrProtocol, Capabilities,
		0},
	{"BYE", "imap", []string{"* BYE busy\r\n"}, ErrRefused, Greeting, 0},
	{"a tagged greeting", "imap", []string{"a OK\r\n"}, ErrProtocol, Greeting, 0},
	{"an invalid greeting", "imap", []string{"* HELLO\r\n* OK\r\n"}, ErrProtocol, Greeting, 0},
	{"two invalid greetings", "imap", []string{"* HELLO\r\n* HELLO\r\n* OK\r\n"}, ErrProtocol,
		Greeting, 0},
	{"O_1 unknown", "imap", upTo("imap", 2, "* CAPABILITY IMAP4rev1\r\na OK\r\n",
		"b BAD what\r\n"), ErrNotOffered, Capabilities, 0},
	{"O_1 stripped", "imap", upTo("imap", 2, "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\na OK\r\n"),
		ErrNotOffered, Capabilities, 0},
	{"D_1 no CAPABILITY", "imap", upTo("imap", 2, "a BAD\r\n"), ErrNotOffered, Capabilities, 0},
	{"D_2 IMAP4 only", "imap", upTo("imap", 2, "* CAPABILITY IMAP4\r\na OK\r\n"), ErrNotOffered,
		Capabilities, 0},
	{"the offer in the greeting only", "imap", []string{"* OK [CAPABILITY IMAP4rev1 STARTTLS]\r\n",
		"a OK\r\n"}, ErrNotOffered, Capabilities, 0},
	{"O_2 NO", "imap", upTo("imap", 1, "b NO\r\n"), ErrRefused, StartTLS, 0},
	{"O_3 BAD", "imap", upTo("imap", 1, "b BAD\r\n"), ErrRefused, StartTLS, 0},
	{"O_4 a continuation", "imap", upTo("imap", 1, "+ go on\r\n"), ErrProtocol, StartTLS, 0},
	{"the answer to something else", "imap", upTo("imap", 1, "z OK\r\n"), ErrProtocol, StartTLS, 0},
	{"an answer before the question", "imap", upTo("imap", 2,
		"* CAPABILITY STARTTLS\r\na OK\r\nb OK\r\n"), ErrProtocol, StartTLS, 0},
	{"BYE instead", "imap", upTo("imap", 1, "* BYE\r\n"), ErrRefused, StartTLS, 0},
	{"B_1 capabilities behind", "imap", upTo("imap", 1,
		"b OK\r\n* CAPABILITY IMAP4REV1 AUTH=PLAIN\r\nc OK done\r\n"), ErrInjected, StartTLS, 0},
	{"B_2 an alert behind", "imap", upTo("imap", 1, "b OK\r\n* OK [ALERT] suffix\r\n"),
		ErrInjected, StartTLS, 0},
	{"B_3 BYE behind", "imap", upTo("imap", 1, "b OK\r\n* BYE close\r\n"), ErrInjected, StartTLS,
		0},

	{"O_2 no", "pop3", upTo("pop3", 1, "-ERR what\r\n"), ErrRefused, StartTLS, 0},
	{"O_1 stripped", "pop3", upTo("pop3", 2, "+OK\r\nUSER\r\nXSTLS\r\nSTLS x\r\n.\r\n"),
		ErrNotOffered, Capabilities, 0},
	{"O_3 no CAPA", "pop3", upTo("pop3", 2, "-ERR what\r\n"), ErrNotOffered, Capabilities, 0},
	{"O_4 APOP and no list", "pop3", []string{"+OK <1896.697170952@dbc.mtview.ca.us>\r\n",
		"-ERR what\r\n"}, ErrNotOffered, Capabilities, 0},
	{"a list without end", "pop3", upTo("pop3", 2, "+OK\r\n"+strings.Repeat("X\r\n", maxLines)),
		ErrProtocol, Capabilities, 0},
	{"another word", "pop3", []string{"+OKAY\r\n"}, ErrProtocol, Greeting, 0},
	{"small letters", "pop3", []string{"+ok\r\n"}, ErrProtocol, Greeting, 0},
	{"B_1 a list behind", "pop3", upTo("pop3", 1, "+OK Begin\r\n+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n"),
		ErrInjected, StartTLS, 0},
	{"B_2 junk behind", "pop3", upTo("pop3", 1, "+OK\r\n\xff\x00\x01"), ErrInjected, StartTLS, 0},

	{"stripped", "sieve", []string{"\"SASL\" \"PLAIN\"\r\n\"STARTTLS\" \"x\"\r\nOK\r\n"},
		ErrNotOffered, Greeting, 0},
	{"a no", "sieve", upTo("sieve", 1, "NO \"x\"\r\n"), ErrRefused, StartTLS, 0},
	{"BYE", "sieve", []string{"BYE \"busy\"\r\n"}, ErrRefused, Greeting, 0},
	{"an unquoted name", "sieve", []string{"STARTTLS\r\nOK\r\n"}, ErrProtocol, Greeting, 0},
	{"another word", "sieve", upTo("sieve", 1, "OKAY\r\n"), ErrProtocol, StartTLS, 0},
	{"the second list in plaintext", "sieve", upTo("sieve", 1,
		"OK\r\n\"SASL\" \"PLAIN\"\r\nOK\r\n"), ErrInjected, StartTLS, 0},

	{"not ready", "ftp", []string{"120 in 5 minutes\r\n"}, ErrProtocol, Greeting, 120},
	{"busy", "ftp", []string{"421-busy\r\n421 bye\r\n"}, ErrRefused, Greeting, 421},
	{"unknown", "ftp", upTo("ftp", 1, "500 what\r\n"), ErrNotOffered, StartTLS, 500},
	{"a no", "ftp", upTo("ftp", 1, "534 no\r\n"), ErrRefused, StartTLS, 534},
	{"not now", "ftp", upTo("ftp", 1, "431 no\r\n"), ErrRefused, StartTLS, 431},
	{"more needed", "ftp", upTo("ftp", 1, "334 more\r\n"), ErrProtocol, StartTLS, 334},
	{"a reply behind", "ftp", upTo("ftp", 1, "234 go\r\n230 logged in\r\n"), ErrInjected, StartTLS,
		0},
	{"a reply without end", "ftp", []string{"220-a\r\n" + strings.Repeat("220-a\r\n", maxLines)},
		ErrProtocol, Greeting, 0},

	{"a no", "nntp", []string{"502 no\r\n"}, ErrRefused, Greeting, 502},
	{"an old one", "nntp", upTo("nntp", 2, "500 what\r\n"), ErrNotOffered, Capabilities, 500},
	{"stripped", "nntp", upTo("nntp", 2, "101 list\r\nVERSION 2\r\n.\r\n"), ErrNotOffered,
		Capabilities, 0},
	{"cannot", "nntp", upTo("nntp", 1, "580 no\r\n"), ErrRefused, StartTLS, 580},
	{"several lines", "nntp", upTo("nntp", 1, "382-go\r\n382 on\r\n"), ErrProtocol, StartTLS, 0},
	{"a reply behind", "nntp", upTo("nntp", 1, "382 go\r\n281 welcome\r\n"), ErrInjected, StartTLS,
		0},

	{"a failure", "xmpp-client", upTo("xmpp-client", 1,
		"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"), ErrRefused, StartTLS, 0},
	{"stripped", "xmpp-client", []string{xmppOpen + "<stream:features/>"}, ErrNotOffered,
		Capabilities, 0},
	{"of another namespace", "xmpp-client",
		[]string{xmppOpen + "<stream:features><starttls xmlns='x'/></stream:features>"},
		ErrNotOffered, Capabilities, 0},
	{"too deep", "xmpp-client",
		[]string{xmppOpen + "<stream:features><x>" +
			"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></x></stream:features>"},
		ErrNotOffered, Capabilities, 0},
	{"an error of the stream", "xmpp-client",
		[]string{xmppOpen + "<stream:error>" +
			"<host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"},
		ErrRefused, Capabilities, 0},
	{"the end of the stream", "xmpp-client", []string{xmppOpen + "</stream:stream>"}, ErrRefused,
		Capabilities, 0},
	{"another proceed", "xmpp-client", upTo("xmpp-client", 1, "<proceed/>"), ErrProtocol, StartTLS,
		0},
	{"another answer", "xmpp-client", upTo("xmpp-client", 1,
		"<success xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), ErrProtocol, StartTLS, 0},
	{"features behind", "xmpp-client", upTo("xmpp-client", 1, xmppYes+xmppOpen+xmppOffer),
		ErrInjected, StartTLS, 0},
	{"a message before", "xmpp-client", []string{xmppOpen + xmppOffer + "<message/>"}, ErrProtocol,
		StartTLS, 0},
	{"another element first", "xmpp-client", []string{xmppOpen + "<message/>"}, ErrProtocol,
		Capabilities, 0},
	{"a document type", "xmpp-client", []string{"<!DOCTYPE x [<!ENTITY a 'b'>]>"}, ErrProtocol,
		Capabilities, 0},
	{"a comment", "xmpp-client", []string{xmppOpen + "<!-- a --><stream:features/>"}, ErrProtocol,
		Capabilities, 0},
	{"text", "xmpp-client", []string{"HTTP/1.1 400 Bad Request\r\n\r\n<html>"}, ErrProtocol,
		Capabilities, 0},
	{"tags that don't match", "xmpp-client",
		[]string{xmppOpen + "<stream:features><a></b></stream:features>"}, ErrProtocol,
		Capabilities, 0},
	{"a tag without end", "xmpp-client", []string{"<" + strings.Repeat("a", maxTag)}, ErrProtocol,
		Capabilities, 0},
	{"features without end", "xmpp-client",
		[]string{xmppOpen + "<stream:features>" + strings.Repeat("<a/>",
			maxAnswer/4)}, ErrProtocol, Capabilities, 0},

	{"unknown", "irc", []string{":s 421 * STARTTLS :Unknown command\r\n"}, ErrNotOffered, StartTLS,
		421},
	{"not registered", "irc", []string{"NOTICE * :hi\r\n:s 451 * STARTTLS :register first\r\n"},
		ErrNotOffered, StartTLS, 451},
	{"a no", "irc", []string{":s 691 * :no\r\n"}, ErrRefused, StartTLS, 691},
	{"closing", "irc", []string{"ERROR :banned\r\n"}, ErrRefused, StartTLS, 0},
	{"a welcome", "irc", []string{":s 001 me :welcome\r\n"}, ErrProtocol, StartTLS, 0},
	{"670 in a text", "irc", []string{":s NOTICE * :670\r\n:s PRIVMSG x :670 go\r\n"}, ErrProtocol,
		StartTLS, 0},
	{"notices without end", "irc", []string{strings.Repeat("NOTICE * :hi\r\n", maxLines+1)},
		ErrProtocol, StartTLS, 0},
	{"a line behind", "irc", []string{":s 670 * :go\r\n:s 001 me :welcome\r\n"}, ErrInjected,
		StartTLS, 0},

	{"unknown", "ldap", []string{ldapSays(1, 2, "what")}, ErrNotOffered, StartTLS, 2},
	{"a no", "ldap", []string{ldapSays(1, 52, "no")}, ErrRefused, StartTLS, 52},
	{"closing", "ldap", []string{ldapSays(0, 51, "busy")}, ErrRefused, StartTLS, 51},
	{"the answer to something else", "ldap", []string{ldapSays(2, 0, "")}, ErrProtocol, StartTLS,
		0},
	{"another operation", "ldap", []string{strings.Replace(ldapYes, "\x78", "\x61", 1)},
		ErrProtocol, StartTLS, 0},
	{"no message", "ldap", []string{"HTTP/1.1 400\r\n"}, ErrProtocol, StartTLS, 0},
	{"no end", "ldap", []string{"\x30\x84\x7f\xff\xff\xff"}, ErrProtocol, StartTLS, 0},
	{"an indefinite length", "ldap", []string{"\x30\x80"}, ErrProtocol, StartTLS, 0},
	{"cut off inside", "ldap", []string{"\x30\x05\x02\x01\x01\x78\x07"}, ErrProtocol, StartTLS, 0},
	{"a message behind", "ldap", []string{ldapYes + ldapYes}, ErrInjected, StartTLS, 0},

	{"a no", "postgres", []string{"N"}, ErrRefused, StartTLS, 0},
	{"an error", "postgres", []string{"E\x00\x00\x00\x10SFATAL\x00Mevil"}, ErrRefused, StartTLS, 0},
	{"something else", "postgres", []string{"H"}, ErrProtocol, StartTLS, 0},
	{"a byte behind", "postgres", []string{"SX"}, ErrInjected, StartTLS, 0},

	{"no TLS", "mysql", []string{mysqlHello(0xf7ff)}, ErrNotOffered, Greeting, 0},
	{"blocked", "mysql", []string{mysqlPacket(0, "\xff\x69\x04Host is blocked")}, ErrRefused,
		Greeting, 1129},
	{"an old one", "mysql", []string{mysqlPacket(0, "\x093.20\x00")}, ErrProtocol, Greeting, 0},
	{"cut off", "mysql", []string{mysqlPacket(0, "\x0a8.0\x00\x07\x00")}, ErrProtocol, Greeting, 0},
	{"not the first", "mysql", []string{mysqlPacket(1, "\x0a8.0\x00")}, ErrProtocol, Greeting, 0},
	{"no end", "mysql", []string{"\xff\xff\xff\x00"}, ErrProtocol, Greeting, 0},
	{"junk", "mysql", []string{"220 mail.test\r\n"}, ErrProtocol, Greeting, 0},
	{"a packet behind", "mysql", []string{mysqlHello(0xffff) + mysqlPacket(2, "\x00")},
		ErrInjected, StartTLS, 0},
}

// answersToSTARTTLS are what is no yes, N1 to N4 and "others" of the case list.
func init() {
	for _, capabilities := range []string{"", "[CAPABILITY IMAP4rev1] ",
		"[CAPABILITY IMAP4rev1 STARTTLS] ", "[CAPABILITY IMAP4rev1 AUTH=PLAIN] ",
		"[CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] ", "[CAPABILITY IMAP4rev1 LOGINDISABLED] "} {
		hostiles = append(hostiles, hostile{"P PREAUTH " + capabilities, "imap",
			[]string{"* PREAUTH " + capabilities + "hello\r\n"}, ErrPreauth, Greeting, 0})
	}
	for _, code := range []string{"[ALERT]", "[BADCHARSET]", "[PARSE]"} {
		hostiles = append(hostiles, hostile{"a no as a greeting " + code, "imap",
			[]string{"* NO " + code + " go to evil.test\r\n"}, ErrProtocol, Greeting, 0})
	}
	for _, code := range []string{"[SYS/TEMP]", "[SYS/PERM]", "[IN-USE]", `[\x1b[2J]`, "[", ""} {
		no := "-ERR " + code + " no\r\n"
		hostiles = append(hostiles,
			hostile{"a no as a greeting " + code, "pop3", []string{no}, ErrRefused, Greeting, 0},
			hostile{"a no to CAPA " + code, "pop3", upTo("pop3", 2, no), ErrNotOffered,
				Capabilities, 0},
			hostile{"O_2 a no to STLS " + code, "pop3", upTo("pop3", 1, no), ErrRefused, StartTLS,
				0})
	}
	for _, code := range []int{200, 221, 250, 334, 354} {
		hostiles = append(hostiles, hostile{fmt.Sprint("N4 ", code), "smtp", upTo("smtp", 1,
			fmt.Sprintf("%d 220 go\r\n", code)), ErrProtocol, StartTLS, code})
	}
	for _, code := range []int{421, 451, 454, 500, 501, 502, 503, 504, 530, 550, 554} {
		hostiles = append(hostiles, hostile{fmt.Sprint("N2 ", code), "smtp", upTo("smtp", 1,
			fmt.Sprintf("%d 220 go\r\n", code)), ErrRefused, StartTLS, code})
	}
	for _, code := range []int{221, 250, 354, 421, 454, 500, 501, 502, 504, 530, 550, 554} {
		want := ErrProtocol
		if code >= 400 {
			want = ErrRefused
		}
		line := fmt.Sprintf("%d 220 hi\r\n", code)
		hostiles = append(hostiles, hostile{fmt.Sprint("a greeting ", code), "smtp",
			[]string{line}, want, Greeting, code})
		switch code {
		case 250: // an answer without an offer
			want, code = ErrNotOffered, 0
		case 500, 502, 504:
			want = ErrNotOffered
		}
		hostiles = append(hostiles, hostile{"EHLO answered with " + line, "smtp",
			upTo("smtp", 2, line), want, Capabilities, code})
	}
	for _, line := range []string{"", "220", "22O go", "220_go", " 220 go", "2200 go", "+OK",
		"A1 OK begin", "620 go"} {
		hostiles = append(hostiles, hostile{"N4 " + line, "smtp", upTo("smtp", 1, line+"\r\n"),
			ErrProtocol, StartTLS, 0})
	}
	for i, line := range []string{`* LIST (\Noselect) "/" x`, `* LSUB () "/" x`,
		"* STATUS foreign (MESSAGES 1)", "* STATUS INBOX (MESSAGES 1)",
		"* SEARCH 2 3", "* FLAGS (a)", "* 54321 EXISTS", "* 1 RECENT", "* 1 EXPUNGE",
		"* 1 FETCH (BODY[] {28}"} {
		hostiles = append(hostiles,
			hostile{fmt.Sprint("tampering behind the greeting ", i), "imap",
				[]string{"* OK\r\n" + line + "\r\n",
					"* CAPABILITY STARTTLS\r\na OK\r\n"}, ErrProtocol, Capabilities, 0},
			hostile{fmt.Sprint("tampering before STARTTLS ", i), "imap", upTo("imap", 1,
				line+"\r\nb OK\r\n"), ErrProtocol, StartTLS, 0})
	}
}

func TestHostileServers(t *testing.T) {
	for _, h := range hostiles {
		for _, piece := range []int{1, 1 << 20} {
			p, err := Lookup(h.protocol)
			if err != nil {
				t.Fatal(err)
			}
			c := p.Client(me)
			_, _, err = play(c, h.answers, piece)
			verdict, ok := errors.AsType[*Error](err)
			if !ok || !errors.Is(err,
				h.want) || verdict.Phase != h.phase || verdict.Code != h.code || c.Done() {
				t.Errorf("%s, %s, in pieces of %d: %+v (%v), done %v; want %v in %s, code %d",
					h.protocol, h.name,
					piece, verdict, err, c.Done(), h.want, h.phase, h.code)
				continue
			}
			if text := err.Error(); strings.ContainsFunc(text,
				func(r rune) bool { return r < ' ' || r > '~' && r != '…' }) || len(text) > 600 {
				t.Errorf("%s, %s: the error is %q", h.protocol, h.name, text)
			}
			if _, _, again := c.Next([]byte("220 go\r\n"), false); !errors.Is(again, h.want) {
				t.Errorf("%s, %s: goes on after its error: %v", h.protocol, h.name, again)
			}
		}
	}
}

// Over TLS the answers are judged, too.
func TestHostileServersOverTLS(t *testing.T) {
	for _, h := range []hostile{
		{"N9", "smtp", []string{"502 what\r\n"}, ErrRefused, Secure, 502},
		{"B10", "smtp", []string{"250 x\r\n250-x\r\n250 AUTH PLAIN\r\n"}, ErrProtocol, Secure, 0},
		{"junk", "smtp", []string{"hello\r\n"}, ErrProtocol, Secure, 0},
		{"a no", "imap", []string{"c NO\r\n"}, ErrRefused, Secure, 0},
		{"mailbox data", "imap", []string{"* 3 EXISTS\r\nc OK\r\n"}, ErrProtocol, Secure, 0},
		{"a no", "pop3", []string{"-ERR\r\n"}, ErrRefused, Secure, 0},
		{"a no", "nntp", []string{"500 what\r\n"}, ErrRefused, Secure, 500},
		{"a no", "ftp", []string{"200 ok\r\n", "536 no\r\n"}, ErrRefused, Secure, 536},
		{"BYE", "sieve", []string{"BYE\r\n"}, ErrRefused, Secure, 0},
	} {
		for _, piece := range []int{1, 1 << 20} {
			p, _ := Lookup(h.protocol)
			c := p.Secure(me)
			_, _, err := play(c, h.answers, piece)
			verdict, ok := errors.AsType[*Error](err)
			if !ok || !errors.Is(err,
				h.want) || verdict.Phase != h.phase || verdict.Code != h.code {
				t.Errorf("%s, %s, in pieces of %d: %+v (%v), want %v, code %d", h.protocol, h.name,
					piece, verdict, err, h.want, h.code)
			}
			if strings.Contains(err.Error(), "plaintext") {
				t.Errorf("%s, %s: %v", h.protocol, h.name, err)
			}
		}
	}
}

// The words of a server are quoted, and said to be anybody's. PostgreSQL's are not there at all.
func TestWordsInPlaintextAreUntrusted(t *testing.T) {
	p, _ := Lookup("smtp")
	_, _, err := play(p.Client(me), []string{"554 \x1b[31mred\x7f\u202e\xff\r\n"}, 1)
	if text := err.Error(); !strings.Contains(text,
		"anybody on the wire") || !strings.Contains(text, "red") {
		t.Errorf("error: %s", text)
	}
	p, _ = Lookup("postgres")
	_, _, err = play(p.Client(me), []string{"E\x00\x00\x00\x10SFATAL\x00Mevil"}, 1<<20)
	if verdict, _ := errors.AsType[*Error](err); strings.Contains(err.Error(),
		"evil") || verdict.Text != "" {
		t.Errorf("error: %v, %q", err, verdict.Text)
	}
}
