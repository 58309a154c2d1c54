package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Handshakes are what costs a server most, and what strangers can have it do. Three things keep
// them from harming others:
//
//   - A worker has so many compute at a time, in its slots. A slot is not for waiting: who waits for
//     the client has given his back. (Mostly one computes at a time, as a loop does one thing at a
//     time; but callbacks of the configuration may wait for something else.)
//   - Each step is a task of the loop of its own, so that between two of them everybody else has a
//     turn: thousands that may compute at once don't stop those who are established.
//   - Those that are under way cost memory, and are bounded, too: beyond eight times the slots, the
//     one whose client has been silent for the longest is ended.
//
// Who is in the middle of a handshake comes before those who begin. Of these, the addresses have
// their turns one after the other, and those of one address come in their order; but when the
// oldest has waited for longer than a client should, the newest is next, as its client is the one
// that certainly still waits. So a flood delays itself.

// A handshake is a TLS handshake as its worker sees it. It is the house.Gate of it.
type handshake struct {
	conn    *Conn
	granted *runtime.Channel[struct{}] // for Enter; nil as long as there is no coroutine yet
	entered bool                       // the slot was granted before Enter

	// On the worker's loop.
	state      handshakeState
	underway   bool          // it has had a slot
	evicted    atomic.Bool   // it has to make room
	since      time.Duration // when it began to wait, on the loops' clock
	prev, next *handshake    // of the worker's silent ones
}

type handshakeState uint8

const (
	handshakeIdle   handshakeState = iota // waits for its client, or has just been woken
	handshakeQueued                       // for a slot
	handshakeInside                       // has one
	handshakeSilent                       // waits for its client, and is listed
	handshakeOver
)

// handshakes are a worker's part in it. They are touched on its loop only.
type handshakes struct {
	slots    int          // that are free
	most     int          // that may be under way
	begun    int          // that are
	granting bool         // the task that goes on is scheduled
	resuming []*handshake // in the middle, first come, first served
	lines    []*line      // those that begin, by address: whose turn it is, first
	lineOf   map[netip.Prefix]*line
	silent   struct{ first, last *handshake }
	parked   map[*Conn]*handshake // whose coroutines wait for a slot
}

// A line is those of one address that wait to begin.
type line struct {
	address netip.Prefix
	waiting []*handshake
}

const (
	underwayPerSlot = 8
	overload        = 50 * time.Millisecond // of the oldest that waits: then the newest is next
)

// queue asks for a slot, and gets it at once if nobody else computes in this turn of the loop.
func (w *worker) queue(h *handshake) {
	if h.state == handshakeOver {
		return // it has ended before it came here from its coroutine
	}
	hs := &w.handshakes
	h.unlist()
	if h.granted != nil {
		if h.conn.flow.Over() {
			h.granted.Close() // as nobody else would wake it
			return
		}
		if hs.parked == nil {
			hs.parked = make(map[*Conn]*handshake)
		}
		hs.parked[h.conn] = h
	}
	h.state, h.since = handshakeQueued, clock.Now()
	if h.underway {
		hs.resuming = append(hs.resuming, h)
	} else {
		hs.lineUp(h)
		w.counters.waiting.Add(1)
	}
	if !hs.granting {
		w.grant()
	}
}

// grant gives a slot to who is next, and has the loop go on with others.
func (w *worker) grant() {
	hs := &w.handshakes
	hs.granting = false
	if hs.slots == 0 {
		return
	}
	h := hs.next(w)
	if h == nil {
		return
	}
	hs.granting = true
	w.loop.DeferTask((*granting)(w))
	hs.slots--
	h.state = handshakeInside
	if !h.underway {
		h.underway = true
		hs.begun++
		w.counters.handshaking.Add(1)
		hs.makeRoom()
	}
	if h.granted == nil {
		h.begin()
	} else {
		delete(hs.parked, h.conn)
		h.granted.Push(context.Background(), struct{}{}) // it has room
	}
}

// ended wakes the coroutine of a connection that has ended, if it waits for a slot.
func (hs *handshakes) ended(c *Conn) {
	if h := hs.parked[c]; h != nil {
		h.granted.Close()
	}
}

// granting is the task of a worker that grants slots.
type granting worker

func (g *granting) Run() { (*worker)(g).grant() }

// next takes out who is next.
func (hs *handshakes) next(w *worker) *handshake {
	for len(hs.resuming) > 0 {
		if h := takeFirst(&hs.resuming); h.state == handshakeQueued {
			return h
		}
	}
	for len(hs.lines) > 0 {
		l := takeFirst(&hs.lines)
		h := l.next()
		if len(l.waiting) > 0 {
			hs.lines = append(hs.lines, l)
		} else {
			delete(hs.lineOf, l.address)
		}
		if h.state != handshakeQueued {
			continue // it has given up
		}
		w.counters.waiting.Add(-1)
		if h.granted != nil || !h.conn.flow.Over() { // who waits is to be woken in any case
			return h
		}
		h.state = handshakeOver
	}
	return nil
}

