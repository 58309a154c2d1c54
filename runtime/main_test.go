package runtime_test

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = leaktest.Patience

// guard ends the test process, with all stacks, if the test hangs. It does so without a goroutine
// of its own, which the check for deadlocks would have to reckon with.
func guard(t testing.TB) {
	timer := time.AfterFunc(3*patience, func() {
		stacks := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s hangs\n\n%s", t.Name(), stacks[:goruntime.Stack(stacks, true)]))
	})
	t.Cleanup(func() { timer.Stop() })
}

// silent keeps reports that the tests cause on purpose out of their output. The watchdog is off,
// because a busy machine can stop a loop too.
func silent(options []runtime.Option) []runtime.Option {
	return append([]runtime.Option{runtime.WithLogger(zap.NewNop()), runtime.WithWatchdog(0), runtime.WithDeadlockError()}, options...)
}

// run is runtime.Run for tests: it doesn't hang, and leaves no goroutine behind.
func run(t testing.TB, main func(ctx context.Context) error, options ...runtime.Option) error {
	t.Helper()
	guard(t)
	err := runtime.Run(main, silent(options)...)
	if open == 0 {
		goleak.VerifyNone(t)
	}
	return err
}

// program is run for programs that must succeed.
func program(t testing.TB, main func(ctx context.Context), options ...runtime.Option) {
	t.Helper()
	err := run(t, func(ctx context.Context) error { main(ctx); return nil }, options...)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
}

// open counts the runtimes of newRuntime; tests don't run in parallel.
var open int

// newRuntime makes a runtime that the test starts, if at all. It is shut down in the end, and must
// leave no goroutine behind.
func newRuntime(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	guard(t)
	rt, err := runtime.New(silent(options)...)
	if err != nil {
		t.Fatal(err)
	}
	open++
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		rt.Shutdown(ctx)
		if open--; open == 0 {
			goleak.VerifyNone(t)
		}
	})
	return rt
}

func startRuntime(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	rt := newRuntime(t, options...)
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	return rt
}

// prints runs a program on one loop and compares the lines it says with want, whose indentation
// doesn't count.
func prints(t *testing.T, want string, main func(ctx context.Context, say func(format string, args ...any))) {
	t.Helper()
	var said []string
	program(t, func(ctx context.Context) {
		main(ctx, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	}, runtime.WithLoops(1), panicsAreMeant())
	var wanted []string
	for line := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
		wanted = append(wanted, strings.TrimSpace(line))
	}
	if got, want := strings.Join(said, "\n"), strings.Join(wanted, "\n"); got != want {
		t.Errorf("the program said:\n%s\n\nwant:\n%s", got, want)
	}
}

// panicsAreMeant takes the panics of a test, which would be Run's error otherwise.
func panicsAreMeant() runtime.Option {
	return runtime.WithPanicHandler(func(*runtime.Coroutine, *runtime.PanicError) {})
}

// start is runtime.Go for tests that have no use for its error.
func start(ctx context.Context, fn func(ctx context.Context)) *runtime.Coroutine {
	co, err := runtime.Go(ctx, fn)
	if err != nil {
		panic(err)
	}
	return co
}

// from returns the runtime of a coroutine's context.
func from(ctx context.Context) *runtime.Runtime {
	rt, err := runtime.From(ctx)
	if err != nil {
		panic(err)
	}
	return rt
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

// receive takes a value from a Go channel, with patience.
func receive[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Errorf("nothing came in %v: %s", patience, what)
		var zero T
		return zero
	}
}

// until waits, on a plain goroutine, for a condition that something else brings about.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
	}
}

// parked waits until n coroutines of the runtime wait for what.
func parked(t testing.TB, rt *runtime.Runtime, n int, what string) {
	t.Helper()
	until(t, fmt.Sprintf("%d coroutines in %s", n, what), func() bool {
		found := 0
		for _, info := range rt.List() {
			if info.State == what {
				found++
			}
		}
		return found == n
	})
}
