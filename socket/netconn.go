package socket

import (
	"context"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
)

// What a net.Conn promises beyond the verbs of a Socket; package hooks is the user of these.

// Limit is a reason to stop waiting that comes and goes, such as a deadline that is moved. Err
// returns nil while there is none; it may be called from anywhere.
type Limit interface{ Err() error }

// RecvUntil is Recv that waits by a Limit instead of a context and Timeouts: before it waits it
// asks the Limit, whose error ends it, and Interrupt has it ask again. A context can't do that
// without a channel, and a goroutine that waits on two channels takes noticeably longer than one
// that waits on its own.
func (s *Socket) RecvUntil(limit Limit, p []byte) (int, error) {
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("recv", err)
	}
	defer f.leave(reading)
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n := s.take(p)
		if n > 0 {
			sched.Spend(context.Background(), n)
			return n, nil
		}
		if n, err = s.tryRecv(f, p); err != errWait {
			sched.Spend(context.Background(), n)
			return n, s.fail("recv", err)
		}
		f.flushPending()
		if err := f.waitUntil(limit); err != nil {
			return 0, s.fail("recv", err)
		}
	}
}

// Interrupt has a RecvUntil that waits ask its Limit again. It doesn't wait, and may be called from
// anywhere at any time. Other operations that wait for input go on waiting.
func (s *Socket) Interrupt() {
	f := s.conn.Load()
	if f == nil {
		return
	}
	if w := f.rd.slot.Load(); w != nil && w != &edge && f.rd.slot.CompareAndSwap(w, nil) {
		w.Wake()
	}
}

// SendExact is SendAll with a count that is exact whatever ends the call: who was stopped by ctx or
// a time-out may go on with p[n:], and the peer gets each byte once. SendAll can't say that of TLS,
// whose records are queued whole. SendExact counts what is queued as sent, as one counts what the
// kernel has queued. It waits for room before it queues, 32 KiB at a time, and what the kernel
// doesn't take at once is sent by the loop, and by Close.
func (s *Socket) SendExact(ctx context.Context, p []byte) (int, error) {
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, s.fail("send", err)
	}
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	t := s.secure.Load()
	if t == nil {
		n, err := f.send(ctx, p, s.patience())
		return n, s.fail("send", err)
	}
	sent := 0
	for sent < len(p) {
		if err := f.drain(ctx, s.patience()); err != nil {
			return sent, s.fail("send", err)
		}
		n, err := t.enqueue(p[sent:min(len(p), sent+piece)])
		sent += n
		if err == nil {
			err = f.flush()
		}
		if err == errNoBuffers { // for which there is no event
			err = f.drain(ctx, s.patience())
		}
		if err != nil && err != errWait {
			return sent, s.fail("send", err)
		}
		if sent < len(p) {
			// A peer that always has room must not keep the loop from the others.
			sched.Spend(ctx, 0)
		}
	}
	return sent, nil
}

// OnOpen has fn called with each descriptor that Bind, Connect or SendTo makes, after the options
// and before it is bound and connected. Its error ends that attempt. fn must not wait. A socket
// that has its descriptor already returns ErrConnected.
func (s *Socket) OnOpen(fn func(number uintptr) error) error {
	if !s.keepOption(option{set: func(number int) error { return fn(uintptr(number)) }}) {
		return s.fail("set option", ErrConnected)
	}
	return nil
}

// Control calls fn with the descriptor, which stays open meanwhile. fn must not wait, nor close it
// or make it blocking.
func (s *Socket) Control(fn func(number uintptr)) error {
	f, err := s.acquire(using)
	if err != nil {
		return s.fail("control", err)
	}
	defer f.leave(using)
	fn(uintptr(f.number))
	return nil
}

// RawRead calls fn with the descriptor until it returns true, and waits for an arrival before each
// further call. fn must not wait. It sees neither what was read ahead nor what TLS has decrypted.
func (s *Socket) RawRead(ctx context.Context, fn func(number uintptr) bool) error {
	f, err := s.acquire(reading)
	if err != nil {
		return s.fail("recv", err)
	}
	defer f.leave(reading)
	err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
		f.rd.drained = false // fn may leave something, and tells nobody
		if !fn(uintptr(f.number)) {
			return errWait
		}
		return nil
	})
	return s.fail("recv", err)
}

// RawWrite calls fn with the descriptor until it returns true, and waits for room before each
// further call. What is queued is sent first. fn must not wait. With TLS it would break into the
// records, and gets EPROTONOSUPPORT instead.
func (s *Socket) RawWrite(ctx context.Context, fn func(number uintptr) bool) error {
	f, err := s.acquire(writing)
	if err != nil {
		return s.fail("send", err)
	}
	defer f.leave(writing)
	if s.secure.Load() != nil {
		return s.fail("send", syscall.EPROTONOSUPPORT)
	}
	if err := f.drain(ctx, s.patience()); err != nil {
		return s.fail("send", err)
	}
	_, err = f.transmit(ctx, s.patience(), func() (int, error) {
		if !fn(uintptr(f.number)) {
			return 0, errWait
		}
		return 0, nil
	})
	return s.fail("send", err)
}
