//go:build linux

package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"

	"github.com/whorl-go/whorl/internal/ptytest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestProbeExitStatuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	address, _ := served(t, "--tls", "--ca-out", file("ca.pem"))
	upgraded, _ := served(t, "--starttls", "postgres", "--ca-out", file("ca2.pem"))
	mail, _ := served(t, "--starttls", "smtp")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err == nil {
		err = devca.WritePEM(cert, file("cert.pem"), file("key.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	locked, err := pkcs8.MarshalPrivateKey(cert.PrivateKey, []byte("open sesame"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"passphrase": "open sesame\n", "wrong": "close sesame\n",
		"locked.pem": string(pem.EncodeToMemory(
			&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: locked})),
	} {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args   []string
		status int
		said   string
	}{
		{[]string{address, "--ca", file("ca.pem"), "--server-name", "localhost"}, probe.ExitFine,
			"Nothing is wrong"},
		{[]string{address, "--ca", file("ca.pem"), "--policy", "mozilla-modern"},
			probe.ExitFindings, "TLS-POLICY-VERSION"},
		{[]string{address}, probe.ExitFindings, "TLS-CHAIN-UNKNOWN-ISSUER"},
		{[]string{address}, probe.ExitFindings, "If the server is right: --ca FILE"},
		{[]string{upgraded, "--starttls", "postgres", "--ca", file("ca2.pem")}, probe.ExitFine,
			"in postgres"},
		{[]string{mail}, probe.ExitFindings, "TLS-PORT-STARTTLS"},
		{[]string{nobody}, probe.ExitUnreachable, "NET-REFUSED"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("key.pem"), "--host",
			"mail.test", "--ca", file("cert.pem")}, probe.ExitFine, "Nothing is wrong"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("key.pem"), "--host",
			"other.test"}, probe.ExitFindings, "TLS-NAME-MISMATCH"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("locked.pem")},
			probe.ExitFindings, "--passphrase-file FILE"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("locked.pem"),
			"--passphrase-file", file("wrong"), "--ca", file("cert.pem")}, probe.ExitFindings,
			"TLS-KEY-PASSPHRASE"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("locked.pem"),
			"--passphrase-file", file("passphrase"), "--ca", file("cert.pem")}, probe.ExitFine,
			"Nothing is wrong"},
		{[]string{"files", "--cert", file("none.pem")}, probe.ExitFindings, "TLS-FILE-MISSING"},
	} {
		status, stdout, stderr := whorl(t, append([]string{"probe"}, test.args...)...)
		if status != test.status || !strings.Contains(stdout, test.said) || stderr != "" ||
			strings.Contains(stdout, "\x1b") {
			t.Errorf("%q: status %d, %s\n%s", test.args, status, stderr, stdout)
		}
		status, stdout, stderr = whorl(t, append([]string{"probe", "--json"}, test.args...)...)
		if test.args[0] == "files" {
			status, stdout, stderr = whorl(
				t,
				append([]string{"probe", "files", "--json"}, test.args[1:]...)...)
		}
		var report probe.Report
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || status != test.status ||
			report.Schema != probe.Schema || stderr != "" || report.ExitStatus() != test.status {
			t.Errorf("%q: status %d, %v, %s\n%s", test.args, status, err, stderr, stdout)
		}
	}
}

func TestProbeUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "accepts 1 arg"},
		{[]string{"localhost"}, "want HOST:PORT"},
		{[]string{"localhost:1", "--nope"}, "unknown flag"},
		{[]string{"localhost:1", "--starttls", "gopher"}, "gopher"},
		{[]string{"localhost:1", "--policy", "mine"}, "mozilla-modern"},
		{[]string{"localhost:1", "--timeout", "0s"}, "--timeout"},
		{[]string{"localhost:1", "--ca", "/nonexistent"}, "--ca"},
		{[]string{"localhost:1", "--key", "/nonexistent"}, "--key"},
		{[]string{"localhost:1", "--passphrase-file", "/nonexistent"}, "--passphrase-file"},
		{[]string{"files", "--cert", "x", "--passphrase-file", "/nonexistent"}, "--passphrase-file"},
		{[]string{"localhost:1", "--injection"}, "STARTTLS in ftp, imap, lmtp"},
		{[]string{"files"}, "--cert is missing"},
		{[]string{"files", "x"}, "unknown command"},
		{[]string{"files", "--nope"}, "unknown flag"},
	} {
		status, stdout, stderr := whorl(t, append([]string{"probe"}, test.args...)...)
		if status != probe.ExitUsage || !strings.Contains(stderr, test.want) || stdout != "" {
			t.Errorf("%q: status %d, %q, %q", test.args, status, stderr, stdout)
		}
	}
}

func TestProbeColours(t *testing.T) {
	report := &probe.Report{
		Target: &probe.Target{Host: "mail.test", Port: 443},
		Layers: []probe.Layer{{Name: "dns", Status: probe.Failed, Detail: "none"}},
		Findings: []probe.Finding{
			{ID: "NET-DNS", Severity: probe.Error, Evidence: "none", Mend: "Do."},
		},
	}
	if text := reportText(report, true); !strings.Contains(text, "\x1b[31mFAILED\x1b[0m") {
		t.Errorf("%q", text)
	}
	if text := reportText(report, false); strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
}

// What is no terminal gets no colours (TestProbeExitStatuses), and a terminal none with NO_COLOR.
func TestProbeOnATerminal(t *testing.T) {
	for _, noColour := range []string{"", "1"} {
		t.Setenv("NO_COLOR", noColour)
		terminal, screen := ptytest.Open(t)
		status := execute(t.Context(), []string{"whorl", "probe", "files", "--cert", "/nonexistent"},
			strings.NewReader(""), terminal, io.Discard)
		shown := screen()
		if status != probe.ExitFindings || !strings.Contains(shown, "TLS-FILE-MISSING") ||
			strings.Contains(shown, "\x1b[31mERROR\x1b[0m") != (noColour == "") {
			t.Errorf("NO_COLOR=%q: status %d, %q", noColour, status, shown)
		}
	}
}
