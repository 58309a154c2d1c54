//go:build !unix

package unix

import (
	"syscall"
	"time"
)

const (
	SOL_SOCKET     = syscall.SOL_SOCKET
	SO_KEEPALIVE   = syscall.SO_KEEPALIVE
	SO_RCVBUF      = syscall.SO_RCVBUF
	SO_SNDBUF      = syscall.SO_SNDBUF
	SO_REUSEADDR   = syscall.SO_REUSEADDR
	SO_BROADCAST   = syscall.SO_BROADCAST
	IPPROTO_TCP    = syscall.IPPROTO_TCP
	IPPROTO_IPV6   = syscall.IPPROTO_IPV6
	IPV6_V6ONLY    = syscall.IPV6_V6ONLY
	TCP_NODELAY    = syscall.TCP_NODELAY
	AF_INET        = syscall.AF_INET
	AF_INET6       = syscall.AF_INET6
	AF_UNIX        = syscall.AF_UNIX
	AF_UNSPEC      = syscall.AF_UNSPEC
	SOCK_DGRAM     = syscall.SOCK_DGRAM
	SOCK_SEQPACKET = syscall.SOCK_SEQPACKET
	SOCK_STREAM    = syscall.SOCK_STREAM
	SHUT_RD        = syscall.SHUT_RD
	SHUT_WR        = syscall.SHUT_WR
	SHUT_RDWR      = syscall.SHUT_RDWR
	EAGAIN         = syscall.EAGAIN
	EINTR          = syscall.EINTR

	// What syscall lacks here; no two flags alike.
	SO_REUSEPORT    = 1 << 0
	MSG_DONTWAIT    = 1 << 1
	MSG_NOSIGNAL    = 1 << 2
	MSG_OOB         = 1 << 3
	MSG_PEEK        = 1 << 4
	POLLERR         = 1 << 5
	POLLHUP         = 1 << 6
	POLLIN          = 1 << 7
	POLLNVAL        = 1 << 8
	POLLOUT         = 1 << 9
	POLLPRI         = 1 << 10
	LOCK_EX         = 1 << 12
	LOCK_NB         = 1 << 13
	F_DUPFD_CLOEXEC = 1 << 11
)

type (
	Sockaddr      = syscall.Sockaddr
	SockaddrInet4 = syscall.SockaddrInet4
	SockaddrInet6 = syscall.SockaddrInet6
	SockaddrUnix  = syscall.SockaddrUnix
	PollFd        struct {
		Fd              int32
		Events, Revents int16
	}
)

func Bind(int, Sockaddr) error                                 { return syscall.ENOSYS }
func Close(int) error                                          { return syscall.ENOSYS }
func FcntlInt(uintptr, int, int) (int, error)                  { return 0, syscall.ENOSYS }
func Getpeername(int) (Sockaddr, error)                        { return nil, syscall.ENOSYS }
func Getsockname(int) (Sockaddr, error)                        { return nil, syscall.ENOSYS }
func GetsockoptInt(int, int, int) (int, error)                 { return 0, syscall.ENOSYS }
func Listen(int, int) error                                    { return syscall.ENOSYS }
func Poll([]PollFd, int) (int, error)                          { return 0, syscall.ENOSYS }
func Recvfrom(int, []byte, int) (int, Sockaddr, error)         { return 0, nil, syscall.ENOSYS }
func SendmsgN(int, []byte, []byte, Sockaddr, int) (int, error) { return 0, syscall.ENOSYS }
func Sendto(int, []byte, int, Sockaddr) error                  { return syscall.ENOSYS }
func SetsockoptInt(int, int, int, int) error                   { return syscall.ENOSYS }
func Shutdown(int, int) error                                  { return syscall.ENOSYS }
func Flock(int, int) error                                     { return syscall.ENOSYS }
func CloseOnExec(int)                                          {}
func DescriptorLimit() (now, highest uint64, err error)        { return 0, 0, syscall.ENOSYS }
func SetDescriptorLimit(uint64, uint64) error                  { return syscall.ENOSYS }
func CPUTime() (user, kernel time.Duration, err error)         { return 0, 0, syscall.ENOSYS }
