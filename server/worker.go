package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
)

// worker is a server's part on one loop. Connections belong to one worker for life; what a worker
// has is touched on its loop only, but for the registry and the counters.
type worker struct {
	server *Server
	ctx    context.Context // of callbacks
	loop   *eventloop.Loop
	index  int

	// On the loop.
	wheel    wheel
	now      tick
	clock    atomic.Uint32 // now, for who is elsewhere
	timer    eventloop.Timer
	expected time.Duration // when timer should fire, since the server began
	scratch  []byte        // for a look at how connections begin; nil when none is beginning
	lastID   uint64
	draining bool
	closed   bool // by Close, or by a Shutdown whose time is over: nothing is begun any more

	handshakes handshakes
	lingerings lingerings

	registry registry
	counters counters
}

func newWorker(s *Server, rt *sched.Runtime, loop *eventloop.Loop, index, loops int) *worker {
	w := &worker{server: s, ctx: rt.Context(), loop: loop, index: index}
	w.handshakes.slots = max(1, s.config.MaxHandshakes/loops)
	w.handshakes.most = underwayPerSlot * w.handshakes.slots
	w.wheel.step = ticks(coarsest)
	w.lingerings.most = max(1, s.config.MaxLingering/loops)
	w.lingerings.mostBytes = s.config.MaxLingeringBytes / loops
	w.registry.all = make(map[ID]*Conn)
	return w
}

// do has fn run on the loop, here if this is it. If the loop has ended, nothing of the worker is in
// use any more: fn is dropped, and do returns false.
func (w *worker) do(fn func()) bool {
	if w.loop.OnLoop() {
		fn()
		return true
	}
	return w.loop.Post(fn) == nil
}

// begin makes a connection of what a listener has accepted. On the loop.
// refused says why it is only to be told that it can't be served.
func (w *worker) begin(l *Listener, in house.Incoming, refused error) {
	s := w.server
	if w.closed {
		in.Drop()
		s.leave()
		return
	}
	c := &Conn{listener: l, worker: w, parts: 1}
	c.flow.Init((*events)(c), &l.port.limits)
	if err := c.flow.House().Begin(w.ctx, in); err != nil {
		s.leave()
		s.log.Sugar().Warnf("server: accepted connection can't be served: %v", err)
		return
	}
	if refused == nil {
		w.counters.accepted.Add(1)
	} else {
		c.flags.Or(flagRefused)
	}
	w.wind()
	c.setRemote(in.Remote)
	c.began = ageOf(time.Since(s.began))
	c.seen.Store(uint32(s.clock()))
	c.due = c.nextCheck()
	w.wheel.add(c)
	w.counters.opening.Add(1)
	if refused != nil {
		c.refuse(refused)
		return
	}
	c.open()
}

// wind starts the timer when the first connection comes.
func (w *worker) wind() {
	if w.timer.Set() {
		return
	}
	w.loop.InitTimer(&w.timer, (*beat)(w))
	w.tell()
	w.wheel.begin(w.now)
}

// tell reads the clock and sets the timer.
func (w *worker) tell() {
	elapsed, step := time.Since(w.server.began), time.Duration(w.wheel.step)*tickLength
	w.now, w.expected = tick(elapsed/tickLength), elapsed+step
	w.clock.Store(uint32(w.now))
	w.timer.Reset(step)
}

// beat is what a worker does as time passes.
type beat worker

func (b *beat) Run() {
	w := (*worker)(b)
	w.counters.lag.Store(int64(max(0, time.Since(w.server.began)-w.expected)))
	w.tell()
	(*visits)(w).Run()
	w.counters.lingerQueued.Store(int64(w.lingerings.weigh()))
	if w.wheel.count == 0 {
		w.scratch = nil
		if w.lingerings.count == 0 {
			w.timer.Stop()
		}
	}
}

// visits looks at the connections whose time has come, some in each turn of the loop.
type visits worker

func (v *visits) Run() {
	w := (*worker)(v)
	if !w.wheel.advance(w.now, (*Conn).check) {
		w.loop.DeferTask(v)
	}
}

// drain tells all connections of the loop that the server shuts down.
func (w *worker) drain() {
	w.draining = true
	w.inTurns(w.wheel.all(), (*Conn).drain)
}

// endAll ends all connections of the loop.
func (w *worker) endAll(all []*Conn, abort bool) {
	w.closed = true
	w.inTurns(all, func(c *Conn) { c.flow.End(ErrShutdown, abort) })
}

// abort aborts all connections of the loop, and what they still deliver.
func (w *worker) abort() {
	for c := w.lingerings.first; c != nil; {
		d := c.flow.House().Delivery()
		c = c.next
		d.Cut(ErrShutdown)
	}
	all := w.wheel.all()
	for _, c := range all {
		if !c.flow.Over() && c.stage == stageOpen {
			w.server.cut(c, c.flow.House().Unsent(), ErrShutdown)
		}
	}
	w.endAll(all, true)
}

// reschedule has the wheel look at a connection when its time has come.
func (w *worker) reschedule(c *Conn) {
	w.wheel.remove(c)
	c.due = c.nextCheck()
	w.wheel.add(c)
}

// inTurns calls fn for the connections, some in each turn of the loop: closing many takes its time.
func (w *worker) inTurns(all []*Conn, fn func(c *Conn)) {
	const some = 256
	for _, c := range all[:min(some, len(all))] {
		if !c.flow.Over() {
			fn(c)
		}
	}
	if len(all) > some && w.loop.Post(func() { w.inTurns(all[some:], fn) }) != nil {
		w.inTurns(all[some:], fn) // the loop ends
	}
}

// registry finds a worker's connections by ID, from any goroutine.
type registry struct {
	mu  sync.RWMutex
	all map[ID]*Conn
}

func (r *registry) add(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[c.id] = c
}

func (r *registry) remove(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, c.id)
}

func (r *registry) find(id ID) *Conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.all[id]
}

// counters count what happens on one loop.
type counters struct {
	accepted, opened, closed                 atomic.Uint64
	packetsIn, bytesIn, packetsOut, bytesOut atomic.Uint64
	full, opening, waiting, handshaking      atomic.Int64
	lingering, lingerQueued                  atomic.Int64
	lag                                      atomic.Int64
}
