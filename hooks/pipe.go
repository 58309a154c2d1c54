package hooks

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
)

// Pipe returns the two ends of a connection in memory: each holds up to 64 KiB that the other
// hasn't read yet. Unlike the ends of net.Pipe, a Write doesn't wait for the Read, and they have
// CloseWrite and CloseRead. They need neither a descriptor nor a runtime, and may be used as [Conn]
// may: from any coroutine and any goroutine.
func Pipe() (*PipeConn, *PipeConn) {
	there, back := new(flow), new(flow)
	a, b := &PipeConn{in: back, out: there}, &PipeConn{in: there, out: back}
	for _, c := range []*PipeConn{a, b} {
		c.rd.limit.values, c.wr.limit.values = context.Background(), context.Background()
	}
	return a, b
}

// PipeConn is one end of a Pipe. Errors have the form of those of Conn; writing to an end that
// reads no more is syscall.EPIPE.
type PipeConn struct {
	in, out *flow
	rd, wr  side
	closed  atomic.Bool
}

var (
	reasonPipeRead  = sched.NewReason("pipe read") // not internal: a deadline may end it
	reasonPipeWrite = sched.NewReason("pipe write")
)

// flow is one direction of a Pipe. Readers have the turn one at a time, and so have writers, so one
// of each may wait.
type flow struct {
	mu     sync.Mutex
	buf    *[chunk]byte // a ring, borrowed while there is something in it
	start  int          // where it begins
	length int
	ended  bool // nobody writes any more
	broken bool // nobody reads any more
	reader *sched.Waiter
	writer *sched.Waiter
}

// Remove makes it a sched.Queue.
func (f *flow) Remove(w *sched.Waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch w {
	case f.reader:
		f.reader = nil
	case f.writer:
		f.writer = nil
	default:
		return false
	}
	return true
}

// wait waits in a slot. It is called with mu held and returns without it.
func (f *flow) wait(ctx context.Context, slot **sched.Waiter, reason *sched.Reason) error {
	w, err := sched.Enter(ctx)
	if err != nil {
		f.mu.Unlock()
		return err
	}
	defer w.Leave()
	*slot = w
	f.mu.Unlock()
	return w.Wait(ctx, reason, 0, f)
}

// unlockAndWake ends a change, and wakes who waited for it.
func (f *flow) unlockAndWake(slots ...**sched.Waiter) {
	var woken [2]*sched.Waiter
	for i, slot := range slots {
		woken[i], *slot = *slot, nil
	}
	f.mu.Unlock()
	for _, w := range woken {
		if w != nil {
			w.Wake()
		}
	}
}

// read moves what there is to p, up to len(p) bytes.
func (f *flow) read(ctx context.Context, p []byte) (int, error) {
	f.mu.Lock()
	for f.length == 0 {
		if f.ended {
			f.mu.Unlock()
			return 0, io.EOF
		}
		if err := f.wait(ctx, &f.reader, reasonPipeRead); err != nil {
			return 0, err
		}
		f.mu.Lock()
	}
	n := copy(p, f.buf[f.start:min(f.start+f.length, chunk)])
	// Nothing, unless the first part went to its end.
	n += copy(p[n:], f.buf[:f.length-min(n, f.length)])
	f.start = (f.start + n) % chunk
	if f.length -= n; f.length == 0 {
		f.drop()
	}
	f.unlockAndWake(&f.writer)
	return n, nil
}

// write takes as much of p as there is room for, and waits until there is some.
func (f *flow) write(ctx context.Context, p []byte) (int, error) {
	f.mu.Lock()
	for {
		if f.ended || f.broken {
			f.mu.Unlock()
			return 0, syscall.EPIPE
		}
		if f.length < chunk {
			break
		}
		if err := f.wait(ctx, &f.writer, reasonPipeWrite); err != nil {
			return 0, err
		}
		f.mu.Lock()
	}
	if f.buf == nil {
		f.buf = chunks.Get().(*[chunk]byte)
	}
	n := 0
	for len(p) > 0 && f.length < chunk {
		end := (f.start + f.length) % chunk
		room := min(chunk-end, chunk-f.length)
		m := copy(f.buf[end:end+room], p)
		p, n, f.length = p[m:], n+m, f.length+m
	}
	f.unlockAndWake(&f.reader)
	return n, nil
}

