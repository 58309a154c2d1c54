// Package callback serves a connection by callbacks on its loop, for servers and clients whose
// connections shall have no coroutine: while nothing happens there is no stack and no buffer, only
// the Conn and its socket.
//
// # Order
//
// All of a Conn happens on its socket's loop, and its methods may only be called there. Received is
// called for each packet in turn, and never while another callback of the connection runs. Ended is
// called once, at the end of the loop's turn in which the connection ended, as the last of all.
//
// A connection that always has something to read gives way to others when its turn is over, see
// internal/turn. Output is queued while packets are handed out, and goes to the kernel together
// afterwards. A panic in a callback ends the connection, and nothing else.
package callback

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/turn"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Handler is what a Conn calls back.
type Handler interface {
	Received(pkt []byte) // valid until it returns
	BufferFull()         // more than Limits.High is queued
	BufferEmpty()        // after BufferFull, no more than Limits.Low is
	Ended(cause error)   // nil: by Close without a cause
}

// Limits are what the connections of a listener, or of a client's configuration, have in common.
type Limits struct {
	Queue     int // bytes that may be queued for sending; beyond that Send fails
	High, Low int // marks of the queue for BufferFull and BufferEmpty
	// How long the peer may take nothing while something is queued; 0: for ever.
	Stall time.Duration

	// What all together have queued that the kernel didn't take; nil: nobody wants to know.
	Backlog *atomic.Int64
}

// ErrStalled is the cause of the end of a connection whose peer has taken nothing for Limits.Stall.
var ErrStalled = errors.New("the peer takes nothing of what is queued for it")

// Conn is a connection. Socket must be begun or connected before Start.
type Conn struct {
	Socket  socket.Socket
	handler Handler
	limits  *Limits
	rare    *rare
	owing   atomic.Bool // released has something to do
	state   state
}

type state uint16

const (
	started   state = 1 << iota // packets are wanted
	paused                      // but not now
	suspended                   // a handshake is under way
	handing                     // a packet is being handed out; what is queued goes out afterwards
	scheduled                   // a task that goes on handing out is
	calling                     // Received is running
	pushing                     // a task that pushes is scheduled
	full                        // BufferFull was called
	draining                    // to end when nothing more is to be handed out, nor to be sent
	emptying                    // and only the latter is left
	ended
	gone // Ended was called
)

// rare is what few connections need at a time.
type rare struct {
	stall   eventloop.Timer // set while something is queued that the kernel doesn't take
	outbox  []byte          // what is to be sent after the operation that holds the write lock
	cause   error           // of the end
	backlog int             // counted in Limits.Backlog
}

// pushAt is how much is queued while packets are handed out before the kernel gets some.
const pushAt = 64 << 10

// Init prepares a Conn.
func (c *Conn) Init(h Handler, l *Limits) { c.handler, c.limits = h, l }

// Start begins to hand out packets.
func (c *Conn) Start() error {
	if err := c.House().Watch(c); err != nil {
		return err
	}
	c.state |= started
	c.again()
	return nil
}

// House returns what only the packages of the module may do with the socket.
func (c *Conn) House() house.Socket { return socket.House(&c.Socket, house.Key{}) }

// Readable is of house.Watcher.
func (c *Conn) Readable() {
	if c.state&(started|paused|suspended|handing|ended) == started {
		c.handOut()
	}
}

// again has the loop hand out more, after others.
func (c *Conn) again() {
	if c.state&(started|scheduled|ended) == started {
		c.state |= scheduled
		c.Socket.Loop().DeferTask((*goOn)(c))
	}
}

type goOn Conn

func (t *goOn) Run() {
	c := (*Conn)(t)
	c.state &^= scheduled
	c.Readable()
}

// handOut hands out what has arrived, for one turn.
func (c *Conn) handOut() {
	c.state |= handing
	defer c.handedOut()
	var budget turn.Budget
	for budget.Renew(); ; {
		if budget.Spent(turn.Coroutine) {
			c.again()
			return
		}
		pkt, err := c.House().TryRecvPacket()
		if err == socket.ErrWouldBlock {
			if c.state&draining != 0 && c.drained() {
				continue
			}
			return
		}
		if err != nil {
			c.End(err, false)
			return
		}
		if budget.Count(len(pkt)); pkt != nil {
			c.state |= calling
			c.handler.Received(pkt)
			c.state &^= calling
		}
		if c.state&(paused|suspended|ended) != 0 {
			return
		}
	}
}

// drained ends a connection that is to end, if nothing is left to be handed out. It reports whether
// there is something after all: the loop may not have been told yet of what the kernel has. Half a
// packet waits for its other half, and whoever sends a file may finish.
func (c *Conn) drained() (more bool) {
	if c.Socket.Buffered() > 0 {
		return false
	}
	if _, err := c.Socket.Peek(make([]byte, 1)); !errors.Is(err, socket.ErrWouldBlock) {
		return true
	}
	c.owing.Store(true) // who sends looks at it afterwards
	switch {
	case c.House().Sending():
	case c.House().Queued() > 0:
		c.state |= emptying
	default:
		c.End(c.rare.cause, false)
	}
	return false
}

