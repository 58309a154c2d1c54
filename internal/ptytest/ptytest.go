//go:build linux

// Package ptytest gives tests a terminal.
package ptytest

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Open returns a terminal (pty(7)), and a function that closes it and returns what was written to
// it. Lines end there with CR LF.
func Open(t testing.TB) (terminal *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	number := -1
	raw, err := master.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) {
			if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
				number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}
		})
		if err == nil {
			err = failed
		}
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	var shown bytes.Buffer
	over := make(chan struct{})
	go func() {
		defer close(over)
		shown.ReadFrom(master) // ends with EIO when the terminal is closed
	}()
	return terminal, func() string {
		terminal.Close()
		<-over
		return shown.String()
	}
}
