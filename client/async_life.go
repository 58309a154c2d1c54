package client

import (
	"context"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// An Async lives like this. Whatever has no connection yet is in an effort, which is gone when the
// connection stands.
//
//	Connect → start → (turn) → dial, in a coroutine → outcome ─┬→ stand → OnConnect … Ended ─┬→ lost → OnClose or OnError ─→ idle
//	             ↑                                             └─────────────────────────────┘                           │
//	             └─────────────────────────────── again, when it is time ←──────────────────────────── if Reconnect says so

// effort is an attempt to connect, or the wait for one. It belongs to the loop.
type effort struct {
	async   *Async
	ctx     context.Context // that the attempt goes by
	network uint8           // as is address, for start: of Connect
	address string
	conn    *asyncConn // from dial on
	err     error      // what has come of it
	timer   eventloop.Timer
	delay   time.Duration
	stage   stage
	placed  bool // it has one of the dialer's places
}

type stage uint8

const (
	effortNew       stage = iota
	effortQueued          // waits for one of the dialer's places
	effortDialing         // its coroutine runs
	effortOver            // outcome is due
	effortAnswering       // OnError or OnClose is being called before the wait
	effortCalledOff       // there, by Close
	effortWaiting         // for its time
)

// start is the task that follows Connect.
type start effort

func (t *start) Run() {
	e := (*effort)(t)
	a, k := e.async, e.async.keeper.Load()
	if old := a.effort; old != nil { // the wait that Connect has ended
		old.timer.Stop()
	}
	a.effort, a.network, a.address, a.losses = e, e.network, e.address, 0
	k.list(a)
	e.begin()
}

// begin begins the attempt as soon as it has a place.
func (e *effort) begin() {
	a := e.async
	switch {
	case a.State() == AsyncClosing:
		e.over(net.ErrClosed)
	case a.dialer.admit(e):
		e.placed = true
		e.launch()
	default:
		e.stage = effortQueued
	}
}

// turn is the task of an attempt that has got its place at last.
type turn effort

func (t *turn) Run() {
	e := (*effort)(t)
	if e.stage != effortQueued { // it is over
		e.async.dialer.done()
		return
	}
	e.placed = true
	e.launch()
}

// launch starts the coroutine that connects.
func (e *effort) launch() {
	e.stage = effortDialing
	e.conn = &asyncConn{async: e.async}
	e.conn.flow.Init((*asyncEvents)(e.conn), &e.async.dialer.limits)
	if _, err := sched.GoDeep(e.ctx, e.dial); err != nil { // ErrShutdown, for one
		e.over(err)
	}
}

// dial is the coroutine.
func (e *effort) dial(ctx context.Context) {
	a := e.async
	// Unless dial returns: a Shutdown that has waited for long enough ends coroutines by force.
	err := runtime.ErrGoexit
	defer func() { e.over(err) }()
	to, _ := a.dialer.target(asyncNetworks[a.network], a.address)
	e.conn.flow.House().Init(to.transport) // one of asyncNetworks
	err = a.dialer.dial(ctx, &e.conn.flow.Socket, to)
}

// over ends the effort. What follows is called by the loop, not by whatever has ended it.
func (e *effort) over(err error) {
	e.err, e.stage = err, effortOver
	e.async.keeper.Load().loop.DeferTask((*outcome)(e))
}

// outcome is the task at the end of an effort.
type outcome effort

func (t *outcome) Run() {
	e := (*effort)(t)
	a, err := e.async, e.err
	if e.placed {
		a.dialer.done()
	}
	if (err == nil || err == runtime.ErrGoexit) && a.keeper.Load().closed {
		err = runtime.ErrShutdown
	}
	if err == runtime.ErrGoexit { // a callback of the TLS configuration has called it
		err = explain.Local(err, a.target().host)
	}
	if err == nil {
		if _, ok := a.move(AsyncOpen, AsyncConnecting); ok {
			a.stand(e.conn)
			return
		}
		err = net.ErrClosed // Close came after the coroutine had done its work
	}
	if e.conn != nil {
		e.conn.flow.Socket.Abort()
	}
	if _, ok := err.(*net.OpError); !ok {
		err = &net.OpError{Op: "connect", Net: asyncNetworks[a.network], Err: err}
	}
	a.lost(err, e, func(ctx context.Context) {
		if fn := a.dialer.callbacks.OnError; fn != nil {
			fn(ctx, a, err)
		}
	})
}

// stand begins the life of a connection.
func (a *Async) stand(c *asyncConn) {
	a.effort, a.since = nil, clock.Now()
	a.conn.Store(c)
	if fn := a.dialer.callbacks.OnConnect; fn != nil {
		c.flow.Guard(func() { fn(a.keeper.Load().ctx, a) })
	}
	if c.flow.Over() {
		return
	}
	if err := c.flow.Start(); err != nil {
		c.flow.End(err, true)
	}
}

// asyncEvents is an asyncConn as a callback.Handler.
type asyncEvents asyncConn

func (e *asyncEvents) Received(pkt []byte) {
	e.async.dialer.callbacks.OnReceive(e.async.keeper.Load().ctx, e.async, pkt)
}

func (e *asyncEvents) BufferFull() {
	if fn := e.async.dialer.callbacks.OnBufferFull; fn != nil {
		fn(e.async.keeper.Load().ctx, e.async)
	}
}

func (e *asyncEvents) BufferEmpty() {
	if fn := e.async.dialer.callbacks.OnBufferEmpty; fn != nil {
		fn(e.async.keeper.Load().ctx, e.async)
	}
}

// Ended is the last that happens to a connection.
func (e *asyncEvents) Ended(cause error) {
	a := e.async
	if cause != nil {
		cause = a.dialer.explain(a.target(), cause)
	}
	a.conn.Store(nil)
	a.valued = false
	a.lost(cause, nil, func(ctx context.Context) {
		defer func() {
			if !a.valued {
				a.value = nil // of that connection
			}
		}()
		if fn := a.dialer.callbacks.OnClose; fn != nil {
			fn(ctx, a, cause)
		}
	})
}

// lost follows a connection that has ended, or an attempt that has failed. tell calls the program
// back, which finds the Async free for Connect.
func (a *Async) lost(cause error, attempt *effort, tell func(ctx context.Context)) {
	k := a.keeper.Load()
	e := &effort{async: a, ctx: k.ctx, stage: effortAnswering}
	again := false
	left := k.ctx.Err() != nil || a.State() == AsyncClosing ||
		attempt != nil && attempt.ctx.Err() != nil
	if p := a.dialer.callbacks.Reconnect; p != nil && !left {
		k.guard(func() {
			if attempt == nil && clock.Now()-a.since >= p.Stable() {
				a.losses = 0
			}
			a.losses++
			e.delay, again = p.Next(a, int(a.losses), cause)
		})
	}
	if again {
		// Or Close was called meanwhile, elsewhere.
		_, again = a.move(AsyncWaiting, AsyncConnecting, AsyncOpen)
	}
	if again {
		a.effort = e
	} else {
		a.effort = nil
		k.unlist(a)
		a.state.Store(uint32(AsyncIdle))
	}
	defer a.told(e, again)
	k.guard(func() { tell(k.ctx) })
}

// told follows OnError and OnClose.
func (a *Async) told(e *effort, again bool) {
	k := a.keeper.Load()
	switch {
	case !again:
		k.leave()
	case e.stage == effortCalledOff:
		a.effort = nil
		k.unlist(a)
		k.leave()
	default:
		e.stage = effortWaiting
		if a.State() == AsyncWaiting { // else Connect was called, or Close elsewhere
			k.loop.InitTimer(&e.timer, (*due)(e))
			e.timer.Reset(e.delay)
		}
	}
}

// due is the task of an effort whose time has come.
type due effort

func (t *due) Run() {
	e := (*effort)(t)
	if _, ok := e.async.move(AsyncConnecting, AsyncWaiting); ok {
		e.begin()
	}
}

// finish is the part of Close and Abort that is done on the loop. was is the state in which they
// were called.
func (a *Async) finish(was AsyncState, abort bool) {
	if a.State() != AsyncClosing {
		return // it has ended by itself, and may be at something else
	}
	if c := a.conn.Load(); c != nil {
		c.flow.End(nil, abort)
		return
	}
	e := a.effort
	switch {
	case e == nil,
		e.stage == effortWaiting && was != AsyncWaiting: // start, which is on its way, will see it
	case e.stage == effortWaiting:
		e.timer.Stop()
		e.over(net.ErrClosed)
	case e.stage == effortQueued:
		e.over(net.ErrClosed)
	case e.stage == effortDialing:
		e.conn.flow.Socket.Abort()
	}
}

// keeper is what the Asyncs of one loop have in common.
type keeper struct {
	home sched.Home
	loop *eventloop.Loop
	ctx  context.Context // the runtime's, for callbacks
	// Asyncs that are not idle. As long as there are some, the runtime is retained.
	open atomic.Int64

	// On the loop.
	first  *Async // those that are not idle
	closed bool   // the runtime shuts down
}

var keepers = sched.NewByLoop(
	func(at sched.Home) *keeper {
		return &keeper{home: at, loop: at.Loop(), ctx: at.Runtime().Context()}
	},
	func(k *keeper) { k.loop.Post(k.close) },
)

// keeperFor returns the keeper of the loop that something new of ctx should live on.
func keeperFor(ctx context.Context, spread bool) (*keeper, error) {
	homeFor := sched.HomeFor
	if spread {
		homeFor = sched.HomeInTurn
	}
	home, err := homeFor(ctx)
	if err != nil {
		return nil, err
	}
	if home.Runtime().Context().Err() != nil {
		return nil, runtime.ErrShutdown
	}
	return keepers.Of(home), nil
}

func (k *keeper) enter() {
	if k.open.Add(1) == 1 {
		k.home.Runtime().Retain()
	}
}

func (k *keeper) leave() {
	if k.open.Add(-1) == 0 {
		k.home.Runtime().Release()
	}
}

// close ends all Asyncs, as the runtime shuts down. Attempts end with their coroutines; those that
// wait for their turn get it then, and no coroutine any more.
func (k *keeper) close() {
	k.closed = true
	for a := k.first; a != nil; a = a.next {
		if c := a.conn.Load(); c != nil {
			c.flow.End(runtime.ErrShutdown, false)
		} else if _, ok := a.move(AsyncClosing, AsyncWaiting); ok {
			a.effort.timer.Stop()
			a.effort.over(runtime.ErrShutdown)
		}
	}
}

func (k *keeper) list(a *Async) {
	if a.listed {
		return
	}
	a.listed, a.next = true, k.first
	if k.first != nil {
		k.first.prev = a
	}
	k.first = a
}

func (k *keeper) unlist(a *Async) {
	if !a.listed {
		return
	}
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		k.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.listed, a.prev, a.next = false, nil, nil
}

// guard calls a function of the program, and reports its panic.
func (k *keeper) guard(fn func()) {
	defer func() {
		if value := recover(); value != nil {
			k.loop.ReportPanic(value, debug.Stack())
		}
	}()
	fn()
}
