package runtime_test

import (
	"context"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestPushSwitchesToWhoWaitsInPop(t *testing.T) {
	prints(t, `
		consumer waits
		push 1
		consumer has 1
		consumer waits
		pushed 1
		push 2
		consumer has 2
		consumer waits
		pushed 2
		closed
		consumer: runtime: channel closed
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[int](1)
		start(ctx, func(ctx context.Context) {
			for {
				say("consumer waits")
				v, err := ch.Pop(ctx)
				if err != nil {
					say("consumer: %v", err)
					return
				}
				say("consumer has %d", v)
			}
		})
		for i := 1; i <= 2; i++ {
			say("push %d", i)
			ch.Push(ctx, i)
			say("pushed %d", i)
		}
		ch.Close()
		say("closed")
	})
}

func TestPopSwitchesToWhoWaitsInPush(t *testing.T) {
	prints(t, `
		pushed 1
		producer waits with 2
		pop
		pushed 2
		producer waits with 3
		popped 1
		pop
		pushed 3
		producer ends
		popped 2
		pop
		popped 3
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[int](1)
		start(ctx, func(ctx context.Context) {
			for i := 1; i <= 3; i++ {
				if i > 1 {
					say("producer waits with %d", i)
				}
				ch.Push(ctx, i)
				say("pushed %d", i)
			}
			say("producer ends")
		})
		for range 3 {
			say("pop")
			v, _ := ch.Pop(ctx)
			say("popped %d", v)
		}
	})
}

func TestConsumersAreServedInTheOrderOfArrival(t *testing.T) {
	prints(t, `
		a has 1
		b has 2
		c has 3
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[int](1)
		for _, name := range []string{"a", "b", "c"} {
			start(ctx, func(ctx context.Context) {
				v, _ := ch.Pop(ctx)
				say("%s has %d", name, v)
			})
		}
		for i := 1; i <= 3; i++ {
			ch.Push(ctx, i)
		}
	})
}

func TestProducersAreServedInTheOrderOfArrival(t *testing.T) {
	prints(t, `
		a is through
		popped 0
		b is through
		popped a
		c is through
		popped b
		popped c
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[string](1)
		ch.Push(ctx, "0")
		for _, name := range []string{"a", "b", "c"} {
			start(ctx, func(ctx context.Context) {
				ch.Push(ctx, name)
				say("%s is through", name)
			})
		}
		for range 4 {
			v, _ := ch.Pop(ctx)
			say("popped %s", v)
		}
	})
}

