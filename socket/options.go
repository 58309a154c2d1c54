package socket

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/whorl-go/whorl/internal/unix"
)

// option is a setting that is made on the descriptor, when there is one and on each that Connect
// makes.
type option struct {
	level, name, value int
	set                func(number int) error // instead of the three
}

func (o option) apply(number int) error {
	if o.set != nil {
		return o.set(number)
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(number, o.level, o.name, o.value))
}

// SetOption sets an integer option of the socket, as setsockopt(2) knows it. Before Bind and
// Connect it is kept for the descriptors that they make.
func (s *Socket) SetOption(level, name, value int) error {
	return s.setOption(option{level: level, name: name, value: value})
}

func (s *Socket) setOption(o option) error {
	if kept := s.keepOption(o); kept {
		return nil
	}
	f, err := s.acquire(using)
	if err != nil {
		return s.fail("set option", err)
	}
	defer f.leave(using)
	return s.fail("set option", o.apply(f.number))
}

// keepOption keeps an option for the descriptors that are still to be made, if there is none yet.
func (s *Socket) keepOption(o option) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.conn.Load() != nil {
		return false
	}
	pending := s.toOpen()
	pending.options = append(pending.options, o)
	return true
}

// Option returns an integer option of the socket, as getsockopt(2) knows it.
func (s *Socket) Option(level, name int) (int, error) {
	f, err := s.acquire(using)
	if err != nil {
		return 0, s.fail("get option", err)
	}
	defer f.leave(using)
	value, err := unix.GetsockoptInt(f.number, level, name)
	return value, s.fail("get option", os.NewSyscallError("getsockopt", err))
}

// SetNoDelay switches TCP's gathering of small segments (Nagle's algorithm) off or on; it is off by
// default.
func (s *Socket) SetNoDelay(noDelay bool) error {
	value := 0
	if noDelay {
		value = 1
	}
	return s.SetOption(unix.IPPROTO_TCP, unix.TCP_NODELAY, value)
}

// KeepAlive says when TCP finds out that an idle peer is gone (tcp(7)): the first probe after Idle,
// further ones at Interval, given up after Count. Times are rounded up to seconds. What is 0 has
// its default: 2 minutes, 30 seconds, 4. Idle < 0 means no probes. It means the same in the
// configurations of clients and of servers. OpenBSD has times for the whole system only: asking for
// others is errors.ErrUnsupported there.
type KeepAlive struct {
	Idle, Interval time.Duration
	Count          int
}

// SetKeepAlive switches TCP's keep-alive probes on, or off.
func (s *Socket) SetKeepAlive(k KeepAlive) error {
	if k.Idle < 0 {
		return s.SetOption(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	seconds := func(d, otherwise time.Duration) int {
		return int((cmp.Or(d, otherwise) + time.Second - 1) / time.Second)
	}
	idle, interval := seconds(k.Idle, 2*time.Minute), seconds(k.Interval, 30*time.Second)
	count := cmp.Or(k.Count, 4)
	return s.setOption(option{set: func(number int) error {
		if err := unix.SetsockoptInt(number, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		err := setKeepAlive(number, idle, interval, count)
		if k == (KeepAlive{}) && errors.Is(err, errors.ErrUnsupported) {
			return nil // then the system's times
		}
		return err
	}})
}

// setKeepAlive sets the keep-alive probes' times, in seconds.
func setKeepAlive(number, idle, interval, count int) error {
	if unix.TCP_KEEPIDLE == 0 {
		return fmt.Errorf("keep-alive times of one socket: %w", errors.ErrUnsupported)
	}
	for _, o := range []struct{ name, value int }{
		{unix.TCP_KEEPIDLE, idle}, {unix.TCP_KEEPINTVL, interval}, {unix.TCP_KEEPCNT, count},
	} {
		if err := unix.SetsockoptInt(number, unix.IPPROTO_TCP, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// SetBuffers sets the size of the kernel's buffers, in bytes; 0 leaves one as it is.
func (s *Socket) SetBuffers(receive, send int) error {
	for _, b := range []struct{ name, size int }{{unix.SO_RCVBUF, receive}, {unix.SO_SNDBUF, send}} {
		if b.size > 0 {
			if err := s.SetOption(unix.SOL_SOCKET, b.name, b.size); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetReusePort lets several sockets be bound to one address (SO_REUSEPORT). Linux distributes what
// comes between them; elsewhere one of them gets it. Call it before Bind.
func (s *Socket) SetReusePort(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return s.SetOption(unix.SOL_SOCKET, unix.SO_REUSEPORT, value)
}
