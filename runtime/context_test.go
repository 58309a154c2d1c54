package runtime_test

import (
	"context"
	"errors"
	goruntime "runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/whorl-go/whorl/runtime"
)

func isDone(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// soon waits for a context to be done.
func soon(t testing.TB, what string, ctx context.Context, want error) {
	t.Helper()
	select {
	case <-ctx.Done():
		if err := ctx.Err(); err != want {
			t.Errorf("%s: Err is %v, want %v", what, err, want)
		}
	case <-time.After(patience):
		t.Errorf("%s: not done", what)
	}
}

func TestContextHasTheValuesAndTheDeadlineOfWhereItComesFrom(t *testing.T) {
	program(t, func(ctx context.Context) {
		if _, ok := ctx.Deadline(); ok || ctx.Value(keyOfTest{}) != nil || ctx.Err() != nil || isDone(ctx) {
			t.Error("main's context is not empty")
		}
		with, cancel := context.WithTimeout(context.WithValue(ctx, keyOfTest{}, "value"), time.Hour)
		defer cancel()
		want, _ := with.Deadline()
		start(with, func(ctx context.Context) {
			start(ctx, func(ctx context.Context) {
				if at, ok := ctx.Deadline(); !ok || at != want {
					t.Errorf("grandchild's deadline is %v, %v; want %v", at, ok, want)
				}
				if v := ctx.Value(keyOfTest{}); v != "value" {
					t.Errorf("grandchild's value is %v", v)
				}
			})
		})
	})
}

func TestContextIsDoneWhenTheOneItComesFromIs(t *testing.T) {
	program(t, func(ctx context.Context) {
		cancellable, cancel := context.WithCancel(ctx)
		child := start(cancellable, func(ctx context.Context) {
			if isDone(ctx) || ctx.Err() != nil {
				t.Error("done too early")
			}
			wantError(t, "child's Sleep", runtime.Sleep(ctx, time.Hour), context.Canceled)
			if !isDone(ctx) || ctx.Err() != context.Canceled {
				t.Errorf("after Sleep done is %v, Err %v", isDone(ctx), ctx.Err())
			}
		})
		cancel()
		child.Join(ctx)

		timeout, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		child = start(timeout, func(ctx context.Context) {
			wantError(t, "child's Sleep", runtime.Sleep(ctx, time.Hour), context.DeadlineExceeded)
			if !isDone(ctx) || ctx.Err() != context.DeadlineExceeded {
				t.Errorf("after the deadline done is %v, Err %v", isDone(ctx), ctx.Err())
			}
		})
		child.Join(ctx)
	})
}

func TestCancelReachesAllThatDerivesFromTheContext(t *testing.T) {
	program(t, func(ctx context.Context) {
		called := make(chan bool, 1)
		co := start(ctx, func(ctx context.Context) {
			context.AfterFunc(ctx, func() { called <- true })
			stop := context.AfterFunc(ctx, func() { t.Error("a function that was stopped has been called") })
			if !stop() || stop() {
				t.Error("stop does not tell whether it stopped something")
			}
			runtime.Suspend(context.Background())
		})
		derived, cancel := context.WithTimeout(context.WithValue(co.Context(), keyOfTest{}, 1), time.Hour)
		defer cancel()
		co.Cancel()
		co.Cancel() // changes nothing
		runtime.Await(ctx, func() (int, error) {
			soon(t, "context", co.Context(), context.Canceled)
			soon(t, "derived context", derived, context.Canceled)
			receive(t, called, "function of AfterFunc")
			return 0, nil
		})
		late, cancel := context.WithCancel(co.Context())
		defer cancel()
		if late.Err() != context.Canceled || context.Cause(late) != context.Canceled {
			t.Errorf("context derived afterwards: %v, cause %v", late.Err(), context.Cause(late))
		}
		co.Resume()
	})
}

func TestCancelReachesChildren(t *testing.T) {
	for _, loops := range []int{1, 3} {
		program(t, func(ctx context.Context) {
			results := runtime.NewChannel[error](10)
			sleeper := func(ctx context.Context) { results.Push(context.Background(), runtime.Sleep(ctx, time.Hour)) }
			parent := start(ctx, func(ctx context.Context) {
				start(ctx, sleeper)                                           // child
				start(context.WithValue(ctx, keyOfTest{}, 1), sleeper)        // with a context that derives
				start(ctx, func(ctx context.Context) { start(ctx, sleeper) }) // grandchild, whose parent has ended
				start(context.WithValue(ctx, keyOfTest{}, 1), func(ctx context.Context) { start(ctx, sleeper) })
				sleeper(ctx)
			})
			elsewhere := make(chan error, 3)
			for range 3 { // on other loops, too: a child, and the child of one that has ended
				parent.Runtime().Go(func(context.Context) {
					start(parent.Context(), func(ctx context.Context) {
						start(ctx, func(ctx context.Context) { elsewhere <- runtime.Sleep(ctx, time.Hour) })
					})
				})
			}
			runtime.Await(ctx, func() (int, error) {
				parked(t, parent.Runtime(), 8, "sleep")
				parent.Cancel()
				for range 3 {
					wantError(t, "coroutine on another loop", receive(t, elsewhere, "its end"), context.Canceled)
				}
				return 0, nil
			})
			for range 5 {
				err, _ := results.Pop(ctx)
				wantError(t, "Sleep", err, context.Canceled)
			}
		}, runtime.WithLoops(loops))
	}
}

func TestChildrenOutliveTheirParent(t *testing.T) {
	program(t, func(ctx context.Context) {
		slept := runtime.NewChannel[error](1)
		parent := start(ctx, func(ctx context.Context) {
			start(ctx, func(ctx context.Context) { slept.Push(ctx, runtime.Sleep(ctx, 2*time.Millisecond)) })
		})
		if !parent.Ended() || parent.Context().Err() != nil || isDone(parent.Context()) {
			t.Error("the end of a coroutine has cancelled its context")
		}
		parent.Cancel() // it has ended, so this isn't for its children any more
		if err, _ := slept.Pop(ctx); err != nil {
			t.Errorf("the child's Sleep: %v", err)
		}
	})
}

// Goroutines that a coroutine leaves behind use its context, and must still hear when what it comes from is cancelled.
func TestContextOfACoroutineThatHasEnded(t *testing.T) {
	base, cancelBase := context.WithCancel(context.Background())
	for how, test := range map[string]struct {
		with func(rt *runtime.Runtime) context.Context // what the coroutine's context comes from
		end  func(rt *runtime.Runtime, co *runtime.Coroutine)
	}{
		"end of the base": {
			func(*runtime.Runtime) context.Context { return base },
			func(*runtime.Runtime, *runtime.Coroutine) { cancelBase() },
		},
		"Shutdown": {
			(*runtime.Runtime).Context,
			func(rt *runtime.Runtime, _ *runtime.Coroutine) { rt.Shutdown(context.Background()) },
		},
		"Shutdown, with a context between": {
			func(rt *runtime.Runtime) context.Context { return context.WithValue(rt.Context(), keyOfTest{}, 1) },
			func(rt *runtime.Runtime, _ *runtime.Coroutine) { rt.Shutdown(context.Background()) },
		},
	} {
		t.Run(how, func(t *testing.T) {
			rt := startRuntime(t)
			results, called := make(chan error, 4), make(chan bool, 1)
			sleep := func(ctx context.Context) { results <- runtime.Sleep(ctx, time.Hour) }
			var before context.Context
			co := start(test.with(rt), func(ctx context.Context) {
				derived, cancel := context.WithCancel(ctx)
				t.Cleanup(cancel)
				before = derived
				context.AfterFunc(ctx, func() { called <- true })
				go sleep(ctx)
				go sleep(derived)
			})
			co.Join(context.Background())
			ctx := co.Context()
			after, cancel := context.WithCancel(ctx)
			defer cancel()
			go sleep(ctx)
			go sleep(after)
			for what, ctx := range map[string]context.Context{"its own": ctx, "derived before": before, "derived after": after} {
				if ctx.Err() != nil || isDone(ctx) {
					t.Errorf("context %s is done too early", what)
				}
			}
			test.end(rt, co)
			for range 4 {
				wantError(t, "Sleep", receive(t, results, "end of Sleep"), context.Canceled)
			}
			soon(t, "context", ctx, context.Canceled)
			soon(t, "context derived before", before, context.Canceled)
			soon(t, "context derived after", after, context.Canceled)
			receive(t, called, "function of AfterFunc")
		})
	}
}

func TestCancelOfACoroutineThatHasEndedReachesTheGoroutinesItLeftBehind(t *testing.T) {
	rt := startRuntime(t)
	results := make(chan error, 2)
	co, _ := rt.Go(func(ctx context.Context) {
		go func() { results <- runtime.Sleep(ctx, time.Hour) }()
	})
	co.Join(rt.Context())
	go func() { results <- runtime.Sleep(co.Context(), time.Hour) }()
	co.Cancel()
	for range 2 {
		wantError(t, "Sleep", receive(t, results, "end of Sleep"), context.Canceled)
	}
}

func TestDoneRacesCancel(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(2))
	for range 20 {
		var victims []*runtime.Coroutine
		for range 100 {
			co, err := rt.Go(func(ctx context.Context) { runtime.Suspend(ctx) })
			if err != nil {
				t.Fatal(err)
			}
			victims = append(victims, co)
		}
		var all sync.WaitGroup
		use := func(fn func(co *runtime.Coroutine)) {
			all.Go(func() {
				for _, co := range victims {
					fn(co)
				}
			})
		}
		use((*runtime.Coroutine).Cancel)
		use(func(co *runtime.Coroutine) { co.Context().Done() })
		use(func(co *runtime.Coroutine) {
			derived, cancel := context.WithCancel(co.Context())
			defer cancel()
			soon(t, "derived context", derived, context.Canceled)
		})
		all.Wait()
		for _, co := range victims {
			soon(t, "context", co.Context(), context.Canceled)
		}
	}
}

