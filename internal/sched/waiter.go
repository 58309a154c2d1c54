package sched

import (
	"context"
	"sync"
	"time"
	"unsafe"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/prefetch"
)

// A Waiter is one caller's place to wait, be it a coroutine or a plain goroutine. All waiting of
// the house is built on it, that of channels and sockets included.
//
// # Protocol
//
//  1. The caller gets its Waiter with [Enter] and puts it where the wakers will look for it.
//  2. It calls [Waiter.Wait] and is parked.
//  3. Whoever takes the Waiter out of that place, and nobody else, must call [Waiter.Wake], once.
//  4. If time runs out or the context is done first, Wait takes the Waiter out itself, by way of the
//     Queue it was given. If that fails, because a waker has just done so, Wait goes on waiting for that
//     Wake, which is on its way.
//  5. The caller calls [Waiter.Leave].
//
// So taking out decides the race between all that may end the wait, it ends exactly once, and no
// wake-up is left over for the next wait.
type Waiter struct {
	co    *Coroutine
	ready chan struct{} // of a plain goroutine; capacity 1, so that Wake doesn't block
}

// Queue is a place where a Waiter waits to be woken.
type Queue interface {
	// Remove takes w out and reports true, or reports false if a waker has taken it already. It may
	// be called from any goroutine.
	Remove(w *Waiter) bool
}

// Reason says what a wait is for, in lists of coroutines: "channel pop", "socket recv". Make one
// per kind of wait, not one per wait.
type Reason struct {
	name     string
	internal bool
}

// NewReason makes a Reason for waits that something outside the runtime may end, such as the
// arrival of data.
func NewReason(name string) *Reason { return &Reason{name: name} }

// NewInternalReason makes a Reason for waits that only another coroutine or goroutine can end. If
// all coroutines wait so, and no other goroutine is there, the program is in a deadlock, and is
// told so.
func NewInternalReason(name string) *Reason { return &Reason{name: name, internal: true} }

func (r *Reason) String() string { return r.name }

var (
	reasonYield   = NewReason("yield")
	reasonSleep   = NewReason("sleep")
	reasonAwait   = NewReason("await")
	reasonSignal  = NewReason("signal")
	reasonSuspend = NewInternalReason("suspend")
	reasonJoin    = NewInternalReason("join")
)

// Deadline is a point in time on the loops' clock. The zero Deadline is none.
type Deadline time.Duration

// DeadlineAfter returns the deadline d from now; none if d <= 0.
func DeadlineAfter(d time.Duration) Deadline {
	if d <= 0 {
		return 0
	}
	return Deadline(clock.Add(clock.Now(), d))
}

// Until returns how long there is until the deadline; it must not be the zero Deadline.
func (d Deadline) Until() time.Duration { return time.Duration(d) - clock.Now() }

// Passed reports whether the deadline is there and has passed.
func (d Deadline) Passed() bool { return d != 0 && d.Until() <= 0 }

// Earlier returns the earlier of the two deadlines; a zero one doesn't count.
func (d Deadline) Earlier(o Deadline) Deadline {
	if d == 0 || o != 0 && o < d {
		return o
	}
	return d
}

var goroutineWaiters = sync.Pool{New: func() any { return &Waiter{ready: make(chan struct{}, 1)} }}

// Enter returns the caller's Waiter. It fails with ErrOnLoop when the caller is a function that the
// event loop runs outside any coroutine: it must not wait.
func Enter(ctx context.Context) (*Waiter, error) {
	return enter(whereAmI(schedulerHint(ctx)))
}

// enter is Enter for a caller of whom whereAmI has told what it is.
func enter(s *scheduler, co *Coroutine) (*Waiter, error) {
	if co != nil {
		return &co.waiter, nil
	}
	if s != nil {
		return nil, ErrOnLoop
	}
	return goroutineWaiters.Get().(*Waiter), nil
}

// Leave gives the Waiter back, after Wait or instead of it.
func (w *Waiter) Leave() {
	if w.co == nil {
		goroutineWaiters.Put(w)
	}
}

