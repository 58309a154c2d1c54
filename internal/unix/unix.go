//go:build unix

// Package unix is what packages that are built on every system take of golang.org/x/sys/unix, which
// is empty on Windows: there the constants have some value, and the calls fail with ENOSYS. No loop
// runs there, so no descriptor comes that far.
package unix

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	SOL_SOCKET      = unix.SOL_SOCKET
	SO_KEEPALIVE    = unix.SO_KEEPALIVE
	SO_RCVBUF       = unix.SO_RCVBUF
	SO_SNDBUF       = unix.SO_SNDBUF
	SO_REUSEADDR    = unix.SO_REUSEADDR
	SO_BROADCAST    = unix.SO_BROADCAST
	IPPROTO_TCP     = unix.IPPROTO_TCP
	IPPROTO_IPV6    = unix.IPPROTO_IPV6
	IPV6_V6ONLY     = unix.IPV6_V6ONLY
	TCP_NODELAY     = unix.TCP_NODELAY
	AF_INET         = unix.AF_INET
	AF_INET6        = unix.AF_INET6
	AF_UNIX         = unix.AF_UNIX
	AF_UNSPEC       = unix.AF_UNSPEC
	SOCK_DGRAM      = unix.SOCK_DGRAM
	SOCK_SEQPACKET  = unix.SOCK_SEQPACKET
	SOCK_STREAM     = unix.SOCK_STREAM
	SHUT_RD         = unix.SHUT_RD
	SHUT_WR         = unix.SHUT_WR
	SHUT_RDWR       = unix.SHUT_RDWR
	EAGAIN          = unix.EAGAIN
	EINTR           = unix.EINTR
	SO_REUSEPORT    = unix.SO_REUSEPORT
	MSG_DONTWAIT    = unix.MSG_DONTWAIT
	MSG_NOSIGNAL    = unix.MSG_NOSIGNAL
	MSG_OOB         = unix.MSG_OOB
	MSG_PEEK        = unix.MSG_PEEK
	POLLERR         = unix.POLLERR
	POLLHUP         = unix.POLLHUP
	POLLIN          = unix.POLLIN
	POLLNVAL        = unix.POLLNVAL
	POLLOUT         = unix.POLLOUT
	POLLPRI         = unix.POLLPRI
	LOCK_EX         = unix.LOCK_EX
	LOCK_NB         = unix.LOCK_NB
	F_DUPFD_CLOEXEC = unix.F_DUPFD_CLOEXEC
)

type (
	Sockaddr      = unix.Sockaddr
	SockaddrInet4 = unix.SockaddrInet4
	SockaddrInet6 = unix.SockaddrInet6
	SockaddrUnix  = unix.SockaddrUnix
	PollFd        = unix.PollFd
)

func Bind(fd int, to Sockaddr) error                              { return unix.Bind(fd, to) }
func Close(fd int) error                                          { return unix.Close(fd) }
func FcntlInt(fd uintptr, cmd, arg int) (int, error)              { return unix.FcntlInt(fd, cmd, arg) }
func Getpeername(fd int) (Sockaddr, error)                        { return unix.Getpeername(fd) }
func Getsockname(fd int) (Sockaddr, error)                        { return unix.Getsockname(fd) }
func GetsockoptInt(fd, level, opt int) (int, error)               { return unix.GetsockoptInt(fd, level, opt) }
func Listen(fd, n int) error                                      { return unix.Listen(fd, n) }
func Poll(fds []PollFd, timeout int) (int, error)                 { return unix.Poll(fds, timeout) }
func Recvfrom(fd int, p []byte, flags int) (int, Sockaddr, error) { return unix.Recvfrom(fd, p, flags) }
func SendmsgN(fd int, p, oob []byte, to Sockaddr, flags int) (int, error) {
	return unix.SendmsgN(fd, p, oob, to, flags)
}
func Sendto(fd int, p []byte, flags int, to Sockaddr) error { return unix.Sendto(fd, p, flags, to) }
func SetsockoptInt(fd, level, opt, value int) error         { return unix.SetsockoptInt(fd, level, opt, value) }
func Shutdown(fd, how int) error                            { return unix.Shutdown(fd, how) }
func Flock(fd, how int) error                               { return unix.Flock(fd, how) }
func CloseOnExec(fd int)                                    { unix.CloseOnExec(fd) }

// DescriptorLimit returns how many descriptors the process may have, and how far it may raise that:
// RLIMIT_NOFILE of getrlimit(2).
func DescriptorLimit() (now, highest uint64, err error) {
	var limit unix.Rlimit
	err = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), uint64(limit.Max), err
}

// SetDescriptorLimit is setrlimit(2).
func SetDescriptorLimit(now, highest uint64) error {
	var limit unix.Rlimit
	assign(&limit.Cur, now)
	assign(&limit.Max, highest)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// assign sets a field that is signed on FreeBSD.
func assign[T int64 | uint64](field *T, n uint64) { *field = T(n) }

// CPUTime returns how much CPU time the process has used, in its own code and in the kernel's for
// it: getrusage(2).
func CPUTime() (user, kernel time.Duration, err error) {
	var usage unix.Rusage
	err = unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano()), time.Duration(usage.Stime.Nano()), err
}
