//go:build linux

package probe_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// in makes the target one of STARTTLS in a protocol.
func in(protocol string) func(*probe.Target, *probe.Options) {
	return func(target *probe.Target, _ *probe.Options) { target.StartTLS = protocol }
}

// A mail is a server of one of the protocols, as far as the tests need it.
type mail struct {
	greeting string
	answers  map[string]string // by the command's verb; that of startTLS is the consent
	startTLS string
	tagged   bool   // IMAP: the verb is the second word, and {tag} in an answer the first
	secured  string // what is said when TLS stands, unasked
}

var mails = map[string]mail{
	"smtp": {
		greeting: "220 mail.test ESMTP\r\n", startTLS: "STARTTLS",
		answers: map[string]string{
			"EHLO": "250-mail.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n", "STARTTLS": "220 go\r\n",
			"NOOP": "250 ok\r\n",
		},
	},
	"lmtp": {
		greeting: "220 mail.test LMTP\r\n", startTLS: "STARTTLS",
		answers: map[string]string{
			"LHLO": "250-mail.test\r\n250 STARTTLS\r\n", "STARTTLS": "220 go\r\n",
			"NOOP": "250 ok\r\n",
		},
	},
	"imap": {
		greeting: "* OK ready\r\n", startTLS: "STARTTLS", tagged: true,
		answers: map[string]string{
			"CAPABILITY": "* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK done\r\n",
			"STARTTLS":   "{tag} OK begin\r\n", "NOOP": "{tag} OK done\r\n",
		},
	},
	"pop3": {
		greeting: "+OK ready\r\n", startTLS: "STLS",
		answers: map[string]string{"CAPA": "+OK\r\nSTLS\r\n.\r\n", "STLS": "+OK begin\r\n"},
	},
	"ftp": {
		greeting: "220-files\r\n220 here\r\n", startTLS: "AUTH",
		answers: map[string]string{
			"AUTH": "234 go\r\n", "PBSZ": "200 ok\r\n", "PROT": "200 ok\r\n", "NOOP": "200 ok\r\n",
		},
	},
	"nntp": {
		greeting: "201 news\r\n", startTLS: "STARTTLS",
		answers: map[string]string{
			"CAPABILITIES": "101 list\r\nSTARTTLS\r\n.\r\n", "STARTTLS": "382 go\r\n",
			"DATE": "111 20260101000000\r\n",
		},
	},
	"sieve": {
		greeting: "\"STARTTLS\"\r\nOK\r\n", startTLS: "STARTTLS",
		answers: map[string]string{"STARTTLS": "OK\r\n", "NOOP": "OK\r\n"},
		secured: "\"SIEVE\" \"fileinto\"\r\nOK\r\n",
	},
}

// answer returns the answer to a command, and whether TLS follows.
func (m mail) answer(command string) (string, bool) {
	fields := strings.Fields(command)
	tag := ""
	if m.tagged && len(fields) > 1 {
		tag, fields = fields[0], fields[1:]
	}
	if len(fields) == 0 {
		return "", false
	}
	answer, ok := m.answers[strings.ToUpper(fields[0])]
	if !ok {
		return "500 no\r\n", false
	}
	return strings.ReplaceAll(answer, "{tag}", tag), strings.EqualFold(fields[0], m.startTLS)
}

// The ways of a server with what came in plaintext behind STARTTLS.
const (
	drops   = "drops it"
	closes  = "closes"
	clear   = "answers it in plaintext"
	runs    = "runs it over TLS"
	belated = "runs it with the next command"
	stalls  = "makes no handshake"
	drips   = "has no end of lines"
)

