package socket

import (
	"errors"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
)

// What waiting callers show in runtime.List.
var (
	reasonRecv    = sched.NewReason("socket recv")
	reasonSend    = sched.NewReason("socket send")
	reasonConnect = sched.NewReason("socket connect")
	reasonAccept  = sched.NewReason("socket accept")
)

// errWait, errNoBuffers and errPeerFull are for the package's own ears: the kernel has nothing, or
// takes nothing, at the moment.
var (
	errWait      error = waitError{}
	errNoBuffers       = errors.New("no buffer space")
	errPeerFull        = errors.New("no room at the address")
)

// errQueueFull ends a connection whose peer makes us say more than it takes.
var errQueueFull = errors.New("the peer takes no answers")

// waitError tells crypto/tls that it may go on later: it keeps its state over a read error whose
// Temporary method says true.
type waitError struct{}

func (waitError) Error() string   { return "operation would block" }
func (waitError) Timeout() bool   { return true }
func (waitError) Temporary() bool { return true }

// callError names the system call that failed.
func callError(call string, errno syscall.Errno) error { return os.NewSyscallError(call, errno) }

// errnoOf returns the number in an error of package unix.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return syscall.EIO
}
