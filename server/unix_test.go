//go:build linux

package server_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/server"
)

// listenAt listens on a path.
func (h *house) listenAt(network, path string, mode fs.FileMode) (*server.Listener, error) {
	nothing := func(context.Context, *server.Listener, []byte, net.Addr) {}
	return h.ListenPort(h.ctx(), network, path, server.Port{Handle: echo, OnPacket: nothing, Mode: mode})
}

func TestUnixSocketFile(t *testing.T) {
	for _, network := range []string{"unix", "unixgram"} {
		t.Run(network, func(t *testing.T) {
			path := socketPath(t)
			h := open(t, server.Config{})
			l, err := h.listenAt(network, path, 0o620)
			check(t, err)
			h.serve()
			info, err := os.Lstat(path)
			check(t, err)
			if info.Mode().Perm() != 0o620 || info.Mode().Type() != fs.ModeSocket {
				t.Error(info.Mode())
			}
			if network == "unix" {
				conn := dial(t, l)
				trip(t, conn, "hello")
				conn.Close()
			}
			other := open(t, server.Config{})
			_, err = other.listenAt(network, path, 0)
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), path) {
				t.Errorf("a second listener: %v", err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the first one's file: %v", err)
			}
			check(t, h.Shutdown(inTime(t)))
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is left: %v", err)
			}
			_, err = other.listenAt(network, path, 0)
			check(t, err)
		})
	}
}

// A file that a killed process has left is replaced; other files are not.
func TestStaleUnixSocket(t *testing.T) {
	for _, network := range []string{"unix", "unixgram"} {
		t.Run(network, func(t *testing.T) {
			path := socketPath(t)
			kind := syscall.SOCK_STREAM
			if network == "unixgram" {
				kind = syscall.SOCK_DGRAM
			}
			fd, err := syscall.Socket(syscall.AF_UNIX, kind, 0)
			check(t, err)
			check(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
			syscall.Close(fd)
			h := open(t, server.Config{})
			_, err = h.listenAt(network, path, 0)
			check(t, err)
			check(t, h.Close())

			check(t, os.WriteFile(path, []byte("precious"), 0o600))
			h = open(t, server.Config{})
			_, err = h.listenAt(network, path, 0)
			wantError(t, "a file in the way", err, syscall.EADDRINUSE)
			if content, _ := os.ReadFile(path); string(content) != "precious" {
				t.Errorf("%q", content)
			}
			check(t, os.Remove(path))
			check(t, os.Symlink("/etc/passwd", path))
			_, err = h.listenAt(network, path, 0)
			wantError(t, "a link in the way", err, syscall.EADDRINUSE)
		})
	}
}

// Of several that start on one path at the same time, exactly one listens, and can be reached; also
// if a killed process has left its file.
func TestManyStartOnOnePath(t *testing.T) {
	h := open(t, server.Config{})
	h.serve()
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		path := socketPath(t)
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		check(t, err)
		check(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
		syscall.Close(fd)
		const n = 3
		var starting sync.WaitGroup
		var listeners [n]*server.Listener
		for i := range n {
			starting.Go(func() {
				l, err := h.listenAt("unix", path, 0)
				if err == nil {
					listeners[i] = l
				} else if !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
				}
			})
		}
		starting.Wait()
		listening := 0
		for _, l := range listeners {
			if l != nil {
				listening++
				conn := dial(t, l)
				trip(t, conn, "hello")
				conn.Close()
			}
		}
		if listening != 1 {
			t.Fatalf("%d listen", listening)
		}
	}
}

// Who listens and has just as many clients waiting as it may is not gone: that is what is said, and
// the file stays.
func TestUnixSocketWithAFullBacklog(t *testing.T) {
	path := socketPath(t)
	name := &syscall.SockaddrUnix{Name: path}
	listening, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	check(t, err)
	defer syscall.Close(listening)
	check(t, syscall.Bind(listening, name))
	check(t, syscall.Listen(listening, 0))
	for err == nil {
		var fd int
		fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		check(t, err)
		defer syscall.Close(fd)
		err = syscall.Connect(fd, name)
	}
	wantError(t, "one client too many", err, syscall.EAGAIN)
	h := open(t, server.Config{})
	_, err = h.listenAt("unix", path, 0)
	wantError(t, "a second listener", err, syscall.EADDRINUSE)
	if !strings.Contains(err.Error(), "another process listens there") {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// A file with the number of ours, which is used again once ours is gone, is another's by its time.
func TestUnixSocketWithANumberThatWasUsedAgain(t *testing.T) {
	path := socketPath(t)
	h := open(t, server.Config{})
	_, err := h.listenAt("unix", path, 0)
	check(t, err)
	h.serve()
	later := time.Now().Add(time.Hour)
	check(t, os.Chtimes(path, later, later))
	check(t, h.Shutdown(inTime(t)))
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// The file is another's when a successor has replaced it: it stays.
func TestReplacedUnixSocketStays(t *testing.T) {
	path := socketPath(t)
	first := open(t, server.Config{})
	_, err := first.listenAt("unix", path, 0)
	check(t, err)
	first.serve()
	check(t, os.Rename(path, filepath.Join(filepath.Dir(path), "old")))
	second := open(t, server.Config{})
	l, err := second.listenAt("unix", path, 0)
	check(t, err)
	second.serve()
	check(t, first.Shutdown(inTime(t)))
	conn := dial(t, l)
	trip(t, conn, "hello")
	conn.Close()
}

func TestAbstractName(t *testing.T) {
	h := open(t, server.Config{Port: server.Port{Handle: echo}})
	name := abstractName()
	l, err := h.Listen(h.ctx(), "unix", name)
	check(t, err)
	if l.Addr().String() != name {
		t.Error(l.Addr())
	}
	_, err = h.Listen(h.ctx(), "unix", name)
	wantError(t, "the name again", err, syscall.EADDRINUSE)
	h.serve()
	conn := dial(t, l)
	trip(t, conn, "hello")
	for c := range h.Connections() {
		if c.RemoteAddr().Network() != "unix" || c.RemoteAddrPort().IsValid() || c.Info().Remote.IsValid() {
			t.Error(c.RemoteAddr())
		}
	}
	conn.Close()
	h.settled()
}

// A name in the abstract namespace has no file: one that is called so stays as it is.
func TestFileCalledLikeAnAbstractName(t *testing.T) {
	for _, network := range []string{"unix", "unixgram"} {
		t.Run(network, func(t *testing.T) {
			t.Chdir(t.TempDir())
			name := abstractName()
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			check(t, err)
			check(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: "./" + name}))
			syscall.Close(fd)
			check(t, os.Chmod(name, 0o600))
			h := open(t, server.Config{})
			_, err = h.listenAt(network, name, 0o666)
			check(t, err)
			h.serve()
			check(t, h.Shutdown(inTime(t)))
			if info, err := os.Lstat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}
