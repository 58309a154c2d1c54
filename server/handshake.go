package server

import (
	"context"
	"errors"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/turn"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Handshakes are what costs a server most, and what strangers can have it do. So a worker runs only so many at a time, its slots, and the others wait. A slot is for who has sent a whole
// ClientHello: those who dribble theirs, or send none, keep nobody from one.

// slotWaiter is somebody who waits for a slot.
type slotWaiter interface {
	// begin is called, on the loop, when a slot is free, and takes it; or reports that it isn't wanted any more.
	begin() (taken bool)
}

// queueForSlot gives a slot to who asks, when it is his turn.
func (w *worker) queueForSlot(s slotWaiter) {
	w.waiting = append(w.waiting, s)
	w.counters.waiting.Add(1)
	if !w.beginning {
		w.beginWaiting()
	}
}

// beginWaiting has those begin who wait for a slot, as many as there are. When it has gone on for a
// turn it lets the loop poll first: each of very many may end at once, and make room for the next.
func (w *worker) beginWaiting() {
	w.beginning = true // who begins may end at once
	var budget turn.Budget
	for budget.Renew(); len(w.waiting) > 0 && w.slots > 0; {
		if budget.Spent(turn.Coroutine) {
			w.loop.Defer(w.beginWaiting)
			return
		}
		budget.Count(turn.Look * turn.Unit) // a handshake is long enough for a look at the clock each time
		next := w.waiting[0]
		w.waiting[0] = nil
		w.waiting = w.waiting[1:]
		w.counters.waiting.Add(-1)
		w.slots--
		w.counters.handshaking.Add(1)
		if !next.begin() {
			w.slots++
			w.counters.handshaking.Add(-1)
		}
	}
	w.beginning = false
}

// freeSlot gives a slot back.
func (w *worker) freeSlot() {
	w.slots++
	w.counters.handshaking.Add(-1)
	if len(w.waiting) > 0 && !w.beginning {
		w.beginning = true
		w.loop.Defer(w.beginWaiting) // not from here: each of very many could fail at once, and begin the next
	}
}

// handshaker is a Conn in its last stage.
type handshaker Conn

// begin begins the handshake, in a coroutine of its own, so that the stack that it takes isn't that of the handler.
func (h *handshaker) begin() bool {
	c := (*Conn)(h)
	if c.flow.Over() {
		return false
	}
	c.stage = stageHandshake
	if _, err := sched.GoDeep(c.worker.ctx, c.shake); err != nil {
		c.shaken(err)
	}
	return true
}

// shake shakes hands.
func (c *Conn) shake(ctx context.Context) {
	err := error(runtime.ErrGoexit) // unless the handshake returns: callbacks of the configuration are the program's
	defer func() {
		c.shaken(err)
		if err == nil {
			c.begin()
		}
	}()
	err = c.flow.Socket.SSLHandshake(ctx, c.listener.port.TLS)
}

// shaken follows a handshake of the last stage.
func (c *Conn) shaken(err error) {
	c.worker.freeSlot()
	if err := c.handshaken(err); err != nil {
		c.flow.End(err, false)
	}
}

// upgrade is the handshake of STARTTLS, with all that comes before it: the hello, and a slot.
func (c *Conn) upgrade(ctx context.Context) error {
	s := &c.flow.Socket
	_, secure := s.ConnectionState()
	if !s.OnLoop() || secure || s.Sending() || s.PlaintextPending() {
		// On another loop or a goroutine, which few handlers are, nothing of this one's can be waited for. In the other cases SSLHandshake refuses.
		return s.SSLHandshake(ctx, c.listener.port.TLS)
	}
	free, err := c.waitForSlot(ctx)
	if err != nil {
		s.Close() // it can't go on in plaintext by mistake
		return err
	}
	defer free()
	return s.SSLHandshake(ctx, c.listener.port.TLS)
}

// waitForSlot waits until the client's hello is there, and then for a slot. free gives it back.
func (c *Conn) waitForSlot(ctx context.Context) (free func(), err error) {
	deadline := time.Now().Add(c.listener.port.HandshakeTimeout)
	wait := func(ch *runtime.Channel[struct{}]) error {
		var limit time.Duration // none
		if c.listener.port.HandshakeTimeout > 0 {
			limit = max(time.Until(deadline), time.Nanosecond)
		}
		_, err := ch.PopTimeout(ctx, limit)
		return err
	}
	s := &c.flow.Socket
	if _, err := s.Push(); err != nil { // the answer that the client waits for
		return nil, err
	}
	hello := &helloWatcher{conn: c, there: runtime.NewChannel[struct{}](1)}
	if !hello.whole() {
		s.Watch(hello)
		err := wait(hello.there)
		s.Watch(&c.flow)
		if err != nil {
			return nil, err
		}
	}
	t := &ticket{granted: runtime.NewChannel[struct{}](1)}
	c.worker.queueForSlot(t)
	if err := wait(t.granted); err != nil {
		t.gone = true
		if t.taken {
			c.worker.freeSlot()
		}
		return nil, err
	}
	return c.worker.freeSlot, nil
}

// ticket is a coroutine that waits for a slot.
type ticket struct {
	granted     *runtime.Channel[struct{}]
	taken, gone bool
}

func (t *ticket) begin() bool {
	if t.gone {
		return false
	}
	t.taken = true
	t.granted.Push(context.Background(), struct{}{})
	return true
}

// helloWatcher watches for a ClientHello on a connection in plaintext.
type helloWatcher struct {
	conn  *Conn
	there *runtime.Channel[struct{}]
}

// whole reports whether the hello is there, or something else is that the handshake will refuse.
func (h *helloWatcher) whole() bool {
	data, err := h.conn.look()
	switch {
	case errors.Is(err, socket.ErrWouldBlock):
		return h.conn.flow.Socket.HungUp()
	case err != nil, data[0] != recordHandshake, h.conn.flow.Socket.HungUp():
		return true
	}
	return h.conn.wholeHello(data)
}

// Readable is of socket.Watcher.
func (h *helloWatcher) Readable() {
	if h.there.Len() == 0 && h.whole() {
		h.there.Push(context.Background(), struct{}{})
	}
}

// Writable is of socket.Watcher.
func (h *helloWatcher) Writable() { h.conn.flow.Writable() }

const (
	recordHandshake = 22 // TLS's content type, RFC 8446 section 5.1
	recordHeader    = 5
)

// wholeHello reports whether the first TLS record is whole, or as much of it is there as the kernel's buffer is sure to hold.
func (c *Conn) wholeHello(data []byte) bool {
	if len(data) < recordHeader {
		return false
	}
	length := int(data[3])<<8 | int(data[4])
	return len(data) >= min(recordHeader+length, c.listener.port.mostHello)
}
