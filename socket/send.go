package socket

import (
	"context"

	"github.com/whorl-go/whorl/runtime"
)

// Send sends once: as much of p as the kernel takes now, at least one byte, and waits if it takes none. It returns how much that was. With TLS, and on
// datagram sockets, it is all of p.
func (s *Socket) Send(ctx context.Context, p []byte) (int, error) {
	runtime.Spend(ctx, len(p)) // before the lock is taken: whoever else sends meanwhile needn't be told that it is busy
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	var deadline runtime.Deadline
	if secure := s.secure.Load(); secure != nil {
		n, err := secure.send(ctx, f, p, &deadline, s.timeouts.Write)
		return n, s.fail("send", err)
	}
	if err := f.drain(ctx, &deadline, s.timeouts.Write); err != nil {
		return 0, s.fail("send", err)
	}
	for {
		n, err := f.trySend(p)
		if err == nil {
			return n, nil
		}
		if err := f.waitWrite(ctx, err, &deadline, s.timeouts.Write); err != nil {
			return 0, s.fail("send", err)
		}
	}
}

// SendAll sends all of p and returns when the kernel has it. It returns how much the kernel has taken; with an error that is less than len(p), and with
// TLS only whole records are counted.
func (s *Socket) SendAll(ctx context.Context, p []byte) (int, error) {
	runtime.Spend(ctx, len(p)) // before the lock is taken: whoever else sends meanwhile needn't be told that it is busy
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	n, err := s.sendAll(ctx, f, p)
	return n, s.fail("send", err)
}

func (s *Socket) sendAll(ctx context.Context, f *fd, p []byte) (int, error) {
	var deadline runtime.Deadline
	if secure := s.secure.Load(); secure != nil {
		return secure.send(ctx, f, p, &deadline, s.timeouts.Write)
	}
	return f.send(ctx, p, &deadline, s.timeouts.Write)
}

// gatherLimit is the largest send that is put together with others. For larger ones a system call costs less than copying.
const gatherLimit = 8 << 10

// SendSoon is SendAll for small messages: what the coroutines of a loop send in one turn of the loop goes to the kernel together, one write for
// each socket, at the end of the turn or when the socket's owner waits to receive. An error of that write is returned by a later
// operation. At most 64 KiB are queued; then SendSoon waits until the kernel has taken them. From elsewhere than the socket's loop, for large messages and for
// packets, it is SendAll.
func (s *Socket) SendSoon(ctx context.Context, p []byte) (int, error) {
	runtime.Spend(ctx, len(p)) // before the lock is taken: whoever else sends meanwhile needn't be told that it is busy
	if s.gather(ctx, p) {
		return len(p), nil
	}
	return s.sendSoon(ctx, p)
}

// gather is SendSoon for the usual case: in plaintext, by a coroutine of the loop that the socket is private to, and there is room. Nobody else can come in between then, so the lock is only
// looked at, see packetAtHand. Very many coroutines are here and then wait for the answer: its frame, and those below, are kept small, so that the first 2 KiB of a stack do.
func (s *Socket) gather(ctx context.Context, p []byte) bool {
	f := s.conn.Load()
	if f == nil || len(p) == 0 || len(p) > gatherLimit || !f.private() || f.word&(lockWriting|lockClosed) != 0 || f.ending.Load() ||
		s.secure.Load() != nil || !s.network.stream() {
		return false
	}
	o := &f.out
	if o.queue == nil && o.err == nil && len(p) <= smallBufferSize {
		o.queue = borrowShallow(ctx)[:0]
	}
	if len(o.queue)+len(p) > cap(o.queue) {
		return false
	}
	o.queue = append(o.queue, p...)
	o.pending.Store(true)
	if !o.scheduled {
		o.scheduled = true
		f.home.Loop().DeferTask((*flushTask)(f))
	}
	return true
}

// sendSoon is SendSoon for all cases.
func (s *Socket) sendSoon(ctx context.Context, p []byte) (n int, err error) {
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	if len(p) > gatherLimit || !s.network.stream() || !f.home.Here() || f.queued()+len(p) > highWater {
		n, err = s.sendAll(ctx, f, p)
		return n, s.fail("send", err)
	}
	if secure := s.secure.Load(); secure != nil {
		n, err = secure.enqueue(p)
	} else {
		n, err = f.enqueue(p)
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
	return s.fail("send", f.drain(ctx, new(runtime.Deadline), s.timeouts.Write))
}
