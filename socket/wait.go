package socket

import (
	"context"
	"errors"
	"time"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Every operation that may wait is driven by one of two functions: receive and transmit. They try,
// and wait as long as the kernel says that there is nothing, or no room, at the moment. Both run
// with the lock of their direction held.

// receive calls try until it returns something else than errWait, and waits for input in between.
// timeout bounds the whole of it. What is queued for sending goes out before a wait: the peer may
// be waiting for it.
func (f *fd) receive(
	ctx context.Context, reason *sched.Reason, timeout time.Duration, try func() error,
) error {
	var deadline sched.Deadline
	for {
		err := try()
		if err != errWait {
			return err
		}
		if deadline == 0 {
			deadline = sched.DeadlineAfter(timeout)
		}
		if err := f.waitRead(ctx, reason, deadline); err != nil {
			return err
		}
	}
}

// transmit calls try until it returns something else than errWait, errNoBuffers and errPeerFull,
// and waits for room in between. try returns how much the kernel has taken; transmit returns the
// sum. The time-out is for a peer that takes nothing: each byte taken renews it.
func (f *fd) transmit(ctx context.Context, p patience, try func() (int, error)) (int, error) {
	var deadline sched.Deadline
	total, late := 0, false
	for {
		n, err := try()
		if total += n; n > 0 {
			deadline, late = 0, false
		}
		if err == nil {
			return total, nil
		}
		if deadline == 0 {
			deadline = sched.DeadlineAfter(p.timeout).Earlier(p.limit)
		}
		err = f.waitWrite(ctx, err, deadline)
		if err == sched.ErrTimeout && !late {
			late = true // there may be room, and the loop hasn't come to the event that says so
			continue
		}
		if err != nil {
			return total, err
		}
	}
}

// patience is how long an operation waits that sends.
type patience struct {
	timeout time.Duration  // for a peer that takes nothing; none if it isn't positive
	limit   sched.Deadline // of the whole operation
}

// wait waits for the next edge. An edge that has come since the last wait ends it at once.
func (f *fd) wait(
	ctx context.Context, d *direction, reason *sched.Reason, deadline sched.Deadline,
) error {
	if _, ok := ctx.(house.NoWait); ok {
		return d.look()
	}
	w, err := sched.Enter(ctx)
	if err != nil {
		return err
	}
	for !d.slot.CompareAndSwap(nil, w) {
		if d.slot.CompareAndSwap(&edge, nil) {
			w.Leave()
			return nil
		}
	}
	if f.closed() && d.Remove(w) {
		w.Leave()
		return f.cause() // Close looked for who waits before we did
	}
	err = w.Wait(ctx, reason, deadline, d)
	w.Leave() // not deferred: a runtime.Goexit ends coroutines, which have nothing to give back
	if err != nil {
		return err
	}
	return f.woken(d)
}

// look is wait for whoever must not wait.
func (d *direction) look() error {
	if d.slot.CompareAndSwap(&edge, nil) {
		return nil
	}
	return ErrWouldBlock
}

// woken returns why a wait was ended, if not by an edge.
func (f *fd) woken(d *direction) error {
	if cause := f.cause(); cause != nil {
		return cause
	}
	if d.canceled.Load() {
		d.canceled.Store(false)
		return ErrCanceled
	}
	return nil
}

// waitRead waits until there may be something to read.
func (f *fd) waitRead(
	ctx context.Context, reason *sched.Reason, deadline sched.Deadline,
) error {
	f.flushPending()
	err := f.wait(ctx, &f.rd, reason, deadline)
	f.rd.drained = f.rd.drained && err != nil
	return err
}

// flushPending is flush for whoever is going to wait to receive. An error is for whoever sends
// next, and the kernel has it for the reader, too.
func (f *fd) flushPending() {
	if f.out.pending.Load() {
		f.flush()
	}
}

// noBuffers is how long to wait before sending again when the kernel says ENOBUFS, for which it
// gives no edge.
const noBuffers = 10 * time.Millisecond

// peerFull is how long to wait before sending again to a Unix socket that has no room. The kernel
// has edges only for the room of the peer that connect(2) has set (unix_dgram_poll); those that
// come here say that the failed send has given its memory back.
const peerFull = time.Millisecond

// waitWrite waits until it may be possible to send after err: errWait, errNoBuffers, errPeerFull,
// or a final error, which it returns.
func (f *fd) waitWrite(ctx context.Context, err error, deadline sched.Deadline) error {
	switch err {
	case errWait:
		return f.wait(ctx, &f.wr, reasonSend, deadline)
	case errNoBuffers:
		return f.waitAndLook(ctx, noBuffers, deadline)
	case errPeerFull:
		return f.waitAndLook(ctx, peerFull, deadline)
	}
	return err
}

// waitAndLook waits for a pause: for what the kernel's edges say nothing about.
func (f *fd) waitAndLook(ctx context.Context, pause time.Duration, limit sched.Deadline) error {
	look := sched.DeadlineAfter(pause).Earlier(limit)
	for {
		err := f.wait(ctx, &f.wr, reasonSend, look)
		if errors.Is(err, runtime.ErrTimeout) && !limit.Passed() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// drain waits until the kernel has taken everything that is queued. The caller holds the write
// lock.
func (f *fd) drain(ctx context.Context, p patience) error {
	if f.out.pending.Load() {
		left := f.queued()
		_, err := f.transmit(ctx, p, func() (int, error) {
			before := left // the loop may have flushed meanwhile: that counts as taken, too
			err := f.flush()
			left = f.queued()
			return before - left, err
		})
		if err != nil {
			return err
		}
	}
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	return f.out.err
}

// send sends all of p and waits where it must. It returns how much the kernel has taken. The caller
// holds the write lock.
func (f *fd) send(ctx context.Context, p []byte, wait patience) (int, error) {
	if err := f.drain(ctx, wait); err != nil {
		return 0, err
	}
	sent := 0
	return f.transmit(ctx, wait, func() (taken int, err error) {
		for empty := f.datagrams && len(p) == 0; empty || sent < len(p); empty = false {
			n, err := f.trySend(p[sent:])
			sent, taken = sent+n, taken+n
			if err != nil {
				return taken, err
			}
			if sent < len(p) {
				sched.Spend(ctx, n)
			}
		}
		return taken, nil
	})
}

// waitUntil is wait for input by a Limit.
func (f *fd) waitUntil(limit house.Limit) error {
	ctx := context.Background()
	w, err := sched.Enter(ctx)
	if err != nil {
		return err
	}
	defer w.Leave()
	for !f.rd.slot.CompareAndSwap(nil, w) {
		if f.rd.slot.CompareAndSwap(&edge, nil) {
			f.rd.drained = false
			return limit.Err()
		}
	}
	// Who ends the limit, or closes, does that first and looks for who waits afterwards. So either
	// we see it here, or we are seen.
	if err := limit.Err(); err != nil && f.rd.Remove(w) {
		return err
	}
	if cause := f.cause(); cause != nil && f.rd.Remove(w) {
		return cause
	}
	if err := w.Wait(ctx, reasonRecv, 0, &f.rd); err != nil {
		return err
	}
	f.rd.drained = false // whatever comes of it now: it may have been an edge
	if err := f.woken(&f.rd); err != nil {
		return err
	}
	return limit.Err()
}
