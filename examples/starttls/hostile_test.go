package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A trial is a server that misbehaves, and what becomes of it.
type trial struct {
	name   string
	script func(*peer)
	args   []string
	phase  string   // with which the error begins
	want   []string // what else it says
	heard  string   // what the server heard over TLS, see peer.verbs
}

// patience is much more than any trial needs, and less than the time-outs that hold unless -timeout
// is heeded everywhere.
const patience = 5 * time.Second

// try runs trials side by side. Each ends with status 1 and one line that names the phase.
func try(t *testing.T, trials []trial) {
	for _, trial := range trials {
		t.Run(trial.name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t, trial.script)
			began := time.Now()
			status, stdout, stderr := attempt(t, p.addr, trial.args...)
			if took := time.Since(began); took > patience {
				t.Errorf("took %v", took)
			}
			<-p.done
			checkFailure(t, status, stderr, trial.phase, trial.want...)
			p.checkWire(t)
			if heard := p.verbs(); heard != trial.heard {
				t.Errorf("over TLS the server heard %q, want %q", heard, trial.heard)
			}
			for _, secret := range secrets() {
				if strings.Contains(stdout+stderr, secret) {
					t.Errorf("%q was printed", secret)
				}
			}
			if strings.ContainsFunc(stdout+stderr, func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f }) {
				t.Errorf("control characters were printed: %q", stdout+stderr)
			}
		})
	}
}

func checkFailure(t *testing.T, status int, stderr, phase string, want ...string) {
	t.Helper()
	if status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
		t.Errorf("not one line: %q", stderr)
	}
	if prefix := "starttls: " + phase + ": "; !strings.HasPrefix(stderr, prefix) {
		t.Errorf("%q doesn't begin with %q", stderr, prefix)
	}
	for _, text := range want {
		if !strings.Contains(stderr, text) {
			t.Errorf("%q doesn't say %q", stderr, text)
		}
	}
}

func TestConnectionThatCannotBeMade(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	status, _, stderr := attempt(t, listener.Addr().String())
	checkFailure(t, status, stderr, "connect", listener.Addr().String()+" refuses the connection")

	status, _, stderr = attempt(t, "nobody.invalid:25", "-timeout", "1s")
	checkFailure(t, status, stderr, "connect") // an answer, or none in time
}

// The ids are those of the catalogue of STARTTLS attacks; see "Why TLS is better without STARTTLS"
// (USENIX Security 2021).
func TestPlaintextInjectedAroundTheUpgrade(t *testing.T) {
	t.Parallel()
	upgrade := func(answer string) func(*peer) {
		return func(p *peer) { toSTARTTLS(p); p.say(answer) }
	}
	const pending = "plaintext was injected"
	try(t, []trial{
		{name: "B1 reply behind 220", script: upgrade("220 go\r\n250-x\r\n250 AUTH LOGIN\r\n"),
			phase: "TLS handshake", want: []string{pending}},
		{name: "B2 fragment behind 220", script: upgrade("220 go\r\n250-INJ"), phase: "TLS handshake", want: []string{pending}},
		{name: "B3 reply instead of ServerHello", script: func(p *peer) {
			upgrade("220 go\r\n")(p)
			time.Sleep(50 * time.Millisecond)
			p.say("250 AUTH PLAIN\r\n")
		}, phase: "TLS handshake", want: []string{"plaintext answered", `"250 A"`}},
		{name: "B4 reply before 220", script: upgrade("250 SIZE 1\r\n220 go\r\n"),
			phase: "STARTTLS dialogue", want: []string{"STARTTLS: unexpected answer", `"250 SIZE 1"`, "want 220"}},
		{name: "B4 reply before STARTTLS", script: func(p *peer) {
			p.say("220 mail.test\r\n")
			p.ask("EHLO ", "250-mail.test\r\n250 STARTTLS\r\n220 go\r\n")
		}, phase: "STARTTLS dialogue", want: []string{"STARTTLS: the server spoke out of turn", "220 go"}},
		{name: "B6 421 behind 220", script: upgrade("220 go\r\n421 bye\r\n"), phase: "TLS handshake", want: []string{pending}},
		{name: "B6 221 behind 220", script: upgrade("220 go\r\n221 bye\r\n"), phase: "TLS handshake", want: []string{pending}},
		{name: "B7 TLS alert behind 220", script: upgrade("220 go\r\n\x15\x03\x03\x00\x02\x02\x28"),
			phase: "TLS handshake", want: []string{pending}},
		{name: "B8 flood behind 220", script: upgrade("220 go\r\n" + strings.Repeat("x", 4<<20)),
			phase: "TLS handshake", want: []string{pending}},
		{name: "B9 LF alone", script: upgrade("220 go\n220 go\r\n"), phase: "STARTTLS dialogue", want: []string{"stray CR, LF"}},
		{name: "B9 CR alone", script: upgrade("220 go\r220 go\r\n"), phase: "STARTTLS dialogue", want: []string{"stray CR, LF"}},
	})
}

