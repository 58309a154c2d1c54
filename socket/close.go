package socket

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
)

// Close closes the socket and returns at once. Whoever waits in an operation is woken with net.ErrClosed, writers first; operations that begin
// later get it too. With TLS, the peer is told (close_notify).
//
// What was sent before is still delivered: if the kernel hasn't got the peer's acknowledgement of all of it, a coroutine in the background goes on sending,
// and discards what comes in (closing a socket with unread input would reset the connection and lose what is under way), until everything has arrived or SetLinger's
// time is over. Run doesn't return before that. A second Close returns net.ErrClosed.
func (s *Socket) Close() error { return s.shut(false) }

// Abort closes the socket as Close does, but drops what the peer hasn't acknowledged yet, and resets a TCP connection.
func (s *Socket) Abort() error { return s.shut(true) }

func (s *Socket) shut(abort bool) error {
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return s.fail("close", net.ErrClosed)
	}
	s.gone = true
	attempt, cancel := s.attempt, s.cancelDial
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if attempt != nil {
		attempt.close()
	}
	f := s.conn.Load()
	if f == nil {
		return nil
	}
	if abort {
		if f.acquire(using) == nil {
			unix.SetsockoptLinger(f.number, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			f.close()
			f.leave(using)
		}
		return nil
	}
	if t := s.secure.Load(); t != nil {
		t.closeNotify()
	}
	f.flush()
	if s.linger > 0 && s.network.stream() && s.undelivered(f) && f.acquire(using) == nil {
		s.lingerOn(f)
	}
	f.close()
	return nil
}

// undelivered reports whether there is something that closing could lose. What a Unix socket has taken is with the peer.
func (s *Socket) undelivered(f *fd) bool {
	return f.out.pending.Load() || s.network.tcp() && !s.listening && sysUnsent(f.number) > 0
}

// lingerOn starts the coroutine that delivers the rest. The caller has acquired the descriptor for it.
func (s *Socket) lingerOn(f *fd) {
	f.lingering.Store(true)
	loop := f.loop
	start := func() {
		_, err := runtime.Go(context.Background(), func(ctx context.Context) {
			defer f.leave(using)
			s.deliver(ctx, f)
		})
		if err != nil {
			f.leave(using)
		}
	}
	if runtime.OnLoop(loop) {
		loop.Defer(start) // not at once: who closes goes on first
	} else if loop.Post(start) != nil {
		f.leave(using)
	}
}

// deliver sends what is queued, half-closes, and waits until the peer has acknowledged everything.
func (s *Socket) deliver(ctx context.Context, f *fd) {
	deadline := runtime.DeadlineAfter(s.linger)
	if f.drain(ctx, &deadline, 0) != nil {
		return
	}
	unix.Shutdown(f.number, unix.SHUT_WR)
	buf := borrow()
	defer giveBack(buf)
	// There is no event for an acknowledgement, so it has to be looked for, less and less often.
	for pause := time.Millisecond; s.network.tcp() && sysUnsent(f.number) > 0 && !deadline.Passed(); {
		_, err := f.tryRead(buf)
		switch {
		case err == nil:
		case err == errWait:
			look := runtime.DeadlineAfter(pause).Earlier(deadline)
			if f.wait(ctx, &f.rd, reasonLinger, look) == runtime.ErrTimeout {
				pause = min(2*pause, 100*time.Millisecond)
			}
			f.rd.drained = false
		case err == io.EOF:
			if runtime.Sleep(ctx, pause) != nil {
				return
			}
			pause = min(2*pause, 100*time.Millisecond)
		default:
			return
		}
	}
}

// How says which direction Shutdown ends.
type How int

const (
	ShutdownRead  How = unix.SHUT_RD
	ShutdownWrite How = unix.SHUT_WR
	ShutdownBoth  How = unix.SHUT_RDWR
)

// Shutdown ends one direction of the connection, or both, and leaves the socket open (shutdown(2)). To end writing, it first waits until what is queued
// has been sent, and with TLS says so to the peer (close_notify); the peer then reads io.EOF while it can still send.
func (s *Socket) Shutdown(ctx context.Context, how How) error {
	if how < ShutdownRead || how > ShutdownBoth {
		return s.fail("shutdown", syscall.EINVAL)
	}
	kind := uint64(using)
	if how != ShutdownRead {
		kind = writing
	}
	f, err := s.acquire(kind)
	if err != nil {
		return s.fail("shutdown", err)
	}
	defer f.leave(kind)
	if how != ShutdownRead {
		if t := s.secure.Load(); t != nil {
			t.closeNotify()
		}
		if err := f.drain(ctx, new(runtime.Deadline), s.timeouts.Write); err != nil {
			return s.fail("shutdown", err)
		}
	}
	return s.fail("shutdown", os.NewSyscallError("shutdown", unix.Shutdown(f.number, int(how))))
}
