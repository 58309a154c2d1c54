package event_test

import (
	"context"
	"testing"
	"time"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/runtime"
)

// soon is a time that has passed when the loop looks at its timers next.
const soon = time.Nanosecond

// The whole order in one program. The main coroutine is work that was posted to the loop, so the
// first turn goes on with timers.
func TestEachTurnHasItsOrder(t *testing.T) {
	var s transcript
	r, w := pipe(t)
	run(t, func(ctx context.Context) error {
		event.Cycle(ctx, s.saying("-- cycle before"), true)
		event.Cycle(ctx, s.saying("-- cycle after"), false)
		event.Defer(ctx, func(ctx context.Context) {
			s.say("deferred 1")
			event.Defer(ctx, s.saying("deferred by deferred 1"))
			event.After(ctx, soon, func(ctx context.Context) {
				s.say("timer set by deferred 1")
				event.Defer(ctx, func(ctx context.Context) {
					s.say("deferred by that timer")
					event.Cycle(ctx, nil, true)
					event.Cycle(ctx, nil, false)
				})
			})
		})
		event.Defer(ctx, s.saying("deferred 2"))
		event.After(ctx, soon, func(ctx context.Context) {
			s.say("timer")
			event.Defer(ctx, s.saying("deferred by timer"))
			event.After(ctx, soon, s.saying("timer set by timer"))
		})
		w.write("x")
		event.Add(ctx, r.fd, func(ctx context.Context) {
			s.say("descriptor")
			event.Defer(ctx, s.saying("deferred by descriptor"))
			event.Del(ctx, r.fd)
		}, nil)
		runtime.Go(ctx, s.saying("coroutine"))
		s.say("main")
		return nil
	})
	s.want(t, `
		coroutine
		main
		timer
		deferred 1
		deferred 2
		deferred by timer
		-- cycle after
		-- cycle before
		descriptor
		timer set by timer
		timer set by deferred 1
		deferred by deferred 1
		deferred by descriptor
		deferred by that timer`)
}

func TestNestedDefersTakeATurnEach(t *testing.T) {
	var s transcript
	run(t, func(ctx context.Context) error {
		event.Cycle(ctx, s.saying("-- turn"), false)
		var nest func(ctx context.Context)
		level := 0
		nest = func(ctx context.Context) {
			s.say("level " + string(rune('0'+level)))
			if level++; level < 3 {
				event.Defer(ctx, nest)
			}
		}
		event.Defer(ctx, nest)
		event.Defer(ctx, s.saying("second"))
		return nil
	})
	s[:6].want(t, `
		level 0
		second
		-- turn
		level 1
		-- turn
		level 2`)
}

func TestDeferOfACycleFunction(t *testing.T) {
	var s transcript
	run(t, func(ctx context.Context) error {
		once := func(what string, before bool) {
			event.Cycle(ctx, func(ctx context.Context) {
				s.say(what)
				event.Defer(ctx, s.saying("deferred by "+what))
				event.Cycle(ctx, nil, before)
			}, before)
		}
		once("before", true)
		once("after", false)
		event.Defer(ctx, s.saying("turn 1"))
		event.After(ctx, soon, func(ctx context.Context) {
			event.Defer(ctx, func(ctx context.Context) { event.Defer(ctx, s.saying("turn 2")) })
		})
		return nil
	})
	// after is called at the end of turn 1, so what it defers is the next turn's, as is what before
	// does then.
	s.want(t, `
		turn 1
		after
		before
		turn 2
		deferred by after
		deferred by before`)
}

// In Swoole, a timer set by a deferred or a cycle function misses the next look at the timers.
func TestTimersAreNotARoundLate(t *testing.T) {
	t.Run("set by a deferred function", func(t *testing.T) {
		var s transcript
		run(t, func(ctx context.Context) error {
			return event.Defer(ctx, func(ctx context.Context) {
				event.After(ctx, soon, s.saying("timer"))
				event.Defer(ctx, s.saying("deferred for the same turn"))
			})
		})
		s.want(t, `
			timer
			deferred for the same turn`) // Swoole: the other way round
	})
	t.Run("set by a cycle function", func(t *testing.T) {
		var s transcript
		run(t, func(ctx context.Context) error {
			n := 0
			event.Cycle(ctx, func(ctx context.Context) {
				s.say("cycle " + string(rune('0'+n)))
				if n++; n == 1 {
					event.After(ctx, soon, func(ctx context.Context) {
						s.say("timer")
						event.Defer(ctx, s.saying("end"))
					})
				}
			}, false)
			turns(ctx, 4) // a cycle function doesn't keep Run
			return nil
		})
		s[:3].want(t, `
			cycle 0
			timer
			end`) // Swoole: cycle 1 comes before the timer
	})
	t.Run("set before the loop runs", func(t *testing.T) {
		var s transcript
		rt, err := runtime.New(runtime.WithLoops(1))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		if _, err := event.After(rt.Context(), soon, s.saying("timer")); err != nil {
			t.Fatal(err)
		}
		event.Cycle(rt.Context(), func(ctx context.Context) {
			s.say("cycle")
			event.Cycle(ctx, nil, false)
			close(done)
		}, false)
		rt.Start()
		<-done
		rt.Shutdown(context.Background())
		s.want(t, `
			timer
			cycle`) // Swoole: cycle, timer
	})
	t.Run("a tick that is due", func(t *testing.T) {
		var s transcript
		run(t, func(ctx context.Context) error {
			tick, err := event.Tick(ctx, time.Millisecond, s.saying("tick"))
			for start := clock.Now(); clock.Now()-start < time.Millisecond; {
			}
			runtime.Yield(ctx)
			s.say("main")
			tick.Clear()
			return err
		})
		s.want(t, `
			tick
			main`)
	})
}

func TestTimersDueTogetherFireInTheirOrder(t *testing.T) {
	var s transcript
	run(t, func(ctx context.Context) error {
		event.After(ctx, 2*time.Millisecond, s.saying("2 ms"))
		event.After(ctx, time.Millisecond, s.saying("1 ms, first"))
		event.After(ctx, time.Millisecond, s.saying("1 ms, second"))
		for start := clock.Now(); clock.Now()-start < 2*time.Millisecond; {
		}
		return nil
	})
	s.want(t, `
		1 ms, first
		1 ms, second
		2 ms`)
}

// The order of functions is the order of starting: one that waits lets the next begin.
func TestFunctionsMayWait(t *testing.T) {
	var s transcript
	run(t, func(ctx context.Context) error {
		event.Defer(ctx, func(ctx context.Context) {
			s.say("1 waits")
			runtime.Yield(ctx)
			s.say("1 goes on")
		})
		event.Defer(ctx, s.saying("2"))
		event.Defer(ctx, func(ctx context.Context) {
			s.say("3 waits")
			turns(ctx, 2)
			s.say("3 goes on")
		})
		return nil
	})
	s.want(t, `
		1 waits
		2
		3 waits
		1 goes on
		3 goes on`)
}