// A context that lives as long as the process, such as that of signal.NotifyContext, is the base of very many coroutines in time.
func TestLongLivedContextDoesNotCollectCoroutines(t *testing.T) {
	const n = 10_000
	longLived, cancel := context.WithCancel(context.Background())
	defer cancel()
	program(t, func(ctx context.Context) {
		var refs []weak.Pointer[runtime.Coroutine]
		for range n {
			co := start(longLived, func(ctx context.Context) {
				if isDone(ctx) {
					t.Error("done too early")
				}
				derived, cancel := context.WithTimeout(ctx, time.Hour)
				runtime.Yield(derived)
				runtime.Sleep(derived, time.Microsecond)
				cancel()
			})
			refs = append(refs, weak.Make(co))
			if len(refs)%100 == 0 {
				runtime.Sleep(ctx, time.Millisecond)
			}
		}
		runtime.Sleep(ctx, 5*time.Millisecond)
		left := 0
		for range 10 {
			goruntime.GC()
			left = 0
			for _, ref := range refs {
				if ref.Value() != nil {
					left++
				}
			}
			if left <= n/100 { // stacks and lists of free things may still mention a few
				return
			}
			runtime.Sleep(ctx, 10*time.Millisecond)
		}
		t.Errorf("%d of %d coroutines that have ended are still in memory", left, n)
	}, runtime.WithLoops(1))
}