// handedOut follows handOut, a panic in it and a runtime.Goexit included.
func (c *Conn) handedOut() {
	called := c.state&calling != 0
	c.state &^= handing | calling
	if value := recover(); value != nil {
		c.Panicked(value)
		return
	}
	if called {
		c.End(runtime.ErrGoexit, true)
		return
	}
	if c.state&ended == 0 {
		c.push()
	}
}

// Panicked ends the connection after a panic that was caught in one of its functions.
func (c *Conn) Panicked(value any) {
	stack := debug.Stack()
	home, _ := c.House().Home()
	home.Loop().ReportPanic(value, stack)
	c.End(&runtime.PanicError{Value: value, Stack: stack}, true)
}

// Guard calls a callback, whose panic ends the connection.
func (c *Conn) Guard(fn func()) {
	returned := false
	defer func() {
		if value := recover(); value != nil {
			c.Panicked(value)
		} else if !returned {
			c.End(runtime.ErrGoexit, true)
		}
	}()
	fn()
	returned = true
}

// Send queues p. It fails with socket.ErrQueueFull if too much is queued, and takes nothing then.
func (c *Conn) Send(p []byte) error {
	if c.state&ended != 0 {
		return net.ErrClosed
	}
	if c.keeping() {
		c.released() // who has held the lock may not have known that there is something
		if c.state&ended != 0 {
			return net.ErrClosed
		}
		if c.keeping() {
			return c.keep(p)
		}
	}
	queued, err := c.House().Queue(p, c.limits.Queue)
	switch {
	case err == nil:
	case errors.Is(err, socket.ErrQueueFull):
		c.push() // what was queued in this turn hasn't gone to the kernel yet
		if c.state&ended != 0 {
			return net.ErrClosed
		}
		if queued, err = c.House().Queue(p, c.limits.Queue); err != nil {
			return err
		}
	case errors.Is(err, socket.ErrBusy): // SendFile has the socket, or a handshake
		return c.keep(p)
	default:
		return err
	}
	if queued > pushAt {
		c.push()
	} else {
		c.pushSoon()
	}
	return nil
}

// keeping reports whether something is to be sent after another operation.
func (c *Conn) keeping() bool { return c.rare != nil && len(c.rare.outbox) > 0 }

// keep puts p behind what another operation sends. released sends it.
func (c *Conn) keep(p []byte) error {
	r := c.toRare()
	if len(r.outbox)+len(p) > c.limits.Queue {
		return socket.ErrQueueFull
	}
	r.outbox = append(r.outbox, p...)
	if !c.owing.Swap(true) {
		c.released() // who held the lock may have looked before there was something
	}
	return nil
}

// released follows an operation that has held the write lock, such as SendFile. It sends what Send
// couldn't.
func (c *Conn) released() {
	if c.state&(suspended|ended) != 0 {
		return
	}
	if c.keeping() {
		_, err := c.House().Queue(c.rare.outbox, c.limits.Queue)
		if errors.Is(err, socket.ErrBusy) {
			return
		}
		if err != nil {
			c.End(err, true) // it was promised
			return
		}
		c.rare.outbox = nil
		c.pushSoon()
	}
	c.owing.Store(false)
	if c.state&draining != 0 {
		c.again()
	}
}

// push gives the kernel what it takes. BufferEmpty is called later, as push is part of Send.
func (c *Conn) push() {
	if queued, ok := c.give(); ok && c.state&full != 0 && queued <= c.limits.Low {
		c.pushSoon()
	}
}

// pushSoon pushes at the end of the loop's turn; after the packets, while some are handed out.
func (c *Conn) pushSoon() {
	if c.state&(pushing|handing) == 0 {
		c.state |= pushing
		c.Socket.Loop().DeferTask((*pushTask)(c))
	}
}

type pushTask Conn

func (t *pushTask) Run() {
	c := (*Conn)(t)
	c.state &^= pushing
	if c.state&ended == 0 {
		c.relieve()
	}
}

// relieve is push, and calls BufferEmpty if that is due.
func (c *Conn) relieve() {
	if queued, ok := c.give(); ok && c.state&full != 0 && queued <= c.limits.Low {
		c.state &^= full
		c.Guard(c.handler.BufferEmpty)
	}
}

// give gives the kernel what it takes, compares what is left with the high mark, and minds that the
// peer takes it.
func (c *Conn) give() (queued int, ok bool) {
	queued, err := c.House().Push()
	if err != nil {
		if c.state&(started|suspended) == started {
			c.End(err, true)
		}
		return 0, false
	}
	c.count(queued)
	switch {
	case queued == 0:
		if c.rare != nil {
			c.rare.stall.Disarm()
		}
		if c.state&emptying != 0 {
			c.state &^= emptying
			c.again()
		}
	case c.limits.Stall > 0:
		if r := c.toRare(); !r.stall.Set() {
			c.Socket.Loop().InitTimer(&r.stall, (*stalled)(c))
			r.stall.Reset(c.limits.Stall)
		}
	}
	if c.state&full == 0 && queued > c.limits.High {
		c.state |= full
		c.Guard(c.handler.BufferFull)
	}
	return queued, c.state&ended == 0
}

