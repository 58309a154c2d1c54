//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) {
	if os.Getenv(echoVariable) != "" {
		serveEchoes()
		return
	}
	// Package net keeps a descriptor for its poller from the first use on; it is no leak of a test's.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what has to happen: far longer than a busy machine needs.
const patience = 20 * time.Second

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

// guard ends the test process, with all stacks, if the test hangs, and looks for what the test leaves behind when all its other cleaning up is done.
func guard(t testing.TB) {
	timer := time.AfterFunc(3*patience, func() {
		stacks := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s hangs\n\n%s", t.Name(), stacks[:goruntime.Stack(stacks, true)]))
	})
	before := descriptors(t)
	t.Cleanup(func() {
		timer.Stop()
		goleak.VerifyNone(t)
		until(t, fmt.Sprintf("%d descriptors are open, as before the test", before), func() bool { return descriptors(t) <= before })
	})
}

// descriptors returns how many descriptors the process has.
func descriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
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
