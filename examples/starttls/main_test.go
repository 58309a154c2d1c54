package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/program"
)

// runAs runs the program and returns its exit status.
func runAs(args []string, stdout, stderr io.Writer) int {
	return program.Status(context.Background(), "starttls", run, args, stdout, stderr)
}

func TestMailToTheServerInTheProcess(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if status := runAs(nil, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	// In this order.
	rest := stdout.String()
	for _, want := range []string{
		"Server: localhost:",
		"plain  S: 220 localhost",
		"plain  C: EHLO [127.0.0.1]",
		"plain  S: 250-STARTTLS",
		"plain  C: STARTTLS",
		"plain  S: 220 2.0.0 Ready",
		"  TLS  C: EHLO [127.0.0.1]",
		"  TLS  S: 250-AUTH PLAIN",
		"  TLS  C: AUTH PLAIN",
		"  TLS  C: ********",
		"  TLS  S: 235 ",
		"  TLS  C: MAIL FROM:<alice@example.com>",
		"  TLS  C: RCPT TO:<bob@example.com>",
		"  TLS  C: DATA",
		"  TLS  C: ..A line",
		"  TLS  C: ..\n",
		"  TLS  C: .\n",
		"  TLS  S: 250 ",
		"  TLS  C: QUIT",
		"  TLS  S: 221 ",
		"Agreed on: TLS 1.3, TLS_",
		"connect ", "upgrade ", "login ", "mail ", "quit ",
		"from alice@example.com, who logged in as alice, to bob@example.com:",
		"| Subject: Hello over STARTTLS",
		"| .A line",
		"| .\n",
		"| So does a line that is a dot.\n",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("%q is missing, or not in its place, in:\n%s", want, &stdout)
		}
		rest = after
	}
	if rest != "" {
		t.Errorf("more than the mail: %q", rest)
	}
}

