//go:build linux && !gnetpoll

package eventloop

import (
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll(7) instance and the eventfd(2) that wakes it.
type poller struct {
	epfd   int
	wakeFD int
	events []unix.EpollEvent
	coarse bool // no epoll_pwait2(2), which came with Linux 5.11: the time-out is in milliseconds

	// users counts the calls under way from other goroutines, so that close doesn't take the
	// descriptors from under them: their numbers may be in use again at once. pollerClosed is added
	// when close begins.
	users atomic.Int64
}

const pollerClosed = 1 << 40

// enter reports whether the poller is open; if so it stays open until leave.
func (p *poller) enter() bool {
	if p.users.Add(1) < pollerClosed {
		return true
	}
	p.leave()
	return false
}

func (p *poller) leave() { p.users.Add(-1) }

func openPoller() (*poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wakeFD, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	p := &poller{epfd: epfd, wakeFD: wakeFD, events: make([]unix.EpollEvent, maxEvents)}
	// Edge-triggered: each write is an event, and the counter never has to be read.
	if err := p.add(wakeFD, 0, Readable|EdgeTriggered); err != nil {
		p.close()
		return nil, err
	}
	var zero unix.Timespec
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epfd),
		uintptr(unsafe.Pointer(&p.events[0])), maxEvents, uintptr(unsafe.Pointer(&zero)), 0, 0)
	// EPERM: a seccomp filter that doesn't know it.
	p.coarse = errno == unix.ENOSYS || errno == unix.EPERM
	return p, nil
}

func (p *poller) close() {
	for n := p.users.Add(pollerClosed); n != pollerClosed; n = p.users.Load() {
		runtime.Gosched()
	}
	unix.Close(p.wakeFD)
	unix.Close(p.epfd)
}

// poll returns how many descriptors are ready, without blocking. As it can't block, the scheduler
// needn't know of it: RawSyscall.
func (p *poller) poll() int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
		uintptr(unsafe.Pointer(&p.events[0])), maxEvents, 0, 0, 0)
	if errno != 0 {
		return 0 // EINTR; the rest can't happen to an open epoll instance
	}
	return int(n)
}

// wait returns how many descriptors are ready, at the latest after timeout; a negative timeout
// waits without end. A signal ends the wait early, with 0.
func (p *poller) wait(timeout time.Duration) int {
	var n uintptr
	var errno unix.Errno
	if p.coarse {
		ms := -1
		if timeout >= 0 {
			// Rounded up: never early.
			ms = int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<30))
		}
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
			uintptr(unsafe.Pointer(&p.events[0])), maxEvents, uintptr(ms), 0, 0)
	} else {
		var ts *unix.Timespec
		if timeout >= 0 {
			t := unix.NsecToTimespec(int64(timeout))
			ts = &t
		}
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.epfd),
			uintptr(unsafe.Pointer(&p.events[0])), maxEvents, uintptr(unsafe.Pointer(ts)), 0, 0)
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

// event returns the i-th event of the last poll.
func (p *poller) event(i int) (fd int, generation uint32, events Events) {
	e := &p.events[i]
	return int(e.Fd), uint32(e.Pad), Events(e.Events)
}

var one = [8]byte{1}

// wake ends a wait. EAGAIN would mean that the counter is full, which takes 2^64-2 writes.
func (p *poller) wake() {
	if !p.enter() {
		return
	}
	defer p.leave()
	unix.RawSyscall(
		unix.SYS_WRITE,
		uintptr(p.wakeFD),
		uintptr(unsafe.Pointer(&one[0])),
		uintptr(len(one)),
	)
}

func (p *poller) control(op, fd int, generation uint32, events Events) error {
	if !p.enter() {
		return ErrClosed
	}
	defer p.leave()
	e := unix.EpollEvent{Events: uint32(events), Fd: int32(fd), Pad: int32(generation)}
	_, _, errno := unix.RawSyscall6(
		unix.SYS_EPOLL_CTL,
		uintptr(p.epfd),
		uintptr(op),
		uintptr(fd),
		uintptr(unsafe.Pointer(&e)),
		0,
		0,
	)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

func (p *poller) add(fd int, generation uint32, events Events) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, generation, events)
}

func (p *poller) modify(fd int, generation uint32, events Events) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, generation, events)
}

func (p *poller) remove(fd int) { p.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }
