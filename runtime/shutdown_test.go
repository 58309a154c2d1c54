package runtime_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

func TestStartTwice(t *testing.T) {
	rt := startRuntime(t)
	if err := rt.Start(); err == nil {
		t.Error("the second Start returned no error")
	}
}

func TestShutdownBeforeStart(t *testing.T) {
	rt := newRuntime(t)
	for range 2 {
		if err := rt.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
	if err := rt.Start(); err == nil {
		t.Error("Start after Shutdown returned no error")
	}
	_, err := rt.Go(func(context.Context) {})
	wantError(t, "Go", err, runtime.ErrShutdown)
}

func TestGoBeforeStartRunsAfterIt(t *testing.T) {
	rt := newRuntime(t)
	ran := make(chan bool, 1)
	if _, err := rt.Go(func(context.Context) { ran <- true }); err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	receive(t, ran, "coroutine of before Start")
}

func TestShutdownConcurrentlyAndAgain(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(2))
	var awake atomic.Int32
	for range 10 {
		rt.Go(func(ctx context.Context) {
			runtime.Sleep(ctx, time.Hour)
			awake.Add(1)
		})
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if err := rt.Shutdown(context.Background()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if n := awake.Load(); n != 10 {
				t.Errorf("%d of 10 coroutines had ended when Shutdown returned", n)
			}
		})
	}
	all.Wait()
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown once more: %v", err)
	}
}

func TestShutdownInACoroutineOnlyBegins(t *testing.T) {
	rt := startRuntime(t)
	result := make(chan error, 2)
	rt.Go(func(ctx context.Context) {
		result <- rt.Shutdown(context.Background())
		result <- runtime.Sleep(ctx, time.Hour)
	})
	wantError(t, "Shutdown", receive(t, result, "Shutdown"), runtime.ErrOnLoop)
	wantError(t, "Sleep after it", receive(t, result, "Sleep"), runtime.ErrShutdown)
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown from a plain goroutine: %v", err)
	}
}

func TestShutdownInMainEndsRun(t *testing.T) {
	err := run(t, func(ctx context.Context) error {
		start(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Hour) })
		from(ctx).Shutdown(context.Background())
		return runtime.Sleep(ctx, time.Hour)
	})
	wantError(t, "Run", err, runtime.ErrShutdown)
}

