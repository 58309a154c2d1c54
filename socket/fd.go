package socket

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/runtime"
)

// fd is a non-blocking file descriptor on an event loop: its life, its readiness and what is queued for sending.
//
// # Readiness
//
// It is registered once, edge-triggered, for both directions. Input and output is tried first and waited for when the kernel says EAGAIN, or
// when a short read has said as much beforehand (epoll(7): on a stream, a short read means drained; the next byte to arrive is a new edge). The
// loop reads and writes nothing for it, it only notes the edge and wakes who waits. So a round trip costs one read and one write.
//
// # Who may use it
//
// One reader and one writer at a time, from any goroutine; see [lock]. Who waits does so in the slot of its direction, as a
// runtime.Waiter: the loop, Close and Cancel may take it out from wherever they run.
type fd struct {
	// In this order, what a round trip touches takes two cache lines.

	descriptor eventloop.Descriptor
	rd         direction

	// eager is set once the peer has hung up or sent urgent data: then a short read doesn't mean drained, as the edge of the hang-up may have come
	// together with that of the data, and a read stops short at urgent data.
	eager atomic.Bool
	// stream is whether a short read means anything.
	stream bool
	// datagrams is whether a read of nothing is an empty packet and not the end.
	datagrams bool

	lock
	number  int
	wr      direction
	out     output
	watcher Watcher // of Watch; changed on the loop
}

// direction is one of the two ways of a descriptor.
type direction struct {
	// slot is nil (nobody waits, nothing has happened), &edge (something has happened since the last wait) or who waits.
	slot     atomic.Pointer[runtime.Waiter]
	canceled atomic.Bool // Cancel has taken out who waited
	drained  bool        // don't try before the next edge. Of rd only; belongs to who holds the read lock
}

var edge runtime.Waiter

// watchedEvents is what every descriptor is registered for.
const watchedEvents = eventloop.Readable | eventloop.Writable | eventloop.PeerClosed | eventloop.Urgent | eventloop.EdgeTriggered

// newFD takes over a descriptor that is not on a loop yet. For a socket that is still to be connected, register comes after connect(2), since
// epoll reports an unconnected one as hung up.
func newFD(number int, home runtime.Home, n *network) *fd {
	f := &fd{lock: lock{home: home}, number: number, stream: n.stream(), datagrams: n.kind == unix.SOCK_DGRAM}
	f.shared.Store(!home.Here())
	return f
}

func (f *fd) register() error {
	return f.home.Loop().Register(&f.descriptor, f.number, watchedEvents, f)
}

// HandleEvents notes what has happened and wakes who waits for it: the reader first.
func (f *fd) HandleEvents(events eventloop.Events) {
	const ends = eventloop.PeerClosed | eventloop.Hangup | eventloop.Error
	if events&(ends|eventloop.Urgent) != 0 {
		f.eager.Store(true)
	}
	if events&(eventloop.Readable|eventloop.Urgent|ends) != 0 && !f.rd.notify() && f.watcher != nil {
		f.watcher.Readable()
	}
	if events&(eventloop.Writable|eventloop.Hangup|eventloop.Error) != 0 {
		if f.out.pending.Load() {
			f.flushOnLoop()
		}
		if !f.wr.notify() && f.watcher != nil {
			f.watcher.Writable()
		}
	}
}

// Anticipate has the memory fetched of who waits to read; it makes an fd an eventloop.Anticipator.
func (f *fd) Anticipate(stage int) {
	if waiting := f.rd.slot.Load(); waiting != nil && waiting != &edge {
		waiting.Anticipate(stage)
	}
}

// notify records an edge, and reports whether somebody waited for it: they go on at once. It is for HandleEvents.
func (d *direction) notify() bool {
	for {
		switch waiting := d.slot.Load(); waiting {
		case &edge:
			return false
		case nil:
			if d.slot.CompareAndSwap(nil, &edge) {
				return false
			}
		default:
			if d.slot.CompareAndSwap(waiting, nil) {
				waiting.WakeNow()
				return true
			}
		}
	}
}

// evict wakes who waits without an edge, and reports whether there was somebody. mark is called before that.
func (d *direction) evict(mark func()) bool {
	waiting := d.slot.Load()
	if waiting == nil || waiting == &edge || !d.slot.CompareAndSwap(waiting, nil) {
		return false
	}
	if mark != nil {
		mark()
	}
	waiting.Wake()
	return true
}

