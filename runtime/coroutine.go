package runtime

import (
	"context"

	"github.com/whorl-go/whorl/internal/sched"
)

// A Coroutine is a function that runs on an event loop and yields to it whenever it waits. [Go]
// makes one.
//
// Its methods may be called from anywhere, also after it has ended, unless they say otherwise.
type Coroutine sched.Coroutine

// Go starts a coroutine that runs fn.
//
// Called in a coroutine, or in a function of the event loop, the new coroutine belongs to the same
// loop and runs at once, up to its first wait; then Go returns. Called from a plain goroutine, it
// runs on the loop of the coroutine whose context ctx is or comes from, else on one of the
// runtime's loops in turn, and Go doesn't wait for it.
//
// fn gets a context of its own: it has the values and the deadline of ctx, is cancelled when ctx is
// and by [Coroutine.Cancel]. It isn't cancelled when the coroutine ends. Go fails with ErrTooMany,
// ErrNoRuntime, or ErrShutdown when the runtime has stopped; and when ctx is done already, with its
// error: nothing is started then.
func Go(ctx context.Context, fn func(ctx context.Context)) (*Coroutine, error) {
	co, err := sched.Go(ctx, fn)
	return (*Coroutine)(co), err
}

// GoSpread is Go, but the coroutine runs on the next of the runtime's loops in turn, whoever calls
// it from wherever: so a program's coroutines use all processors. It never runs at once, and
// coroutines of different loops do run at the same time: what they share needs a lock, a [Channel]
// or an atomic. The runtime is that of ctx, see [From].
func GoSpread(ctx context.Context, fn func(ctx context.Context)) (*Coroutine, error) {
	co, err := sched.GoSpread(ctx, fn)
	return (*Coroutine)(co), err
}

// Current returns the coroutine that the caller runs in, nil if it runs in none. It goes by the
// goroutine, whatever ctx is.
func Current(ctx context.Context) *Coroutine { return (*Coroutine)(sched.Current(ctx)) }

// Defer has fn called when the current coroutine ends, after its function has returned, panicked or
// called runtime.Goexit. Functions are called in the reverse order of Defer, may wait and may call
// Defer themselves. Outside a coroutine Defer panics, as there is nothing whose end it could mean.
func Defer(ctx context.Context, fn func(ctx context.Context)) { sched.Defer(ctx, fn) }

func (co *Coroutine) inner() *sched.Coroutine { return (*sched.Coroutine)(co) }

// ID returns the coroutine's number: from 1, in the order of creation, never used again within a
// runtime.
func (co *Coroutine) ID() int64 { return co.inner().ID() }

// Parent returns the number of the coroutine that started this one, -1 if none did.
func (co *Coroutine) Parent() int64 { return co.inner().Parent() }

// Loop returns the loop that the coroutine runs on, for life.
func (co *Coroutine) Loop() Loop { return co.inner().Loop() }

// Context returns the coroutine's context. [From] tells the runtime by it.
func (co *Coroutine) Context() context.Context { return co.inner().Context() }

// Cancel cancels the coroutine's context, with context.Canceled: what it waits for with that
// context, or one that comes from it, ends with an error now, and so does whatever it starts to
// wait for later. Coroutines started with that context are cancelled too. A coroutine that runs
// isn't interrupted. Cancelling a coroutine that has ended changes nothing for its children.
func (co *Coroutine) Cancel() { co.inner().Cancel() }

// Interrupt ends what the coroutine waits for at present, which returns ErrInterrupted, and nothing
// else: unlike Cancel it leaves the context as it is, so the coroutine may wait again. It is what
// Swoole's Coroutine::cancel does. The coroutine goes on in the deferred functions of its loop's
// turn.
//
// On the coroutine's own loop Interrupt reports whether there was a wait to end: not if the
// coroutine runs, yields, is about to go on anyway, or has ended. Called elsewhere it has the loop
// do this soon, and reports whether the coroutine has not ended.
func (co *Coroutine) Interrupt() bool { return co.inner().Interrupt() }

// Resume has a coroutine go on that waits in Suspend. It only schedules it, among the deferred
// functions of its loop. A coroutine that doesn't wait there, but for something else or not at all,
// is left alone: ErrNotSuspended.
func (co *Coroutine) Resume() error { return co.inner().Resume() }

// Join waits until the coroutine has ended.
func (co *Coroutine) Join(ctx context.Context) error { return sched.Join(ctx, co.inner()) }

// Ended reports whether the coroutine has ended.
func (co *Coroutine) Ended() bool { return co.inner().Ended() }

// String names the coroutine by its number.
func (co *Coroutine) String() string { return co.inner().String() }
