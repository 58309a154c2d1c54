package socket

import (
	"io"
	"math"
	"syscall"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
)

func (i *inner) Watch(w house.Watcher) error {
	s := (*Socket)(i)
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

func (i *inner) TryRecvPacket() ([]byte, error) {
	s := (*Socket)(i)
	f, err := s.acquireHere(reading)
	if err != nil {
		return nil, s.fail("recv", err)
	}
	defer f.leave(reading)
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

func (i *inner) Queue(p []byte, limit int) (queued int, err error) {
	s := (*Socket)(i)
	f, err := s.acquireHere(queueing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(queueing)
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

func (i *inner) Push() (queued int, err error) {
	s := (*Socket)(i)
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
	f.slim()
	return f.queued(), nil
}

func (i *inner) Queued() int {
	s := (*Socket)(i)
	f, err := s.acquire(using)
	if err != nil {
		return 0
	}
	defer f.leave(using)
	return f.queued()
}

func (i *inner) HungUp() bool {
	s := (*Socket)(i)
	f := s.conn.Load()
	return f != nil && f.eager.Load()
}

func (i *inner) Sending() bool {
	s := (*Socket)(i)
	f := s.conn.Load()
	return f != nil && f.in(writing)
}

func (i *inner) Arrived(p []byte) (int, error) {
	s := (*Socket)(i)
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

func (i *inner) Discard(n int) error {
	s := (*Socket)(i)
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

func (i *inner) OnLoop() bool {
	s := (*Socket)(i)
	f := s.conn.Load()
	return f != nil && f.home.Here()
}

func (i *inner) Home() (home sched.Home, ok bool) {
	s := (*Socket)(i)
	f := s.conn.Load()
	if f == nil {
		return home, false
	}
	return f.home, true
}