// B10. Whether the reply comes before or after the question is asked depends on the network; either
// way it isn't taken for an offer of AUTH.
func TestReplyOverTLSBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	p := startPeer(t, func(p *peer) {
		toTLS(p)
		p.say("250 AUTH PLAIN\r\n")
		p.ask("EHLO ", "250 mail.test\r\n")
		p.hear("QUIT")
	})
	status, _, stderr := attempt(t, p.addr)
	<-p.done
	checkFailure(t, status, stderr, "login")
	p.checkWire(t)
	if verbs := p.verbs(); strings.Contains(verbs, "AUTH") || strings.Contains(verbs, "MAIL") {
		t.Errorf("the server heard %q", verbs)
	}
}

func TestSTARTTLSNotOfferedOrRefused(t *testing.T) {
	t.Parallel()
	hello := func(answer string) func(*peer) {
		return func(p *peer) { p.say("220 mail.test\r\n"); p.ask("EHLO ", answer) }
	}
	trials := []trial{
		{name: "N1 not offered", script: hello("250-mail.test\r\n250 AUTH PLAIN LOGIN\r\n"),
			phase: "STARTTLS dialogue", want: []string{"does not offer STARTTLS"}},
		{name: "N5 EHLO unknown", script: hello("502 what?\r\n"),
			phase: "STARTTLS dialogue", want: []string{"EHLO: refused", "502 what?"}},
		{name: "N6 closed after STARTTLS", script: func(p *peer) { toSTARTTLS(p); p.end() },
			phase: "STARTTLS dialogue", want: []string{"STARTTLS: the server closed the connection"}},
		{name: "N6 closed after 220", script: func(p *peer) { toSTARTTLS(p); p.say("220 go\r\n"); p.end() },
			phase: "TLS handshake", want: []string{"the server closed the connection before the handshake"}},
		{name: "N11 XSTARTTLS", script: hello("250-mail.test\r\n250 XSTARTTLS\r\n"),
			phase: "STARTTLS dialogue", want: []string{"does not offer STARTTLS"}},
		{name: "N11 STARTTLS as an argument", script: hello("250-mail.test\r\n250 HELP STARTTLS\r\n"),
			phase: "STARTTLS dialogue", want: []string{"does not offer STARTTLS"}},
		{name: "N11 STARTTLS as the server's name", script: hello("250-STARTTLS\r\n250 SIZE\r\n"),
			phase: "STARTTLS dialogue", want: []string{"does not offer STARTTLS"}},
		{name: "two codes", script: hello("250-mail.test\r\n220 STARTTLS\r\n"),
			phase: "STARTTLS dialogue", want: []string{"two codes"}},
		{name: "reply without end", script: hello(strings.Repeat("250-SIZE\r\n", 200)),
			phase: "STARTTLS dialogue", want: []string{"EHLO: a reply without end"}},
		{name: "line without end", script: hello("250 " + strings.Repeat("x", 100_000)),
			phase: "STARTTLS dialogue", want: []string{"EHLO: a line of the reply has more than 1024 bytes"}},
		{name: "control characters", script: hello("554 \x1b[31mred\x7f\u202e\xff\r\n"),
			phase: "STARTTLS dialogue", want: []string{`\x1b[31mred`, "anybody on the wire"}},
	}
	for _, answer := range []string{
		"502 no", "454 not now", "354 do something else", // N2, N3, N4
		"200 220 go", "221 bye", "250 ok", "334 ", "421 busy", "451 later", "500 what?", "530 no", "554 no",
	} {
		trials = append(trials, trial{name: "STARTTLS answered " + answer, script: func(p *peer) { toSTARTTLS(p); p.say(answer + "\r\n") },
			phase: "STARTTLS dialogue", want: []string{"STARTTLS: ", `"` + answer + `"`, "anybody on the wire"}})
	}
	for _, answer := range []string{"", "220", "22O go", "220_go", " 220 go", "2200 go", "+OK", "A1 OK begin"} {
		trials = append(trials, trial{name: "STARTTLS answered " + answer, script: func(p *peer) { toSTARTTLS(p); p.say(answer + "\r\n") },
			phase: "STARTTLS dialogue", want: []string{"STARTTLS: not an SMTP reply: ", `"` + answer + `"`}})
	}
	try(t, trials)
}