// count tells Limits.Backlog how much the kernel didn't take.
func (c *Conn) count(queued int) {
	if c.limits.Backlog == nil || queued == 0 && (c.rare == nil || c.rare.backlog == 0) {
		return
	}
	r := c.toRare()
	c.limits.Backlog.Add(int64(queued - r.backlog))
	r.backlog = queued
}

// Writable is of house.Watcher: the kernel has taken some, or the connection has failed.
func (c *Conn) Writable() {
	if c.state&ended != 0 {
		return
	}
	if c.rare != nil {
		c.rare.stall.Disarm() // give sets it again if something is left
	}
	c.relieve()
}

// stalled is the timer of a peer that takes nothing.
type stalled Conn

func (t *stalled) Run() {
	c := (*Conn)(t)
	before := c.House().Queued()
	queued, err := c.House().Push()
	switch {
	case c.state&ended != 0, err == nil && queued == 0:
	case c.House().Sending(), // has a time-out of its own
		err == nil && queued < before: // the loop hadn't come to the event that says so
		c.rare.stall.Reset(c.limits.Stall)
	default:
		c.End(ErrStalled, true)
	}
}

func (c *Conn) toRare() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// Pause has no more packets handed out until Resume. What arrives stays in the kernel, which tells
// the peer to stop when it has enough.
func (c *Conn) Pause() { c.state |= paused }

// Resume ends a Pause.
func (c *Conn) Resume() {
	if c.state&paused != 0 {
		c.state &^= paused
		c.again()
	}
}

// Drain ends the connection, with a cause, as soon as what has arrived is handed out: now, if that
// is not half a packet.
func (c *Conn) Drain(cause error) {
	if c.state&ended == 0 {
		c.toRare().cause = cause
		c.state |= draining
		c.again()
	}
}

// Full reports whether BufferFull was called and BufferEmpty wasn't.
func (c *Conn) Full() bool { return c.state&full != 0 }

// Gone reports whether Ended was called.
func (c *Conn) Gone() bool { return c.state&gone != 0 }

// Over reports whether the connection has ended.
func (c *Conn) Over() bool { return c.state&ended != 0 }

// Spawn is sched.Go or sched.GoDeep.
type Spawn func(ctx context.Context, fn func(ctx context.Context)) (*sched.Coroutine, error)

// EnableSSL runs the handshake on a coroutine that comes from ctx and calls done with its outcome.
// No packets are handed out meanwhile. After a failure that has closed the socket the connection
// ends, too.
func (c *Conn) EnableSSL(
	ctx context.Context, spawn Spawn, handshake func(ctx context.Context) error, done func(error),
) {
	if c.state&(suspended|ended) != 0 {
		err := error(net.ErrClosed)
		if c.state&suspended != 0 {
			err = socket.ErrBusy
		}
		c.Guard(func() { done(err) })
		return
	}
	c.state |= suspended
	_, err := spawn(ctx, func(ctx context.Context) {
		// Unless the handshake returns: config's callbacks are the program's.
		err := error(runtime.ErrGoexit)
		defer func() { c.secured(err, done) }()
		err = handshake(ctx)
	})
	if err != nil {
		c.Socket.Close() // it can't go on in plaintext by mistake
		c.secured(err, done)
	}
}

func (c *Conn) secured(err error, done func(error)) {
	c.state &^= suspended
	if c.state&ended != 0 && err == nil {
		err = net.ErrClosed
	}
	c.Guard(func() { done(err) })
	if err != nil && !c.Socket.Connected() {
		c.End(err, false)
	}
	c.released() // what was sent meanwhile
	c.again()    // crypto/tls may have read ahead
}

// End closes the connection, or aborts it, which drops what is queued. Ended is told the cause. A
// second End does nothing and returns false.
func (c *Conn) End(cause error, abort bool) bool {
	if c.state&ended != 0 {
		return false
	}
	c.state |= ended
	if abort {
		c.Socket.Abort()
	} else {
		c.Socket.Close()
	}
	c.count(0)
	if r := c.rare; r != nil {
		r.stall.Stop()
		r.outbox = nil
	}
	if cause != nil || c.rare != nil {
		c.toRare().cause = cause
	}
	c.Socket.Loop().DeferTask((*ending)(c))
	return true
}

// ending is the last callback.
type ending Conn

func (t *ending) Run() {
	c := (*Conn)(t)
	var cause error
	if c.rare != nil {
		cause = c.rare.cause
	}
	c.state |= gone
	c.handler.Ended(cause)
}
