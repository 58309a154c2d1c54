//go:build unix && (!linux || gnetpoll)

package socket

import (
	"cmp"
	"net/netip"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The system calls of sys_linux.go, made of what macOS and the BSDs have, too. The build tag
// gnetpoll has them used on Linux, so that they can be tried there.

func sysRead(fd int, p []byte) (int, syscall.Errno) { return result(unix.Read(fd, p)) }

func sysSend(fd int, p []byte) (int, syscall.Errno) {
	return result(unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT))
}

func sysPeek(fd int, p []byte) (int, syscall.Errno) {
	n, _, err := unix.Recvfrom(fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return result(n, err)
}

// sysMessageSize looks at the message itself: only Linux tells how long one is that doesn't fit.
func sysMessageSize(fd int) int {
	for size := bufferSize; ; size *= 4 {
		n, errno := sysPeek(fd, make([]byte, size))
		if errno != 0 || n < size {
			return n
		}
	}
}

func sysReadv(fd int, bufs [][]byte) (int, syscall.Errno) {
	n, _, _, _, err := unix.RecvmsgBuffers(fd, bufs, nil, unix.MSG_DONTWAIT)
	return result(n, err)
}

func sysSendv(fd int, bufs [][]byte) (int, syscall.Errno) {
	return result(unix.SendmsgBuffers(fd, bufs, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT))
}

func result(n int, err error) (int, syscall.Errno) { return max(n, 0), errnoOf(err) }

// sysSendfile copies: sendfile(2) is another one on each system.
func sysSendfile(out, in int, offset *int64, count int) (int, syscall.Errno) {
	buf := borrow()
	defer giveBack(buf)
	sent := 0
	for sent < count {
		n, err := unix.Pread(in, buf[:min(len(buf), count-sent)], *offset)
		if err != nil || n == 0 {
			return sent, unlessSent(sent, errnoOf(err))
		}
		m, errno := sysSend(out, buf[:n])
		sent += m
		*offset += int64(m)
		if errno != 0 || m < n {
			return sent, unlessSent(sent, errno)
		}
	}
	return sent, 0
}

// unlessSent keeps an error back after a success: it comes again with the next call.
func unlessSent(sent int, errno syscall.Errno) syscall.Errno {
	if sent > 0 {
		return 0
	}
	return errno
}

// opened makes the flags of descriptors that were opened just now, with syscall.ForkLock held: not
// all systems can open them with the flags set.
func opened(fds ...int) {
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
		if runtime.GOOS == "darwin" {
			const noSIGPIPE = 0x1022 // SO_NOSIGPIPE; MSG_NOSIGNAL is younger
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, noSIGPIPE, 1)
		}
	}
}

func sysSocket(family, kind int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	opened(fd)
	return fd, nil
}

func sysPair(kind int) ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	pair, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		return pair, os.NewSyscallError("socketpair", err)
	}
	opened(pair[:]...)
	return pair, nil
}

func sysAccept(fd int) (int, netip.AddrPort, syscall.Errno) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	child, from, err := unix.Accept(fd)
	if err != nil {
		return -1, netip.AddrPort{}, errnoOf(err)
	}
	opened(child)
	return child, addrPortOf(from), 0
}

func sysConnect(fd int, to unix.Sockaddr) syscall.Errno { return errnoOf(unix.Connect(fd, to)) }

// sysConnected asks what has come of a connect(2) that goes on: 0 when the connection stands,
// EALREADY when it goes on still, or why it has failed. Another connect(2) doesn't tell that
// everywhere: FreeBSD forgets then why the first one has failed (soconnectat in kern/uipc_socket.c).
func sysConnected(fd int, _ unix.Sockaddr) syscall.Errno {
	failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || failed != 0 {
		return cmp.Or(errnoOf(err), syscall.Errno(failed))
	}
	switch _, err = unix.Getpeername(fd); err {
	case unix.ENOTCONN:
		return syscall.EALREADY
	case unix.EINVAL: // macOS: both sides have closed the connection already
		return 0
	}
	return errnoOf(err)
}

// endIsTold is whether the loop is told when the peer has closed its sending side. NetBSD, OpenBSD
// and FreeBSD before 13 have no POLLRDHUP, so that a short read doesn't mean drained there.
var endIsTold = runtime.GOOS == "linux" || runtime.GOOS == "darwin"

func sysSetOption(fd, level, name, value int) { unix.SetsockoptInt(fd, level, name, value) }

func sysResetOnClose(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func sysLocalPort(fd int) (port uint16, ok bool) {
	at, err := unix.Getsockname(fd)
	return addrPortOf(at).Port(), err == nil
}

func sysVacate(fd int) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if idle, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
		unix.Dup2(idle, fd)
		unix.CloseOnExec(fd)
		unix.Close(idle)
	}
}

// The requests of ioctl(2) that ask how much is in a socket's queues: FIONREAD, and SIOCOUTQ or
// FIONWRITE. macOS has an option of getsockopt(2), SO_NWRITE, for the latter.
var askUnread, askUnsent = func() (uint, uint) {
	switch runtime.GOOS {
	case "linux":
		return 0x541b, unix.TIOCOUTQ
	case "freebsd":
		return 0x4004667f, 0x40046677
	case "netbsd":
		return 0x4004667f, 0x40046679
	}
	return 0x4004667f, unix.TIOCOUTQ
}()

func sysUnread(fd int) int {
	n, err := unix.IoctlGetInt(fd, askUnread)
	if err != nil {
		return 0
	}
	return n
}

func sysUnsent(fd int) (n int) {
	var err error
	if runtime.GOOS == "darwin" {
		const unsent = 0x1024 // SO_NWRITE
		n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unsent)
	} else {
		n, err = unix.IoctlGetInt(fd, askUnsent)
	}
	if _, unconnected := unix.Getpeername(fd); err != nil || unconnected != nil {
		return 0 // reset: what is counted still will never be acknowledged
	}
	return n
}

// sysNotSent counts what was sent and not acknowledged, too: only Linux tells the difference.
func sysNotSent(fd int) int { return sysUnsent(fd) }

// setBindNoPort does nothing: only Linux can leave the choice of a port to connect(2).
func setBindNoPort(int) {}

func sysKind(fd int) (family, kind int, listening bool, err error) {
	at, err := unix.Getsockname(fd) // macOS has no SO_DOMAIN
	if err != nil {
		return 0, 0, false, os.NewSyscallError("getsockname", err)
	}
	switch at.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family = unix.AF_UNIX
	}
	kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return 0, 0, false, os.NewSyscallError("getsockopt", err)
	}
	listening, err = listens(fd, kind, unix.SO_ACCEPTCONN)
	return family, kind, listening, err
}

// listens asks whether a socket is a listener. macOS doesn't tell that (sogetoptlock in its
// kern/uipc_socket.c); there a stream socket without a peer is taken for one.
func listens(fd, kind, option int) (bool, error) {
	accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	if err == unix.ENOPROTOOPT {
		_, err = unix.Getpeername(fd)
		return kind != unix.SOCK_DGRAM && err == unix.ENOTCONN, nil
	}
	return accepts != 0, os.NewSyscallError("getsockopt", err)
}
