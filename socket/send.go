package socket

import (
	"context"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Send sends once: as much of p as the kernel takes now, at least one byte, and waits if it takes
// none. It returns how much that was. With TLS, and on datagram sockets, it is all of p.
func (s *Socket) Send(ctx context.Context, p []byte) (int, error) {
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, s.fail("send", err)
	}
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	if secure := s.secure.Load(); secure != nil {
		n, err := secure.send(ctx, f, p, s.patience())
		return n, s.fail("send", err)
	}
	if err := f.drain(ctx, s.patience()); err != nil {
		return 0, s.fail("send", err)
	}
	n, err := f.transmit(ctx, s.patience(), func() (int, error) { return f.trySend(p) })
	return n, s.fail("send", err)
}

// SendAll sends all of p and returns when the kernel has it. It returns how much the kernel has
// taken; with an error that is less than len(p), and with TLS only whole records are counted.
func (s *Socket) SendAll(ctx context.Context, p []byte) (int, error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return 0, s.fail("send", err)
	}
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	n, err := s.sendAll(ctx, f, p)
	return n, s.fail("send", err)
}

func (s *Socket) sendAll(ctx context.Context, f *fd, p []byte) (int, error) {
	if secure := s.secure.Load(); secure != nil {
		return secure.send(ctx, f, p, s.patience())
	}
	return f.send(ctx, p, s.patience())
}

// gatherLimit is the largest send that is put together with others. For larger ones a system call
// costs less than copying.
const gatherLimit = 8 << 10

// SendSoon is SendAll for small messages: what the coroutines of a loop send in one turn of the
// loop goes to the kernel together, one write for each socket, at the end of the turn or when the
// socket's owner waits to receive. An error of that write is returned by a later operation. At most
// 64 KiB are queued; then SendSoon waits until the kernel has taken them. From elsewhere than the
// socket's loop, for large messages and for packets, it is SendAll.
func (s *Socket) SendSoon(ctx context.Context, p []byte) (n int, err error) {
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, s.fail("send", err)
	}
	if s.gather(p) {
		return len(p), nil
	}
	return s.sendSoon(ctx, p)
}

// gather is SendSoon for the usual case: in plaintext, on the socket's loop, and there is room.
// Very many coroutines are here and then wait for the answer: its frame, and those below, are kept
// small, so that the first 2 KiB of a stack do.
func (s *Socket) gather(p []byte) bool {
	f := s.conn.Load()
	if f == nil || len(p) == 0 || len(p) > gatherLimit || !f.stream || !f.home.Here() ||
		f.acquire(writing) != nil {
		return false
	}
	gathered := s.secure.Load() == nil && f.gather(p)
	f.leave(writing)
	return gathered
}

func (f *fd) gather(p []byte) bool {
	o := &f.out
	o.mu.Lock()
	if o.queue == nil && o.err == nil && len(p) <= smallBufferSize {
		o.queue = smallAtHand()[:0]
	}
	fits := len(o.queue)+len(p) <= cap(o.queue)
	if fits {
		o.queue = append(o.queue, p...)
		o.pending.Store(true)
		if !o.scheduled {
			o.scheduled = true
			f.home.Loop().DeferTask((*flushTask)(f))
		}
	}
	o.mu.Unlock()
	return fits
}

// sendSoon is SendSoon for all cases.
func (s *Socket) sendSoon(ctx context.Context, p []byte) (n int, err error) {
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	if len(p) > gatherLimit || !f.stream || !f.home.Here() || f.queued()+len(p) > highWater {
		n, err = s.sendAll(ctx, f, p)
		return n, s.fail("send", err)
	}
	if secure := s.secure.Load(); secure != nil {
		n, err = secure.enqueue(p)
	} else {
		runtime.Detour(ctx, func(context.Context) { n, err = f.enqueue(p) }) // it may make a buffer
	}
	if err != nil {
		return 0, s.fail("send", err)
	}
	f.flushSoon()
	return n, nil
}

// Flush waits until the kernel has taken everything that was queued by SendSoon.
func (s *Socket) Flush(ctx context.Context) error {
	f, err := s.acquire(writing)
	if err != nil {
		return s.fail("send", err)
	}
	defer f.leave(writing)
	return s.fail("send", f.drain(ctx, s.patience()))
}
