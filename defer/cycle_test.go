package event_test

import (
	"context"
	"errors"
	"testing"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestCycleIsCalledOncePerIteration(t *testing.T) {
	run(t, func(ctx context.Context) error {
		before, after := 0, 0
		iterations := func() uint64 { return runtime.Current(ctx).Loop().Stats().Iterations }
		event.Cycle(ctx, func(context.Context) { before++ }, true)
		event.Cycle(ctx, func(context.Context) { after++ }, false)
		start := iterations()
		turns(ctx, 1) // to the end of this iteration: neither has been called
		turns(ctx, 10)
		if n := int(iterations() - start); before != n || after != n {
			t.Errorf("%d iterations, called %d times before and %d times after", n, before, after)
		}
		event.Cycle(ctx, nil, true)
		was := before
		turns(ctx, 2)
		if before != was {
			t.Error("called after it was removed")
		}
		if after != was+2 {
			t.Error("the other one was removed")
		}
		return nil // the one that is left doesn't keep Run
	})
}

func TestCycleReplacesAndRemoves(t *testing.T) {
	var s transcript
	run(t, func(ctx context.Context) error {
		for _, before := range []bool{true, false} {
			if err := event.Cycle(ctx, nil, before); err == nil {
				t.Error("removed what was not set")
			}
		}
		event.Cycle(ctx, s.saying("replaced"), false)
		event.Cycle(ctx, func(ctx context.Context) {
			s.say("called")
			if err := event.Cycle(ctx, nil, false); err != nil {
				t.Error(err)
			}
			if err := event.Cycle(ctx, nil, false); err == nil {
				t.Error("removed twice")
			}
		}, false)
		turns(ctx, 3)
		return nil
	})
	s.want(t, "called")
}

func TestCycleEndsWithItsContext(t *testing.T) {
	run(t, func(ctx context.Context) error {
		over, cancel := context.WithCancel(ctx)
		calls := 0
		event.Cycle(over, func(context.Context) { calls++; cancel() }, true)
		turns(ctx, 5)
		if calls != 1 {
			t.Errorf("called %d times", calls)
		}
		if err := event.Cycle(over, func(context.Context) {}, true); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return nil
	})
}

func TestCycleWithoutARuntime(t *testing.T) {
	if err := event.Cycle(context.Background(), nil, true); !errors.Is(err, runtime.ErrNoRuntime) {
		t.Error(err)
	}
}

func TestCycleFromAPlainGoroutine(t *testing.T) {
	run(t, func(ctx context.Context) error {
		loop := runtime.Current(ctx).Loop()
		called := runtime.NewChannel[bool](100)
		_, err := runtime.Await(ctx, func() (int, error) {
			return 0, event.Cycle(ctx, func(ctx context.Context) {
				called.Push(ctx, runtimetest.OnLoop(loop))
			}, false)
		})
		if here, _ := called.Pop(ctx); !here {
			t.Error("on another loop than the one of the context's coroutine")
		}
		return errors.Join(err, event.Cycle(ctx, nil, false))
	}, runtime.WithLoops(2))
}

// When main has ended, and nothing else keeps Run, that is the end: nothing begins any more.
func TestCycleEndsWithMain(t *testing.T) {
	for _, before := range []bool{true, false} {
		ended, calls, late := false, 0, 0
		run(t, func(ctx context.Context) error {
			event.Cycle(ctx, func(context.Context) {
				if calls++; ended {
					late++
				}
			}, before)
			turns(ctx, 3)
			ended = true
			return nil
		}, runtime.WithLoops(1))
		if calls == 0 || late > 0 {
			t.Errorf("called %d times, %d of them after the end", calls, late)
		}
	}
}
