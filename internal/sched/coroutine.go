package sched

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/goroutine"
	"github.com/whorl-go/whorl/internal/turn"
)

// A Coroutine is what runtime.Coroutine shows.
type Coroutine struct {
	// The size counts: programs have 100,000 of these and more. What few coroutines need is in
	// rare. The order counts, too: what each wait and each wake-up touches comes first and takes
	// three cache lines.

	sched     *scheduler
	waiter    Waiter
	worker    *worker                // on the loop, as down to suspended; see scheduler.mu
	queue     Queue                  // where it waits; nil if it doesn't, or can't be interrupted
	reason    atomic.Pointer[Reason] // what it waits for, see describe
	state     state
	exiting   bool // its own function has ended, or is being ended by force
	own       bool // the wait goes by the coroutine's own context
	timer     eventloop.Timer
	follows   *following
	suspended atomic.Bool // waits in Suspend
	over      atomic.Bool // it has ended; set with ctx.mu held

	ctx        coroutineContext
	rare       *rare // guarded by ctx.mu
	id         int64
	parent     int64      // 0 = none
	prev, next *Coroutine // guarded by scheduler.mu
}

// rare is the part of a coroutine that only some have.
type rare struct {
	defers   []func(context.Context) // on the loop
	panicked *PanicError             // on the loop
	goexit   bool                    // on the loop: it called runtime.Goexit
	joins    WaitQueue[*join]        // guarded by ctx.mu
}

// following is a context that isn't the coroutine's own and that its waits go by.
type following struct {
	done    <-chan struct{}
	stop    func() bool
	limited bool // it has a deadline
}

type state uint8

const (
	stateNew state = iota
	stateRunning
	stateParked
	stateEnded
)

// Go is runtime.Go.
func Go(ctx context.Context, fn func(ctx context.Context)) (*Coroutine, error) {
	s, parent, err := begin(ctx, 0)
	if err != nil {
		return nil, err
	}
	if s != nil {
		co, err := s.spawn(ctx, parent)
		if err == nil {
			s.start(co, fn)
		}
		return co, err
	}
	if co, ok := ctx.Value(coroutineKey{}).(*Coroutine); ok {
		return co.sched.launch(ctx, fn)
	}
	rt, err := From(ctx)
	if err != nil {
		return nil, err
	}
	return rt.pick().launch(ctx, fn)
}

// launch starts a coroutine from outside the loop.
func (s *scheduler) launch(ctx context.Context, fn func(context.Context)) (*Coroutine, error) {
	co, err := s.spawn(ctx, nil)
	if err != nil {
		return nil, err
	}
	return co, s.startLater(co, fn)
}

// startLater has the loop start a coroutine that was spawned.
func (s *scheduler) startLater(co *Coroutine, fn func(context.Context)) error {
	if s.loop.Post(func() { s.start(co, fn) }) != nil {
		s.rt.release()
		return ErrShutdown
	}
	return nil
}

// GoSpread is runtime.GoSpread.
func GoSpread(ctx context.Context, fn func(ctx context.Context)) (*Coroutine, error) {
	if err := Begin(ctx, 0); err != nil {
		return nil, err
	}
	rt, err := From(ctx)
	if err != nil {
		return nil, err
	}
	s := rt.pick()
	_, parent := whereAmI(schedulerHint(ctx))
	if parent != nil && parent.sched.rt != rt {
		parent = nil // of another runtime, which keeps this one from nothing, such as its end
	}
	co, err := s.spawn(ctx, parent)
	if err != nil {
		return nil, err
	}
	return co, s.startLater(co, fn)
}

// Current is runtime.Current.
func Current(ctx context.Context) *Coroutine {
	_, co := whereAmI(schedulerHint(ctx))
	return co
}

// ID returns the coroutine's number.
func (co *Coroutine) ID() int64 { return co.id }

// Parent returns the number of the coroutine that started this one, -1 if none did.
func (co *Coroutine) Parent() int64 {
	if co.parent == 0 {
		return -1
	}
	return co.parent
}

// Runtime returns the runtime that the coroutine belongs to.
func (co *Coroutine) Runtime() *Runtime { return co.sched.rt }

// Loop returns the loop that the coroutine runs on, for life.
func (co *Coroutine) Loop() *eventloop.Loop { return co.sched.loop }

// Context returns the coroutine's context.
func (co *Coroutine) Context() context.Context { return &co.ctx }

// Cancel cancels the coroutine's context with context.Canceled, for good.
func (co *Coroutine) Cancel() { co.ctx.cancel(context.Canceled) }

// Defer is runtime.Defer.
func Defer(ctx context.Context, fn func(ctx context.Context)) {
	co := Current(ctx)
	if co == nil {
		panic("runtime: Defer outside a coroutine")
	}
	r := co.uncommon()
	r.defers = append(r.defers, fn)
}

// call runs a deferred function of the coroutine and catches its panic.
func (co *Coroutine) call(fn func(context.Context)) {
	defer func() {
		if value := recover(); value != nil {
			err := asPanicError(value)
			co.uncommon().panicked = err
			co.sched.rt.panicked(co, err)
		}
	}()
	fn(&co.ctx)
}

