//go:build unix

package socket

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ours "github.com/whorl-go/whorl/internal/unix"
)

// What sockets expect of the system calls below them, on each system: those of Linux and their
// portable twins are held to the same.
func TestSystemCalls(t *testing.T) {
	for name, is := range map[string]func(t *testing.T){
		"descriptors are non-blocking, and not for programs that are run": func(t *testing.T) {
			listener, to := listenHere(t)
			fds := []int{listener, dialHere(t, to), acceptHere(t, listener)}
			pair, err := sysPair(unix.SOCK_STREAM)
			ok(t, err)
			closeLater(t, pair[:]...)
			for _, fd := range append(fds, pair[:]...) {
				flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				status, err2 := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
				if err != nil || err2 != nil || flags&unix.FD_CLOEXEC == 0 || status&unix.O_NONBLOCK == 0 {
					t.Error(fd, flags, status, err, err2)
				}
			}
		},
		"accept tells who has come, and when nobody has": func(t *testing.T) {
			listener, to := listenHere(t)
			if _, _, errno := sysAccept(listener); errno != syscall.EAGAIN {
				t.Error(errno)
			}
			fd := dialHere(t, to)
			readable(t, listener)
			child, from, errno := sysAccept(listener)
			closeLater(t, child)
			if port, ok := sysLocalPort(fd); errno != 0 || !ok || from.Port() != port ||
				from.Addr() != netip.MustParseAddr("127.0.0.1") {
				t.Error(from, port, errno)
			}
		},
		"a connect that was refused says so": func(t *testing.T) {
			listener, to := listenHere(t)
			unix.Close(listener)
			fd, errno := connectHere(t, to)
			for errno == syscall.EINPROGRESS || errno == syscall.EALREADY {
				await(t, fd, unix.POLLOUT)
				errno = sysConnected(fd, to)
			}
			if errno != syscall.ECONNREFUSED {
				t.Error(errno)
			}
		},
		"a connect that goes on says so": func(t *testing.T) {
			listener, to := listenHere(t)
			ok(t, unix.Listen(listener, 1))
			for { // until the backlog is full
				fd, errno := connectHere(t, to)
				if errno == syscall.EINPROGRESS {
					unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 50) // an answer takes less
					errno = sysConnected(fd, to)
				}
				if errno == syscall.EALREADY {
					return
				}
				if errno != 0 && errno != syscall.EISCONN {
					t.Fatal(errno)
				}
			}
		},
		"what nobody reads is an error and no signal": func(t *testing.T) {
			pair, err := sysPair(unix.SOCK_STREAM)
			ok(t, err)
			closeLater(t, pair[0])
			unix.Close(pair[1])
			if _, errno := sysSend(pair[0], []byte("x")); errno != syscall.EPIPE {
				t.Error(errno)
			}
			if _, errno := sysSendv(pair[0], [][]byte{{1}, {2}}); errno != syscall.EPIPE {
				t.Error(errno)
			}
			if n, errno := sysRead(pair[0], make([]byte, 1)); n != 0 || errno != 0 {
				t.Error(n, errno)
			}
		},
		"what is queued is counted, peeked at and read": func(t *testing.T) {
			a, b := connectionHere(t)
			if n, errno := sysPeek(b, make([]byte, 9)); n != 0 || errno != syscall.EAGAIN {
				t.Error(n, errno)
			}
			n, errno := sysSendv(a, [][]byte{[]byte("one "), []byte("two")})
			if n != 7 || errno != 0 {
				t.Error(n, errno)
			}
			readable(t, b)
			p := make([]byte, 9)
			if n, errno := sysPeek(b, p); string(p[:n]) != "one two" || errno != 0 {
				t.Error(n, errno)
			}
			if n := sysUnread(b); n != 7 {
				t.Error(n)
			}
			q := make([]byte, 9)
			if n, errno := sysReadv(b, [][]byte{p[:4], q}); n != 7 || errno != 0 || string(q[:3]) != "two" {
				t.Error(n, errno)
			}
			until(t, func() bool { return sysUnsent(a) == 0 })
		},
		"what the peer doesn't take is counted, until it has reset the connection": func(t *testing.T) {
			a, b := connectionHere(t)
			sent, full := 0, make([]byte, 64<<10)
			for errno := syscall.Errno(0); errno == 0; {
				var n int
				n, errno = sysSend(a, full)
				sent += n
			}
			if n := sysUnsent(a); n <= 0 || n > sent {
				t.Error(n, sent)
			}
			if n := sysNotSent(a); n <= 0 || n > sent {
				t.Error(n, sent)
			}
			sysResetOnClose(b)
			unix.Close(b)
			until(t, func() bool { return sysUnsent(a) == 0 })
			if _, errno := sysRead(a, full); errno != syscall.ECONNRESET {
				t.Error(errno)
			}
		},
		"a file is sent from where it was asked for": func(t *testing.T) {
			a, b := connectionHere(t)
			content := bytes.Repeat([]byte("0123456789"), 20_000)
			path := filepath.Join(t.TempDir(), "file")
			ok(t, os.WriteFile(path, content, 0o600))
			file, err := os.Open(path)
			ok(t, err)
			defer file.Close()
			var got []byte
			buf := make([]byte, 64<<10)
			for offset := int64(7); offset < int64(len(content)); {
				before := offset
				n, errno := sysSendfile(a, int(file.Fd()), &offset, len(content)-int(offset))
				if errno != 0 && errno != syscall.EAGAIN || offset != before+int64(n) {
					t.Fatal(n, before, offset, errno)
				}
				for len(got) < int(offset)-7 {
					readable(t, b)
					n, _ := sysRead(b, buf)
					got = append(got, buf[:n]...)
				}
			}
			if !bytes.Equal(got, content[7:]) {
				t.Errorf("%d bytes", len(got))
			}
		},
		"a message has its size": func(t *testing.T) {
			pair, err := sysPair(unix.SOCK_DGRAM)
			ok(t, err)
			closeLater(t, pair[:]...)
			if n := sysMessageSize(pair[0]); n != 0 {
				t.Error(n)
			}
			sysSend(pair[1], make([]byte, 1500))
			if n := sysMessageSize(pair[0]); n < 1500 {
				t.Error(n)
			}
		},
		"what a descriptor is": func(t *testing.T) {
			listener, to := listenHere(t)
			pair, err := sysPair(unix.SOCK_DGRAM)
			ok(t, err)
			closeLater(t, pair[:]...)
			for fd, want := range map[int][3]int{
				listener:        {unix.AF_INET, unix.SOCK_STREAM, 1},
				dialHere(t, to): {unix.AF_INET, unix.SOCK_STREAM, 0},
				pair[0]:         {unix.AF_UNIX, unix.SOCK_DGRAM, 0},
			} {
				family, kind, listening, err := sysKind(fd)
				ok(t, err)
				if family != want[0] || kind != want[1] || listening != (want[2] == 1) {
					t.Error(family, kind, listening, want)
				}
			}
		},
		"a number that was vacated stays in use, and the address is free": func(t *testing.T) {
			listener, to := listenHere(t)
			sysVacate(listener)
			if _, _, errno := sysAccept(listener); errno == 0 || errno == syscall.EAGAIN || errno == syscall.EBADF {
				t.Error(errno)
			}
			again, err := sysSocket(unix.AF_INET, unix.SOCK_STREAM)
			ok(t, err)
			closeLater(t, again)
			ok(t, bindTo(again, to))
		},
		"keep-alive times": func(t *testing.T) {
			a, _ := connectionHere(t)
			err := setKeepAlive(a, 120, 30, 4)
			if err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Error(err)
			}
			for _, o := range []struct{ name, want int }{
				{ours.TCP_KEEPIDLE, 120}, {ours.TCP_KEEPINTVL, 30}, {ours.TCP_KEEPCNT, 4},
			} {
				if n, _ := unix.GetsockoptInt(a, unix.IPPROTO_TCP, o.name); err == nil && n != o.want {
					t.Errorf("option %d: %d, not %d", o.name, n, o.want)
				}
			}
		},
	} {
		t.Run(name, is)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closeLater(t *testing.T, fds ...int) {
	fds = slices.Clone(fds)
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
}

// listenHere listens on a port of 127.0.0.1.
func listenHere(t *testing.T) (fd int, at unix.Sockaddr) {
	t.Helper()
	fd, err := sysSocket(unix.AF_INET, unix.SOCK_STREAM)
	ok(t, err)
	closeLater(t, fd)
	ok(t, bindTo(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	ok(t, unix.Listen(fd, 10))
	at, err = unix.Getsockname(fd)
	ok(t, err)
	return fd, at
}

func connectHere(t *testing.T, to unix.Sockaddr) (fd int, errno syscall.Errno) {
	t.Helper()
	fd, err := sysSocket(unix.AF_INET, unix.SOCK_STREAM)
	ok(t, err)
	closeLater(t, fd)
	return fd, sysConnect(fd, to)
}

// dialHere connects to a listener.
func dialHere(t *testing.T, to unix.Sockaddr) int {
	t.Helper()
	fd, errno := connectHere(t, to)
	for errno == syscall.EINPROGRESS || errno == syscall.EALREADY {
		await(t, fd, unix.POLLOUT)
		errno = sysConnected(fd, to)
	}
	if errno != 0 && errno != syscall.EISCONN {
		t.Fatal(errno)
	}
	return fd
}

func acceptHere(t *testing.T, listener int) int {
	t.Helper()
	readable(t, listener)
	fd, _, errno := sysAccept(listener)
	if errno != 0 {
		t.Fatal(errno)
	}
	closeLater(t, fd)
	return fd
}

// connectionHere returns both ends of a TCP connection.
func connectionHere(t *testing.T) (dialed, accepted int) {
	t.Helper()
	listener, to := listenHere(t)
	dialed = dialHere(t, to)
	return dialed, acceptHere(t, listener)
}

func readable(t *testing.T, fd int) {
	t.Helper()
	await(t, fd, unix.POLLIN)
}

// await waits for an event of poll(2).
func await(t *testing.T, fd int, events int16) {
	t.Helper()
	until(t, func() bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 100)
		return n > 0
	})
}

// until waits until it is so, which the kernel sees to.
func until(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it doesn't come to be")
		}
	}
}