// Remove takes out who gives up waiting; it makes a direction a runtime.Queue.
func (d *direction) Remove(w *runtime.Waiter) bool { return d.slot.CompareAndSwap(w, nil) }

// wait waits for the next edge. An edge that has come since the last wait ends it at once. On a closed descriptor only Socket.deliver may wait.
func (f *fd) wait(ctx context.Context, d *direction, reason *runtime.Reason, deadline runtime.Deadline) error {
	w, err := runtime.Enter(ctx)
	if err != nil {
		return err
	}
	for !d.slot.CompareAndSwap(nil, w) {
		if d.slot.CompareAndSwap(&edge, nil) {
			w.Leave()
			return nil
		}
	}
	if f.closed() && reason != reasonLinger && d.Remove(w) {
		w.Leave()
		return net.ErrClosed // Close looked for who waits before we did
	}
	err = w.Wait(ctx, reason, deadline, d)
	w.Leave() // not deferred: a runtime.Goexit ends coroutines, which have nothing to give back
	switch {
	case err != nil:
		return err
	case f.closed() && reason != reasonLinger:
		return net.ErrClosed
	case d.canceled.Load():
		d.canceled.Store(false)
		return ErrCanceled
	}
	return nil
}

// exhausted reports whether a read would find nothing, as far as is known.
func (f *fd) exhausted() bool {
	return f.rd.drained && !f.eager.Load() && f.rd.slot.Load() != &edge
}

// tryRead reads once without waiting; errWait says that there is nothing. The caller holds the read lock.
func (f *fd) tryRead(p []byte) (int, error) {
	if f.exhausted() {
		return 0, errWait
	}
	if f.rd.slot.Load() == &edge {
		f.rd.slot.CompareAndSwap(&edge, nil) // what it tells of is read now
	}
	f.rd.drained = false
	for {
		n, errno := sysRead(f.number, p)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			if f.stoppedShort() {
				continue
			}
			f.rd.drained = true
			return 0, errWait
		case errno != 0:
			return 0, callError("read", errno)
		case n == 0 && len(p) > 0 && !f.datagrams:
			return 0, io.EOF
		}
		f.rd.drained = f.stream && n < len(p)
		return n, nil
	}
}

// stoppedShort reports whether a read that ended with EAGAIN has to be made again: at urgent data, a signal that the thread is about to get has the kernel say so though there is more, and no
// edge follows.
func (f *fd) stoppedShort() bool { return f.eager.Load() && f.stream && sysReadable(f.number) }

// waitRead waits until there may be something to read. What is queued for sending goes out first: the peer may be waiting for it. *deadline is set, from timeout, by
// the first wait of an operation.
func (f *fd) waitRead(ctx context.Context, deadline *runtime.Deadline, timeout time.Duration) error {
	f.flushPending()
	if *deadline == 0 {
		*deadline = runtime.DeadlineAfter(timeout)
	}
	err := f.wait(ctx, &f.rd, reasonRecv, *deadline)
	f.rd.drained = f.rd.drained && err != nil
	return err
}

// flushPending is flush for who is going to wait to receive. An error is for whoever sends next, and the kernel has it for the reader, too.
func (f *fd) flushPending() {
	if f.out.pending.Load() {
		f.flush()
	}
}

// close begins the end of the descriptor: no new operation may start, those that wait are woken with net.ErrClosed, writers first, and the last one that
// leaves closes it.
func (f *fd) close() {
	if !f.shut.CompareAndSwap(false, true) {
		return
	}
	if f.home.Here() {
		f.closeHere()
	} else {
		f.atHome(f.closeHere)
	}
}

func (f *fd) closeHere() {
	last := f.lock.close()
	f.wr.evict(nil)
	f.rd.evict(nil)
	if last {
		f.destroy()
	}
}

// destroy closes the descriptor when nobody uses it any more.
func (f *fd) destroy() {
	f.descriptor.Unregister()
	f.dropOutput()
	sysClose(f.number)
}

// leave gives a lock back.
func (f *fd) leave(kind uint32) {
	if f.lock.release(kind) {
		f.destroy()
	}
}
