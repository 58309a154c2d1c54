//go:build linux

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loop is one thread of the generator.
type loop struct {
	// Set before run, and constant from then on.

	epoll    int
	conns    []*conn
	cpus     *unix.CPUSet
	patience time.Duration
	look     int // how long an epoll waits, in milliseconds

	// Of run's goroutine.

	out      []byte // the message; its number is written into it before each send
	in       []byte
	events   [128]unix.EpollEvent
	answered []*conn // of the last turn
	err      error   // why run ended; read after it did

	// Shared.

	messages atomic.Uint64
	thread   atomic.Int32 // run's thread
	stop     atomic.Bool
}

func newLoop(o Options) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	look := 100 // often enough to see stop when no answer comes
	if o.Spin {
		look = 0
	}
	// One byte more than a message, so that a server that sends too much is noticed.
	return &loop{epoll: epoll, cpus: o.CPUs, look: look, patience: o.Patience, out: make([]byte, o.Size), in: make([]byte, o.Size+1)}, nil
}

// watch adds the connections to the epoll. The event carries the connection's place in conns.
func (l *loop) watch() error {
	for i, c := range l.conns {
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return err
		}
	}
	return nil
}

// run calls begun when its thread is known.
func (l *loop) run(begun func()) {
	// The thread ends with the goroutine, as nobody else shall have its CPUs and its clock.
	runtime.LockOSThread()
	l.thread.Store(int32(unix.Gettid()))
	begun()
	if l.cpus != nil {
		if l.err = unix.SchedSetaffinity(0, l.cpus); l.err != nil {
			return
		}
	}
	for _, c := range l.conns {
		if l.err = l.send(c); l.err != nil {
			return
		}
	}
	outstanding := len(l.conns)
	var deadline time.Time // for what is outstanding once stop is set
	for outstanding > 0 {
		answered, err := l.turn()
		if err != nil {
			l.err = err
			return
		}
		if !l.stop.Load() {
			for _, c := range answered {
				if l.err = l.send(c); l.err != nil {
					return
				}
			}
			continue
		}
		outstanding -= len(answered)
		if deadline.IsZero() {
			deadline = time.Now().Add(l.patience)
		}
		if outstanding > 0 && time.Now().After(deadline) {
			l.err = fmt.Errorf("load: %d messages didn't come back", outstanding)
			return
		}
	}
}

func (l *loop) send(c *conn) error {
	c.seq++
	c.got = 0
	binary.NativeEndian.PutUint64(l.out, c.seq)
	_, err := c.stream.Write(l.out)
	return err
}

// turn waits for answers, and returns the connections whose message is back. What it returns is valid until the next turn.
func (l *loop) turn() ([]*conn, error) {
	n, err := unix.EpollWait(l.epoll, l.events[:], l.look)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, err
	}
	l.answered = l.answered[:0]
	for _, event := range l.events[:max(n, 0)] {
		c := l.conns[event.Fd]
		whole, err := l.receive(c)
		if err != nil {
			return nil, fmt.Errorf("load: connection %d: %w", event.Fd, err)
		}
		if whole {
			l.answered = append(l.answered, c)
		}
	}
	l.messages.Add(uint64(len(l.answered)))
	return l.answered, nil
}

// receive reads what has come, and tells whether the message is back as a whole.
func (l *loop) receive(c *conn) (whole bool, err error) {
	for c.got < len(l.out) {
		n, err := c.stream.Read(l.in[:len(l.in)-c.got])
		switch {
		case n > 0:
		case errors.Is(err, errAgain):
			return false, nil
		case errors.Is(err, io.EOF):
			return false, errors.New("the server closed it")
		case err != nil:
			return false, err
		}
		if c.got == 0 && n >= MinSize && binary.NativeEndian.Uint64(l.in) != c.seq {
			return false, fmt.Errorf("message %d came in the place of %d", binary.NativeEndian.Uint64(l.in), c.seq)
		}
		c.got += n
	}
	if c.got > len(l.out) {
		return false, errors.New("the server sent more than it got")
	}
	return true, nil
}

func (l *loop) cpu() (time.Duration, error) {
	thread := l.thread.Load()
	// The CPU clock of a thread: as clock_getcpuclockid(3) has it, with 4 (CPUCLOCK_PERTHREAD) added.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^thread)<<3|6, &ts); err != nil {
		return 0, fmt.Errorf("load: CPU clock of thread %d: %w", thread, err)
	}
	return time.Duration(ts.Nano()), nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		c.fd.Close()
	}
	unix.Close(l.epoll)
}
