package socket

import (
	"context"

	"github.com/whorl-go/whorl/runtime"
)

// Send sends once: as much of p as the kernel takes now, at least one byte, and waits if it takes none. It returns how much that was. With TLS, and on
// datagram sockets, it is all of p.
func (s *Socket) Send(ctx context.Context, p []byte) (int, error) {
	runtime.Spend(ctx) // before the lock is taken: whoever else sends meanwhile needn't be told that it is busy
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
	runtime.Spend(ctx) // before the lock is taken: whoever else sends meanwhile needn't be told that it is busy
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

// gather is the largest send that is put together with others. For larger ones a system call costs less than copying.
const gather = 8 << 10

// SendSoon is SendAll for small messages: what the coroutines of a loop send in one turn of the loop goes to the kernel together, one write for
// each socket, at the end of the turn or when the socket's owner waits to receive. An error of that write is returned by a later
// operation. At most 64 KiB are queued; then SendSoon waits until the kernel has taken them. From elsewhere than the socket's loop, for large messages and for
// packets, it is SendAll.
func (s *Socket) SendSoon(ctx context.Context, p []byte) (int, error) {
	runtime.Spend(ctx) // before the lock is taken: whoever else sends meanwhile needn't be told that it is busy
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	n, err := s.sendSoon(ctx, f, p)
	return n, s.fail("send", err)
}

func (s *Socket) sendSoon(ctx context.Context, f *fd, p []byte) (int, error) {
	if len(p) > gather || !s.network.stream() || !f.home.Here() || f.queued()+len(p) > highWater {
		return s.sendAll(ctx, f, p)
	}
	var n int
	var err error
	if secure := s.secure.Load(); secure != nil {
		n, err = secure.enqueue(p)
	} else {
		n, err = f.enqueue(p)
	}
	if err != nil {
		return 0, err
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
