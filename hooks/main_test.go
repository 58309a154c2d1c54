//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) {
	if os.Getenv(echoVariable) != "" {
		serveEchoes()
		return
	}
	leaktest.Main(m)
}

const patience = leaktest.Patience

var guard = leaktest.Guard

// quiet keeps reports out of the tests' output. The watchdog is off, because a busy machine can stop a loop too.
var quiet = []runtime.Option{runtime.WithLogger(zap.NewNop()), runtime.WithWatchdog(0)}

// both runs a test in a coroutine and again on a plain goroutine. It must leave neither goroutines nor descriptors behind.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	t.Run("coroutine", func(t *testing.T) {
		guard(t)
		err := runtime.Run(func(ctx context.Context) error { test(ctx, t); return nil }, quiet...)
		if err != nil && err != runtime.ErrGoexit { // that is how t.Fatal ends
			t.Fatal(err)
		}
	})
	t.Run("goroutine", func(t *testing.T) { test(start(t), t) })
}

// start starts a runtime for the length of a test, and returns its context.
func start(t testing.TB, options ...runtime.Option) context.Context {
	t.Helper()
	if _, ok := t.(*testing.T); ok {
		guard(t)
	}
	rt, err := runtime.New(append(quiet[:len(quiet):len(quiet)], options...)...)
	check(t, err)
	check(t, rt.Start())
	t.Cleanup(func() { shutdown(t, rt) })
	return rt.Context()
}

func shutdown(t testing.TB, rt *runtime.Runtime) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(t, rt.Shutdown(ctx))
}

// beside runs fn in a coroutine, beside the caller. The function that it returns waits for fn and returns its error.
func beside(ctx context.Context, t testing.TB, fn func(ctx context.Context) error) (wait func() error) {
	t.Helper()
	var result error
	co, err := runtime.Go(ctx, func(ctx context.Context) { result = fn(ctx) })
	check(t, err)
	return func() error {
		t.Helper()
		check(t, co.Join(ctx))
		return result
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

var pastTime = time.Unix(1, 0)
