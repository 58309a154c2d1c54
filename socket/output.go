package socket

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// output is what is queued for sending: TLS records, and small writes of one turn, which go out
// together. Its buffer is borrowed while there is something in it.
//
// Only the holder of the write lock adds to it and waits for it to drain, with two exceptions,
// which never wait: crypto/tls may answer a KeyUpdate while it reads, and the loop flushes it at
// the end of the turn and when the kernel takes more.
type output struct {
	pending   atomic.Bool // there is something in queue
	scheduled bool        // guarded by mu: the loop will flush at the end of its turn
	mu        sync.Mutex
	queue     []byte // guarded by mu
	sent      int32  // guarded by mu: how much of queue the kernel has taken
	limit     int32  // guarded by mu: how much may be in queue, if more than queueLimit
	err       error  // guarded by mu: the first error; final

	// tail is guarded by mu: the record at the end of queue may not be sealed yet, and tail has to do
	// that before anything is sent; nil: it needs nothing.
	tail *compactTLS
}

// highWater is how much may be queued before a sender has to wait.
const highWater = bufferSize

// queueLimit is more than senders ever queue. Only answers of crypto/tls get there, to a peer that
// asks for new keys (KeyUpdate) again and again and takes no answer.
const queueLimit = 4 * highWater

// enqueue adds p to the queue.
func (f *fd) enqueue(p []byte) (int, error) {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	o := &f.out
	if err := o.room(len(p)); err != nil {
		return 0, err
	}
	o.seal()
	o.queue = append(o.queue, p...)
	o.pending.Store(true)
	return len(p), nil
}

// enqueueWith adds to the queue what fn appends for k, about n bytes, in the order in which fn is
// called. That side of k is used with mu held, and only so.
func (f *fd) enqueueWith(n int, k *compactTLS, fn func(queue []byte) ([]byte, error)) error {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	o := &f.out
	if err := o.room(n); err != nil {
		return err
	}
	queue, err := fn(o.queue)
	if err == nil {
		o.queue, o.tail = queue, k
	}
	if len(o.queue) == 0 {
		giveBack(o.take())
	} else {
		o.pending.Store(true)
	}
	return err
}

// room makes room for n bytes behind what is queued. With mu held.
func (o *output) room(n int) error {
	if o.err != nil {
		return o.err
	}
	unsent := o.queue[o.sent:]
	if len(unsent)+n > max(queueLimit, int(o.limit)) {
		o.err = errQueueFull
		return o.err
	}
	// What was sent makes room for what comes.
	if len(o.queue)+n > cap(o.queue) && len(unsent) < len(o.queue)/2 {
		moved := copy(o.queue, unsent)
		o.queue, o.sent = o.queue[:moved], 0
	}
	switch size := len(o.queue) + n; {
	case o.queue == nil:
		o.queue = borrowFor(size)[:0]
	case size > cap(o.queue) && size <= bufferSize:
		moved := append(borrow()[:0], o.queue...)
		giveBack(o.queue)
		o.queue = moved
	}
	return nil
}

// seal has what is in the queue ready to be sent. Only flush sends it and only take empties it, and
// both begin with this: nothing leaves the queue in plaintext. With mu held.
func (o *output) seal() {
	if o.tail != nil {
		o.queue = o.tail.Seal(o.queue)
		o.tail = nil
	}
}

// sealed calls fn when nothing in the queue needs keys any more, while nobody else adds to it or
// seals.
func (f *fd) sealed(fn func()) {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	f.out.seal()
	fn()
}

// dropOutput gives the buffer back.
func (f *fd) dropOutput() {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	giveBack(f.out.take())
}

// take empties the queue and returns its buffer. With mu held.
func (o *output) take() []byte {
	o.seal()
	buf := o.queue
	o.queue, o.sent = nil, 0
	o.pending.Store(false)
	return buf
}

// slim exchanges the queue's buffer for one of half its size or less, if that does: a peer that has
// taken all but a little is not to have us keep the room for all of it.
func (f *fd) slim() {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	o := &f.out
	unsent := o.queue[o.sent:]
	size := len(unsent)
	switch {
	case size == 0 || o.tail != nil:
		return
	case size <= smallBufferSize:
		size = smallBufferSize
	case size <= bufferSize:
		size = bufferSize
	}
	if size > cap(o.queue)/2 {
		return
	}
	var buf []byte
	if size <= bufferSize {
		buf = borrowFor(size)
	} else {
		buf = make([]byte, size)
	}
	moved := copy(buf, unsent)
	giveBack(o.queue)
	o.queue, o.sent = buf[:moved], 0
}

// queued returns how much the kernel hasn't taken yet.
func (f *fd) queued() int {
	if !f.out.pending.Load() {
		return 0
	}
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	return len(f.out.queue) - int(f.out.sent)
}

// flush gives the kernel what it takes, without waiting. errWait says that some is left. Coroutines
// that have sent and are about to wait call it, very many of them, so its frame is kept small, so
// that the first 2 KiB of a stack do: nothing is deferred.
func (f *fd) flush() error {
	f.out.mu.Lock()
	o := &f.out
	o.seal()
	for o.err == nil && int(o.sent) < len(o.queue) {
		n, err := f.trySend(o.queue[o.sent:])
		if err == errWait || err == errNoBuffers {
			f.out.mu.Unlock()
			return err
		}
		o.sent, o.err = o.sent+int32(n), err
	}
	sent, err := o.take(), o.err
	f.out.mu.Unlock()
	giveBack(sent)
	return err
}

// trySend sends once, without waiting.
func (f *fd) trySend(p []byte) (int, error) {
	for {
		n, errno := sysSend(f.number, p)
		if errno != syscall.EINTR {
			return n, sendError("write", errno)
		}
	}
}

// sendError is what transmit is told of a system call that sends.
func sendError(call string, errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.EAGAIN:
		return errWait
	case syscall.ENOBUFS:
		return errNoBuffers
	}
	return callError(call, errno)
}

// flushOnLoop is flush by the loop. What the kernel doesn't take now, it will have an edge for.
func (f *fd) flushOnLoop() {
	f.out.mu.Lock()
	f.out.scheduled = false
	f.out.mu.Unlock()
	if f.flush() == errNoBuffers {
		f.home.Loop().AfterFunc(noBuffers, f.flushOnLoop)
	}
}

// flushTask flushes at the end of the loop's turn.
type flushTask fd

func (t *flushTask) Run() { (*fd)(t).flushOnLoop() }

// flushSoon has the loop flush at the end of its turn. The caller runs on it.
func (f *fd) flushSoon() {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	if !f.out.scheduled {
		f.out.scheduled = true
		f.home.Loop().DeferTask((*flushTask)(f))
	}
}
