package socket

import (
	"io"
	"math"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
)

// A Watcher is told what a socket is ready for, on the socket's loop, instead of a coroutine that
// waits; see [Socket.Watch].
type Watcher interface {
	// Readable says that something has arrived, or the peer has closed, since the last
	// TryRecvPacket that returned ErrWouldBlock.
	Readable()
	// Writable says that the kernel has taken more of what Queue has queued, or all of it, or that
	// the connection has failed.
	Writable()
}

// Watch has w told what the socket is ready for: a connection that is served by callbacks needs no
// coroutine, and while nothing comes no buffer either. nil ends it. What has arrived before is not
// told: begin with TryRecvPacket. An operation that waits, such as SSLHandshake in a coroutine,
// gets the event instead of w. Watch, TryRecvPacket, Queue, Push, Arrived and Discard are for the
// socket's own loop, for a coroutine or a function of it; called elsewhere they return EXDEV.
func (s *Socket) Watch(w Watcher) error {
	f, err := s.acquireHere(using)
	if err != nil {
		return s.fail("watch", err)
	}
	defer f.leave(using)
	f.watcher = w
	return nil
}

// acquireHere is acquire for what may only be called on the socket's loop.
func (s *Socket) acquireHere(kind uint32) (*fd, error) {
	if f := s.conn.Load(); f != nil && !f.home.Here() {
		return nil, syscall.EXDEV
	}
	return s.acquire(kind)
}

// TryRecvPacket is RecvPacket without waiting: ErrWouldBlock if nothing more has arrived; Readable
// then tells when there is more. nil, nil says that some has come, but no whole packet yet: call it
// again, or let others go first. It reads at most once.
func (s *Socket) TryRecvPacket() ([]byte, error) {
	f, err := s.acquireHere(reading)
	if err != nil {
		return nil, s.fail("recv", err)
	}
	defer f.leave(reading)
	if pkt := s.nextAtHand(); pkt != nil {
		return pkt, nil
	}
	pkt, err := s.tryPacket(f)
	switch err {
	case nil:
		return pkt, nil
	case errWait:
		return nil, ErrWouldBlock
	}
	return nil, s.fail("recv", err)
}

// tryPacket reads at most once; nil, nil says that it has read something, but no whole packet yet.
func (s *Socket) tryPacket(f *fd) ([]byte, error) {
	if pkt, err := s.nextPacket(); pkt != nil || err != nil {
		return pkt, err
	}
	if err := s.tryFill(f); err != nil {
		return nil, err
	}
	return s.nextPacket()
}

// Queue queues all of p for sending and doesn't wait: at most limit bytes are queued, beyond that
// Queue takes nothing and returns ErrQueueFull. (With TLS, up to two per cent more, for the
// overhead of the records.) No more than 1 GiB is, whatever limit says. What is queued is sent by
// Push, or when the kernel takes more. A large p goes to the kernel at once if nothing is queued
// before it. It returns how much is queued then. On a datagram socket, p must be sent by Send or
// SendTo instead.
func (s *Socket) Queue(p []byte, limit int) (queued int, err error) {
	f, err := s.acquireHere(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	if !f.stream {
		return 0, s.fail("send", syscall.EPROTONOSUPPORT)
	}
	limit = min(limit, 1<<30)
	queued = f.queued()
	if len(p) > limit-queued {
		return queued, s.fail("send", ErrQueueFull)
	}
	secure := s.secure.Load()
	if secure == nil && queued == 0 && len(p) > gatherLimit {
		n, err := f.trySend(p)
		if err != nil && err != errWait && err != errNoBuffers {
			return 0, s.fail("send", err)
		}
		if p = p[n:]; len(p) == 0 {
			return 0, nil
		}
	}
	f.allow(limit)
	if secure != nil {
		_, err = secure.enqueue(p)
	} else {
		_, err = f.enqueue(p)
	}
	return queued + len(p), s.fail("send", err)
}

// allow has at least limit bytes, and the overhead of TLS, fit the queue.
func (f *fd) allow(limit int) {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	if limit > queueLimit/2 {
		f.out.limit = int32(min(int64(limit)+int64(limit)/32+queueLimit, math.MaxInt32))
	}
}

// Push gives the kernel what it takes of what is queued, without waiting. It returns the
// connection's error if that is what it comes to; what is left goes out by itself when the kernel
// takes more, and Writable tells. It returns how much that is.
func (s *Socket) Push() (queued int, err error) {
	f, err := s.acquireHere(using)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(using)
	switch err := f.flush(); err {
	case nil:
		return 0, nil
	case errWait:
	case errNoBuffers:
		f.home.Loop().AfterFunc(noBuffers, f.flushOnLoop)
	default:
		return 0, s.fail("send", err)
	}
	return f.queued(), nil
}

// Queued returns how many bytes are queued that the kernel hasn't taken yet. It may be called from
// anywhere, and takes no part in who may send.
func (s *Socket) Queued() int {
	f, err := s.acquire(using)
	if err != nil {
		return 0
	}
	defer f.leave(using)
	return f.queued()
}

// HungUp reports whether the peer has closed its end, or reset the connection, so that nothing
// comes behind what Arrived has shown. (Urgent data, which nobody expects here, counts as well.)
func (s *Socket) HungUp() bool {
	f := s.conn.Load()
	return f != nil && f.eager.Load()
}

// Sending reports whether somebody is in an operation that sends. It is for the socket's own loop.
func (s *Socket) Sending() bool {
	f := s.conn.Load()
	return f != nil && f.in(writing)
}

// Arrived copies what waits in the kernel, up to len(p) bytes, and leaves it there: a look at how a
// peer begins before it is decided who reads it. It passes over what was read ahead, and TLS.
// ErrWouldBlock says that nothing waits; io.EOF that nothing will.
func (s *Socket) Arrived(p []byte) (int, error) {
	f, err := s.acquireHere(reading)
	if err != nil {
		return 0, s.fail("peek", err)
	}
	defer f.leave(reading)
	for {
		n, errno := sysPeek(f.number, p)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return 0, ErrWouldBlock
		case errno != 0:
			return 0, s.fail("peek", callError("recvfrom", errno))
		case n == 0 && f.stream:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Discard takes the first n bytes of what Arrived has shown.
func (s *Socket) Discard(n int) error {
	f, err := s.acquireHere(reading)
	if err != nil {
		return s.fail("recv", err)
	}
	defer f.leave(reading)
	buf := borrowFor(n)
	defer giveBack(buf)
	for n > 0 {
		f.rd.drained = false
		m, err := f.tryRead(buf[:min(n, len(buf))])
		if err != nil {
			return s.fail("recv", err)
		}
		n -= m
	}
	f.rd.drained = false
	return nil
}

// OnLoop reports whether the caller runs on the socket's loop, as one of its coroutines or as a
// function of the loop.
func (s *Socket) OnLoop() bool {
	f := s.conn.Load()
	return f != nil && f.home.Here()
}

// Home returns where the socket lives; ok is false if it has no descriptor yet.
func (s *Socket) Home() (home sched.Home, ok bool) {
	f := s.conn.Load()
	if f == nil {
		return home, false
	}
	return f.home, true
}
