package event_test

import (
	"context"
	"errors"
	"testing"
	"time"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
)

func TestShutdownClearsWhatIsPending(t *testing.T) {
	rt := started(t, runtime.WithLoops(2))
	ctx := rt.Context()
	never := func(context.Context) { t.Error("called") }
	var timers []*event.Timer
	for _, ctx := range []context.Context{ctx, ctx, context.Background(), context.WithoutCancel(ctx)} {
		timer, err := event.Tick(ctx, time.Hour, never)
		if err != nil {
			t.Fatal(err)
		}
		timers = append(timers, timer)
	}
	a, _ := socketpair(t)
	if err := event.Add(context.WithoutCancel(ctx), a.fd, never, nil); err != nil {
		t.Fatal(err)
	}
	if err := event.Cycle(context.Background(), func(context.Context) {}, true); err != nil {
		t.Fatal(err)
	}
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, timer := range timers {
		if timer.Info().Pending || timer.Clear() {
			t.Errorf("timer %d is pending", timer.ID())
		}
	}
	_, err := event.After(ctx, time.Hour, never)
	for _, err := range []error{
		err, event.Defer(ctx, never), event.Cycle(ctx, never, true), event.Add(ctx, a.fd, never, nil),
	} {
		if !errors.Is(err, runtime.ErrShutdown) {
			t.Error(err)
		}
	}
}

func TestNothingCanBeSetDuringShutdown(t *testing.T) {
	rt := started(t)
	waits := make(chan struct{})
	var err error
	deferred := false
	rt.Go(func(ctx context.Context) {
		close(waits)
		runtime.Sleep(ctx, time.Hour)
		_, err = event.After(ctx, time.Hour, func(context.Context) {})
		event.Defer(context.Background(), func(ctx context.Context) { // but this can, with a context that isn't done
			deferred = runtime.Sleep(ctx, time.Hour) == runtime.ErrShutdown
		})
	})
	<-waits
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if !errors.Is(err, runtime.ErrShutdown) {
		t.Error(err)
	}
	if !deferred {
		t.Error("the deferred function was not called, or did not hear of the shutdown")
	}
}

// What was deferred is called also when Shutdown has no time, which ends coroutines where they
// wait.
func TestForcedShutdownCallsWhatWasDeferred(t *testing.T) {
	rt := started(t, runtime.WithLoops(1))
	begun := make(chan struct{})
	set, called := 0, 0
	rt.Go(func(ctx context.Context) {
		close(begun)
		for {
			if event.Defer(context.Background(), func(context.Context) { called++ }) == nil {
				set++
			}
		}
	})
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	if err := rt.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if set != called {
		t.Errorf("%d functions were deferred, %d called", set, called)
	}
}

// Neither what was set nor the machinery behind it hides a deadlock.
func TestDeadlocksAreStillFound(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		event.After(ctx, soon, func(context.Context) {})
		event.Defer(ctx, func(context.Context) {})
		event.Cycle(ctx, func(context.Context) {}, true)
		event.Cycle(ctx, nil, true) // as long as it is called, it may be what wakes somebody
		turns(ctx, 2)
		return runtime.Suspend(ctx)
	}, runtime.WithLoops(1), runtime.WithDeadlockError())
	if deadlock := new(runtime.DeadlockError); !errors.As(err, &deadlock) {
		t.Error(err)
	}
}