// drop gives the buffer back. With mu held.
func (f *flow) drop() {
	if f.buf != nil {
		chunks.Put(f.buf)
	}
	f.buf, f.start, f.length = nil, 0, 0
}

// end says that nothing more is written.
func (f *flow) end() {
	f.mu.Lock()
	f.ended = true
	f.unlockAndWake(&f.reader, &f.writer)
}

// abandon says that nothing more is read.
func (f *flow) abandon() {
	f.mu.Lock()
	f.ended, f.broken = true, true
	f.drop()
	f.unlockAndWake(&f.reader, &f.writer)
}

func (c *PipeConn) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if c.closed.Load() {
		err = net.ErrClosed // what closing has made of the two flows is not the other end's doing
	}
	if err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "pipe", Source: pipeAddr{}, Addr: pipeAddr{}, Err: err}
}

// Read reads what there is, up to len(p) bytes, and waits until there is something.
func (c *PipeConn) Read(p []byte) (int, error) {
	ctx, err := c.rd.enterContext()
	if err != nil {
		return 0, c.fail("read", err)
	}
	defer c.rd.turn.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.read(ctx, p)
	sched.Spend(ctx, n)
	return n, c.fail("read", err)
}

// Write writes all of p, and waits for the reader where there is no room. When a deadline passes it
// returns how much is on its way.
func (c *PipeConn) Write(p []byte) (int, error) {
	ctx, err := c.wr.enterContext()
	if err != nil {
		return 0, c.fail("write", err)
	}
	defer c.wr.turn.Unlock()
	sched.Spend(ctx, len(p))
	written := 0
	for written < len(p) {
		n, err := c.out.write(ctx, p[written:])
		if written += n; err != nil {
			return written, c.fail("write", err)
		}
	}
	return written, nil
}

// Close closes the end. Who waits in it is woken with net.ErrClosed; the other end reads what was
// written, and then io.EOF. A second Close returns net.ErrClosed.
func (c *PipeConn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.fail("close", net.ErrClosed)
	}
	c.wr.limit.end(net.ErrClosed)
	c.rd.limit.end(net.ErrClosed)
	c.out.end()
	c.in.abandon()
	return nil
}

// CloseWrite ends the writing side: the other end reads io.EOF and can still write. It comes after
// the writes that are under way, within the write deadline.
func (c *PipeConn) CloseWrite() error {
	_, err := c.wr.enter()
	if err != nil {
		return c.fail("close", err)
	}
	defer c.wr.turn.Unlock()
	c.out.end()
	return nil
}

// CloseRead ends the reading side: Read returns io.EOF, and the other end can't write any more.
func (c *PipeConn) CloseRead() error {
	if c.closed.Load() {
		return c.fail("close", net.ErrClosed)
	}
	c.in.abandon()
	return nil
}

// LocalAddr returns an address that only says that it is a pipe's.
func (c *PipeConn) LocalAddr() net.Addr { return pipeAddr{} }

// RemoteAddr returns the same.
func (c *PipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

// SetDeadline, SetReadDeadline and SetWriteDeadline are those of Conn.
func (c *PipeConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is SetDeadline for reading.
func (c *PipeConn) SetReadDeadline(t time.Time) error { return c.fail("set", c.rd.limit.set(t)) }

// SetWriteDeadline is SetDeadline for writing.
func (c *PipeConn) SetWriteDeadline(t time.Time) error { return c.fail("set", c.wr.limit.set(t)) }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
