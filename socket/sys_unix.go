//go:build unix

package socket

import (
	"os"

	"golang.org/x/sys/unix"
)

// The system calls that are the same everywhere.

// sysReadable asks whether a read would find something: poll(2), which doesn't wait here.
func sysReadable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLIN != 0
}

func sysClose(fd int) { unix.Close(fd) }

// sysFailed asks whether an error of the socket waits to be told, and leaves it there.
func sysFailed(fd int) bool {
	look := []unix.PollFd{{Fd: int32(fd)}}
	n, _ := unix.Poll(look, 0)
	return n > 0 && look[0].Revents&unix.POLLERR != 0
}

// duplicate makes a non-blocking descriptor of the same file.
func duplicate(file *os.File) (number int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	callErr := raw.Control(func(from uintptr) {
		if number, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(number, true)
		}
	})
	if callErr != nil {
		return -1, callErr
	}
	return number, os.NewSyscallError("fcntl", err)
}

// sysReceiveBuffer returns how much memory the kernel gives to what comes in. It counts its own
// overhead in: no more than half of it are data, socket(7).
func sysReceiveBuffer(fd int) int {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return n
}