// A coroutine of one runtime that shuts down another must not hold its loop meanwhile: here the
// other one needs that loop to end.
func TestShutdownOfAnotherRuntimeInACoroutine(t *testing.T) {
	a, b := startRuntime(t, runtime.WithLoops(1)), startRuntime(t, runtime.WithLoops(1))
	goodbye := runtime.NewChannel[string](1)
	result := make(chan error, 1)
	a.Go(func(ctx context.Context) {
		for {
			if _, err := goodbye.Pop(ctx); err != nil {
				return
			}
		}
	})
	b.Go(func(ctx context.Context) {
		runtime.Sleep(ctx, time.Hour)
		for range 3 { // one is taken at once, one is held by the channel, one waits
			goodbye.Push(context.Background(), "b ends")
		}
	})
	a.Go(func(ctx context.Context) { result <- b.Shutdown(ctx) })
	if err := receive(t, result, "end of Shutdown"); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestGoAfterShutdown(t *testing.T) {
	rt := startRuntime(t)
	var stale context.Context
	co, _ := rt.Go(func(ctx context.Context) { stale = ctx })
	co.Join(rt.Context())
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	fn := func(context.Context) { t.Error("a coroutine ran after Shutdown") }
	_, err := rt.Go(fn)
	wantError(t, "Runtime.Go", err, runtime.ErrShutdown)
	_, err = runtime.Go(rt.Context(), fn)
	wantError(t, "Go with the runtime's context", err, runtime.ErrShutdown)
	_, err = runtime.Go(stale, fn)
	wantError(t, "Go with the context of a coroutine that has ended", err, runtime.ErrShutdown)
	_, err = runtime.Go(context.Background(), fn)
	wantError(t, "Go with no runtime running", err, runtime.ErrNoRuntime)
}

func TestGoWhileShutdownIsUnderWay(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	asleep, goOn := make(chan bool), runtime.NewChannel[bool](1)
	kept, sleeping := context.WithCancel(context.Background())
	defer sleeping()
	var stale context.Context
	co, _ := rt.Go(func(ctx context.Context) { stale = ctx })
	co.Join(rt.Context())
	results := make(chan error, 1)
	rt.Go(func(ctx context.Context) {
		close(asleep)
		runtime.Sleep(ctx, time.Hour)
		goOn.Pop(kept) // keeps the shutdown from ending
		for _, with := range []context.Context{ctx, rt.Context()} {
			_, err := runtime.Go(with, func(context.Context) { t.Error("started with a context that is done") })
			wantError(t, "Go in a coroutine that ends", err, runtime.ErrShutdown)
		}
		// What it starts with another context while it ends is cancelled from the beginning.
		start(context.Background(), func(ctx context.Context) { results <- runtime.Sleep(ctx, time.Hour) })
	})
	<-asleep
	shutdown := make(chan error, 1)
	go func() { shutdown <- rt.Shutdown(context.Background()) }()
	<-rt.Context().Done()
	parked(t, rt, 1, "channel pop")
	fn := func(context.Context) { t.Error("a coroutine was started from outside during Shutdown") }
	_, err := rt.Go(fn)
	wantError(t, "Runtime.Go", err, runtime.ErrShutdown)
	_, err = runtime.Go(rt.Context(), fn)
	wantError(t, "Go with the runtime's context", err, runtime.ErrShutdown)
	_, err = runtime.Go(stale, fn)
	wantError(t, "Go with the context of a coroutine that has ended", err, runtime.ErrShutdown)
	goOn.Push(context.Background(), true)
	wantError(t, "Sleep of a coroutine started during Shutdown", receive(t, results, "Sleep"), runtime.ErrShutdown)
	if err := receive(t, shutdown, "Shutdown"); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Coroutines are started from all sides while the runtime is shut down: each is refused, or runs to
// its end.
func TestGoRacesShutdown(t *testing.T) {
	for range 30 {
		rt := startRuntime(t, runtime.WithLoops(2))
		var started, ended atomic.Int64
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for {
					fn := func(ctx context.Context) {
						runtime.Sleep(ctx, time.Hour)
						ended.Add(1)
					}
					var err error
					if i%2 == 0 {
						_, err = rt.Go(fn)
					} else {
						_, err = runtime.Go(rt.Context(), fn)
					}
					if err != nil {
						wantError(t, "Go", err, runtime.ErrShutdown)
						return
					}
					if started.Add(1) > 300 {
						return
					}
				}
			})
		}
		if err := rt.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		all.Wait()
		if s, e := started.Load(), ended.Load(); s != e {
			t.Fatalf("%d coroutines were started, %d have ended", s, e)
		}
	}
}

func TestShutdownWaitsForWhatWasRetained(t *testing.T) {
	defer runtime.HurryForcedEnd(20 * time.Millisecond)()
	rt := startRuntime(t)
	(*sched.Runtime)(rt).Retain()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err := rt.Shutdown(ctx)
	wantError(t, "Shutdown", err, context.DeadlineExceeded)
	if err == nil || !strings.Contains(err.Error(), "1 coroutines or retained tasks did not end") {
		t.Errorf("Shutdown: %v", err)
	}
	if again := rt.Shutdown(context.Background()); again != err {
		t.Errorf("second Shutdown returned %v, the first one %v", again, err)
	}
}

func TestShutdownLetsDeferredFunctionsFinish(t *testing.T) {
	rt := startRuntime(t)
	said := make(chan string, 10)
	rt.Go(func(ctx context.Context) {
		runtime.Defer(ctx, func(ctx context.Context) {
			wantError(t, "wait with the coroutine's context", runtime.Sleep(ctx, time.Hour), runtime.ErrShutdown)
			if err := runtime.Sleep(context.Background(), 5*time.Millisecond); err != nil {
				t.Errorf("wait with a context of its own: %v", err)
			}
			said <- "runtime.Defer"
		})
		defer func() { said <- "defer" }()
		said <- fmt.Sprint(runtime.Sleep(ctx, time.Hour))
	})
	parked(t, rt, 1, "sleep")
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	close(said)
	var lines []string
	for line := range said {
		lines = append(lines, line)
	}
	if got := strings.Join(lines, ", "); got != "runtime: shutting down, defer, runtime.Defer" {
		t.Errorf("the coroutine said: %s", got)
	}
}

func TestRunReturnsWhenShutdownHasGivenUp(t *testing.T) {
	defer runtime.HurryForcedEnd(20 * time.Millisecond)()
	stuck, release := make(chan bool), make(chan bool)
	guard(t)
	go func() {
		<-stuck
		rt, err := runtime.From(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		rt.Shutdown(ctx)
	}()
	err := runtime.Run(func(ctx context.Context) error {
		close(stuck)
		<-release
		return nil
	}, silent(nil)...)
	wantError(t, "Run", err, context.DeadlineExceeded)
	close(release)
	goleak.VerifyNone(t)
}