// Wake ends the wait of a Waiter that the caller has taken out of its place. Any goroutine may call
// it. It only schedules: a coroutine is resumed by its loop, among the deferred functions if the
// caller runs on that loop, as a posted task if not. So a lock may be held around it. A wake-up
// counts as one operation of the coroutine that makes it, see [Count].
func (w *Waiter) Wake() {
	if w.co == nil {
		w.ready <- struct{}{}
		return
	}
	s := w.co.sched
	if s.onLoop() {
		s.budget.Count(0)
		s.loop.DeferTask((*resumeTask)(w.co))
		return
	}
	s.loop.PostTask((*resumeTask)(w.co))
}

// WakeNow is Wake that switches to a coroutine of the caller's own loop at once, and returns when
// that waits again or has ended. It is for functions that the loop itself runs and that do nothing
// for the program afterwards, such as the handler of a descriptor. Whoever else calls it has to be
// documented as a place that switches, as a [Channel] is.
func (w *Waiter) WakeNow() {
	if w.co != nil && w.co.sched.onLoop() {
		w.co.sched.resume(w.co)
	} else {
		w.Wake()
	}
}

// WakeNow is the Waiter's WakeNow without asking again where the caller runs.
func (c Caller) WakeNow(w *Waiter) {
	if w.co != nil && w.co.sched == c.sched {
		c.sched.resume(w.co)
	} else {
		w.Wake()
	}
}

// What resuming a coroutine touches besides what its caller will, in cache lines: the Coroutine,
// the descriptor of its goroutine (runtime.g), and the stack from somewhat below the place where it
// has parked up to the frames of a packet's receiver.
const (
	coroutineLines  = 4
	goroutineLines  = 7
	stackLines      = 18
	stackLinesBelow = 4
)

// Anticipate has the memory fetched that resuming the coroutine will touch, if it is one: the
// stages are those of eventloop.Anticipator. On the coroutine's loop; elsewhere it does nothing.
func (w *Waiter) Anticipate(stage int) {
	if stage == 0 {
		prefetch.Lines(uintptr(unsafe.Pointer(w)), coroutineLines)
		return
	}
	if w.co == nil || !w.co.sched.loop.OnLoop() {
		return
	}
	switch worker := w.co.worker; {
	case worker == nil:
	case stage == 1:
		prefetch.Lines(uintptr(unsafe.Pointer(worker)), 1)
	default:
		prefetch.Lines(worker.id.Load(), goroutineLines)
		prefetch.Lines(worker.sp-stackLinesBelow*prefetch.Line, stackLines)
	}
}

// Wait parks the caller until it is woken (nil), the deadline passes (ErrTimeout), or ctx is done
// (its error; ErrShutdown if that is because the runtime shuts down). With an error, the Waiter has
// been taken out of q.
func (w *Waiter) Wait(ctx context.Context, reason *Reason, deadline Deadline, q Queue) error {
	if w.co == nil {
		return w.waitGoroutine(ctx, deadline, q)
	}
	co := w.co
	if err := co.follow(ctx); err != nil {
		if q.Remove(w) {
			co.refused()
			return err
		}
		deadline = 0
	}
	co.waitsFor(reason)
	co.queue = q
	if deadline != 0 {
		co.timer.ResetClock(time.Duration(deadline))
	}
	for co.park(); co.sched.wakeErr != nil && co.sched.wakeErr == errWhere; co.park() {
		co.sayWhere()
	}
	if deadline != 0 {
		co.timer.Disarm()
	}
	co.queue, co.own = nil, false
	if co.sched.wakeErr != nil {
		return co.wokenBy()
	}
	return nil
}

// wokenBy returns why the running coroutine was woken, if not by Wake.
func (co *Coroutine) wokenBy() error {
	err := co.sched.wakeErr
	co.sched.wakeErr = nil
	if co.sched.rt.forced.Load() {
		co.forceOut()
	}
	return err
}

// refused is called when the running coroutine may not wait. One that doesn't look at errors must
// not spin: the others of its loop would not get their turn, nor would the end of the time for an
// orderly shutdown be noticed.
func (co *Coroutine) refused() {
	if co.sched.rt.forced.Load() {
		co.forceOut()
	}
	co.spend(0)
}

// forceOut ends the running coroutine when the time for an orderly shutdown is over, as by
// runtime.Goexit: its deferred calls run. Those that it makes while it ends only get errors.
func (co *Coroutine) forceOut() {
	if !co.exiting {
		co.exiting = true
		co.ctx.cancel(ErrShutdown) // first: whoever it leaves behind goes by its context
		goexit()
	}
}

