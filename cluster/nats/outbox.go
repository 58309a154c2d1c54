package nats

import (
	"io"
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
//
// Its Close only ends what goes to the server. A server that has stood still reads what was sent
// before when it goes on, maybe after what was sent on a new connection: messages would change
// their order. When it has closed its end, it has read all; ended tells.
type outbox struct {
	net.Conn
	timeout time.Duration // how long the server may take nothing
	parsed  func()        // called before each Read

	queued atomic.Int64  // bytes that wait to be written
	done   chan struct{} // closed when the goroutine has ended
	ended  chan struct{} // closed when the connection is closed, after linger

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
	o := &outbox{Conn: conn, timeout: timeout, parsed: parsed, done: make(chan struct{}),
		ended: make(chan struct{})}
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

// end ends writing and reading; the connection stays open for linger. Only the first call does.
func (o *outbox) end(err error) error {
	o.mu.Lock()
	first := o.err == nil
	if first {
		o.err, o.bytes = err, nil
		o.more.Signal()
	}
	o.mu.Unlock()
	if !first {
		return nil
	}
	half, ok := o.Conn.(interface{ CloseWrite() error })
	if !ok {
		return o.Conn.Close() // it has no buffer that the server could read from later
	}
	o.Conn.SetDeadline(longAgo) //nolint:errcheck // the connection may have ended
	return half.CloseWrite()
}

// Close drops what wasn't written yet.
func (o *outbox) Close() error { return o.end(net.ErrClosed) }

var longAgo = time.Unix(1, 0)

// linger waits, after the end, until the server has closed its end of the connection, too, or abort
// is called.
func (o *outbox) linger() {
	defer close(o.ended)
	<-o.done
	o.Conn.SetReadDeadline(time.Time{}) //nolint:errcheck // Read says so
	io.Copy(io.Discard, o.Conn)         //nolint:errcheck // this is the end in any case
	o.Conn.Close()
}

// abort ends linger. What the system hasn't sent yet isn't sent any more.
func (o *outbox) abort() {
	if tcp, ok := o.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // it is closed already
	}
	o.Conn.Close()
	<-o.ended
}

// failure returns why the outbox has ended, net.ErrClosed if it was closed, nil if it goes on.
func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *outbox) Read(p []byte) (int, error) {
	o.parsed()
	n, err := o.Conn.Read(p[:min(len(p), readSize)])
	if end := o.failure(); end != nil {
		return 0, end
	}
	return n, err
}

// SetDeadline and SetWriteDeadline leave writes alone: Write doesn't wait.
func (o *outbox) SetDeadline(t time.Time) error      { return o.Conn.SetReadDeadline(t) }
func (o *outbox) SetWriteDeadline(_ time.Time) error { return nil }
