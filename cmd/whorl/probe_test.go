//go:build linux

package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"

	"github.com/whorl-go/whorl/internal/ptytest"
	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
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
		{[]string{address}, probe.ExitFindings, "trust it by --ca;"},
		{[]string{address, "--ca", file("ca.pem"), "--server-name", "evil.test"},
			probe.ExitFindings, "set --server-name to it"},
		{[]string{upgraded, "--starttls", "postgres", "--ca", file("ca2.pem")}, probe.ExitFine,
			"in postgres"},
		{[]string{mail}, probe.ExitFindings, "TLS-PORT-STARTTLS"},
		{[]string{nobody}, probe.ExitUnreachable, "NET-REFUSED"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("key.pem"), "--host",
			"mail.test", "--ca", file("cert.pem")}, probe.ExitFine, "Nothing is wrong"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("key.pem"), "--host",
			"other.test"}, probe.ExitFindings, "TLS-NAME-MISMATCH"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("key.pem"), "--host",
			"other.test"}, probe.ExitFindings, "If the files are right: --host NAME"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("key.pem")},
			probe.ExitFindings, "If the files are right: --ca FILE"},
		{[]string{"files", "--cert", file("cert.pem"), "--key", file("locked.pem")},
			probe.ExitFindings, "Set --passphrase-file"},
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
		if names := foreignNames(stdout); names != nil {
			t.Errorf("%q: names of Go or PHP, %q\n%s", test.args, names, stdout)
		}
		status, stdout, stderr = whorl(t, append([]string{"probe", "--json"}, test.args...)...)
		if test.args[0] == "files" {
			status, stdout, stderr = whorl(
				t,
				append([]string{"probe", "files", "--json"}, test.args[1:]...)...)
		}
		var report probe.Report
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || status != test.status ||
			report.Schema != probe.Schema || stderr != "" || report.ExitStatus() != test.status ||
			foreignNames(stdout) != nil {
			t.Errorf("%q: status %d, %v, %s\n%s", test.args, status, err, stderr, stdout)
		}
	}
}

// foreignNames returns what is in a text of the names of Go's fields and of PHP's options.
func foreignNames(text string) (names []string) {
	setting.Replace(text, func(name string) string {
		names = append(names, name)
		return ""
	})
	text = regexp.MustCompile(`\(nginx: [^)]*\)`).ReplaceAllString(text, "") // nginx's own
	return append(names, regexp.MustCompile(`\bssl_\w+`).FindAllString(text, -1)...)
}

// Whatever an explanation names, a command line says it otherwise, by a flag that the command has
// or in words.
func TestEverySettingHasANameOnTheCommandLine(t *testing.T) {
	for command, remedies := range map[string]remedies{
		"probe": probeRemedies, "probe files": fileRemedies, "mail": mailRemedies,
		"bench handshake": benchRemedies,
	} {
		_, help, _ := whorl(t, append(strings.Fields(command), "--help")...)
		for _, name := range setting.All() {
			said := remedies.flags.said("by " + name + ".")
			if said == "by ." || foreignNames(said) != nil {
				t.Errorf("%s: %q is %q", command, name, said)
			}
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(said, -1) {
				if !strings.Contains(help, flag+" ") {
					t.Errorf("%s has no %s", command, flag)
				}
			}
		}
		for _, id := range probe.IDs() {
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(
				remedies.against(id), -1) {
				if !strings.Contains(help, flag+" ") {
					t.Errorf("%s has no %s, which is said against %s", command, flag, id)
				}
			}
		}
	}
	// No other name helps against a certificate that has none.
	if flags := probeRemedies.against(explain.IDNameCommonName); flags != "" {
		t.Error(flags)
	}
}

func TestProbeTablesFitTheScreen(t *testing.T) {
	long := func(width int) string {
		var suites []probe.Choice
		for range 20 {
			suites = append(suites, probe.Choice{
				Name: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Taken: probe.No,
			})
		}
		return reportText(&probe.Report{
			Target: &probe.Target{Host: "x.test", Port: 443, Scheme: "wss", Path: "/ws?room=1"},
			Offers: &probe.Offers{Suites: suites},
		}, false, width)
	}
	for _, width := range []int{60, 100, 200} {
		text := long(width)
		if n := strings.Count(text, "AES_128_GCM_SHA256"); n != 20 {
			t.Errorf("%d suites", n)
		}
		if !strings.HasPrefix(text, "wss://x.test:443/ws?room=1\n") {
			t.Errorf("%q", text)
		}
		widest := 0
		for line := range strings.Lines(text) {
			widest = max(widest, len(strings.TrimRight(line, "\n")))
		}
		if widest > width || widest < width-45 {
			t.Errorf("%d columns in %d:\n%s", widest, width, text)
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
		{[]string{"localhost:1", "--starttls", "gopher"}, "whorl probe: --starttls: "},
		{[]string{"https://localhost:1", "--starttls", "smtp"}, "--starttls: "},
		{[]string{"localhost:1", "--server-name", "a b"}, "--server-name: "},
		{[]string{"localhost:1", "--header", "A: b"}, "--header: "},
		{[]string{"wss://localhost:1", "--header", "A"}, "--header"},
		{[]string{"https://localhost:1", "--subprotocol", "a"}, "--subprotocol: "},
		{[]string{"localhost:1", "--policy", "mine"}, `--policy: "mine": want mozilla-`},
		{[]string{"localhost:1", "--timeout", "0s"}, "--timeout"},
		{[]string{"localhost:1", "--ca", "/nonexistent"}, "--ca"},
		{[]string{"localhost:1", "--key", "/nonexistent"},
			"--key: needs its certificate: set --cert as well"},
		{[]string{"localhost:1", "--passphrase-file", "/nonexistent"}, "--passphrase-file"},
		{[]string{"files", "--cert", "x", "--passphrase-file", "/nonexistent"}, "--passphrase-file"},
		{[]string{"localhost:1", "--injection"},
			"--injection: the test is for STARTTLS in ftp, imap, lmtp"},
		{[]string{"files"}, "--cert is missing"},
		{[]string{"files", "x"}, "unknown command"},
		{[]string{"files", "--nope"}, "unknown flag"},
	} {
		status, stdout, stderr := whorl(t, append([]string{"probe"}, test.args...)...)
		if status != probe.ExitUsage || !strings.Contains(stderr, test.want) || stdout != "" ||
			foreignNames(stderr) != nil || strings.Contains(stderr, "probe: probe") {
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
	if text := reportText(report, true, 100); !strings.Contains(text, "\x1b[31mFAILED\x1b[0m") {
		t.Errorf("%q", text)
	}
	if text := reportText(report, false, 100); strings.Contains(text, "\x1b") {
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
