// Package runtimetest is what tests of several packages have in common that start runtimes. For the
// rest there is package leaktest.
package runtimetest

import (
	"context"
	"testing"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Quiet keeps reports out of the tests' output. The watchdog is off, because a busy machine can
// stop a loop, too.
func Quiet(testing.TB) []runtime.Option {
	return []runtime.Option{runtime.WithLogger(zap.NewNop()), runtime.WithWatchdog(0)}
}

// QuietPanics is Quiet for tests that panic on purpose: Run doesn't return what a panic handler has
// taken.
func QuietPanics(t testing.TB) []runtime.Option { return append(Quiet(t), PanicsTaken()) }

// PanicsTaken is the panic handler of QuietPanics.
func PanicsTaken() runtime.Option {
	return runtime.WithPanicHandler(func(*runtime.Coroutine, *runtime.PanicError) {})
}

// Start starts a runtime for the length of a test.
func Start(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	rt, err := runtime.New(options...)
	leaktest.Check(t, err)
	leaktest.Check(t, rt.Start())
	t.Cleanup(func() { Shutdown(t, rt) })
	return rt
}

// Shutdown shuts a runtime down, which must succeed. Doing so twice is no error.
func Shutdown(t testing.TB, rt *runtime.Runtime) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), leaktest.Patience)
	defer cancel()
	leaktest.Check(t, rt.Shutdown(ctx))
}

// Both runs a test in a coroutine and again on a plain goroutine, each time on a runtime of its
// own, with options that are made for it. The test must leave neither goroutines nor descriptors
// behind.
func Both(
	t *testing.T,
	options func(testing.TB) []runtime.Option,
	test func(ctx context.Context, t *testing.T),
) {
	t.Helper()
	t.Run("coroutine", func(t *testing.T) { Coroutine(t, options, test) })
	t.Run("goroutine", func(t *testing.T) {
		leaktest.Guard(t)
		test(Start(t, options(t)...).Context(), t)
	})
}

// Coroutine is the first half of [Both].
func Coroutine(
	t *testing.T,
	options func(testing.TB) []runtime.Option,
	test func(ctx context.Context, t *testing.T),
) {
	t.Helper()
	leaktest.Guard(t)
	err := runtime.Run(func(ctx context.Context) error { test(ctx, t); return nil }, options(t)...)
	if err != runtime.ErrGoexit { // that is how t.Fatal ends
		leaktest.Check(t, err)
	}
}

// OnLoop reports whether the caller runs on loop.
func OnLoop(loop runtime.Loop) bool {
	home, err := sched.HomeFor(context.Background())
	return err == nil && home.Here() && home.Loop() == loop
}

// Beside runs fn in a coroutine, beside the caller. The function that it returns waits for fn and
// returns its error.
func Beside(
	ctx context.Context,
	t testing.TB,
	fn func(ctx context.Context) error,
) (wait func() error) {
	t.Helper()
	var result error
	co, err := runtime.Go(ctx, func(ctx context.Context) { result = fn(ctx) })
	leaktest.Check(t, err)
	return func() error {
		t.Helper()
		leaktest.Check(t, co.Join(ctx))
		return result
	}
}