// server plays a mail.
func (m mail) server(config *tls.Config, way string) func(net.Conn) {
	return func(raw net.Conn) {
		io.WriteString(raw, m.greeting)
		plain := bufio.NewReader(raw)
		for {
			command, err := plain.ReadString('\n')
			if err != nil {
				return
			}
			answer, secure := m.answer(command)
			pending := plain.Buffered() > 0
			if secure && pending && way == closes {
				return
			}
			if secure && pending && way == stalls {
				io.WriteString(raw, answer)
				io.Copy(io.Discard, plain)
				return
			}
			if way == drips && strings.Contains(command, "whorl-probe") {
				drip(raw)
				return
			}
			if secure && pending && way == clear {
				second, _ := plain.ReadString('\n')
				reply, _ := m.answer(second)
				answer += reply
			}
			io.WriteString(raw, answer)
			if secure {
				break
			}
		}
		kept, _ := plain.Peek(plain.Buffered())
		overTLS(raw, raw, config, func(conn *tls.Conn) { m.secure(conn, string(kept), way) })
	}
}

// drip says a line from time to time, until the client leaves or the server is tired of it.
func drip(conn net.Conn) {
	for range 150 {
		if _, err := io.WriteString(conn, "250-mail.test\r\n"); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	io.WriteString(conn, "250 STARTTLS\r\n")
}

func (m mail) secure(conn *tls.Conn, kept, way string) {
	io.WriteString(conn, m.secured)
	reply, _ := m.answer(kept)
	if kept != "" && way == runs {
		io.WriteString(conn, reply)
	}
	commands := bufio.NewReader(conn)
	for {
		command, err := commands.ReadString('\n')
		if err != nil {
			return
		}
		if kept != "" && way == belated {
			io.WriteString(conn, reply)
			kept = ""
		}
		answer, _ := m.answer(command)
		io.WriteString(conn, answer)
	}
}

func TestInjection(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	for protocol, server := range mails {
		for way, verdict := range map[string]probe.Verdict{
			drops: probe.Safe, closes: probe.Safe, clear: probe.Safe,
			runs: probe.Vulnerable, belated: probe.Vulnerable,
		} {
			t.Run(protocol+" "+way, func(t *testing.T) {
				t.Parallel()
				report := run(t, ca, serve(t, server.server(config, way)), in(protocol),
					func(_ *probe.Target, o *probe.Options) { o.Injection = true })
				if got := report.Injection; got == nil || got.Verdict != verdict {
					t.Fatalf("want %s, got %+v\n%s", verdict, got, summary(report))
				}
				if verdict == probe.Vulnerable {
					wantOnly(t, report, probe.IDInjection, "CVE-2011-0411")
				} else {
					wantNothing(t, report)
				}
			})
		}
	}
	for _, way := range []string{stalls, drips} {
		t.Run("smtp "+way, func(t *testing.T) {
			t.Parallel()
			report := run(t, ca, serve(t, mails["smtp"].server(config, way)), in("smtp"),
				func(_ *probe.Target, o *probe.Options) {
					o.Injection, o.Timeout = true, 2*time.Second
				})
			if got := report.Injection; got == nil || got.Verdict != probe.Inconclusive {
				t.Fatalf("got %+v\n%s", got, summary(report))
			}
		})
	}
	_, err := probe.Run(
		t.Context(),
		probe.Target{Host: name, Port: 1},
		probe.Options{Injection: true},
	)
	if err == nil {
		t.Error("a server without STARTTLS is tested for injection")
	}
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	smtp := func(change map[string]string) func(net.Conn) {
		m := mails["smtp"]
		answers := map[string]string{}
		for _, from := range []map[string]string{m.answers, change} {
			for verb, answer := range from {
				answers[verb] = answer
			}
		}
		m.answers = answers
		return m.server(config, drops)
	}
	for _, test := range []struct {
		kind  string
		play  func(net.Conn)
		id    explain.ID
		words []string
	}{
		{"not offered", smtp(map[string]string{"EHLO": "250-mail.test\r\n250 SIZE\r\n"}),
			probe.IDNotOffered, nil},
		{"refused", smtp(map[string]string{"STARTTLS": "454 not now\r\n"}), probe.IDStartRefused,
			[]string{"454"}},
		{"plaintext behind the consent", smtp(map[string]string{"STARTTLS": "220 go\r\n250 " +
			"more\r\n"}),
			probe.IDStartInjected, nil},
		{"another protocol", says("* OK IMAP ready\r\n"), probe.IDStartProtocol, nil},
		{"row 19, 20: TLS from the start", secure(config, nil), probe.IDPortImplicit,
			[]string{"TLS from the start works"}},
		{"nothing is said", func(conn net.Conn) { io.Copy(io.Discard, conn) }, probe.IDPortSilent,
			nil},
		{"hangs up", func(net.Conn) {}, explain.IDClosed, nil},
		{"plaintext in place of the handshake", func(conn net.Conn) {
			m := mails["smtp"]
			io.WriteString(conn, m.greeting)
			r := bufio.NewReader(conn)
			for range 2 {
				command, _ := r.ReadString('\n')
				answer, _ := m.answer(command)
				io.WriteString(conn, answer)
			}
			r.ReadByte()
			io.WriteString(conn, "550 no\r\n")
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		}, probe.IDStartInjected, nil},
	} {
		t.Run(test.kind, func(t *testing.T) {
			t.Parallel()
			change := in("smtp")
			if test.id == probe.IDPortSilent || test.id == probe.IDPortImplicit {
				change = func(to *probe.Target, o *probe.Options) {
					in("smtp")(to, o)
					briefly(to, o)
				}
			}
			report := run(t, ca, serve(t, test.play), change)
			wantOnly(t, report, test.id, test.words...)
			if last := report.Layers[len(report.Layers)-1]; last.Name != "starttls" ||
				last.Status != probe.Failed {
				t.Errorf("%+v", last)
			}
		})
	}
}

// What is behind TLS is another matter than TLS.
func TestNonsenseOverTLS(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	play := func(conn net.Conn) {
		m := mails["smtp"]
		io.WriteString(conn, m.greeting)
		r := bufio.NewReader(conn)
		for range 2 {
			command, _ := r.ReadString('\n')
			answer, _ := m.answer(command)
			io.WriteString(conn, answer)
		}
		overTLS(
			conn,
			conn,
			config,
			func(conn *tls.Conn) { io.WriteString(conn, "nonsense\r\n") },
		)
	}
	report := run(t, ca, serve(t, play), in("smtp"))
	wantOnly(t, report, probe.IDStartSession, "nonsense")
	if report.Offers == nil || taken(report.Offers.Versions, "TLS 1.3") != probe.Yes {
		t.Errorf("%+v", report.Offers)
	}
}

func TestStartTLSInEachProtocol(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	for protocol := range mails {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			report := run(t, ca, serve(t, mails[protocol].server(config, drops)), in(protocol))
			wantNothing(t, report)
			if report.Offers == nil || report.Session == nil {
				t.Fatal(summary(report))
			}
			if protocol == "smtp" &&
				(report.Answer == nil || !strings.Contains(report.Answer.Text, "SIZE")) {
				t.Errorf("%+v", report.Answer)
			}
		})
	}
}

