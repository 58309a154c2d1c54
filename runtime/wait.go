package runtime

import (
	"context"
	"os"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
)

// Sleep waits for d. It returns nil afterwards, or before that the error of ctx or ErrShutdown.
// With d <= 0 it is Yield.
func Sleep(ctx context.Context, d time.Duration) error { return sched.Sleep(ctx, d) }

// Yield lets everything else run that is ready, on the loop and in the kernel's queues, before the
// coroutine goes on. From a plain goroutine it yields the processor. It returns the context's error
// if that is done.
func Yield(ctx context.Context) error { return sched.Yield(ctx) }

// Suspend parks the current coroutine until [Coroutine.Resume]. It returns nil then, or the error
// of ctx or ErrShutdown. Outside a coroutine it is an error.
func Suspend(ctx context.Context) error { return sched.Suspend(ctx) }

// Join waits until all the coroutines have ended. The caller goes on in the deferred functions of
// the loop's turn in which the last one ended. Joining oneself is an error.
func Join(ctx context.Context, coroutines ...*Coroutine) error {
	all := make([]*sched.Coroutine, len(coroutines))
	for i, co := range coroutines {
		all[i] = co.inner()
	}
	return sched.Join(ctx, all...)
}

// WaitSignal waits for one of the signals and returns it. From the first call on until Shutdown
// begins the signals don't have their default effect (signal.Reset gives it back sooner): one that
// comes between two calls is returned by the second one, at once. Of several that wait for a signal
// each gets it. It returns early with the error of ctx or ErrShutdown. It needs a runtime, see
// [From].
func WaitSignal(ctx context.Context, wanted ...os.Signal) (os.Signal, error) {
	return sched.WaitSignal(ctx, wanted...)
}

// Await runs fn, which may block, on a goroutine of a bounded pool while the coroutine is parked,
// and returns what fn returns. It is how a coroutine uses code that blocks: files, database/sql, a
// Go channel, a C library. From a plain goroutine, which may block, fn is simply called.
//
// If ctx is done first, Await returns its error at once; fn goes on, keeps its place in the pool,
// and its result is dropped. If ctx is done before, fn isn't called. A panic in fn comes out of
// Await, as a *PanicError with the stack of where it happened; if Await has returned, it is logged
// and handed to the panic handler. fn must not use the coroutine's data unguarded after Await has
// returned with an error of ctx.
func Await[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return sched.Await(ctx, fn)
}

// Detour calls fn on another stack, one that has grown in earlier detours: something that needs a
// deep stack for a while, such as a TLS handshake, doesn't make the stacks of the many coroutines
// that go through it grow, and doesn't pay for growing one each time. It is still the same
// coroutine, and fn may wait. A panic in fn is logged, handed to the panic handler and returned as
// a *PanicError. A runtime.Goexit ends fn only, and Detour returns nil, unless it comes from a
// Shutdown whose time is over. On a detour already fn is called where it is, with the same result;
// on a plain goroutine it is simply called. In a function of a loop Detour returns ErrOnLoop.
func Detour(ctx context.Context, fn func(ctx context.Context)) error {
	return sched.Detour(ctx, fn)
}