func TestMailToARealServer(t *testing.T) {
	t.Parallel()
	usual := func(p *peer) { toQUIT(p); p.say("221 bye\r\n") }
	const heard = "EHLO AUTH * MAIL RCPT DATA message QUIT"
	for _, test := range []struct {
		name   string
		script func(*peer)
		args   []string
		heard  string
	}{
		{name: "as usual", script: usual, heard: heard},
		{name: "certificate for another name, by -server-name", script: usual, args: []string{"-server-name", "LOCALHOST"}, heard: heard},
		{name: "B5 220 of two lines", script: func(p *peer) {
			toSTARTTLS(p)
			p.say("220-go\r\n220 ahead\r\n")
			p.startTLS()
			p.ask("EHLO ", "250-mail.test\r\n250-STARTTLS\r\n250 AUTH LOGIN\r\n") // N10: STARTTLS again; LOGIN instead of PLAIN
			p.ask("AUTH LOGIN", "334 VXNlcm5hbWU6\r\n")
			p.ask("YWxpY2U=", "334 UGFzc3dvcmQ6\r\n")
			p.ask("", "235 welcome\r\n")
			p.ask("MAIL FROM:", "250 ok\r\n")
			p.ask("RCPT TO:", "251 will forward\r\n")
			p.ask("DATA", "354 go on\r\n")
			for p.heard[len(p.heard)-1] != "." {
				p.hear("")
			}
			p.say("250 queued as 1\r\n")
			p.ask("QUIT", "221 bye\r\n")
		}, heard: "EHLO AUTH YWxpY2U= * MAIL RCPT DATA message QUIT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t, test.script)
			status, stdout, stderr := attempt(t, p.addr, test.args...)
			<-p.done
			if status != 0 || stderr != "" {
				t.Errorf("status %d: %s", status, stderr)
			}
			if !strings.Contains(stdout, "accepted the mail: 250 queued") {
				t.Errorf("printed:\n%s", stdout)
			}
			for _, secret := range secrets() {
				if strings.Contains(stdout, secret) {
					t.Errorf("%q was printed", secret)
				}
			}
			p.checkWire(t)
			if p.verbs() != test.heard {
				t.Errorf("over TLS the server heard %q, want %q", p.verbs(), test.heard)
			}
			// The client ends lines with CRLF, doubles dots, and ends with a dot.
			if message := strings.Join(p.heard, "\n"); !strings.Contains(message, "\n..A line") || !strings.Contains(message, "\n..\nSo does") {
				t.Errorf("the message was %q", message)
			}
		})
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	to := func(args ...string) []string {
		return append([]string{"-addr", "127.0.0.1:1", "-from", "a@b.test", "-to", "c@d.test"}, args...)
	}
	password := file("password", "x\n")
	for _, test := range []struct {
		want string
		args []string
	}{
		{"not defined: -x", []string{"-x"}},
		{`"mail" is not a flag`, []string{"mail"}},
		{"-timeout", []string{"-timeout", "soon"}},
		{"-timeout -1s", []string{"-timeout", "-1s"}},
		{"-timeout 0s", []string{"-timeout", "0"}},
		{"-addr is missing", []string{"-user", "x"}},
		{"-addr is missing", []string{"-password-file", password}},
		{"-addr is missing", []string{"-ca", "x"}},
		{"-addr is missing", []string{"-server-name", "x"}},
		{"-addr needs -from and -to", []string{"-addr", "127.0.0.1:1"}},
		{"is not host:port", to("-addr", "")},
		{"is not host:port", to("-addr", "localhost")},
		{"is not host:port", to("-addr", ":25")},
		{"is not host:port", to("-addr", "a b:25")},
		{"is not host:port", to("-addr", "a\x1b[2J:25")},
		{`"smtp" is not a port`, to("-addr", "localhost:smtp")},
		{`"0" is not a port`, to("-addr", "localhost:0")},
		{`"65536" is not a port`, to("-addr", "localhost:65536")},
		{"-from: ", to("-from", "a")},
		{"-from: ", to("-from", "a@b\r\nRCPT TO:<x@y>")},
		{"-from: ", to("-from", "a\n@b")},
		{"-from: ", to("-from", "a@b> SIZE=1")},
		{"-from: ", to("-from", "ä@b")},
		{"-to: ", to("-to", "")},
		{"-to: ", to("-to", "c@d\r")},
		{"-to: ", to("-to", "c@d@e")},
		{"-to: ", to("-to", "<c@d>")},
		{"-to: ", to("-to", strings.Repeat("c", 250)+"@d.test")},
		{"belong together", to("-user", "x")},
		{"belong together", to("-password-file", password)},
		{"-user: ", to("-user", "", "-password-file", password)},
		{"-user: ", to("-user", "a\x00b", "-password-file", password)},
		{"-server-name: ", to("-server-name", "")},
		{"-server-name: ", to("-server-name", "a b")},
		{"-password-file: ", to("-user", "x", "-password-file", filepath.Join(dir, "none"))},
		{"-password-file: ", to("-user", "x", "-password-file", file("empty", "\n"))},
		{"-password-file: ", to("-user", "x", "-password-file", file("two", "a\nb\n"))},
		{"-ca: ", to("-ca", filepath.Join(dir, "none"))},
		{"has no certificate", to("-ca", password)},
	} {
		var stdout, stderr bytes.Buffer
		status := runAs(test.args, &stdout, &stderr)
		if status != 2 || stdout.Len() > 0 {
			t.Errorf("%q: status %d, printed %q", test.args, status, &stdout)
		}
		text := stderr.String()
		if strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\r\x00\x1b") || !strings.Contains(text, test.want) {
			t.Errorf("%q: %q, want one line with %q", test.args, text, test.want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if status := runAs([]string{"-h"}, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Errorf("status %d: %s", status, &stderr)
	}
	for _, name := range []string{"-addr host:port", "-from", "-to", "-user", "-password-file", "-ca", "-server-name", "-timeout"} {
		if !strings.Contains(stdout.String(), "  "+name) {
			t.Errorf("%s is missing in:\n%s", name, &stdout)
		}
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	status := runAs(nil, full{}, &stderr)
	checkFailure(t, status, stderr.String(), "the mail was accepted, but the output could not be written", "disk full")
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