// asPanicError must be called while the panic is being recovered, so that its stack is still there.
func asPanicError(value any) *PanicError {
	if err, ok := value.(*PanicError); ok {
		return err // of Await: it has the stack of where it happened
	}
	return &PanicError{Value: value, Stack: debug.Stack()}
}

// exit runs the deferred functions and ends the coroutine. When a deferred function calls Goexit,
// exit is called again.
func (co *Coroutine) exit() {
	co.exiting = true
	for fn := co.popDefer(); fn != nil; fn = co.popDefer() {
		co.call(fn)
	}
	co.state = stateEnded
	co.timer.Stop()
	if co.follows != nil {
		co.follows.stop()
		co.follows = nil
	}
	co.ctx.ended()
	co.wakeJoins()
	co.sched.ended(co)
}

// Spend counts an operation that may wait, before or after it was done without waiting, and the n
// bytes that it has moved. It has the calling coroutine yield if it has gone on for long enough,
// about 100 µs: a coroutine whose peer always has something for it must not keep the loop from the
// others. The operations of sockets call it. Coroutines that are started or switched to within a
// turn share that. It does nothing outside a coroutine.
func Spend(ctx context.Context, n int) { spend(ctx, n) }

// Begin is what operations begin with that may wait: it is Spend, and returns the error that a wait
// with ctx would end with if ctx is done already. Then nothing is begun.
func Begin(ctx context.Context, n int) error {
	_, _, err := begin(ctx, n)
	return err
}

// A Caller is what whoever calls runs in: a coroutine, a function of a loop, or a plain goroutine.
type Caller struct {
	sched *scheduler
	co    *Coroutine
}

// BeginAs is Begin that tells what the caller is, for those who need that next.
func BeginAs(ctx context.Context, n int) (Caller, error) {
	s, co, err := begin(ctx, n)
	return Caller{s, co}, err
}

// Enter is the function [Enter] without asking again.
func (c Caller) Enter() (*Waiter, error) { return enter(c.sched, c.co) }

// Live reports whether operations with ctx may begin, as Begin does, without counting one.
func Live(ctx context.Context) bool {
	if own, ok := ctx.(*coroutineContext); ok {
		return own.failed() == nil
	}
	return ctx.Err() == nil
}

// begin is Begin that tells what the caller is, as whereAmI does.
func begin(ctx context.Context, n int) (s *scheduler, co *Coroutine, err error) {
	s, co = spend(ctx, n)
	if own, ok := ctx.(*coroutineContext); ok && own.co == co {
		err = own.failed()
	} else if err = ctx.Err(); err != nil {
		err = waitError(ctx, err)
	}
	if err != nil && co != nil {
		co.refused()
	}
	return s, co, err
}

// Count is Spend for operations that never wait: it is the next one that may wait which yields.
func Count(n int) {
	if s, co := whereAmI(nil); co != nil {
		s.budget.Count(n)
	}
}

// spend is Spend that tells what the caller is, as whereAmI does. It begins with the usual case of
// that.
func spend(ctx context.Context, n int) (s *scheduler, co *Coroutine) {
	s = schedulerHint(ctx)
	if s != nil && s.running.Load() == uintptr(goroutine.Current()) {
		co = s.current
	} else if s, co = whereAmI(s); co == nil {
		return s, nil
	}
	co.spend(n)
	return s, co
}

func (co *Coroutine) spend(n int) {
	b := &co.sched.budget
	if b.Count(n); b.Spent(turn.Coroutine) {
		co.yield()
	}
}

// Yield is runtime.Yield.
func Yield(ctx context.Context) error {
	s, co := whereAmI(schedulerHint(ctx))
	switch {
	case co != nil:
		co.yield()
	case s != nil:
		return ErrOnLoop
	default:
		gosched()
	}
	return ctx.Err()
}

// uncommon returns the coroutine's rare part, made if need be.
func (co *Coroutine) uncommon() *rare {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.rare == nil {
		co.rare = new(rare)
	}
	return co.rare
}

// popDefer takes the function out that was deferred last, nil if there is none.
func (co *Coroutine) popDefer() func(context.Context) {
	co.ctx.mu.Lock()
	r := co.rare
	co.ctx.mu.Unlock()
	if r == nil || len(r.defers) == 0 {
		return nil
	}
	last := len(r.defers) - 1
	fn := r.defers[last]
	r.defers = r.defers[:last]
	return fn
}

// yield parks the coroutine until the loop's deferred functions run. Nothing can interrupt it, as
// nothing has to.
func (co *Coroutine) yield() {
	if co.sched.loop.Closed() {
		return // a shutdown has given up on this coroutine, and the loop will not come round again
	}
	co.waitsFor(reasonYield)
	co.queue = nil
	co.sched.loop.DeferTask((*resumeTask)(co))
	co.park()
	if co.sched.rt.forced.Load() {
		co.forceOut()
	}
}

func (co *Coroutine) String() string { return fmt.Sprintf("coroutine#%d", co.id) }
