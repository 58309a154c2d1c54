package socket

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// output is what is queued for sending: TLS records, and small writes of one turn, which go out together. Its buffer is borrowed while there
// is something in it.
//
// Only the holder of the write lock adds to it and waits for it to drain, with two exceptions, which never wait: crypto/tls may answer a KeyUpdate
// while it reads, and the loop flushes it at the end of the turn and when the kernel takes more.
type output struct {
	pending   atomic.Bool // there is something in queue
	scheduled bool        // guarded by mu: the loop will flush at the end of its turn
	mu        sync.Mutex  // not taken while the descriptor is private to its loop; see fd.lockOutput
	queue     []byte      // guarded by mu
	sent      int32       // guarded by mu: how much of queue the kernel has taken
	limit     int32       // guarded by mu: how much may be in queue, if more than queueLimit
	err       error       // guarded by mu: the first error; final
}

// highWater is how much may be queued before a sender has to wait.
const highWater = bufferSize

// queueLimit is more than senders ever queue. Only answers of crypto/tls get there, to a peer that asks for new keys (KeyUpdate) again and again and takes no
// answer.
const queueLimit = 4 * highWater

// noBuffers is how long to wait before sending again when the kernel says ENOBUFS, for which it gives no edge.
const noBuffers = 10 * time.Millisecond

// peerFull is how long to wait before sending again to a Unix socket that has no room. The kernel has edges only for the room of the peer that connect(2) has
// set (unix_dgram_poll); those that come here say that the failed send has given its memory back.
const peerFull = time.Millisecond

// lockOutput begins a look at the output, or a change. Nobody waits before unlockOutput, so the descriptor stays what it is, private or shared.
func (f *fd) lockOutput() {
	if f.shared.Load() {
		f.out.mu.Lock()
	}
}

func (f *fd) unlockOutput() {
	if f.shared.Load() {
		f.out.mu.Unlock()
	}
}

// enqueue adds p to the queue.
func (f *fd) enqueue(p []byte) (int, error) {
	f.lockOutput()
	defer f.unlockOutput()
	o := &f.out
	if o.err != nil {
		return 0, o.err
	}
	unsent := o.queue[o.sent:]
	if len(unsent)+len(p) > max(queueLimit, int(o.limit)) {
		o.err = errQueueFull
		return 0, o.err
	}
	if len(o.queue)+len(p) > cap(o.queue) && len(unsent) < len(o.queue)/2 { // what was sent makes room for what comes
		n := copy(o.queue, unsent)
		o.queue, o.sent = o.queue[:n], 0
	}
	switch size := len(o.queue) + len(p); {
	case o.queue == nil:
		o.queue = borrowFor(size)[:0]
	case size > cap(o.queue) && size <= bufferSize:
		moved := append(borrow()[:0], o.queue...)
		giveBack(o.queue)
		o.queue = moved
	}
	o.queue = append(o.queue, p...)
	o.pending.Store(true)
	return len(p), nil
}

// dropOutput gives the buffer back.
func (f *fd) dropOutput() {
	f.lockOutput()
	defer f.unlockOutput()
	giveBack(f.out.take())
}

// take empties the queue and returns its buffer. With mu held.
func (o *output) take() []byte {
	buf := o.queue
	o.queue, o.sent = nil, 0
	o.pending.Store(false)
	return buf
}

// queued returns how much the kernel hasn't taken yet.
func (f *fd) queued() int {
	if !f.out.pending.Load() {
		return 0
	}
	f.lockOutput()
	defer f.unlockOutput()
	return len(f.out.queue) - int(f.out.sent)
}

// flush gives the kernel what it takes, without waiting. errWait says that some is left. Coroutines that have sent and are about to wait call it, very many of them, so its frame is kept
// small, so that the first 2 KiB of a stack do: nothing is deferred.
func (f *fd) flush() error {
	f.lockOutput()
	o := &f.out
	for o.err == nil && int(o.sent) < len(o.queue) {
		n, err := f.trySend(o.queue[o.sent:])
		if err == errWait || err == errNoBuffers {
			f.unlockOutput()
			return err
		}
		o.sent, o.err = o.sent+int32(n), err
	}
	sent, err := o.take(), o.err
	f.unlockOutput()
	giveBack(sent)
	return err
}

// trySend sends once, without waiting.
func (f *fd) trySend(p []byte) (int, error) {
	for {
		n, errno := sysSend(f.number, p)
		switch errno {
		case 0:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errWait
		case syscall.ENOBUFS:
			return 0, errNoBuffers
		default:
			return 0, callError("write", errno)
		}
	}
}

// flushOnLoop is flush by the loop. What the kernel doesn't take now, it will have an edge for.
func (f *fd) flushOnLoop() {
	f.lockOutput()
	f.out.scheduled = false
	f.unlockOutput()
	if f.flush() == errNoBuffers {
		f.home.Loop().AfterFunc(noBuffers, f.flushOnLoop)
	}
}

// flushTask flushes at the end of the loop's turn.
type flushTask fd

func (t *flushTask) Run() { (*fd)(t).flushOnLoop() }

// flushSoon has the loop flush at the end of its turn. The caller runs on it.
func (f *fd) flushSoon() {
	f.lockOutput()
	defer f.unlockOutput()
	if !f.out.scheduled {
		f.out.scheduled = true
		f.home.Loop().DeferTask((*flushTask)(f))
	}
}

// drain waits until the kernel has taken everything that is queued. The caller holds the write lock.
func (f *fd) drain(ctx context.Context, deadline *runtime.Deadline, timeout time.Duration) error {
	for f.out.pending.Load() {
		err := f.flush()
		if err == nil {
			break
		}
		if err := f.waitWrite(ctx, err, deadline, timeout); err != nil {
			return err
		}
	}
	f.lockOutput()
	defer f.unlockOutput()
	return f.out.err
}

// send sends all of p and waits where it must. It returns how much the kernel has taken. The caller holds the write lock.
func (f *fd) send(ctx context.Context, p []byte, deadline *runtime.Deadline, timeout time.Duration) (int, error) {
	if err := f.drain(ctx, deadline, timeout); err != nil {
		return 0, err
	}
	sent := 0
	for empty := f.datagrams && len(p) == 0; empty || sent < len(p); {
		n, err := f.trySend(p[sent:])
		sent += n
		if err == nil {
			empty = false
			if sent < len(p) {
				runtime.Spend(ctx, n)
			}
			continue
		}
		if err := f.waitWrite(ctx, err, deadline, timeout); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// waitWrite waits until it may be possible to send after err: errWait, errNoBuffers, errPeerFull, or a final error, which it returns.
func (f *fd) waitWrite(ctx context.Context, err error, deadline *runtime.Deadline, timeout time.Duration) error {
	if *deadline == 0 {
		*deadline = runtime.DeadlineAfter(timeout)
	}
	switch err {
	case errWait:
		return f.wait(ctx, &f.wr, reasonSend, *deadline)
	case errNoBuffers:
		return f.waitAndLook(ctx, noBuffers, *deadline)
	case errPeerFull:
		return f.waitAndLook(ctx, peerFull, *deadline)
	}
	return err
}

// waitAndLook waits for a pause: for what the kernel's edges say nothing about.
func (f *fd) waitAndLook(ctx context.Context, pause time.Duration, deadline runtime.Deadline) error {
	look := runtime.DeadlineAfter(pause).Earlier(deadline)
	for {
		err := f.wait(ctx, &f.wr, reasonSend, look)
		if err == runtime.ErrTimeout && !deadline.Passed() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
