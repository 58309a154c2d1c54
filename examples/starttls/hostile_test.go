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
			if strings.ContainsFunc(stdout+stderr, func(c rune) bool {
				return c < ' ' &&
					c != '\n' || c == 0x7f
			}) {
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

// The tests of package starttls have all the cases. Here are some of each kind, to see what a person
// is told.
func TestUpgradeThatFails(t *testing.T) {
	t.Parallel()
	upgrade := func(answer string) func(*peer) {
		return func(p *peer) { toSTARTTLS(p); p.say(answer) }
	}
	hello := func(answer string) func(*peer) {
		return func(p *peer) { p.say("220 mail.test\r\n"); p.ask("EHLO ", answer) }
	}
	other, err := devca.New("another authority")
	if err != nil {
		t.Fatal(err)
	}
	trials := []trial{
		{name: "B1 reply behind 220", script: upgrade("220 go\r\n250-x\r\n250 AUTH LOGIN\r\n"),
			phase: "upgrade: handshake", want: []string{"plaintext was sent behind",
				"anybody on the wire"}},
		{name: "N1 not offered", script: hello("250-mail.test\r\n250 AUTH PLAIN LOGIN\r\n"),
			phase: "upgrade: capabilities", want: []string{"does not offer TLS"}},
		{name: "N2 refused", script: upgrade("502 no\r\n"), phase: "upgrade: starttls",
			want: []string{"refuses", `"502 no"`, "anybody on the wire"}},
		{name: "N6 closed after 220", script: func(p *peer) { upgrade("220 go\r\n")(p); p.end() },
			phase: "upgrade: handshake", want: []string{"the server closed the connection before the handshake"}},
		{name: "N13 554", script: func(p *peer) { p.say("554 go \x1b[31maway\u202e\r\n") },
			phase: "upgrade: greeting", want: []string{`"554 go`}},
		{name: "closed", script: (*peer).end, phase: "upgrade: greeting",
			want: []string{"the server closed the connection"}},
		{name: "of another authority", script: func(p *peer) {
			p.cert = issue(p.t, other, devca.Request{Names: []string{"localhost", "127.0.0.1"}})
			toTLS(p)
		}, phase: "upgrade: handshake", want: []string{"unknown authority", "another authority", "-ca"}},
		{name: "for another -server-name", script: toTLS,
			args: []string{"-server-name",
				"good.test"}, phase: "upgrade: handshake", want: []string{"name mismatch", "good.test"}},
	}
	try(t, trials)
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
		{name: "N9 EHLO", script: hello("502 what?\r\n"), phase: "upgrade: session over TLS",
			want: []string{"refuses", `"502 what?"`}, heard: "EHLO"},
		{name: "AUTH of other kinds",
			script: hello("250-mail.test\r\n250 AUTH SCRAM-SHA-256 XPLAIN\r\n"),
			phase:  "login", want: []string{`"SCRAM-SHA-256 XPLAIN"`,
				"PLAIN and LOGIN"}, heard: "EHLO QUIT"},
		{name: "AUTH", script: then(toAUTH, "504 not that\r\n"), phase: "login",
			want: []string{`AUTH: refused with "504 not that"`}, heard: "EHLO AUTH QUIT"},
		{name: "password", script: func(p *peer) {
			toAUTH(p)
			p.say("334 \r\n")
			p.hear("")
			p.say("535-5.7.8 unknown command " + p.heard[2] + "\r\n535 5.7.8 wrong\r\n") // the password comes back
			p.hear("QUIT")
		}, phase: "login", want: []string{"AUTH PLAIN: refused with", "535 5.7.8", "wrong", "********"}, heard: "EHLO AUTH * QUIT"},
		{name: "MAIL", script: then(toMAIL, "550 not you\r\n"), phase: "mail",
			want:  []string{`MAIL FROM: refused with "550 not you"`},
			heard: "EHLO AUTH * MAIL QUIT"},
		{name: "RCPT", script: then(toRCPT, "550-5.1.1 unknown\r\n550 5.1.1 user\r\n"),
			phase: "mail",
			want:  []string{`RCPT TO: refused with "550 5.1.1 unknown 5.1.1 user"`}, heard: "EHLO AUTH * MAIL RCPT QUIT"},
		{name: "DATA", script: then(toDATA, "554 no\r\n"), phase: "mail",
			want:  []string{`DATA: refused with "554 no"`},
			heard: "EHLO AUTH * MAIL RCPT DATA QUIT"},
		{name: "message", script: then(toEnd, "552 too large\r\n"), phase: "mail",
			want:  []string{`end of message: refused with "552 too large"`},
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
		{"greeting", "upgrade: greeting", "no answer within 300ms", "", func(*peer) {}},
		{"half a greeting", "upgrade: greeting", "no answer within 300ms", "",
			func(p *peer) { p.say("220-mail.test\r\n220 E") }},
		{"EHLO", "upgrade: capabilities", "no answer", "",
			func(p *peer) { p.say("220 mail.test\r\n") }},
		{"STARTTLS", "upgrade: starttls", "no answer", "", toSTARTTLS},
		{"ServerHello", "upgrade: handshake", "timeout", "",
			func(p *peer) { toSTARTTLS(p); p.say("220 go\r\n") }},
		{"EHLO over TLS", "upgrade: session over TLS", "no answer", "EHLO",
			func(p *peer) { toTLS(p); p.hear("EHLO ") }},
		{"AUTH", "login", "AUTH: no answer", "EHLO AUTH", toAUTH},
		{"password", "login", "AUTH PLAIN: no answer", "EHLO AUTH *",
			func(p *peer) { toAUTH(p); p.say("334 \r\n"); p.hear("") }},
		{"MAIL", "mail", "MAIL FROM: no answer", "EHLO AUTH * MAIL", toMAIL},
		{"RCPT", "mail", "RCPT TO: no answer", "EHLO AUTH * MAIL RCPT", toRCPT},
		{"DATA", "mail", "DATA: no answer", "EHLO AUTH * MAIL RCPT DATA", toDATA},
		{"end of message", "mail", "end of message: no answer",
			"EHLO AUTH * MAIL RCPT DATA message", toEnd},
		{"QUIT", "quit", "the mail was accepted", all, toQUIT},
		{"a line of the reply at a time", "upgrade: capabilities", "no answer", "", func(p *peer) {
			p.say("220 mail.test\r\n")
			p.hear("EHLO ")
			drip(p, "250-SIZE\r\n")
		}},
		{"a line of the greeting at a time", "upgrade: greeting", "no answer", "",
			func(p *peer) { drip(p, "220-mail.test\r\n") }},
	} {
		timeout := "300ms"
		if stall.heard != "" {
			timeout = "1s" // the handshake has to be done in time, on a busy machine
		}
		trials = append(trials, trial{name: stall.step, script: stall.script,
			args:  []string{"-timeout", timeout},
			phase: stall.phase, want: []string{stall.want}, heard: stall.heard})
	}
	try(t, trials)
}
