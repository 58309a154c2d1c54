//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/ptytest"
	"github.com/whorl-go/whorl/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEverySubscriberGetsOneMail(t *testing.T) {
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"-mails", "1000", "-connections", "4"}, &stdout); err != nil {
		t.Fatal(err)
	}
	want := `^1000 subscribers: 990 mails accepted in \d+\.\d\d s, \d+ in a second; 10 refused, 0 for later\.
20 further attempts; \d+ connections for all, 4 at a time\.
The server has 990 mails for 990 subscribers\.
$`
	if !regexp.MustCompile(want).Match(stdout.Bytes()) {
		t.Errorf("printed\n%s\nwant\n%s", &stdout, want)
	}
}

// On a terminal a bar shows how far it is, and goes; elsewhere there is none.
func TestBarOnATerminal(t *testing.T) {
	pool, err := smtp.NewPool(smtp.PoolConfig{Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	terminal, screen := ptytest.Open(t)
	watch(terminal, pool, 40)()
	shown := screen()
	left := shown[strings.LastIndex(shown, "\r"):]
	if !strings.Contains(shown, "(0/40, 0 mails/") || strings.TrimSpace(left) != "" {
		t.Errorf("shown was %q", shown)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	watch(file, pool, 40)()
	if size, _ := file.Seek(0, io.SeekEnd); size != 0 {
		t.Errorf("%d bytes were written to a file", size)
	}
}

func TestCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, nil, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	exampletest.Flags(t, run, map[string][]string{
		"there have to be": {"-mails", "0"},
		"connections":      {"-connections", "-1"},
		"a rate":           {"-rate", "-1"},
		"not defined: -x":  {"-x"},
	}, "-mails", "-connections", "-rate")
}
