package event_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestRunReturnsWhenTheLastTimerIsCleared(t *testing.T) {
	runs := 0
	run(t, func(ctx context.Context) error {
		var tick *event.Timer
		tick, err := event.Tick(ctx, time.Millisecond, func(ctx context.Context) {
			if runs++; runs < 3 {
				return
			}
			if !tick.Clear() || tick.Clear() {
				t.Error("Clear within the function must be true once")
			}
			if event.Exists(ctx, tick.ID()) {
				t.Error("it exists after Clear")
			}
		})
		return err
	})
	if runs != 3 {
		t.Errorf("%d calls, want 3", runs)
	}
}

func TestRunReturnsAfterTheFunctionOfAfter(t *testing.T) {
	ended := false
	run(t, func(ctx context.Context) error {
		_, err := event.After(ctx, time.Millisecond, func(ctx context.Context) {
			runtime.Sleep(ctx, time.Millisecond)
			ended = true
		})
		return err
	})
	if !ended {
		t.Error("Run returned too early")
	}
}

func TestTimersByID(t *testing.T) {
	run(t, func(ctx context.Context) error {
		if event.List(ctx) != nil || event.Exists(ctx, 1) || event.Clear(ctx, 1) || event.ClearAll(ctx) != 0 {
			t.Error("there are timers before one was set")
		}
		never := func(context.Context) { t.Error("called") }
		for want := int64(1); want <= 3; want++ {
			timer, err := event.After(ctx, time.Hour, never)
			if err != nil || timer.ID() != want || !event.Exists(ctx, want) {
				t.Error(timer.ID(), want, err)
			}
		}
		if !event.Clear(ctx, 2) || event.Clear(ctx, 2) || event.Clear(ctx, 4) || event.Exists(ctx, 2) {
			t.Error("Clear by ID")
		}
		list := event.List(ctx)
		if len(list) != 2 || list[0].ID() != 1 || list[1].ID() != 3 {
			t.Error(list)
		}
		if n := event.ClearAll(ctx); n != 2 {
			t.Error(n)
		}
		timer, _ := event.Tick(ctx, time.Hour, never)
		if timer.ID() != 4 {
			t.Error("an ID was used again:", timer.ID())
		}
		timer.Clear()
		return nil
	})
}

func TestInfo(t *testing.T) {
	run(t, func(ctx context.Context) error {
		after, _ := event.After(ctx, time.Hour, func(context.Context) {})
		if i := after.Info(); i.Interval != 0 || i.Runs != 0 || !i.Pending || i.Left <= time.Hour-time.Minute || i.Left > time.Hour {
			t.Errorf("%+v", i)
		}
		after.Clear()
		if i := after.Info(); i != (event.Info{}) {
			t.Errorf("%+v", i)
		}
		var once *event.Timer
		once, _ = event.After(ctx, soon, func(context.Context) {
			if i := once.Info(); i != (event.Info{Runs: 1}) {
				t.Errorf("%+v", i)
			}
			if once.Clear() {
				t.Error("it is over when it is called")
			}
		})
		var tick *event.Timer
		tick, _ = event.Tick(ctx, time.Millisecond, func(context.Context) {
			i := tick.Info()
			if i.Interval != time.Millisecond || !i.Pending || i.Left > time.Millisecond {
				t.Errorf("%+v", i)
			}
			if i.Runs == 2 {
				tick.Clear()
			}
		})
		return nil
	})
}

func TestWhatTimersRefuse(t *testing.T) {
	none := func(context.Context) {}
	if _, err := event.After(context.Background(), 1, none); !errors.Is(err, runtime.ErrNoRuntime) {
		t.Error(err)
	}
	if event.Clear(context.Background(), 1) || event.List(context.Background()) != nil {
		t.Error("found something without a runtime")
	}
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{0, -1} {
			if _, err := event.After(ctx, d, none); err == nil {
				t.Error("After", d)
			}
			if _, err := event.Tick(ctx, d, none); err == nil {
				t.Error("Tick", d)
			}
		}
		if _, err := event.After(ctx, 1, nil); err == nil {
			t.Error("nil")
		}
		over, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := event.Tick(over, 1, none); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		forever, err := event.After(ctx, 1<<63-1, func(context.Context) { t.Error("for ever is over") })
		if err != nil || forever.Info().Left < 100*365*24*time.Hour {
			t.Error(err)
		}
		turns(ctx, 2)
		forever.Clear()
		return nil
	})
}

func TestABeatDoesNotWaitForTheOneBefore(t *testing.T) {
	run(t, func(ctx context.Context) error {
		underWay := 0
		three := runtime.NewChannel[int](1)
		tick, _ := event.Tick(ctx, time.Millisecond, func(ctx context.Context) {
			if underWay++; underWay == 3 {
				three.Close()
			}
			three.Pop(ctx)
		})
		three.Pop(ctx)
		tick.Clear()
		return nil
	})
}

func TestACancelledContextEndsItsTimers(t *testing.T) {
	t.Run("from outside", func(t *testing.T) {
		run(t, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			event.After(ctx, time.Hour, func(context.Context) { t.Error("called") })
			cancel() // or Run would last an hour
			return nil
		})
	})
	t.Run("before the loop can know", func(t *testing.T) {
		run(t, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			event.After(ctx, soon, func(context.Context) { t.Error("called") })
			cancel()
			return nil
		})
	})
	t.Run("in the function", func(t *testing.T) {
		runs := 0
		run(t, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			event.Tick(ctx, time.Microsecond, func(ctx context.Context) {
				runs++
				cancel()
				if ctx.Err() == nil {
					t.Error("the function's own context comes from that of Tick")
				}
			})
			return nil
		})
		if runs != 1 {
			t.Error(runs)
		}
	})
	t.Run("of the coroutine that set it", func(t *testing.T) {
		run(t, func(ctx context.Context) error {
			co, _ := runtime.Go(ctx, func(ctx context.Context) {
				event.Tick(ctx, time.Hour, func(context.Context) { t.Error("called") })
			})
			if !event.Exists(ctx, 1) {
				t.Error("it ended with its coroutine")
			}
			co.Cancel()
			return nil
		})
	})
}