// lineUp puts one that begins behind the others of its address.
func (hs *handshakes) lineUp(h *handshake) {
	address := h.conn.worker.server.addressOf(h.conn)
	l := hs.lineOf[address]
	if l == nil {
		l = &line{address: address}
		if hs.lineOf == nil {
			hs.lineOf = make(map[netip.Prefix]*line)
		}
		hs.lineOf[address] = l
		hs.lines = append(hs.lines, l)
	}
	l.waiting = append(l.waiting, h)
}

// next takes out who is next in a line.
func (l *line) next() *handshake {
	h := l.waiting[0]
	if h.state != handshakeQueued || clock.Now()-h.since <= overload {
		return takeFirst(&l.waiting)
	}
	last := len(l.waiting) - 1
	h, l.waiting[last] = l.waiting[last], nil
	l.waiting = l.waiting[:last]
	return h
}

func takeFirst[T any](queue *[]*T) *T {
	first := (*queue)[0]
	(*queue)[0] = nil
	*queue = (*queue)[1:]
	return first
}

// makeRoom ends the one whose client has been silent for the longest, if too many are under way.
func (hs *handshakes) makeRoom() {
	if h := hs.silent.first; h != nil && hs.begun > hs.most {
		h.unlist()
		h.evicted.Store(true)
		if !h.conn.flow.Socket.Cancel(socket.ReadEvent) {
			h.evicted.Store(false) // its client has just said something
		}
	}
}

// begin begins the handshake in a coroutine of its own, so that the stack that it takes isn't that
// of the handler.
func (h *handshake) begin() {
	c := h.conn
	c.stage = stageHandshake
	h.entered = true
	if _, err := sched.GoDeep(c.worker.ctx, h.shake); err != nil {
		h.leave()
		h.shaken(err)
	}
}

// shake shakes hands.
func (h *handshake) shake(ctx context.Context) {
	err := error(runtime.ErrGoexit) // unless the handshake returns
	defer func() { h.shaken(err) }()
	err = h.run(ctx)
}

// shaken follows a handshake with which a connection begins.
func (h *handshake) shaken(err error) {
	h.end()
	c := h.conn
	if err = c.handshaken(err); err != nil {
		c.flow.End(err, false)
		return
	}
	c.begin()
}

// run runs the handshake.
func (h *handshake) run(ctx context.Context) error {
	h.granted = runtime.NewChannel[struct{}](1)
	err := h.conn.flow.House().SSLHandshakeThrough(ctx, h.conn.listener.port.TLS, h)
	switch {
	case err != nil && h.evicted.Load():
		return ErrSilent
	case errors.Is(err, runtime.ErrTimeout):
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return err
}

func newHandshake(c *Conn) *handshake { return &handshake{conn: c} }

// upgrade is the handshake of STARTTLS.
func (c *Conn) upgrade(ctx context.Context) error {
	h := newHandshake(c)
	defer c.onLoop(h.end)
	return h.run(ctx)
}

// Enter is of house.Gate.
func (h *handshake) Enter(ctx context.Context, deadline sched.Deadline) error {
	if h.entered {
		h.entered = false
		return nil
	}
	w := h.conn.worker
	if !w.do(func() { w.queue(h) }) {
		return runtime.ErrShutdown // nobody would grant one
	}
	var limit time.Duration // none
	if deadline != 0 {
		limit = max(deadline.Until(), time.Nanosecond)
	}
	_, err := h.granted.PopTimeout(ctx, limit)
	if err != nil {
		w.do(h.giveUp)
	}
	if errors.Is(err, runtime.ErrChannelClosed) {
		return net.ErrClosed
	}
	return err
}

// giveUp follows a wait for a slot that has ended without one, unless it was granted at last.
func (h *handshake) giveUp() {
	switch h.state {
	case handshakeInside:
		h.leave()
	case handshakeQueued:
		if !h.underway {
			h.conn.worker.counters.waiting.Add(-1)
		}
		h.state = handshakeIdle
		delete(h.conn.worker.handshakes.parked, h.conn)
	}
}

// Leave is of house.Gate.
func (h *handshake) Leave() { h.conn.onLoop(h.leave) }

func (h *handshake) leave() {
	w := h.conn.worker
	hs := &w.handshakes
	if h.state != handshakeInside {
		return
	}
	hs.slots++
	h.state = handshakeSilent
	h.prev = hs.silent.last
	if h.prev != nil {
		h.prev.next = h
	} else {
		hs.silent.first = h
	}
	hs.silent.last = h
	if !hs.granting && len(hs.resuming)+len(hs.lines) > 0 {
		hs.granting = true
		w.loop.DeferTask((*granting)(w))
	}
}

// unlist takes it out of the silent ones.
func (h *handshake) unlist() {
	hs := &h.conn.worker.handshakes
	if h.state != handshakeSilent {
		return
	}
	h.state = handshakeIdle
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		hs.silent.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		hs.silent.last = h.prev
	}
	h.prev, h.next = nil, nil
}

// end follows the handshake. In a coroutine it overtakes giveUp, and Enter's part on the loop.
func (h *handshake) end() {
	w := h.conn.worker
	h.giveUp()
	h.unlist()
	h.state = handshakeOver
	if h.underway {
		h.underway = false
		w.handshakes.begun--
		w.counters.handshaking.Add(-1)
	}
}