func TestCloseWakesWaitingProducersAndLeavesWhatTheChannelHolds(t *testing.T) {
	prints(t, `
		closed: <nil>
		popped held <nil>
		popped  runtime: channel closed
		push: runtime: channel closed
		closed again: runtime: channel closed
		a: runtime: channel closed
		b: runtime: channel closed
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[string](1)
		ch.Push(ctx, "held")
		for _, name := range []string{"a", "b"} {
			start(ctx, func(ctx context.Context) { say("%s: %v", name, ch.Push(ctx, name)) })
		}
		say("closed: %v", ch.Close())
		for range 2 {
			v, err := ch.Pop(ctx)
			say("popped %s %v", v, err)
		}
		say("push: %v", ch.Push(ctx, "late"))
		say("closed again: %v", ch.Close())
	})
}

func TestCloseWakesWaitingConsumers(t *testing.T) {
	prints(t, `
		closed
		a: runtime: channel closed
		b: runtime: channel closed
	`, func(ctx context.Context, say func(string, ...any)) {
		ch := runtime.NewChannel[int](1)
		for _, name := range []string{"a", "b"} {
			start(ctx, func(ctx context.Context) {
				_, err := ch.Pop(ctx)
				say("%s: %v", name, err)
			})
		}
		ch.Close()
		say("closed")
	})
}

func TestWaitGroupSchedulesThoseThatWait(t *testing.T) {
	prints(t, `
		a waits
		b waits
		one of two is done
		two of two are done
		a goes on
		b goes on
	`, func(ctx context.Context, say func(string, ...any)) {
		var group runtime.WaitGroup
		group.Add(2)
		for _, name := range []string{"a", "b"} {
			start(ctx, func(ctx context.Context) {
				say("%s waits", name)
				group.Wait(ctx)
				say("%s goes on", name)
			})
		}
		group.Done()
		say("one of two is done")
		group.Done()
		say("two of two are done")
	})
}

func TestMutexIsHandedOverInTheOrderOfArrival(t *testing.T) {
	prints(t, `
		a wants it
		b wants it
		main unlocks
		main has unlocked, others may have it: false
		a has it
		a unlocks
		b has it
		b unlocks
		others may have it: true
	`, func(ctx context.Context, say func(string, ...any)) {
		var mu runtime.Mutex
		mu.Lock(ctx)
		var both []*runtime.Coroutine
		for _, name := range []string{"a", "b"} {
			both = append(both, start(ctx, func(ctx context.Context) {
				say("%s wants it", name)
				mu.Lock(ctx)
				say("%s has it", name)
				runtime.Sleep(ctx, time.Millisecond)
				say("%s unlocks", name)
				mu.Unlock()
			}))
		}
		say("main unlocks")
		mu.Unlock()
		say("main has unlocked, others may have it: %v", mu.TryLock())
		runtime.Join(ctx, both...)
		say("others may have it: %v", mu.TryLock())
	})
}

func TestDeferredFunctionsOfACoroutineRunLastFirst(t *testing.T) {
	prints(t, `
		child ends
		Go's defer
		3 begins
		main goes on while 3 waits
		3 ends
		2
		1 registers another
		another
		joined
	`, func(ctx context.Context, say func(string, ...any)) {
		child := start(ctx, func(ctx context.Context) {
			defer say("Go's defer")
			runtime.Defer(ctx, func(ctx context.Context) {
				runtime.Defer(ctx, func(context.Context) { say("another") })
				say("1 registers another")
			})
			runtime.Defer(ctx, func(context.Context) { say("2") })
			runtime.Defer(ctx, func(ctx context.Context) {
				say("3 begins")
				runtime.Sleep(ctx, time.Millisecond)
				say("3 ends")
			})
			say("child ends")
		})
		say("main goes on while 3 waits")
		child.Join(ctx)
		say("joined")
	})
}

func TestDeferredFunctionsRunAfterAPanicAndAfterGoexit(t *testing.T) {
	prints(t, `
		after panic: 2 waits
		after Goexit: 2 waits
		after panic: 1
		after Goexit: 1
		joined
	`, func(ctx context.Context, say func(string, ...any)) {
		ending := func(how string, end func()) *runtime.Coroutine {
			return start(ctx, func(ctx context.Context) {
				runtime.Defer(ctx, func(context.Context) { say("after %s: 1", how) })
				runtime.Defer(ctx, func(ctx context.Context) {
					say("after %s: 2 waits", how)
					runtime.Yield(ctx)
				})
				end()
			})
		}
		a := ending("panic", func() { panic("on purpose") })
		b := ending("Goexit", goruntime.Goexit)
		runtime.Join(ctx, a, b)
		say("joined")
	})
}

func TestDeferredFunctionThatPanicsOrExitsDoesNotKeepTheOthersFromRunning(t *testing.T) {
	prints(t, `
		4
		3
		2
		1
		ended: true
	`, func(ctx context.Context, say func(string, ...any)) {
		child := start(ctx, func(ctx context.Context) {
			runtime.Defer(ctx, func(context.Context) { say("1") })
			runtime.Defer(ctx, func(context.Context) { say("2"); goruntime.Goexit() })
			runtime.Defer(ctx, func(context.Context) { say("3"); panic("on purpose") })
			runtime.Defer(ctx, func(context.Context) { say("4"); goruntime.Goexit() })
		})
		say("ended: %v", child.Ended())
	})
}
