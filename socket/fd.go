package socket

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
)

// fd is a non-blocking file descriptor on an event loop: its life, its readiness and what is queued
// for sending.
//
// # Readiness
//
// It is registered once, edge-triggered, for both directions. Input and output is tried first and
// waited for when the kernel says EAGAIN, or when a short read has said as much beforehand
// (epoll(7): on a stream, a short read means drained; the next byte to arrive is a new edge). The
// loop reads and writes nothing for it, it only notes the edge and wakes who waits. So a round trip
// costs one read and one write.
//
// # Who may use it
//
// One reader and one writer at a time, from any goroutine; see [lock]. Who waits does so in the
// slot of its direction, as a sched.Waiter: the loop, Close and Cancel may take it out from
// wherever they run.
type fd struct {
	// In this order, what a round trip touches takes two cache lines.

	descriptor eventloop.Descriptor
	rd         direction

	// eager is set once the peer has hung up or sent urgent data: then a short read doesn't mean
	// drained, as the edge of the hang-up may have come together with that of the data, and a read
	// stops short at urgent data.
	eager atomic.Bool
	// stream is whether what is read is a stream of bytes, and not of packets.
	stream bool
	// short is whether a short read means that there is no more: on TCP. A Unix socket also stops
	// short behind a descriptor that was passed along.
	short bool
	// datagrams is whether a read of nothing is an empty packet and not the end.
	datagrams bool
	// registered is set with the write lock held, when the loop watches the descriptor.
	registered bool
	// unreadable is set by Shutdown: then nothing more to read is the end for datagrams, too.
	unreadable atomic.Bool

	lock
	home    sched.Home
	number  int
	wr      direction
	out     output
	watcher house.Watcher // of Watch; changed on the loop

	secure atomic.Pointer[secure] // has keys to wipe at the loop's end, which closes nothing else
}

// direction is one of the two ways of a descriptor.
type direction struct {
	// slot is nil (nobody waits, nothing has happened), &edge (something has happened since the
	// last wait) or who waits.
	slot     atomic.Pointer[sched.Waiter]
	canceled atomic.Bool // Cancel has taken out who waited
	// Don't try before the next edge. Of rd only; belongs to who holds the read lock.
	drained bool
}

var edge sched.Waiter

// watchedEvents is what every descriptor is registered for.
const watchedEvents = eventloop.Readable | eventloop.Writable | eventloop.PeerClosed | eventloop.Urgent | eventloop.EdgeTriggered

// newFD takes over a descriptor that is not on a loop yet. For a socket that is still to be
// connected, register comes after connect(2), since epoll reports an unconnected one as hung up.
func newFD(number int, home sched.Home, n *network) *fd {
	return &fd{
		home: home, number: number,
		stream: n.stream(), short: n.tcp(), datagrams: n.kind == unix.SOCK_DGRAM,
	}
}

func (f *fd) register() error {
	err := f.home.Loop().Register(&f.descriptor, f.number, watchedEvents, f)
	if errors.Is(err, eventloop.ErrClosed) {
		return runtime.ErrShutdown
	}
	f.registered = err == nil
	return err
}

// HandleEvents notes what has happened and wakes who waits for it: the reader first.
func (f *fd) HandleEvents(events eventloop.Events) {
	const ends = eventloop.PeerClosed | eventloop.Hangup | eventloop.Error
	if events&(ends|eventloop.Urgent) != 0 {
		f.eager.Store(true)
	}
	if events&(eventloop.Readable|eventloop.Urgent|ends) != 0 && !f.rd.notify() &&
		f.watcher != nil {
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

// notify records an edge, and reports whether somebody waited for it: they go on at once. It is for
// HandleEvents.
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

// evict wakes who waits without an edge, and reports whether there was somebody. mark is called
// before that.
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

// prompt has whoever waits, or will wait next, look again, as after an edge.
func (d *direction) prompt() {
	for !d.evict(nil) && d.slot.Load() != &edge && !d.slot.CompareAndSwap(nil, &edge) {
	}
}

// Remove takes out who gives up waiting; it makes a direction a sched.Queue.
func (d *direction) Remove(w *sched.Waiter) bool { return d.slot.CompareAndSwap(w, nil) }

// exhausted reports whether a read would find nothing, as far as is known.
func (f *fd) exhausted() bool {
	return f.rd.drained && !f.eager.Load() && !f.unreadable.Load() && f.rd.slot.Load() != &edge
}

// tryRead reads once without waiting; errWait says that there is nothing. The caller holds the read
// lock.
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
			return 0, f.nothing()
		case errno != 0:
			return 0, callError("read", errno)
		case f.endOfInput(n, p):
			return 0, io.EOF
		}
		f.rd.drained = endIsTold && f.short && n < len(p)
		return n, nil
	}
}

// endOfInput reports whether a read of n bytes into p says that nothing will follow.
func (f *fd) endOfInput(n int, p []byte) bool {
	return n == 0 && len(p) > 0 && (!f.datagrams || f.unreadable.Load())
}

// nothing is what a read comes to that has found nothing: after Shutdown that is the end, which the
// kernel doesn't say of a datagram socket.
func (f *fd) nothing() error {
	if f.datagrams && f.unreadable.Load() {
		return io.EOF
	}
	return errWait
}

// stoppedShort reports whether a read that ended with EAGAIN has to be made again: at urgent data,
// a signal that the thread is about to get has the kernel say so though there is more, and no edge
// follows.
func (f *fd) stoppedShort() bool { return f.eager.Load() && f.stream && sysReadable(f.number) }

// close begins the end of the descriptor: no new operation may start, whoever waits is woken with
// net.ErrClosed, writers first, and the last one to leave closes it. Any goroutine.
func (f *fd) close() { f.end(lockClosed) }

// LoopEnded closes a descriptor that nobody has closed before its loop has ended: nothing would
// wake whoever waits for it any more. It makes an fd an eventloop.EndListener.
func (f *fd) LoopEnded() {
	if l, ok := f.watcher.(*delivery); ok {
		l.cut(runtime.ErrShutdown)
		return
	}
	if f.acquire(using) != nil {
		return
	}
	f.end(lockClosed | lockOrphaned)
	if t := f.secure.Load(); t != nil {
		t.doom()
	}
	// The other end of the connection may wait on a loop that still runs. It is to be told of the
	// end of the runtime, too, and not of this one.
	f.home.Runtime().AtEnd(func() { f.leave(using) })
}

func (f *fd) end(how uint32) {
	first, last := f.lock.close(how)
	if !first {
		return
	}
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

// leave ends a use.
func (f *fd) leave(kind uint32) {
	if f.release(kind) {
		f.destroy()
	}
}
