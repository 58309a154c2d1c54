package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestChildRunsUpToItsFirstWaitBeforeItsParentGoesOn(t *testing.T) {
	prints(t, `
		main begins
		child begins
		main has started the child
		child goes on
	`, func(ctx context.Context, say func(string, ...any)) {
		say("main begins")
		start(ctx, func(ctx context.Context) {
			say("child begins")
			runtime.Yield(ctx)
			say("child goes on")
		})
		say("main has started the child")
	})
}

func TestNestedChildrenGoOnInTheOrderInWhichTheyWaited(t *testing.T) {
	prints(t, `
		main 1
		child 1
		grandchild 1
		child 2
		main 2
		grandchild 2
		child 3
		main 3
	`, func(ctx context.Context, say func(string, ...any)) {
		say("main 1")
		start(ctx, func(ctx context.Context) {
			say("child 1")
			start(ctx, func(ctx context.Context) {
				say("grandchild 1")
				runtime.Yield(ctx)
				say("grandchild 2")
			})
			say("child 2")
			runtime.Yield(ctx)
			say("child 3")
		})
		say("main 2")
		runtime.Yield(ctx)
		say("main 3")
	})
}

func TestYieldTakesTurns(t *testing.T) {
	prints(t, `
		a1
		b1
		c1
		a2
		b2
		c2
		a3
		b3
		c3
	`, func(ctx context.Context, say func(string, ...any)) {
		for _, name := range []string{"a", "b", "c"} {
			start(ctx, func(ctx context.Context) {
				for i := 1; i <= 3; i++ {
					say("%s%d", name, i)
					runtime.Yield(ctx)
				}
			})
		}
	})
}

func TestYieldLetsPostedTasksAndTimersGoFirst(t *testing.T) {
	prints(t, `
		posted
		slept
		yielded
	`, func(ctx context.Context, say func(string, ...any)) {
		loop := runtime.Current(ctx).Loop()
		runtime.Yield(ctx) // from here, in the last step of an iteration, the next one is ahead
		start(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, time.Millisecond)
			say("slept")
		})
		time.Sleep(2 * time.Millisecond) // holds the loop, so that the timer is due
		loop.Post(func() { say("posted") })
		runtime.Yield(ctx)
		say("yielded")
	})
}

func TestTimersRunBeforeDeferredFunctions(t *testing.T) {
	prints(t, `
		main has registered
		timer
		deferred
		joined
	`, func(ctx context.Context, say func(string, ...any)) {
		loop := runtime.Current(ctx).Loop()
		sleeper := start(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, time.Millisecond)
			say("timer")
		})
		loop.Defer(func() { say("deferred") })
		time.Sleep(2 * time.Millisecond) // holds the loop, so that the timer is due in this iteration
		say("main has registered")
		sleeper.Join(ctx)
		say("joined")
	})
}

func TestSleepersWakeInTheOrderOfTime(t *testing.T) {
	prints(t, `
		b
		c
		a
	`, func(ctx context.Context, say func(string, ...any)) {
		for _, sleeper := range []struct {
			name string
			d    time.Duration
		}{{"a", 300 * time.Millisecond}, {"b", time.Millisecond}, {"c", time.Millisecond}} {
			start(ctx, func(ctx context.Context) {
				runtime.Sleep(ctx, sleeper.d)
				say(sleeper.name)
			})
		}
	})
}

// noWaker is a place to wait where nobody wakes anybody.
type noWaker struct{}

func (noWaker) Remove(*runtime.Waiter) bool { return true }

func TestSameDeadlineEndsInTheOrderOfSetting(t *testing.T) {
	prints(t, `
		early
		first: timeout
		second: timeout
		third: timeout
		late
	`, func(ctx context.Context, say func(string, ...any)) {
		reason := runtime.NewReason("test")
		at := runtime.DeadlineAfter(2 * time.Millisecond)
		wait := func(deadline runtime.Deadline, done func(error)) {
			start(ctx, func(ctx context.Context) {
				w, _ := runtime.Enter(ctx)
				defer w.Leave()
				done(w.Wait(ctx, reason, deadline, noWaker{}))
			})
		}
		wait(at+1, func(error) { say("late") })
		for _, name := range []string{"first", "second", "third"} {
			wait(at, func(err error) { say("%s: %v", name, err) })
		}
		wait(at-1, func(error) { say("early") })
	})
}

