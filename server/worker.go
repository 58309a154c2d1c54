package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/socket"
)

// worker is a server's part on one loop. Connections belong to one worker for life; what a worker has is touched on its loop only, but for the registry and the counters.
type worker struct {
	server *Server
	ctx    context.Context // of callbacks
	loop   *eventloop.Loop
	index  int

	// On the loop.
	wheel     wheel
	now       tick
	clock     atomic.Uint32 // now, for who is elsewhere
	timer     eventloop.Timer
	expected  time.Duration // when timer should fire, since the server began
	scratch   []byte        // for a look at how connections begin; nil when none is beginning
	slots     int           // TLS handshakes that may still begin
	waiting   []slotWaiter
	beginning bool // beginWaiting is scheduled
	lastID    uint64
	draining  bool
	closed    bool // by Close, or by a Shutdown whose time is over: nothing is begun any more

	registry registry
	counters counters
}

// tick is a time on the clock of a server: 50 ms since it was made. It lasts for 6 years.
type tick uint32

const tickLength = 50 * time.Millisecond

// ticks is how many ticks after worker.now, which may be a step of the wheel old, d is over. Added to a time of the clock it is still one.
func ticks(d time.Duration) tick {
	return tick(min((d+tickLength-1)/tickLength, 1<<30)) + wheelStep
}

func newWorker(s *Server, rt *sched.Runtime, loop *eventloop.Loop, index, handshakes int) *worker {
	w := &worker{server: s, ctx: rt.Context(), loop: loop, index: index, slots: handshakes}
	w.registry.all = make(map[ID]*Conn)
	return w
}

// do has fn run on the loop, here if this is it. If the loop has ended, nothing of the worker is in use any more and fn is dropped.
func (w *worker) do(fn func()) {
	if w.loop.OnLoop() {
		fn()
		return
	}
	w.loop.Post(fn)
}

// begin makes a connection of what a listener has accepted. On the loop.
func (w *worker) begin(l *Listener, in socket.Incoming) {
	s := w.server
	if w.closed {
		in.Drop()
		s.leave()
		return
	}
	c := &Conn{listener: l, worker: w}
	c.flow.Init((*events)(c), &l.port.limits)
	if err := c.flow.Socket.Begin(w.ctx, in); err != nil {
		s.leave()
		s.log.Sugar().Warnf("server: accepted connection can't be served: %v", err)
		return
	}
	w.counters.accepted.Add(1)
	w.wind()
	c.setRemote(in.Remote)
	c.began = w.now
	c.seen.Store(uint32(w.now))
	c.due = c.nextCheck()
	w.wheel.add(c)
	c.open()
}

// wind starts the timer when the first connection comes.
func (w *worker) wind() {
	if w.wheel.count > 0 {
		return
	}
	w.loop.InitTimer(&w.timer, (*beat)(w))
	w.tell()
	w.wheel.begin(w.now)
}

// tell reads the clock and sets the timer.
func (w *worker) tell() {
	elapsed := time.Since(w.server.began)
	w.now, w.expected = tick(elapsed/tickLength), elapsed+wheelStep*tickLength
	w.clock.Store(uint32(w.now))
	w.timer.Reset(wheelStep * tickLength)
}

// beat is what a worker does as time passes.
type beat worker

func (b *beat) Run() {
	w := (*worker)(b)
	w.counters.lag.Store(int64(max(0, time.Since(w.server.began)-w.expected)))
	w.tell()
	w.wheel.advance(w.now, (*Conn).check)
	if w.wheel.count == 0 {
		w.timer.Stop()
		w.scratch = nil
	}
}

// drain tells all connections of the loop that the server shuts down.
func (w *worker) drain() {
	w.draining = true
	w.inTurns(w.wheel.all(), (*Conn).drain)
}

// endAll ends all connections of the loop.
func (w *worker) endAll(abort bool) {
	w.closed = true
	w.inTurns(w.wheel.all(), func(c *Conn) { c.flow.End(ErrShutdown, abort) })
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
	lag                                      atomic.Int64
}