// takeOut takes the coroutine out of the place where it waits. It reports false if it doesn't wait,
// or if somebody else is about to end its wait. On the loop.
func (co *Coroutine) takeOut() bool {
	if co.state != stateParked || co.queue == nil || !co.queue.Remove(&co.waiter) {
		return false
	}
	co.queue = nil
	return true
}

// interrupt ends the coroutine's wait with err, if it waits and nobody else is about to end it. As
// every wake-up it only schedules. On the loop.
func (co *Coroutine) interrupt(err error) bool {
	if !co.takeOut() {
		return false
	}
	co.sched.budget.Count(0)
	co.sched.loop.DeferTask(&interruption{co, err})
	return true
}

// interruption resumes a coroutine whose wait ends with an error.
type interruption struct {
	co  *Coroutine
	err error
}

func (i *interruption) Run() {
	i.co.sched.wakeErr = i.err
	i.co.sched.resume(i.co)
}

// timeoutTask is what the coroutine's timer runs. It switches at once, as nothing comes after it.
type timeoutTask Coroutine

func (t *timeoutTask) Run() { (*Coroutine)(t).interruptNow(ErrTimeout) }

// interruptNow is interrupt by a function that the loop itself runs and nothing comes after: it
// switches at once.
func (co *Coroutine) interruptNow(err error) {
	if co.takeOut() {
		co.sched.wakeErr = err
		co.sched.resume(co)
	}
}

// follow sees to it that the wait that is about to begin ends when ctx is done. It returns an error
// if it is done already.
//
// Following a context costs an allocation or two, so it goes on until the coroutine waits with
// another one.
func (co *Coroutine) follow(ctx context.Context) error {
	if co.sched.rt.forced.Load() {
		return ErrShutdown
	}
	if own, ok := ctx.(*coroutineContext); ok && own.co == co {
		co.own = true
		return own.failed()
	}
	co.own = false
	if err := ctx.Err(); err != nil {
		return waitError(ctx, err)
	}
	done := ctx.Done()
	if co.follows != nil {
		if co.follows.done == done {
			return nil
		}
		co.follows.stop()
		co.follows = nil
	}
	if done == nil {
		return nil
	}
	f := &following{done: done}
	_, f.limited = ctx.Deadline()
	co.follows = f
	f.stop = context.AfterFunc(ctx, func() {
		co.sched.loop.Post(func() {
			if co.follows == f && !co.own {
				co.interrupt(waitError(ctx, ctx.Err()))
			}
		})
	})
	return nil
}

// waitError returns what waiting with a done context returns: the context's error, or ErrShutdown
// if its runtime shuts down.
func waitError(ctx context.Context, err error) error {
	if err != context.Canceled {
		return err
	}
	if rt, ok := ctx.Value(runtimeKey{}).(*Runtime); ok && rt.root.Err() != nil {
		return ErrShutdown
	}
	return err
}

// waitGoroutine parks a plain goroutine.
func (w *Waiter) waitGoroutine(ctx context.Context, deadline Deadline, q Queue) error {
	if _, limited := ctx.Deadline(); deadline == 0 && !limited {
		return w.waitWithoutEnd(ctx, q)
	}
	if deadline == 0 {
		return w.waitReady(ctx, nil, q)
	}
	timer := time.NewTimer(deadline.Until())
	defer timer.Stop()
	return w.waitReady(ctx, timer.C, q)
}

// waitWithoutEnd is a function of its own so that the check for deadlocks sees from its name that
// the goroutine needs somebody to wake it.
func (w *Waiter) waitWithoutEnd(ctx context.Context, q Queue) error {
	return w.waitReady(ctx, nil, q)
}

func (w *Waiter) waitReady(ctx context.Context, expired <-chan time.Time, q Queue) error {
	done := ctx.Done()
	if done == nil && expired == nil { // a select takes longer
		<-w.ready
		return nil
	}
	select {
	case <-w.ready:
		return nil
	case <-expired:
	case <-done:
	}
	if !q.Remove(w) {
		<-w.ready
		return nil
	}
	if err := ctx.Err(); err != nil { // if both have come, this one counts, as with coroutines
		return waitError(ctx, err)
	}
	return ErrTimeout
}
