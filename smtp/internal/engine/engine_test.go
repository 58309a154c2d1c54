package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// talk has an Engine go on until it is done, with a server that says its replies one after the
// other, each when it is waited for. It returns what the Engine has said, and done: TLS, the
// message.
func talk(e *engine.Engine, replies ...string) (said []string, err error) {
	say := func() {
		for line := range strings.SplitAfterSeq(string(e.Output()), "\r\n") {
			if line != "" {
				said = append(said, strings.TrimSuffix(line, "\r\n"))
			}
		}
	}
	for {
		say()
		switch e.Next() {
		case engine.Done:
			if len(replies) > 0 {
				err = fmt.Errorf("not heard: %q", replies)
			}
			return said, err
		case engine.Secure:
			said = append(said, "<TLS>")
			e.Secured()
		case engine.Content:
			said = append(said, "<message>")
			if e.Chunked() {
				e.Chunk(7, true)
			} else {
				e.ContentSent()
			}
		case engine.Receive:
			if len(replies) == 0 {
				return said, fmt.Errorf("waits for %s", e.Step())
			}
			for line := range strings.SplitAfterSeq(replies[0], "\n") {
				if line == "" {
					continue
				}
				if err := e.Line([]byte(strings.TrimSuffix(line, "\n") + "\r\n")); err != nil {
					say()
					return said, err
				}
			}
			replies = replies[1:]
		}
	}
}