func TestJoinWakesInTheStepOfDeferredFunctions(t *testing.T) {
	prints(t, `
		joiner waits
		child ends
		main has resumed the child
		deferred before the child's end
		joined
		deferred after the child's end
	`, func(ctx context.Context, say func(string, ...any)) {
		loop := runtime.Current(ctx).Loop()
		child := start(ctx, func(ctx context.Context) {
			runtime.Suspend(ctx)
			say("child ends")
		})
		start(ctx, func(ctx context.Context) {
			say("joiner waits")
			child.Join(ctx)
			say("joined")
		})
		loop.Defer(func() { say("deferred before the child's end") })
		child.Resume()
		say("main has resumed the child")
		loop.Defer(func() { say("deferred after the child's end") })
	})
}

func TestSuspendAndResumeSwitchAtOnce(t *testing.T) {
	prints(t, `
		child 1
		main 1
		child 2
		main 2
		child ends
		main 3: runtime: coroutine is not suspended
	`, func(ctx context.Context, say func(string, ...any)) {
		child := start(ctx, func(ctx context.Context) {
			say("child 1")
			runtime.Suspend(ctx)
			say("child 2")
			runtime.Suspend(ctx)
			say("child ends")
		})
		say("main 1")
		child.Resume()
		say("main 2")
		child.Resume()
		say("main 3: %v", child.Resume())
	})
}

func TestResumeLeavesOtherWaitsAlone(t *testing.T) {
	prints(t, `
		resume: runtime: coroutine is not suspended
		slept: <nil>
	`, func(ctx context.Context, say func(string, ...any)) {
		sleeper := start(ctx, func(ctx context.Context) {
			say("slept: %v", runtime.Sleep(ctx, 2*time.Millisecond))
		})
		say("resume: %v", sleeper.Resume())
	})
}

func TestCancelSwitchesNot(t *testing.T) {
	prints(t, `
		main has cancelled
		child: context canceled
	`, func(ctx context.Context, say func(string, ...any)) {
		child := start(ctx, func(ctx context.Context) { say("child: %v", runtime.Sleep(ctx, time.Hour)) })
		child.Cancel()
		say("main has cancelled")
	})
}

func TestCoroutineThatHasSpentItsBudgetYields(t *testing.T) {
	prints(t, `
		63 operations
		another one runs
		64 operations
	`, func(ctx context.Context, say func(string, ...any)) {
		start(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			say("another one runs")
		})
		for i := 1; i <= 64; i++ {
			runtime.Spend(ctx)
			if i >= 63 {
				say("%d operations", i)
			}
		}
	})
}

// One that starts very many, each of which does something, must not have the loop for as long as all of that takes.
func TestCoroutinesStartedInOneTurnShareItsBudget(t *testing.T) {
	program(t, func(ctx context.Context) {
		const all, budget = 1000, 64
		done := 0
		for range all {
			start(ctx, func(ctx context.Context) {
				runtime.Spend(ctx)
				done++
			})
		}
		if done >= budget {
			t.Errorf("%d of %d coroutines have done their work in one turn", done, all)
		}
		for range all {
			if done < all {
				runtime.Yield(ctx)
			}
		}
		if done != all {
			t.Errorf("%d of %d coroutines have ended", done, all)
		}
	})
}

func TestWaitingRenewsTheBudget(t *testing.T) {
	prints(t, `
		126 operations
		another one runs
	`, func(ctx context.Context, say func(string, ...any)) {
		spend := func(n int) {
			for range n {
				runtime.Spend(ctx)
			}
		}
		spend(63)
		runtime.Yield(ctx)
		start(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			say("another one runs")
		})
		spend(63)
		say("126 operations")
	})
}

// A coroutine that does not look at errors would spin when its context is cancelled; the others of the loop must still get their turn.
func TestWaitThatFailsAtOnceUsesUpTheBudget(t *testing.T) {
	prints(t, `
		the other one slept
		the careless one saw it
	`, func(ctx context.Context, say func(string, ...any)) {
		slept := false
		careless := start(ctx, func(ctx context.Context) {
			for !slept {
				runtime.Sleep(ctx, time.Hour)
			}
			say("the careless one saw it")
		})
		start(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, time.Millisecond)
			slept = true
			say("the other one slept")
		})
		careless.Cancel()
	})
}
