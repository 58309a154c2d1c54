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
// What was sent before is still delivered: if not all of it is under way, a coroutine in the background goes on sending,
// and discards what comes in (closing a socket with unread input would reset the connection and lose what is under way), until the peer has acknowledged everything or SetLinger's
// time is over. Run doesn't return before that. A second Close returns net.ErrClosed.
func (s *Socket) Close() error { return s.shut(false) }

// Abort closes the socket as Close does, but drops what the peer hasn't acknowledged yet, and resets a TCP connection.
func (s *Socket) Abort() error { return s.shut(true) }

func (s *Socket) shut(abort bool) error {
	runtime.Count(0)
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return s.fail("close", net.ErrClosed)
	}
	s.gone = true
	var attempt *fd
	var cancel context.CancelFunc
	if o := s.opening; o != nil {
		attempt, cancel = o.attempt, o.cancelDial
	}
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
	f.ending.Store(true)
	if f.home.Here() {
		s.finish(f, abort)
	} else {
		f.atHome(func() { s.finish(f, abort) })
	}
	return nil
}

// closing reports whether Close or Abort was called.
func (s *Socket) closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// finish closes a connected, bound or listening descriptor. Those who wait are taken out first, so that
// nobody takes the peer's answer to what is said here for the peer's own doing. They go on, and give the
// descriptor back, when the turn of their loop ends.
func (s *Socket) finish(f *fd, abort bool) {
	f.hold()
	if abort {
		sysResetOnClose(f.number)
	}
	f.close()
	if s.listening.Load() && f.busy() && !s.passedOn.Load() {
		// Whoever has waited in Accept holds the descriptor still. On Linux this ends listening all the
		// same, for everybody who has the file, so the address is free now.
		unix.Shutdown(f.number, unix.SHUT_RDWR)
	}
	if !abort {
		if t := s.secure.Load(); t != nil {
			t.closeNotify()
		}
		f.flush()
		if s.linger > 0 && s.network.stream() && s.wrapUp(f) {
			s.lingerOn(f) // has the descriptor from here on
			return
		}
	}
	f.leave(using)
}

// wrapUp reports whether something is left that closing now could lose: what is queued here, what the kernel has queued and not sent yet, and, as unread input has the
// kernel reset the connection at once, what it has sent and the peer has not acknowledged. If nothing is left, and the kernel is going to reset the connection, wrapUp tells
// the peer of the end before, who would read an error in its place. What a Unix socket has taken is with the peer.
func (s *Socket) wrapUp(f *fd) (left bool) {
	switch {
	case f.out.pending.Load():
		return true
	case !s.network.tcp() || s.listening.Load():
		return false
	case sysNotSent(f.number) > 0:
		return true
	case sysUnread(f.number) == 0:
		return false
	case sysUnsent(f.number) > 0:
		return true
	}
	unix.Shutdown(f.number, unix.SHUT_WR)
	return false
}

// unacknowledged reports whether the kernel waits for the peer to take something.
func (s *Socket) unacknowledged(f *fd) bool {
	return s.network.tcp() && !s.listening.Load() && sysUnsent(f.number) > 0
}

// lingerOn starts the coroutine that delivers the rest. The caller holds the descriptor for it.
func (s *Socket) lingerOn(f *fd) {
	f.onLoop(func() {
		if !f.home.Here() { // the loop has ended
			f.leave(using)
			return
		}
		_, err := runtime.Go(context.Background(), func(ctx context.Context) {
			defer f.leave(using)
			runtime.Yield(ctx)                       // who closes goes on first
			s.deliver(context.WithoutCancel(ctx), f) // a shutdown waits for it, as long as it waits for anything
		})
		if err != nil {
			f.leave(using)
		}
	})
}

// deliver sends what is queued, half-closes, and waits until the peer has acknowledged everything. It reads all the while: a peer that waits for us to
// take what it sends may not take anything before.
func (s *Socket) deliver(ctx context.Context, f *fd) {
	const shortest, longest = time.Millisecond, 100 * time.Millisecond
	deadline := runtime.DeadlineAfter(s.linger)
	for f.busy() { // those that Close has woken are on their way out
		if deadline.Passed() {
			return
		}
		runtime.Sleep(ctx, shortest)
	}
	buf := borrow()
	defer giveBack(buf)
	halfClosed := false
	// There is no event for an acknowledgement, so it has to be looked for, less and less often.
	for pause := shortest; !deadline.Passed(); {
		next := &f.rd
		switch f.flush() {
		case nil:
			if !halfClosed {
				unix.Shutdown(f.number, unix.SHUT_WR)
				halfClosed = true
			}
			if !s.unacknowledged(f) {
				return
			}
		case errWait, errNoBuffers:
			next = &f.wr
		default:
			return
		}
		switch n, err := f.tryRead(buf); err {
		case nil:
			pause = shortest
			runtime.Spend(ctx, n)
			continue
		case errWait, io.EOF:
		default:
			return
		}
		if f.wait(ctx, next, reasonLinger, runtime.DeadlineAfter(pause).Earlier(deadline)) == runtime.ErrTimeout {
			pause = min(2*pause, longest)
		}
		f.rd.drained = false
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
	kind := using
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
