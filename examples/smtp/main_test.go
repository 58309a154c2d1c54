//go:build unix

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/examples/mailserver"
	"github.com/whorl-go/whorl/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

// file writes a file and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// server starts a server and returns the flags for a mail to it.
func server(t *testing.T) (mails chan mailserver.Mail, args []string) {
	t.Helper()
	mails = make(chan mailserver.Mail, 1)
	s, err := mailserver.Start(mailserver.Config{Received: func(m mailserver.Mail) { mails <- m }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return mails, []string{
		"-addr", s.Addr, "-user", s.User, "-password-file", file(t, "password", s.Password+"\n"),
		"-ca", file(t, "ca.pem", s.PEM()),
		"-from", "Me <me@example.com>", "-to", "you@example.com,her@example.com", "-subject", "x",
	}
}

func TestMailToAServer(t *testing.T) {
	mails, args := server(t)
	var stdout bytes.Buffer
	args = append(args, "-text", "Hello.", "-attach", file(t, "a.txt", "attached"), "-attach",
		file(t, "b.txt", "too"))
	if err := run(t.Context(), args, &stdout); err != nil {
		t.Fatal(err)
	}
	got := <-mails
	if got.From != "me@example.com" || strings.Join(got.To,
		" ") != "you@example.com her@example.com" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"From: \"Me\" <me@example.com>\r\n", "Hello.", `filename="a.txt"`,
		`filename="b.txt"`, "Message-ID: <", "Date: "} {
		if !strings.Contains(got.Text, want) {
			t.Errorf("%q is missing in %s", want, got.Text)
		}
	}
	if text := stdout.String(); !strings.HasPrefix(text, "Accepted by localhost:") {
		t.Errorf("printed %q", text)
	}
}

func TestFailures(t *testing.T) {
	_, args := server(t)
	err := run(t.Context(), append(args, "-password-file", file(t, "wrong", "x")),
		new(bytes.Buffer))
	if refused, ok := errors.AsType[*smtp.Error](err); !ok || refused.Code != 535 {
		t.Errorf("another password: %v", err)
	}
	other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: otherCA(t).Raw})
	err = run(t.Context(), append(args, "-ca", file(t, "other.pem", string(other))),
		new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("another authority: %v", err)
	}
}

func otherCA(t *testing.T) *x509.Certificate {
	t.Helper()
	s, err := mailserver.Start(mailserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	block, _ := pem.Decode([]byte(s.PEM()))
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	to := func(args ...string) []string {
		return append([]string{"-addr", "127.0.0.1:1", "-from", "a@b.test", "-to", "c@d.test"},
			args...)
	}
	exampletest.Flags(t, run, map[string][]string{
		"-addr is missing":     {"-subject", "x"},
		"needs -from and -to":  {"-addr", "127.0.0.1:1"},
		"belong together":      to("-user", "x"),
		"no such file":         to("-attach", "none"),
		"-password-file":       to("-user", "x", "-password-file", "none"),
		"has no certificate":   to("-ca", file(t, "x", "x")),
		"failed to parse mail": to("-to", "c@d.test\r\nBcc: x@y.test"),
	}, "-addr", "-from", "-to", "-subject", "-text", "-attach", "-user", "-password-file", "-ca",
		"-implicit", "-timeout")
}