func TestGreetingThatIsNone(t *testing.T) {
	t.Parallel()
	greet := func(text string) func(*peer) { return func(p *peer) { p.say(text) } }
	try(t, []trial{
		{name: "N13 554", script: greet("554 go away\r\n"), phase: "greeting", want: []string{`refused with "554 go away"`}},
		{name: "N13 421", script: greet("421 busy\r\n"), phase: "greeting", want: []string{`refused with "421 busy"`}},
		{name: "N13 junk", script: greet("SSH-2.0-x\r\n"), phase: "greeting", want: []string{"not an SMTP reply"}},
		{name: "N13 tagged", script: greet("a1 OK ready\r\n"), phase: "greeting", want: []string{"not an SMTP reply"}},
		{name: "N13 TLS", script: greet("\x15\x03\x03\x00\x02\x02\x28\r\n"), phase: "greeting", want: []string{"stray CR, LF or NUL"}},
		{name: "250", script: greet("250 ok\r\n"), phase: "greeting", want: []string{`unexpected answer "250 ok", want 220`}},
		{name: "closed", script: (*peer).end, phase: "greeting", want: []string{"the server closed the connection"}},
		{name: "closed in a line", script: func(p *peer) { p.say("220 ma"); p.end() },
			phase: "greeting", want: []string{"the server closed the connection"}},
		{name: "answers to what was not asked", script: greet("220 mail.test\r\n250-mail.test\r\n250 STARTTLS\r\n220 go\r\n"),
			phase: "STARTTLS dialogue", want: []string{"EHLO: the server spoke out of turn"}},
	})
}

func TestCertificateThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	other, err := devca.New("another authority")
	if err != nil {
		t.Fatal(err)
	}
	show := func(ca *devca.CA, request devca.Request) func(*peer) {
		return func(p *peer) { p.cert = issue(p.t, ca, request); toTLS(p) }
	}
	here := []string{"localhost", "127.0.0.1"}
	try(t, []trial{
		{name: "N15 for another name", script: func(p *peer) {
			p.cert = issue(p.t, authority(), devca.Request{Names: []string{"evil.test"}})
			p.say("220 evil.test\r\n")
			p.ask("EHLO ", "250-evil.test\r\n250 STARTTLS\r\n")
			p.ask("STARTTLS", "220 go\r\n")
			p.startTLS()
		}, phase: "TLS handshake", want: []string{"name mismatch", `"evil.test"`, "127.0.0.1"}},
		{name: "for another -server-name", script: show(authority(), devca.Request{Names: here}),
			args: []string{"-server-name", "good.test"}, phase: "TLS handshake", want: []string{"name mismatch", "good.test"}},
		{name: "of another authority", script: show(other, devca.Request{Names: here}),
			phase: "TLS handshake", want: []string{"unknown authority", "another authority", "-ca"}},
		{name: "expired", script: show(authority(), devca.Request{Names: here, NotAfter: time.Now().Add(-48 * time.Hour)}),
			phase: "TLS handshake", want: []string{"expired", "ended on"}},
		{name: "not yet valid", script: show(authority(), devca.Request{Names: here, NotBefore: time.Now().Add(48 * time.Hour)}),
			phase: "TLS handshake", want: []string{"not yet valid"}},
	})
}

