package runtime_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
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

func (noWaker) Remove(*sched.Waiter) bool { return true }

func TestSameDeadlineEndsInTheOrderOfSetting(t *testing.T) {
	prints(t, `
		early
		first: timeout
		second: timeout
		third: timeout
		late
	`, func(ctx context.Context, say func(string, ...any)) {
		reason := sched.NewReason("test")
		at := sched.DeadlineAfter(2 * time.Millisecond)
		wait := func(deadline sched.Deadline, done func(error)) {
			start(ctx, func(ctx context.Context) {
				w, _ := sched.Enter(ctx)
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

func TestJoinEndsInTheStepOfDeferredFunctionsAfterTheEnd(t *testing.T) {
	prints(t, `
		joiner waits
		main has resumed the child
		deferred before the child's end
		child ends
		deferred after the child's end
		joined
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

func TestResumeSchedules(t *testing.T) {
	prints(t, `
		child 1
		main 1
		main 2: runtime: coroutine is not suspended
		child 2
		main 3
		child ends
		main 4: runtime: coroutine is not suspended
	`, func(ctx context.Context, say func(string, ...any)) {
		child := start(ctx, func(ctx context.Context) {
			say("child 1")
			runtime.Suspend(ctx)
			say("child 2")
			runtime.Suspend(ctx)
			say("child ends")
		})
		child.Resume()
		say("main 1")
		say("main 2: %v", child.Resume())
		runtime.Yield(ctx)
		child.Resume()
		say("main 3")
		runtime.Yield(ctx)
		say("main 4: %v", child.Resume())
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

func TestCancelSchedules(t *testing.T) {
	prints(t, `
		main has cancelled
		child: context canceled
	`, func(ctx context.Context, say func(string, ...any)) {
		child := start(ctx, func(ctx context.Context) { say("child: %v", runtime.Sleep(ctx, time.Hour)) })
		child.Cancel()
		say("main has cancelled")
	})
}

// The first reason for a wait to end is the one that counts, whatever comes before the coroutine
// goes on.
func TestWaitThatWasEndedIsNotEndedAgain(t *testing.T) {
	prints(t, `
		popped 1, <nil>
		slept: context canceled
		slept again: context canceled
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[int](1)
		loop := runtime.Current(ctx).Loop()
		popper := start(ctx, func(ctx context.Context) {
			v, err := ch.PopTimeout(ctx, time.Millisecond)
			say("popped %d, %v", v, err)
		})
		sleeper := start(ctx, func(ctx context.Context) {
			say("slept: %v", runtime.Sleep(ctx, time.Millisecond))
			say("slept again: %v", runtime.Sleep(ctx, time.Hour))
		})
		loop.Post(func() {
			hold(2 * time.Millisecond) // both timers are due when the step of posted tasks has ended
			sleeper.Cancel()
			sleeper.Cancel()
			ch.Push(context.Background(), 1)
			popper.Cancel()
		})
	})
}

// What doesn't wait may be called with a lock held that whoever it wakes takes, too.
func TestWakingUpSwitchesToNobody(t *testing.T) {
	program(t, func(ctx context.Context) {
		var (
			lock  sync.Mutex
			group runtime.WaitGroup
			gate  runtime.Mutex
			full  = runtime.NewChannel[int](1)
			empty = runtime.NewChannel[int](1)
		)
		group.Add(1)
		gate.TryLock()
		full.Push(ctx, 1)
		var all []*runtime.Coroutine
		woken := 0
		waits := func(wait func(ctx context.Context)) *runtime.Coroutine {
			co := start(ctx, func(ctx context.Context) {
				wait(ctx)
				lock.Lock()
				defer lock.Unlock()
				woken++
			})
			all = append(all, co)
			return co
		}
		derived, cancel := context.WithCancel(ctx)
		waits(func(ctx context.Context) { group.Wait(ctx) })
		waits(func(ctx context.Context) { gate.Lock(ctx) })
		waits(func(ctx context.Context) { full.Push(ctx, 2) })
		waits(func(ctx context.Context) { empty.Pop(ctx) })
		waits(func(ctx context.Context) { runtime.Sleep(derived, time.Hour) })
		suspended := waits(func(ctx context.Context) { runtime.Suspend(ctx) })
		cancelled := waits(func(ctx context.Context) { runtime.Sleep(ctx, time.Hour) })
		joins := waits(func(ctx context.Context) { runtime.Join(ctx, suspended, cancelled) })

		lock.Lock()
		group.Done()
		gate.Unlock()
		full.Close()
		empty.Close()
		cancel()
		suspended.Resume()
		cancelled.Cancel()
		joins.Cancel()
		if woken > 0 {
			t.Errorf("%d have gone on in between", woken)
		}
		lock.Unlock()
		runtime.Join(ctx, all...)
		if woken != len(all) {
			t.Errorf("%d of %d have gone on", woken, len(all))
		}
	}, runtime.WithLoops(1))
}

// hold holds the loop.
func hold(d time.Duration) {
	for until := clock.Now() + d; clock.Now() < until; {
	}
}

// turnTime is how long a coroutine may go on, see internal/turn.
const turnTime = 100 * time.Microsecond

func TestCoroutineThatGoesOnForTooLongYields(t *testing.T) {
	for name, c := range map[string]struct {
		spend func(ctx context.Context)
		most  int
	}{
		"operations": {func(ctx context.Context) { sched.Spend(ctx, 0) }, 32},
		"bytes":      {func(ctx context.Context) { sched.Spend(ctx, 64<<10) }, 2},
		"counted, and one that may wait": {func(ctx context.Context) {
			sched.Count(32 << 10)
			sched.Count(32 << 10)
			sched.Spend(ctx, 0)
		}, 2},
	} {
		program(t, func(ctx context.Context) {
			operations, others := 0, 0
			start(ctx, func(ctx context.Context) {
				for range 3 {
					runtime.Yield(ctx)
					others = max(others, 1)
				}
			})
			for ; others == 0 && operations < 1000; operations++ {
				hold(turnTime)
				c.spend(ctx)
			}
			if operations > c.most {
				t.Errorf("%s: another coroutine has run after %d operations, want %d", name, operations, c.most)
			}
		}, runtime.WithLoops(1))
	}
}

// One that starts very many, each of which does something, must not have the loop for as long as
// all of that takes.
func TestCoroutinesStartedInOneTurnShareItsTime(t *testing.T) {
	program(t, func(ctx context.Context) {
		const all = 1000
		done, seen := 0, 0
		start(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			seen = done
		})
		for range all {
			start(ctx, func(ctx context.Context) {
				hold(turnTime / 10)
				sched.Spend(ctx, 0)
				done++
			})
		}
		if seen == 0 || seen > 100 {
			t.Errorf("another coroutine has run after %d of %d", seen, all)
		}
	}, runtime.WithLoops(1))
}

// A coroutine that does not look at errors would spin when its context is cancelled; the others of
// the loop must still get their turn.
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
