package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/ptytest"
	"github.com/whorl-go/whorl/smtp"
)

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