func TestMistakesOfTheCaller(t *testing.T) {
	t.Parallel()
	for _, target := range []probe.Target{
		{}, {Host: name}, {Host: name, Port: 70000}, {Host: name, Port: 1, StartTLS: "gopher"},
		{Host: name, Port: 1, Scheme: "ftp"}, {Host: name, Port: 1, Scheme: "wss",
			StartTLS: "smtp"},
		{Host: name, Port: 1, Scheme: "wss", Path: "/a b"},
	} {
		if _, err := probe.Run(t.Context(), target, probe.Options{}); err == nil {
			t.Errorf("%+v is taken", target)
		}
	}
	for text, want := range map[string]probe.Target{
		"mail.test:25":             {Host: name, Port: 25},
		"[::1]:25":                 {Host: "::1", Port: 25},
		"https://mail.test":        {Host: name, Port: 443, Scheme: "https", Path: "/"},
		"wss://mail.test:8443/a?b": {Host: name, Port: 8443, Scheme: "wss", Path: "/a?b"},
	} {
		if got, err := probe.ParseTarget(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "mail.test", ":25", "mail.test:", "mail.test:x", "ftp://x",
		"https://", "https://me:secret@mail.test/", "wss://me@mail.test", "http://x:1%"} {
		if got, err := probe.ParseTarget(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
