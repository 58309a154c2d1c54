//go:build linux

package child

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoSyscallCount says that the kernel doesn't let this process count another's system calls:
// that needs a mounted tracefs and CAP_PERFMON.
var ErrNoSyscallCount = errors.New("child: system calls can't be counted here")

// SyscallCount counts the system calls of a child, by the tracepoint raw_syscalls:sys_enter. It
// makes each of them slower, so it has no place in an interval in which the CPU is measured.
type SyscallCount struct {
	fds []int
}

// CountSyscalls begins to count the system calls of all the child's threads, those that it has yet
// to start too.
func (c *Child) CountSyscalls() (*SyscallCount, error) {
	text, err := os.ReadFile("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSyscallCount, err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSyscallCount, err)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT,
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: id, Bits: unix.PerfBitInherit}
	count := &SyscallCount{}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			count.Close()
			return nil, err
		}
		fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ESRCH) {
			continue // The thread has ended.
		}
		if err != nil {
			count.Close()
			return nil, fmt.Errorf("%w: perf_event_open: %w", ErrNoSyscallCount, err)
		}
		count.fds = append(count.fds, fd)
	}
	return count, nil
}

// Read returns how many calls there were so far.
func (s *SyscallCount) Read() (total uint64, err error) {
	var buf [8]byte
	for _, fd := range s.fds {
		if _, err := unix.Read(fd, buf[:]); err != nil {
			return 0, err
		}
		total += binary.NativeEndian.Uint64(buf[:])
	}
	return total, nil
}

// Close stops counting.
func (s *SyscallCount) Close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	s.fds = nil
}