func TestRefusalOverTLS(t *testing.T) {
	t.Parallel()
	then := func(station func(*peer), answer string) func(*peer) {
		return func(p *peer) { station(p); p.say(answer); p.hear("QUIT") }
	}
	hello := func(answer string) func(*peer) {
		return func(p *peer) { toTLS(p); p.ask("EHLO ", answer); p.hear("QUIT") }
	}
	try(t, []trial{
		{name: "N8 AUTH offered in plaintext only", script: func(p *peer) {
			p.say("220 mail.test\r\n")
			p.ask("EHLO ", "250-mail.test\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n")
			p.ask("STARTTLS", "220 go\r\n")
			p.startTLS()
			p.ask("EHLO ", "250-mail.test\r\n250 SIZE 99\r\n")
			p.hear("QUIT")
		}, phase: "login", want: []string{"does not offer AUTH over TLS"}, heard: "EHLO QUIT"},
		{name: "N9 EHLO", script: hello("502 what?\r\n"), phase: "login", want: []string{`EHLO: refused with "502 what?"`}, heard: "EHLO QUIT"},
		{name: "AUTH of other kinds", script: hello("250-mail.test\r\n250 AUTH SCRAM-SHA-256 XPLAIN\r\n"),
			phase: "login", want: []string{`"SCRAM-SHA-256 XPLAIN"`, "PLAIN and LOGIN"}, heard: "EHLO QUIT"},
		{name: "AUTH", script: then(toAUTH, "504 not that\r\n"), phase: "login", want: []string{`AUTH: refused with "504 not that"`}, heard: "EHLO AUTH QUIT"},
		{name: "password", script: func(p *peer) {
			toAUTH(p)
			p.say("334 \r\n")
			p.hear("")
			p.say("535-5.7.8 unknown command " + p.heard[2] + "\r\n535 5.7.8 wrong\r\n") // the password comes back
			p.hear("QUIT")
		}, phase: "login", want: []string{"AUTH PLAIN: refused with", "535 5.7.8", "wrong", "********"}, heard: "EHLO AUTH * QUIT"},
		{name: "MAIL", script: then(toMAIL, "550 not you\r\n"), phase: "mail", want: []string{`MAIL FROM: refused with "550 not you"`},
			heard: "EHLO AUTH * MAIL QUIT"},
		{name: "RCPT", script: then(toRCPT, "550-5.1.1 unknown\r\n550 5.1.1 user\r\n"), phase: "mail",
			want: []string{`RCPT TO: refused with "550 5.1.1 unknown 5.1.1 user"`}, heard: "EHLO AUTH * MAIL RCPT QUIT"},
		{name: "DATA", script: then(toDATA, "554 no\r\n"), phase: "mail", want: []string{`DATA: refused with "554 no"`},
			heard: "EHLO AUTH * MAIL RCPT DATA QUIT"},
		{name: "message", script: then(toEnd, "552 too large\r\n"), phase: "mail", want: []string{`end of message: refused with "552 too large"`},
			heard: "EHLO AUTH * MAIL RCPT DATA message QUIT"},
	})
}

// N14: whatever step a server stalls at, the time-out ends it and the error names it.
func TestServerThatStalls(t *testing.T) {
	t.Parallel()
	const all = "EHLO AUTH * MAIL RCPT DATA message QUIT"
	drip := func(p *peer, line string) {
		for range 90 { // each in time, the whole is not
			p.say(line)
			time.Sleep(100 * time.Millisecond)
		}
	}
	var trials []trial
	for _, stall := range []struct {
		step, phase, want, heard string
		script                   func(*peer)
	}{
		{"greeting", "greeting", "no answer within 300ms", "", func(*peer) {}},
		{"half a greeting", "greeting", "no answer within 300ms", "", func(p *peer) { p.say("220-mail.test\r\n220 E") }},
		{"EHLO", "STARTTLS dialogue", "EHLO: no answer", "", func(p *peer) { p.say("220 mail.test\r\n") }},
		{"STARTTLS", "STARTTLS dialogue", "STARTTLS: no answer", "", toSTARTTLS},
		{"ServerHello", "TLS handshake", "timeout", "", func(p *peer) { toSTARTTLS(p); p.say("220 go\r\n") }},
		{"EHLO over TLS", "login", "EHLO: no answer", "EHLO", func(p *peer) { toTLS(p); p.hear("EHLO ") }},
		{"AUTH", "login", "AUTH: no answer", "EHLO AUTH", toAUTH},
		{"password", "login", "AUTH PLAIN: no answer", "EHLO AUTH *", func(p *peer) { toAUTH(p); p.say("334 \r\n"); p.hear("") }},
		{"MAIL", "mail", "MAIL FROM: no answer", "EHLO AUTH * MAIL", toMAIL},
		{"RCPT", "mail", "RCPT TO: no answer", "EHLO AUTH * MAIL RCPT", toRCPT},
		{"DATA", "mail", "DATA: no answer", "EHLO AUTH * MAIL RCPT DATA", toDATA},
		{"end of message", "mail", "end of message: no answer", "EHLO AUTH * MAIL RCPT DATA message", toEnd},
		{"QUIT", "quit", "the mail was accepted", all, toQUIT},
		{"a line of the reply at a time", "STARTTLS dialogue", "EHLO: no answer", "", func(p *peer) {
			p.say("220 mail.test\r\n")
			p.hear("EHLO ")
			drip(p, "250-SIZE\r\n")
		}},
		{"a line of the greeting at a time", "greeting", "no answer", "", func(p *peer) { drip(p, "220-mail.test\r\n") }},
	} {
		timeout := "300ms"
		if stall.heard != "" {
			timeout = "1s" // the handshake has to be done in time, on a busy machine
		}
		trials = append(trials, trial{name: stall.step, script: stall.script, args: []string{"-timeout", timeout},
			phase: stall.phase, want: []string{stall.want}, heard: stall.heard})
	}
	try(t, trials)
}