func TestChainOfCoroutinesStaysFlat(t *testing.T) {
	const n = 100_000
	heap := func() uint64 {
		goruntime.GC()
		var m goruntime.MemStats
		goruntime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early, late uint64
	program(t, func(ctx context.Context) {
		var link func(ctx context.Context)
		i := 0
		link = func(ctx context.Context) {
			runtime.Yield(ctx) // its predecessor ends
			switch i++; i {
			case n / 10:
				early = heap()
			case n:
				late = heap()
				return
			}
			start(ctx, link)
		}
		start(ctx, link)
	}, runtime.WithLoops(1))
	if late > early+1<<20 {
		t.Errorf("heap: %d bytes after %d coroutines, %d after %d", early, n/10, late, n)
	}
}

func TestErrorsOfContextsAndTimeouts(t *testing.T) {
	for _, test := range []struct {
		err, is error
		want    bool
	}{
		{runtime.ErrShutdown, context.Canceled, true},
		{runtime.ErrShutdown, context.DeadlineExceeded, false},
		{runtime.ErrTimeout, context.DeadlineExceeded, false},
	} {
		if errors.Is(test.err, test.is) != test.want {
			t.Errorf("%v is %v: %v", test.err, test.is, !test.want)
		}
	}
	if !runtime.ErrTimeout.Timeout() {
		t.Error("ErrTimeout.Timeout is false")
	}
}
