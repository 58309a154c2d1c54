package nats

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// An outbox is the connection that nats.go writes to and reads from.
//
// Its Write doesn't wait. nats.go writes under the lock that Publish and Subscribe take, too: a
// server that stands still would hold both up, for up to a minute, as soon as the kernel's buffers
// are full. Here a goroutine of its own writes, and who publishes asks first how much is waiting.
//
// Its Read tells, before it reads on, that all that was read so far has been parsed.
type outbox struct {
	net.Conn
	timeout time.Duration // how long the server may take nothing
	parsed  func()        // called before each Read

	queued atomic.Int64  // bytes that wait to be written
	done   chan struct{} // closed when the goroutine has ended

	mu    sync.Mutex
	more  sync.Cond // there is something to write, or the end
	bytes []byte
	err   error // why nothing is written any more
}

// keepBuffer is how large a buffer may be that is kept for later, and writeSize how much is written
// under one deadline.
const (
	keepBuffer = 256 << 10
	writeSize  = 64 << 10
)

func newOutbox(conn net.Conn, timeout time.Duration, parsed func()) *outbox {
	o := &outbox{Conn: conn, timeout: timeout, parsed: parsed, done: make(chan struct{})}
	o.more.L = &o.mu
	go o.run()
	return o
}

// Write queues p. Its only errors are those of writes before it, and net.ErrClosed.
func (o *outbox) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	o.bytes = append(o.bytes, p...)
	o.queued.Add(int64(len(p)))
	o.more.Signal()
	return len(p), nil
}

// run writes what is queued until a write fails or the outbox is closed.
func (o *outbox) run() {
	defer close(o.done)
	var spare []byte
	for {
		o.mu.Lock()
		for len(o.bytes) == 0 && o.err == nil {
			o.more.Wait()
		}
		if o.err != nil {
			o.mu.Unlock()
			return
		}
		batch := o.bytes
		o.bytes = spare[:0]
		o.mu.Unlock()
		if err := o.writeAll(batch); err != nil {
			o.end(err)
			return
		}
		if spare = batch; cap(spare) > keepBuffer {
			spare = nil
		}
	}
}

func (o *outbox) writeAll(batch []byte) error {
	for len(batch) > 0 {
		if err := o.Conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
			return err
		}
		n, err := o.Conn.Write(batch[:min(len(batch), writeSize)])
		o.queued.Add(-int64(n))
		if err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// end closes the connection, which is how nats.go's reader hears of it.
func (o *outbox) end(err error) error {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.bytes = nil
	o.more.Signal()
	o.mu.Unlock()
	return o.Conn.Close()
}

// Close drops what wasn't written yet.
func (o *outbox) Close() error { return o.end(net.ErrClosed) }

// failure returns why the outbox has ended, net.ErrClosed if it was closed, nil if it goes on.
func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *outbox) Read(p []byte) (int, error) {
	o.parsed()
	return o.Conn.Read(p[:min(len(p), readSize)])
}

// SetDeadline and SetWriteDeadline leave writes alone: Write doesn't wait.
func (o *outbox) SetDeadline(t time.Time) error      { return o.Conn.SetReadDeadline(t) }
func (o *outbox) SetWriteDeadline(_ time.Time) error { return nil }
