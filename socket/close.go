package socket

import (
	"context"
	"net"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
)

// Close closes the socket and returns at once. Whoever waits in an operation is woken with
// net.ErrClosed, writers first, and goes on when the loop comes to it; operations that begin later
// get that error too. With TLS, the peer is told (close_notify). It may be called from anywhere.
//
// What was sent before is still delivered: if not all of it is under way, the loop goes on sending
// in the background, and discards what comes in (closing a socket with unread input would reset
// the connection and lose what is under way), until the peer has acknowledged everything. A peer
// that takes nothing for as long as SetLinger says gets a reset instead, and the runtime's log the
// reason. Run and Shutdown wait for the delivery. A second Close returns net.ErrClosed.
func (s *Socket) Close() error { return s.shut(false) }

// Abort closes the socket as Close does, but drops what the peer hasn't acknowledged yet, and
// resets a TCP connection.
func (s *Socket) Abort() error { return s.shut(true) }

func (s *Socket) shut(abort bool) error {
	sched.Count(0)
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
	if f := s.conn.Load(); f != nil {
		s.finish(f, abort)
	}
	return nil
}

// finish closes a connected, bound or listening descriptor. Whoever waits is woken first, so that
// nobody takes the peer's answer to what is said here for the peer's own doing.
func (s *Socket) finish(f *fd, abort bool) {
	defer func() {
		if t := s.secure.Load(); t != nil {
			t.doom()
		}
	}()
	if f.acquire(using) != nil {
		return // it has ended with its loop
	}
	if abort {
		sysResetOnClose(f.number)
	}
	f.close()
	switch {
	case s.listening.Load():
		// Whoever waits in Accept has the descriptor until the end of the turn, but the address is
		// to be free now. (Not by shutdown(2), as another process may have the listener, too.)
		f.descriptor.Unregister()
		sysVacate(f.number)
	case !abort:
		if t := s.secure.Load(); t != nil {
			t.closeNotify()
		}
		f.flush()
		if s.network.stream() && s.wrapUp(f) {
			s.lingerOn(f) // has the descriptor from here on
			return
		}
	}
	f.leave(using)
}

// wrapUp reports whether something is left that closing now could lose: what is queued here, what
// the kernel has queued and not sent yet, and, as unread input has the kernel reset the connection
// at once, what it has sent and the peer has not acknowledged. If nothing is left, and the kernel
// is going to reset the connection, wrapUp tells the peer of the end before, who would read an
// error in its place. What a Unix socket has taken is with the peer.
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

// How says which direction Shutdown ends.
type How int

const (
	ShutdownRead  How = unix.SHUT_RD
	ShutdownWrite How = unix.SHUT_WR
	ShutdownBoth  How = unix.SHUT_RDWR
)

// Shutdown ends one direction of the connection, or both, and leaves the socket open (shutdown(2)).
// To end writing, it first waits until what is queued has been sent, and with TLS says so to the
// peer (close_notify); the peer then reads io.EOF while it can still send.
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
		if err := f.drain(ctx, s.patience()); err != nil {
			return s.fail("shutdown", err)
		}
	}
	err = unix.Shutdown(f.number, int(how))
	if err == nil && how != ShutdownWrite {
		f.unreadable.Store(true)
		f.rd.prompt() // for a datagram socket the kernel gives no edge
	}
	return s.fail("shutdown", os.NewSyscallError("shutdown", err))
}
