package runtime_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

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
				from(parent.Context()).Go(func(context.Context) {
					start(parent.Context(), func(ctx context.Context) {
						start(ctx, func(ctx context.Context) { elsewhere <- runtime.Sleep(ctx, time.Hour) })
					})
				})
			}
			runtime.Await(ctx, func() (int, error) {
				parked(t, from(parent.Context()), 8, "sleep")
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
