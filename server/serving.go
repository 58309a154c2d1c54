package server

import (
	"context"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// events is a Conn as a callback.Handler.
type events Conn

// Received hands a packet to OnReceive.
func (e *events) Received(pkt []byte) {
	c := (*Conn)(e)
	c.received(pkt)
	c.listener.port.OnReceive(c.worker.ctx, c, pkt)
	if c.worker.draining {
		c.drain() // that was its first word
	}
}

func (e *events) BufferFull() {
	c := (*Conn)(e)
	c.worker.counters.full.Add(1)
	if fn := c.listener.port.OnBufferFull; fn != nil {
		fn(c.worker.ctx, c)
	}
}

func (e *events) BufferEmpty() {
	c := (*Conn)(e)
	c.worker.counters.full.Add(-1)
	if fn := c.listener.port.OnBufferEmpty; fn != nil {
		fn(c.worker.ctx, c)
	}
}

// Ended is the last that happens to a connection.
func (e *events) Ended(reason error) {
	c := (*Conn)(e)
	w := c.worker
	c.flags.Or(flagClosed)
	w.wheel.remove(c)
	if c.flow.Full() {
		w.counters.full.Add(-1)
	}
	if c.flags.Load()&flagRefused == 0 {
		w.counters.closed.Add(1)
	}
	w.handshakes.ended(c)
	w.delivering(c)
	defer c.part()
	fn := c.listener.port.OnClose
	if c.stage == stageOpen {
		w.registry.remove(c)
	} else {
		w.counters.opening.Add(-1)
		fn = c.listener.port.OnReject
	}
	c.callAtEnd()
	if fn != nil {
		fn(w.ctx, c, reason)
	}
}

// AtEnd has fn called when the connection has ended, before OnClose, on its loop: it must not wait.
// Of a connection that has ended it is called at once. Functions are called in the order of AtEnd.
func (c *Conn) AtEnd(fn func()) {
	if !c.worker.do(func() {
		if c.flow.Over() {
			fn()
			return
		}
		r := c.toRare()
		r.atEnd = append(r.atEnd, fn)
	}) {
		fn()
	}
}

func (c *Conn) callAtEnd() {
	if r := c.rare.Load(); r != nil {
		all := r.atEnd
		r.atEnd = nil
		for _, fn := range all {
			fn()
		}
	}
}

// part follows the end of one of the connection's parts.
func (c *Conn) part() {
	if c.parts--; c.parts > 0 {
		return
	}
	s := c.worker.server
	if c.flags.Load()&flagCounted != 0 {
		s.addresses.leave(s.addressOf(c))
	}
	s.leave()
}

// serveCallbacks serves a connection that has come to stand by callbacks.
func (c *Conn) serveCallbacks() {
	if fn := c.listener.port.OnConnect; fn != nil {
		c.flow.Guard(func() { fn(c.worker.ctx, c) })
	}
	if c.flow.Over() {
		return
	}
	if err := c.flow.Start(); err != nil {
		c.flow.End(err, true)
		return
	}
	if c.worker.draining {
		c.drain()
	}
}

// handler returns the function of the connection's coroutine: it runs Handle, and closes the
// connection when that has ended, how ever that was. It is one function and no method value, as
// each has a frame on the stack of every connection that waits for a packet, and these stacks are
// to stay at 2 KiB.
func (c *Conn) handler() func(ctx context.Context) {
	return func(ctx context.Context) {
		c.parts++
		returned := false
		defer func() { c.handled(returned, recover()) }()
		c.flow.House().Watch(&c.flow) // for what others send, see Server.Send
		if fn := c.listener.port.OnConnect; fn != nil {
			fn(ctx, c)
		}
		c.listener.port.Handle(ctx, c)
		returned = true
	}
}

// handled follows the handler.
func (c *Conn) handled(returned bool, panicked any) {
	defer c.part()
	switch {
	case returned:
		c.flow.End(c.failure(), false)
	case panicked != nil:
		c.flow.Panicked(panicked)
	case c.worker.ctx.Err() != nil: // runtime.Goexit, by a Shutdown of the runtime that has waited for long enough
		c.flow.End(ErrShutdown, true)
	default:
		c.flow.End(runtime.ErrGoexit, true)
	}
}

// failed notes what a handler was told of the connection's end. The first word counts: what follows
// is that nothing works any more.
func (c *Conn) failed(err error) { c.toRare().failure.CompareAndSwap(nil, &err) }

// failure is why the connection has ended, as far as Recv or EnableSSL have told the handler; nil if
// they haven't.
func (c *Conn) failure() error {
	if r := c.rare.Load(); r != nil {
		if err := r.failure.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// drain ends the connection when the server shuts down and it has nothing more to do.
func (c *Conn) drain() {
	switch {
	case c.stage != stageOpen: // it will hear of it when it stands
	case c.fresh():
		c.worker.reschedule(c)
	case c.listener.port.Handle == nil:
		c.flow.Drain(ErrShutdown)
	case c.flags.Load()&flagUpgrading == 0:
		c.flow.Socket.Cancel(socket.ReadEvent)
	}
}

// firstWord is how long after it was accepted a client may take for its first packet when the
// server shuts down, as with net/http: it has connected in the belief that it would be served.
const firstWord = 5 * time.Second

// fresh reports whether the client has said nothing yet, and still may.
func (c *Conn) fresh() bool {
	return c.flags.Load()&flagSpoken == 0 && c.age() < firstWord
}

// age is when a connection was accepted, in units of 50 ms since the server was made: rounded up,
// so that no time is over too early. It lasts for 6 years.
type age uint32

const ageUnit = 50 * time.Millisecond

func ageOf(elapsed time.Duration) age { return age((elapsed + ageUnit - 1) / ageUnit) }

func (a age) time() time.Duration { return time.Duration(a) * ageUnit }

// age returns for how long the connection has been accepted.
func (c *Conn) age() time.Duration { return time.Since(c.worker.server.began) - c.began.time() }

// silent returns for how long no packet has come, at least: both times are rounded down, so what
// lies between them may be a tick less.
func (c *Conn) silent() tick {
	seen, now := c.seen.Load(), c.worker.server.clock()
	silent := now - tick(seen)
	if silent > 0 {
		silent--
	}
	if silent > ticks(longestIdle) { // before it comes round
		silent = ticks(longestIdle)
		c.seen.CompareAndSwap(seen, uint32(now-silent))
	}
	return silent
}

// check looks at a connection whose due has come.
func (c *Conn) check() {
	w, q := c.worker, c.listener.port
	switch {
	case c.flow.Over():
	case c.stage != stageOpen:
		if q.HandshakeTimeout == 0 || c.age() < q.HandshakeTimeout {
			break
		}
		if c.stage != stageProxy {
			w.server.outcomes.add(string(explain.ReasonTimeout))
		}
		c.flow.End(ErrSilent, false)
	case q.Lifetime > 0 && c.age() >= q.Lifetime:
		c.flow.End(ErrLifetime, false)
	case c.idles() && c.silent() >= ticks(q.IdleTimeout):
		c.flow.End(ErrIdle, false)
	case w.draining:
		c.drain()
	}
	w.reschedule(c)
}

// idles reports whether IdleTimeout is for the connection.
func (c *Conn) idles() bool {
	return c.listener.port.IdleTimeout > 0 && c.flags.Load()&flagProtected == 0
}

// nextCheck is when the connection should be looked at again.
func (c *Conn) nextCheck() tick {
	q := c.listener.port
	wait := time.Minute
	at := func(limit time.Duration) { wait = min(wait, max(0, limit-c.age())) }
	switch {
	case c.flow.Over():
	case c.stage != stageOpen:
		if q.HandshakeTimeout > 0 {
			at(q.HandshakeTimeout)
		}
	default:
		if q.Lifetime > 0 {
			at(q.Lifetime)
		}
		if c.worker.draining && c.fresh() {
			at(firstWord)
		}
		switch {
		case c.idles():
			wait = min(
				wait,
				q.IdleTimeout-time.Duration(min(c.silent(), ticks(q.IdleTimeout)))*tickLength,
			)
		case q.IdleTimeout > 0: // Protect may end before that
			wait = min(wait, q.IdleTimeout)
		}
	}
	return c.worker.now + ticks(wait)
}
