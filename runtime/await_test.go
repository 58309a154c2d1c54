package runtime_test

import (
	"context"
	"errors"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/goroutine"
	"github.com/whorl-go/whorl/runtime"
)

func TestAwaitReturnsWhatTheFunctionReturns(t *testing.T) {
	want := errors.New("error of fn")
	program(t, func(ctx context.Context) {
		others := 0
		start(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			others++
		})
		release := make(chan bool)
		start(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, time.Millisecond)
			close(release)
		})
		v, err := runtime.Await(ctx, func() (string, error) {
			<-release // which would never come if the loop stood still
			return "value", want
		})
		if v != "value" || err != want || others != 1 {
			t.Errorf("Await returned %q, %v; other coroutines ran %d times", v, err, others)
		}
	}, runtime.WithLoops(1))
}

func TestPanicInAwaitKeepsItsStack(t *testing.T) {
	wantExplosion(t, "Run", run(t, func(ctx context.Context) error {
		runtime.Await(ctx, func() (int, error) { explode(); return 0, nil })
		return nil
	}))
}

func TestPanicInAwaitCanBeRecovered(t *testing.T) {
	program(t, func(ctx context.Context) {
		defer func() {
			err, _ := recover().(error)
			wantExplosion(t, "recovered", err)
		}()
		runtime.Await(ctx, func() (int, error) { explode(); return 0, nil })
		t.Error("Await returned")
	})
}

func TestGoexitInAwait(t *testing.T) {
	program(t, func(ctx context.Context) {
		for range 5 { // more than the pool may have: none is lost
			_, err := runtime.Await(ctx, func() (int, error) { goruntime.Goexit(); return 1, nil })
			if err != runtime.ErrGoexit {
				t.Errorf("Await returned %v", err)
			}
		}
		if v, err := runtime.Await(ctx, func() (int, error) { return 7, nil }); v != 7 || err != nil {
			t.Errorf("after them Await returned %v, %v", v, err)
		}
	}, runtime.WithAwaitLimit(2))
}

func TestAwaitLimit(t *testing.T) {
	program(t, func(ctx context.Context) {
		var now, most, runs atomic.Int32
		var meeting sync.WaitGroup // of the first two, which so run at the same time
		meeting.Add(2)
		err := runtime.ForEach(ctx, 20, func(ctx context.Context, i int) error {
			_, err := runtime.Await(ctx, func() (int, error) {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				if runs.Add(1) <= 2 {
					meeting.Done()
					meeting.Wait()
				}
				if i%5 == 0 {
					goruntime.Goexit() // what is queued behind it must not wait for ever
				}
				return 0, nil
			})
			if i%5 == 0 && err == runtime.ErrGoexit {
				err = nil
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if most.Load() != 2 || runs.Load() != 20 {
			t.Errorf("%d functions ran, up to %d at once; want 20 and 2", runs.Load(), most.Load())
		}
		if n := from(ctx).Stats().Awaiting; n > 2 {
			t.Errorf("the pool has %d goroutines", n)
		}
	}, runtime.WithAwaitLimit(2))
}

func TestAwaitLeavesAFunctionBehindWhenItsContextIsDone(t *testing.T) {
	release, finished := make(chan bool), make(chan bool)
	program(t, func(ctx context.Context) {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		v, err := runtime.Await(short, func() (int, error) {
			<-release
			close(finished)
			return 7, nil
		})
		wantError(t, "Await", err, context.DeadlineExceeded)
		if v != 0 {
			t.Errorf("Await returned the value %d", v)
		}
		// The function keeps its place.
		if n := from(ctx).Stats().Awaiting; n != 1 {
			t.Errorf("the pool has %d goroutines", n)
		}
		close(release)
		if _, err := runtime.Await(ctx, func() (int, error) { <-finished; return 0, nil }); err != nil {
			t.Error(err)
		}
	}, runtime.WithAwaitLimit(1))
}

func TestAwaitDoesNotRunTheFunctionWhenItsContextIsDone(t *testing.T) {
	program(t, func(ctx context.Context) {
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, err := runtime.Await(done, func() (int, error) { t.Error("it ran"); return 0, nil })
		wantError(t, "Await", err, context.Canceled)
	})
}

func TestPanicInAwaitThatNobodyWaitsForIsLogged(t *testing.T) {
	log, entries := newLog()
	release := make(chan bool)
	guard(t)
	err := runtime.Run(func(ctx context.Context) error {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err := runtime.Await(short, func() (int, error) { <-release; explode(); return 0, nil })
		return err
	}, append(silent(nil), runtime.WithLogger(log))...)
	wantError(t, "Await", err, context.DeadlineExceeded)
	close(release)
	until(t, "the panic is logged", func() bool { return entries.FilterMessageSnippet("panic").Len() == 1 })
	goleak.VerifyNone(t)
}

func TestAwaitOnAPlainGoroutineCallsTheFunctionThere(t *testing.T) {
	here := goroutine.Current()
	v, err := runtime.Await(context.Background(), func() (bool, error) { return goroutine.Current() == here, nil })
	if !v || err != nil {
		t.Errorf("on the same goroutine: %v, error: %v", v, err)
	}
}

func TestAwaitReusesGoroutines(t *testing.T) {
	program(t, func(ctx context.Context) {
		for range 50 {
			runtime.Await(ctx, func() (int, error) { return 0, nil })
		}
		// A call may come before the goroutine of the last one has reported itself idle, so it
		// needn't be one.
		if n := from(ctx).Stats().Awaiting; n > 40 {
			t.Errorf("the pool has %d goroutines after 50 calls that came one after the other", n)
		}
	})
}

func TestFunctionInAwaitMayUseTheRuntime(t *testing.T) {
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		start(ctx, func(ctx context.Context) {
			v, _ := ch.Pop(ctx)
			ch.Push(ctx, v*2)
		})
		v, err := runtime.Await(ctx, func() (int, error) {
			if runtime.Current(ctx) != nil {
				t.Error("a function in Await takes itself for a coroutine")
			}
			if err := runtime.Sleep(ctx, time.Millisecond); err != nil {
				return 0, err
			}
			ch.Push(ctx, 21)
			co := start(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Millisecond) })
			if err := co.Join(ctx); err != nil {
				return 0, err
			}
			return ch.Pop(ctx)
		})
		if v != 42 || err != nil {
			t.Errorf("Await returned %v, %v", v, err)
		}
	}, runtime.WithLoops(1))
}
