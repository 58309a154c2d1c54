package runtime_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// expired is a context for a Shutdown that has no patience.
func expired() context.Context {
	ctx, cancel := context.WithDeadline(context.Background(), time.Now())
	cancel()
	return ctx
}

// The coroutines of this test never look at an error, each in a wait of another kind.
func TestForcedShutdownEndsCoroutinesThatIgnoreErrors(t *testing.T) {
	var mu runtime.Mutex
	var group runtime.WaitGroup
	mu.TryLock()
	group.Add(1)
	empty, full := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
	full.Push(context.Background(), 0)
	for name, wait := range map[string]func(ctx context.Context){
		"Sleep":      func(ctx context.Context) { runtime.Sleep(ctx, time.Hour) },
		"Sleep(0)":   func(ctx context.Context) { runtime.Sleep(ctx, 0) },
		"Yield":      func(ctx context.Context) { runtime.Yield(ctx) },
		"Push":       func(ctx context.Context) { full.Push(ctx, 1) },
		"Pop":        func(ctx context.Context) { empty.Pop(ctx) },
		"Mutex":      func(ctx context.Context) { mu.Lock(ctx) },
		"WaitGroup":  func(ctx context.Context) { group.Wait(ctx) },
		"Suspend":    func(ctx context.Context) { runtime.Suspend(ctx) },
		"Await":      func(ctx context.Context) { runtime.Await(ctx, func() (int, error) { <-ctx.Done(); return 0, nil }) },
		"Background": func(context.Context) { runtime.Sleep(context.Background(), time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			rt := startRuntime(t, runtime.WithLoops(1))
			said := make(chan string, 10)
			begun := make(chan bool)
			rt.Go(func(ctx context.Context) {
				runtime.Defer(ctx, func(ctx context.Context) {
					said <- fmt.Sprint("runtime.Defer: ", runtime.Sleep(context.Background(), time.Hour))
				})
				defer func() { said <- fmt.Sprint("defer: ", runtime.Sleep(context.Background(), time.Hour)) }()
				close(begun)
				for {
					wait(ctx)
				}
			})
			<-begun
			if err := rt.Shutdown(expired()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			close(said)
			got := slices.Collect(func(yield func(string) bool) {
				for line := range said {
					yield(line)
				}
			})
			want := "defer: runtime: shutting down, runtime.Defer: runtime: shutting down"
			if s := strings.Join(got, ", "); s != want {
				t.Errorf("the coroutine said %q, want %q", s, want)
			}
		})
	}
}

// What AwaitEnd runs may use what is the caller's: a forced Shutdown, too, ends the caller only
// when it has ended.
func TestForcedShutdownWaitsForAwaitEnd(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	var running atomic.Bool
	begun, forced, release := make(chan bool), make(chan bool), make(chan bool)
	left := make(chan bool, 1)
	rt.Go(func(ctx context.Context) {
		defer close(forced)
		for {
			runtime.Yield(ctx)
		}
	})
	rt.Go(func(ctx context.Context) {
		defer func() { left <- running.Load() }()
		sched.AwaitEnd(ctx, func() (int, error) {
			running.Store(true)
			close(begun)
			<-release
			running.Store(false)
			return 0, nil
		})
		runtime.Sleep(ctx, time.Hour)
	})
	<-begun
	go func() {
		<-forced
		if len(left) > 0 {
			t.Error("the caller has ended before its function")
		}
		close(release)
	}()
	if err := rt.Shutdown(expired()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if <-left {
		t.Error("the caller has ended before its function")
	}
}

// A coroutine that is forced out in WaitGroup.Go leaves nothing in the count that nobody takes
// back.
func TestForcedShutdownLeavesNoCountInAWaitGroup(t *testing.T) {
	for name, start := range map[string]func(*runtime.WaitGroup, context.Context, func(context.Context)) error{
		"Go": (*runtime.WaitGroup).Go, "GoSpread": (*runtime.WaitGroup).GoSpread,
	} {
		t.Run(name, func(t *testing.T) {
			rt := startRuntime(t, runtime.WithLoops(1))
			var group runtime.WaitGroup
			begun := make(chan bool)
			rt.Go(func(ctx context.Context) {
				close(begun)
				for {
					start(&group, ctx, func(context.Context) {})
				}
			})
			<-begun
			if err := rt.Shutdown(expired()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if n := group.Count(); n != 0 {
				t.Errorf("the count is %d", n)
			}
		})
	}
}

// One that ignores errors must not keep the others of its loop from an orderly end.
func TestShutdownReachesEverybodyBesidesOneThatIgnoresErrors(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	flushed := make(chan error, 1)
	rt.Go(func(ctx context.Context) {
		for {
			runtime.Sleep(ctx, time.Hour)
		}
	})
	rt.Go(func(ctx context.Context) {
		runtime.Sleep(ctx, time.Hour)
		flushed <- runtime.Sleep(context.Background(), time.Millisecond)
	})
	parked(t, rt, 2, "sleep")
	ctx, giveUp := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- rt.Shutdown(ctx) }()
	if err := receive(t, flushed, "orderly end"); err != nil {
		t.Errorf("wait of the orderly one: %v", err)
	}
	giveUp()
	if err := receive(t, result, "end of Shutdown"); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// A coroutine that is forced out while it is about to wait must not stay behind in the queue, where
// it would be given what others wait for.
func TestForcedOutCoroutineIsNotLeftInAQueue(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	var mu runtime.Mutex
	mu.TryLock()
	ctx, giveUp := context.WithCancel(context.Background())
	spins := make(chan bool)
	rt.Go(func(ctx context.Context) {
		runtime.Sleep(ctx, time.Hour)
		close(spins)
		for { // when the time is over, it is found here rather than parked
			mu.Lock(ctx)
		}
	})
	rt.Go(func(ctx context.Context) {
		runtime.Defer(ctx, func(context.Context) {
			mu.Unlock()
			if !mu.TryLock() {
				t.Error("the mutex belongs to a coroutine that has ended")
			}
		})
		runtime.Sleep(ctx, time.Hour)
		runtime.Sleep(context.Background(), time.Hour)
	})
	parked(t, rt, 2, "sleep")
	result := make(chan error, 1)
	go func() { result <- rt.Shutdown(ctx) }()
	<-spins
	giveUp()
	if err := receive(t, result, "end of Shutdown"); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownReportsACoroutineThatIsStuck(t *testing.T) {
	defer runtime.HurryForcedEnd(20 * time.Millisecond)()
	guard(t)
	rt, err := runtime.New(silent([]runtime.Option{runtime.WithLoops(2)})...)
	if err != nil {
		t.Fatal(err)
	}
	rt.Start()
	stuck, release := make(chan bool), make(chan bool)
	outcome := make(chan error, 1)
	rt.Go(func(ctx context.Context) {
		defer func() { outcome <- runtime.Sleep(ctx, time.Hour) }()
		close(stuck)
		<-release // stops the loop
		runtime.Sleep(context.Background(), time.Hour)
		t.Error("the coroutine went on after the shutdown")
	})
	<-stuck
	err = rt.Shutdown(expired())
	if err == nil || !strings.Contains(err.Error(), "1 coroutines or retained tasks did not end") {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := runtime.From(context.Background()); err != runtime.ErrNoRuntime {
		t.Errorf("a runtime that has been shut down is still found: %v", err)
	}
	close(release) // the coroutine ends as soon as it wants to wait, and leaves nothing behind
	wantError(t, "wait in its deferred function", receive(t, outcome, "end of the stuck one"), runtime.ErrShutdown)
	goleak.VerifyNone(t)
}

func TestForcedShutdownEndsDespiteADeferredFunctionThatIgnoresErrors(t *testing.T) {
	defer runtime.HurryForcedEnd(20 * time.Millisecond)()
	guard(t)
	rt, err := runtime.New(silent([]runtime.Option{runtime.WithLoops(1)})...)
	if err != nil {
		t.Fatal(err)
	}
	rt.Start()
	begun, enough := make(chan bool), make(chan bool)
	rt.Go(func(ctx context.Context) {
		runtime.Defer(ctx, func(ctx context.Context) {
			for {
				select {
				case <-enough:
					return
				default:
					runtime.Sleep(ctx, time.Hour)
				}
			}
		})
		close(begun)
		runtime.Sleep(ctx, time.Hour)
	})
	<-begun
	err = rt.Shutdown(expired())
	if err == nil || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("Shutdown: %v", err)
	}
	close(enough)
	goleak.VerifyNone(t)
}