func expect(t *testing.T, said []string, want ...string) {
	t.Helper()
	if !slices.Equal(said, want) {
		t.Errorf("said\n\t%q, want\n\t%q", said, want)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// begin returns an Engine that has begun its session with a server that offers extensions.
func begin(t *testing.T, config engine.Config, extensions ...string) *engine.Engine {
	t.Helper()
	config.Security = engine.Implicit
	config.ASCII = func(domain string) (string, error) {
		if domain == "bücher.test" {
			return "xn--bcher-kva.test", nil
		}
		return "", errors.New("no domain")
	}
	e := new(engine.Engine)
	e.Init(&config, "me.test")
	e.Begin()
	_, err := talk(e, "220 hello", hello(extensions...))
	check(t, err)
	return e
}

func hello(extensions ...string) string {
	text := "250-mail.test\n"
	for _, x := range extensions {
		text += "250-" + x + "\n"
	}
	return text + "250 HELP"
}

func TestBeginning(t *testing.T) {
	for _, test := range []struct {
		name     string
		security engine.Security
		lmtp     bool
		replies  []string
		said     string
		err      error
		text     string // in the error
	}{
		{"STARTTLS", engine.Mandatory, false,
			[]string{"220-a\n220 b", hello("STARTTLS"), "220-go\n220 ahead",
				hello("STARTTLS", "AUTH PLAIN")},
			"EHLO me.test|STARTTLS|<TLS>|EHLO me.test", nil, ""},
		{"LMTP", engine.Mandatory, true, []string{"220 b", hello("starttls"), "220 go", hello()},
			"LHLO me.test|STARTTLS|<TLS>|LHLO me.test", nil, ""},
		{"implicit", engine.Implicit, false, []string{"220 b", hello("STARTTLS")}, "EHLO me.test",
			nil, ""},
		{"implicit, old", engine.Implicit, false, []string{"220 b", "502 what?", "250 mail.test"},
			"EHLO me.test|HELO me.test", nil, ""},
		{"opportunistic", engine.Opportunistic, false, []string{"220 b", hello()}, "EHLO me.test",
			nil, ""},
		{"opportunistic, old", engine.Opportunistic, false, []string{"220 b", "500 what?", "250 x"},
			"EHLO me.test|HELO me.test", nil, ""},
		{"opportunistic, offered", engine.Opportunistic, false,
			[]string{"220 b", hello("STARTTLS"), "220 go", hello()},
			"EHLO me.test|STARTTLS|<TLS>|EHLO me.test", nil, ""},
		{"not offered", engine.Mandatory, false, []string{"220 b", hello("AUTH PLAIN")},
			"EHLO me.test", engine.ErrNoTLS, ""},
		{"offered by something like it", engine.Mandatory, false,
			[]string{"220 b", hello("XSTARTTLS", "HELP STARTTLS", "STARTTLS foo")},
			"EHLO me.test", engine.ErrNoTLS, ""},
		{"EHLO unknown", engine.Mandatory, false, []string{"220 b", "502 what?"}, "EHLO me.test",
			nil, `EHLO: refused with 502 "what?" (in plaintext`},
		{"refused", engine.Mandatory, false, []string{"220 b", hello("STARTTLS"), "454 not now"},
			"EHLO me.test|STARTTLS", nil, "STARTTLS: refused with 454"},
		{"refused, opportunistic", engine.Opportunistic, false,
			[]string{"220 b", hello("STARTTLS"), "502 no"}, "EHLO me.test|STARTTLS", nil,
			"refused with 502"},
		{"another code", engine.Mandatory, false, []string{"220 b", hello("STARTTLS"), "250 fine"},
			"EHLO me.test|STARTTLS", engine.ErrProtocol, `"250 fine"`},
		{"code 334", engine.Mandatory, false, []string{"220 b", hello("STARTTLS"), "334 go"},
			"EHLO me.test|STARTTLS", engine.ErrProtocol, ""},
		{"a bare code", engine.Mandatory, false, []string{"220 b", hello("STARTTLS"), "220"},
			"EHLO me.test|STARTTLS", engine.ErrProtocol, ""},
		{"EHLO unknown over TLS", engine.Opportunistic, false,
			[]string{"220 b", hello("STARTTLS"), "220 go", "502 what?"},
			"EHLO me.test|STARTTLS|<TLS>|EHLO me.test", nil, "EHLO: refused with 502"},
		{"greeting 554", engine.Mandatory, false, []string{"554 go away"}, "", nil,
			"greeting: refused with 554"},
		{"greeting 421", engine.Mandatory, false, []string{"421 busy"}, "", nil,
			"greeting: refused with 421"},
		{"greeting 250", engine.Mandatory, false, []string{"250 hello"}, "", engine.ErrProtocol,
			""},
		{"greeting of another protocol", engine.Mandatory, false, []string{"* OK IMAP4"}, "",
			engine.ErrProtocol, "IMAP4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := new(engine.Engine)
			e.Init(&engine.Config{Security: test.security, LMTP: test.lmtp}, "me.test")
			e.Begin()
			said, err := talk(e, test.replies...)
			if got := strings.Join(said, "|"); got != test.said {
				t.Errorf("said %s, want %s", got, test.said)
			}
			switch {
			case test.err == nil && test.text == "":
				check(t, err)
			case test.err != nil && !errors.Is(err, test.err), err == nil,
				!strings.Contains(err.Error(), test.text):
				t.Errorf("error is %v, want %v, %q", err, test.err, test.text)
			case !e.Broken():
				t.Error("the session could go on")
			}
		})
	}
}

func TestOnlyWhatIsSaidOverTLSCounts(t *testing.T) {
	e := new(engine.Engine)
	e.Init(&engine.Config{}, "me.test")
	e.Begin()
	_, err := talk(e, "220 hello", hello("STARTTLS", "SIZE 10", "AUTH PLAIN", "SMTPUTF8"), "220 go",
		hello("size 99", "auth Login", "AUTH cram-md5"))
	check(t, err)
	x := e.Offers()
	if x.SizeLimit != 99 || x.UTF8 || x.HasAuth("PLAIN") || !x.HasAuth("LOGIN") ||
		!x.HasAuth("CRAM-MD5") {
		t.Errorf("%+v", x)
	}
	if params, ok := x.Param("Auth"); !ok || params != "LOGIN" {
		t.Errorf("%q, %v", params, ok)
	}
}

func TestPipelining(t *testing.T) {
	for _, test := range []struct {
		name       string
		extensions []string
		replies    []string
		said       string
		err        string
	}{
		{"all well", []string{"PIPELINING"}, []string{"250 a", "250 b", "251 c", "354 go",
			"250 queued"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA|<message>", ""},
		{"MAIL refused", []string{"PIPELINING"}, []string{"550 no", "503 b", "503 c", "503 d"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA", "MAIL: refused with 550"},
		{"MAIL refused, and the rest accepted", []string{"PIPELINING"},
			[]string{"550 no", "250 b", "250 c", "354 go", "250 fine"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA|.", "MAIL: refused with 550"},
		{"one refused", []string{"PIPELINING"},
			[]string{"250 a", "550 no", "250 c", "354 go", "250 queued"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA|<message>", ""},
		{"all refused", []string{"PIPELINING"}, []string{"250 a", "550 no", "450 not now", "503 d"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA",
			`all 2 recipients were refused: RCPT "c@d": refused with 550 "no"`},
		{"all refused, and DATA accepted", []string{"PIPELINING"},
			[]string{"250 a", "550 no", "550 no", "354 go", "554 nobody"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA|.", "all 2 recipients"},
		{"DATA refused", []string{"PIPELINING"}, []string{"250 a", "250 b", "250 c", "451 disk"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA", "DATA: refused with 451"},
		{"message refused", []string{"PIPELINING"},
			[]string{"250 a", "250 b", "250 c", "354 go", "554 5.6.0 spam"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA|<message>",
			`end of message: refused with 554 5.6.0 "spam"`},
		{"going down", []string{"PIPELINING"}, []string{"250 a", "421 bye"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA", "RCPT: refused with 421"},
		{"354 for RCPT", []string{"PIPELINING"}, []string{"250 a", "354 go"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA", "protocol error"},
		{"in lockstep: MAIL refused", nil, []string{"550 no"}, "MAIL FROM:<a@b>", "MAIL: refused"},
		{"in lockstep: all refused", nil, []string{"250 a", "550 no", "550 no"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>", "all 2"},
		{"in lockstep", nil, []string{"250 a", "550 no", "250 c", "354 go", "250 x"},
			"MAIL FROM:<a@b>|RCPT TO:<c@d>|RCPT TO:<e@f>|DATA|<message>", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := begin(t, engine.Config{}, test.extensions...)
			check(t, e.Mail(&engine.Envelope{From: "a@b", To: []string{"c@d", "e@f"}}))
			said, err := talk(e, test.replies...)
			if err == nil {
				err = e.Outcome()
			}
			if got := strings.Join(said, "|"); got != test.said {
				t.Errorf("said %s, want %s", got, test.said)
			}
			if test.err == "" {
				check(t, err)
			} else if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error is %v, want %q", err, test.err)
			}
		})
	}
}

// Nothing of a transaction that came to nothing is left for the next one.
func TestResetBeforeTheNextMail(t *testing.T) {
	e := begin(t, engine.Config{}, "PIPELINING")
	envelope := &engine.Envelope{From: "a@b", To: []string{"c@d"}}
	check(t, e.Mail(envelope))
	_, err := talk(e, "250 a", "550 no", "503 d")
	check(t, err)
	if refused := e.Refused(); len(refused) != 1 || refused[0].Recipient != "c@d" ||
		refused[0].Temporary() {
		t.Errorf("%v", refused)
	}
	check(t, e.Mail(envelope))
	said, err := talk(e, "250 reset", "250 a", "250 b", "354 go", "250 queued as 1")
	check(t, errors.Join(err, e.Outcome()))
	expect(t, said, "RSET", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "<message>")
	if e.Text() != "queued as 1" {
		t.Error(e.Text())
	}
	check(t, e.Mail(envelope))
	said, _ = talk(e, "250 a", "250 b", "354 go", "250 queued")
	expect(t, said, "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "<message>")
}

// A server that doesn't read on until its replies are read can't be flooded.
func TestGroupsHaveABound(t *testing.T) {
	e := begin(t, engine.Config{}, "PIPELINING")
	check(t, e.Mail(&engine.Envelope{From: "a@b", To: slices.Repeat([]string{"c@d"}, 1000)}))
	unanswered, most := 0, 0
	for e.Next() == engine.Receive {
		unanswered += strings.Count(string(e.Output()), "\r\n")
		most = max(most, unanswered)
		line := "250 ok\r\n"
		if e.Step() == engine.DataInit {
			line = "354 go\r\n"
		}
		check(t, e.Line([]byte(line)))
		unanswered--
	}
	if most != 128 || unanswered != 0 || e.Next() != engine.Content {
		t.Errorf("up to %d commands, in the end %d were unanswered, %v", most, unanswered, e.Next())
	}
}

func TestLMTP(t *testing.T) {
	e := begin(t, engine.Config{LMTP: true}, "PIPELINING")
	check(t, e.Mail(&engine.Envelope{From: "a@b", To: []string{"one", "two", "three", "four"}}))
	said, err := talk(e, "250 a", "250 b", "550 no", "250 d", "250 e", "354 go", "250 done",
		"452 full", "250 done, too")
	check(t, errors.Join(err, e.Outcome()))
	expect(t, said, "MAIL FROM:<a@b>", "RCPT TO:<one>", "RCPT TO:<two>", "RCPT TO:<three>",
		"RCPT TO:<four>", "DATA", "<message>")
	var refused []string
	for _, r := range e.Refused() {
		refused = append(refused, r.Error())
	}
	expect(t, refused, `RCPT "two": refused with 550 "no"`,
		`end of message "three": refused with 452 "full"`)
}

func TestParameters(t *testing.T) {
	all := []string{"PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME",
		"DSN", "REQUIRETLS", "MT-PRIORITY"}
	for _, test := range []struct {
		name       string
		extensions []string
		envelope   engine.Envelope
		mail, rcpt string
		err        string
	}{
		{"all", all, engine.Envelope{From: "a@b", To: []string{"c@d"}, Size: 7, Body: engine.Binary,
			UTF8: true, RequireTLS: true, Priority: -3,
			Return: "HDRS", EnvelopeID: "a+b=c d", Notify: []string{"SUCCESS", "DELAY"}},
			"MAIL FROM:<a@b> SIZE=7 BODY=BINARYMIME SMTPUTF8 REQUIRETLS MT-PRIORITY=-3 " +
				"RET=HDRS ENVID=a+2Bb+3Dc+20d", "RCPT TO:<c@d> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d", ""},
		{"the address in reports", all, engine.Envelope{From: "a@b", To: []string{"c+x=y@d"},
			Return: "FULL"}, "MAIL FROM:<a@b> RET=FULL",
			"RCPT TO:<c+x=y@d> ORCPT=rfc822;c+2Bx+3Dy@d", ""},
		{"a UTF-8 address in reports", all, engine.Envelope{From: "a@b", To: []string{"jörg@d"},
			Return: "FULL"}, "MAIL FROM:<a@b> SMTPUTF8 RET=FULL",
			"RCPT TO:<jörg@d>", ""},
		{"none", nil, engine.Envelope{To: []string{"postmaster"}, Size: 7, UTF8: true},
			"MAIL FROM:<>", "RCPT TO:<postmaster>", ""},
		{"a quoted local part", all, engine.Envelope{From: `"a>b\" c"@d`,
			To: []string{"a@[127.0.0.1]"}}, `MAIL FROM:<"a>b\" c"@d>`, "RCPT TO:<a@[127.0.0.1]>",
			""},
		{"UTF-8", all, engine.Envelope{From: "jörg@bücher.test", To: []string{"c@d"}},
			"MAIL FROM:<jörg@bücher.test> SMTPUTF8", "RCPT TO:<c@d>", ""},
		{"A-labels", nil, engine.Envelope{From: "a@b", To: []string{"c@bücher.test"}},
			"MAIL FROM:<a@b>", "RCPT TO:<c@xn--bcher-kva.test>", ""},
		{"no A-labels", nil, engine.Envelope{From: "a@b", To: []string{"c@ä.test"}}, "", "",
			"no domain"},
		{"UTF-8 not offered", nil, engine.Envelope{From: "a@b", To: []string{"jörg@d"}}, "", "",
			"SMTPUTF8"},
		{"too large", all, engine.Envelope{From: "a@b", To: []string{"c@d"}, Size: 1001}, "", "",
			"the server takes 1000"},
		{"8BITMIME not offered", nil, engine.Envelope{To: []string{"c@d"}, Body: engine.EightBit},
			"", "", "8BITMIME"},
		{"CHUNKING not offered", nil, engine.Envelope{To: []string{"c@d"}, Chunked: true}, "", "",
			"CHUNKING"},
		{"BINARYMIME not offered", []string{"CHUNKING"},
			engine.Envelope{To: []string{"c@d"}, Body: engine.Binary}, "", "", "BINARYMIME"},
		{"REQUIRETLS not offered", nil, engine.Envelope{To: []string{"c@d"}, RequireTLS: true}, "",
			"", "REQUIRETLS"},
		{"DSN not offered", nil, engine.Envelope{To: []string{"c@d"}, Notify: []string{"NEVER"}},
			"", "", "DSN"},
		{"MT-PRIORITY not offered", nil, engine.Envelope{To: []string{"c@d"}, Priority: 1}, "", "",
			"MT-PRIORITY"},
		{"priority", all, engine.Envelope{To: []string{"c@d"}, Priority: 10}, "", "",
			"a priority is"},
		{"RET", all, engine.Envelope{To: []string{"c@d"}, Return: "FULL\r\nRSET"}, "", "",
			"RET is"},
		{"ENVID", all, engine.Envelope{To: []string{"c@d"}, EnvelopeID: "a\r\nb"}, "", "",
			"control characters"},
		{"NOTIFY", all, engine.Envelope{To: []string{"c@d"}, Notify: []string{"SUCCESS\r\n"}}, "",
			"", "no event"},
		{"NOTIFY NEVER and more", all, engine.Envelope{To: []string{"c@d"},
			Notify: []string{"NEVER", "DELAY"}}, "", "", "NEVER"},
		{"nobody", all, engine.Envelope{}, "", "", "without recipients"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := begin(t, engine.Config{}, test.extensions...)
			err := e.Mail(&test.envelope)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || len(e.Output()) > 0 ||
					e.Broken() {
					t.Errorf("error is %v, want %q", err, test.err)
				}
				return
			}
			check(t, err)
			said := strings.Split(string(e.Output()), "\r\n")
			if len(test.extensions) == 0 {
				check(t, e.Line([]byte("250 ok\r\n")))
				said = append(said[:1], strings.Split(string(e.Output()), "\r\n")...)
			}
			expect(t, said[:2], test.mail, test.rcpt)
		})
	}
}

func TestChunks(t *testing.T) {
	e := begin(t, engine.Config{}, "PIPELINING", "CHUNKING")
	check(t, e.Mail(&engine.Envelope{To: []string{"c@d"}, Chunked: true}))
	expect(t, strings.Split(string(e.Output()), "\r\n"), "MAIL FROM:<>", "RCPT TO:<c@d>", "")
	check(t, e.Line([]byte("250 a\r\n")))
	check(t, e.Line([]byte("250 b\r\n")))
	for e.Next() != engine.Content {
		t.Fatal(e.Next())
	}
	e.Chunk(10, false)
	said, err := talk(e, "250 got it", "250 done")
	check(t, errors.Join(err, e.Outcome()))
	expect(t, said, "BDAT 10", "<message>", "BDAT 7 LAST")

	// Who knows what a server that refuses a chunk makes of the rest.
	for _, last := range []bool{false, true} {
		e = begin(t, engine.Config{}, "PIPELINING", "CHUNKING")
		check(t, e.Mail(&engine.Envelope{To: []string{"c@d"}, Chunked: true}))
		e.Output()
		check(t, e.Line([]byte("250 a\r\n")))
		check(t, e.Line([]byte("250 b\r\n")))
		e.Chunk(10, last)
		if _, err := talk(e, "552 too much"); err == nil {
			err = e.Outcome()
			if err == nil {
				t.Error("no error")
			}
		}
		if !e.Broken() {
			t.Error("the session could go on")
		}
	}
}

func TestInjectionIsRefused(t *testing.T) {
	for _, address := range []string{
		"", "@", "a@", "@b", "a@b\r\nRSET", "a\n@b", "a@b\x00", "a@b>", "<a@b", "a b@c", "a@b c",
		"a@b@c", "a@b> SIZE=1", `"a@b`, `"a\"@b`, `"a"b@c`,
		"\"a\r\n\"@b", "a@[1", "a@[]", "a@[1 2]", "a@b\xff", "\xffa@b", "a,b@c", "a@b,c@d",
		strings.Repeat("a", 250) + "@b.test", "a\x7f@b", "a@b\t",
	} {
		if err := engine.CheckAddress(address); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%q is an address", address)
		}
		e := begin(t, engine.Config{}, "SMTPUTF8")
		if err := e.Mail(&engine.Envelope{From: "a@b",
			To: []string{"c@d", address}}); !errors.Is(err, engine.ErrInvalid) ||
			len(e.Output()) > 0 {
			t.Errorf("%q: %v", address, err)
		}
		if address == "" {
			continue
		}
		if err := e.Mail(&engine.Envelope{From: address, To: []string{"c@d"}}); !errors.Is(err,
			engine.ErrInvalid) || len(e.Output()) > 0 {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, name := range []string{"", "a b", "a\r\nb", "a\x00", "ä", strings.Repeat("a", 256),
		"<a>"} {
		if err := engine.CheckName(name); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%q is a name", name)
		}
	}
	e := begin(t, engine.Config{})
	for _, argument := range []string{"a\r\nb", "a\nb", "a\x00", "\x7f"} {
		if err := e.Command("VRFY", argument); !errors.Is(err, engine.ErrInvalid) ||
			len(e.Output()) > 0 {
			t.Errorf("%q: %v", argument, err)
		}
	}
}

func TestWordsOutOfTurn(t *testing.T) {
	e := begin(t, engine.Config{})
	if err := e.Line([]byte("250 x\r\n")); !errors.Is(err, engine.ErrProtocol) || !e.Broken() {
		t.Errorf("%v", err)
	}
	e = begin(t, engine.Config{})
	check(t, e.Command("NOOP", ""))
	if !e.Quiet() {
		t.Error("the server may speak before it is asked")
	}
	e.Output()
	if e.Quiet() {
		t.Error("the server has nothing to answer")
	}
	_, err := talk(e, "250 ok")
	check(t, err)
	if !e.Quiet() || e.Answer() != "ok" {
		t.Error(e.Answer())
	}
}