func TestFromPlainGoroutines(t *testing.T) {
	run(t, func(ctx context.Context) error {
		own := runtime.Current(ctx).Loop()
		var fired atomic.Int64
		_, err := runtime.Await(ctx, func() (int, error) {
			counted := func(ctx context.Context) {
				if !runtimetest.OnLoop(own) || runtime.Current(ctx) == nil {
					t.Error("not a coroutine of the loop that ctx names")
				}
				fired.Add(1)
			}
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			_ = cancel // by the tick below
			_, err1 := event.After(ctx, time.Millisecond, counted)
			err2 := event.Defer(ctx, counted)
			hour, err3 := event.After(ctx, time.Hour, counted)
			if !event.Clear(ctx, hour.ID()) {
				t.Error("Clear")
			}
			_, err4 := event.Tick(ctx, time.Millisecond, func(ctx context.Context) {
				if fired.Load() == 2 {
					cancel()
				}
			})
			return 0, errors.Join(err1, err2, err3, err4)
		})
		return err
	}, runtime.WithLoops(2))
}

func TestTheLoopForgetsClearedTimers(t *testing.T) {
	run(t, func(ctx context.Context) error {
		set := func() (int, error) {
			timer, err := event.After(ctx, time.Hour, func(context.Context) {})
			timer.Clear()
			return 0, err
		}
		_, err1 := set()
		_, err2 := runtime.Await(ctx, set)
		timer, err3 := event.After(ctx, time.Hour, func(context.Context) {})
		_, err4 := runtime.Await(ctx, func() (bool, error) { return timer.Clear(), nil })
		turns(ctx, 2)
		if n := runtime.Current(ctx).Loop().Stats().Timers; n != 0 {
			t.Errorf("%d timers", n)
		}
		return errors.Join(err1, err2, err3, err4)
	})
}

// A coroutine that holds a context of another runtime sets things in its own, where it runs.
func TestForeignContext(t *testing.T) {
	other := started(t)
	run(t, func(ctx context.Context) error {
		timer, err := event.After(other.Context(), soon, func(ctx context.Context) {})
		if err != nil {
			return err
		}
		if !event.Exists(ctx, timer.ID()) {
			t.Error("the timer is not one of the caller's runtime")
		}
		return event.Defer(other.Context(), func(context.Context) {})
	})
}

// Functions of a loop have no context of their own, and may have one of another runtime.
func TestOnTheLoopOutsideACoroutine(t *testing.T) {
	rt, other := started(t, runtime.WithLoops(3)), started(t)
	loop := rt.Loops()[1]
	where := make(chan bool, 3)
	set := make(chan *event.Timer)
	loop.Post(func() {
		report := func(context.Context) { where <- runtimetest.OnLoop(loop) }
		ctx := other.Context()
		event.Defer(ctx, report)
		event.After(ctx, soon, report)
		event.Cycle(ctx, func(ctx context.Context) {
			report(ctx)
			event.Cycle(ctx, nil, true)
		}, true)
		timer, _ := event.After(ctx, time.Hour, report)
		set <- timer
	})
	timer := <-set
	for range 3 {
		if !<-where {
			t.Error("on another loop")
		}
	}
	if event.Exists(other.Context(), timer.ID()) || !event.Clear(rt.Context(), timer.ID()) {
		t.Error("the timer is not one of the loop's runtime")
	}
}

func TestAPanicEndsOneCallOnly(t *testing.T) {
	panics, runs := 0, 0
	run(t, func(ctx context.Context) error {
		var tick *event.Timer
		tick, err := event.Tick(ctx, time.Millisecond, func(context.Context) {
			if runs++; runs == 3 {
				tick.Clear()
			}
			panic("tick")
		})
		event.Defer(ctx, func(context.Context) { panic("defer") })
		event.After(ctx, soon, func(context.Context) { panic("after") })
		return err
	}, runtime.WithPanicHandler(func(co *runtime.Coroutine, _ *runtime.PanicError) {
		if co != nil {
			panics++
		}
	}))
	if runs != 3 || panics != 5 {
		t.Errorf("%d ticks, %d panics; want 3, 5", runs, panics)
	}
}

func TestAFunctionThatCannotBeStartedIsLogged(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	run(t, func(ctx context.Context) error {
		event.After(ctx, soon, func(context.Context) { t.Error("called") })
		turns(ctx, 1)
		if err := event.Defer(ctx, func(context.Context) {}); err != nil {
			t.Error(err)
		}
		if err := event.Defer(ctx, func(context.Context) { t.Error("called") }); !errors.Is(err, runtime.ErrTooMany) {
			t.Error(err)
		}
		return nil
	}, runtime.WithMaxCoroutines(2), runtime.WithLogger(zap.New(core))) // main, and what the timer retains
	if n := logs.FilterMessage("event: function not called").Len(); n != 1 {
		t.Errorf("%d entries, want 1: %v", n, logs.All())
	}
}
