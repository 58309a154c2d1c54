package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Coroutines that always find what they would wait for don't keep their loop from the timers,
// whatever it is that they do.
func TestOperationsThatNeverWaitLetATickerTick(t *testing.T) {
	const most = 5_000_000
	for name, operation := range map[string]func(ctx context.Context) func(){
		"two Channels": func(ctx context.Context) func() {
			ping, pong := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
			start(ctx, func(ctx context.Context) {
				for {
					v, err := ping.Pop(ctx)
					if err != nil {
						return
					}
					pong.Push(ctx, v)
				}
			})
			return func() {
				ping.Push(ctx, 1)
				pong.Pop(ctx)
			}
		},
		"a Channel of one's own": func(ctx context.Context) func() {
			ch := runtime.NewChannel[int](1)
			return func() {
				ch.Push(ctx, 1)
				ch.Pop(ctx)
			}
		},
		"a closed Channel": func(ctx context.Context) func() {
			ch := runtime.NewChannel[int](1)
			ch.Close()
			return func() { ch.Pop(ctx) }
		},
		"Go": func(ctx context.Context) func() { return func() { start(ctx, func(context.Context) {}) } },
		"GoDeep": func(ctx context.Context) func() {
			return func() { sched.GoDeep(ctx, func(context.Context) {}) }
		},
		"Go and Join": func(ctx context.Context) func() {
			return func() { start(ctx, func(context.Context) {}).Join(ctx) }
		},
		"Join of one that has ended": func(ctx context.Context) func() {
			ended := start(ctx, func(context.Context) {})
			return func() { ended.Join(ctx) }
		},
		"Mutex": func(ctx context.Context) func() {
			var mu runtime.Mutex
			return func() {
				mu.Lock(ctx)
				mu.Unlock()
			}
		},
		"WaitGroup": func(ctx context.Context) func() {
			var group runtime.WaitGroup
			return func() {
				group.Add(1)
				group.Done()
				group.Wait(ctx)
			}
		},
		"waits that fail at once": func(ctx context.Context) func() {
			over, cancel := context.WithCancel(ctx)
			cancel()
			return func() { runtime.Sleep(over, time.Hour) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, func(ctx context.Context) {
				ticks := 0
				ticker := start(ctx, func(ctx context.Context) {
					for runtime.Sleep(ctx, 10*time.Millisecond) == nil {
						ticks++
					}
				})
				do := operation(ctx)
				n := 0
				for ; n < most && ticks < 3; n++ {
					do()
				}
				if ticks < 3 {
					t.Errorf("%d ticks of 10 ms in %d operations", ticks, n)
				}
				ticker.Cancel()
				runtime.Current(ctx).Cancel() // and the others
			}, runtime.WithLoops(1))
		})
	}
}

// Very many coroutines that are woken at once, by whatever it is, take turns with the descriptors
// and the timers.
func TestManyThatAreWokenAtOnceLetTheLoopPoll(t *testing.T) {
	const all, each = 10_000, 5 * time.Microsecond
	for name, kind := range map[string]func() (wait func(context.Context) error, wake func([]*runtime.Coroutine)){
		"WaitGroup": func() (func(context.Context) error, func([]*runtime.Coroutine)) {
			group := new(runtime.WaitGroup)
			group.Add(1)
			return group.Wait, func([]*runtime.Coroutine) { group.Done() }
		},
		"Channel.Close": func() (func(context.Context) error, func([]*runtime.Coroutine)) {
			ch := runtime.NewChannel[int](1)
			wait := func(ctx context.Context) error { _, err := ch.Pop(ctx); return err }
			return wait, func([]*runtime.Coroutine) { ch.Close() }
		},
		"Cancel": func() (func(context.Context) error, func([]*runtime.Coroutine)) {
			return func(ctx context.Context) error { return runtime.Sleep(ctx, time.Hour) },
				func(coroutines []*runtime.Coroutine) {
					for _, co := range coroutines {
						co.Cancel()
					}
				}
		},
		"Join": func() (func(context.Context) error, func([]*runtime.Coroutine)) {
			var first *runtime.Coroutine
			return func(ctx context.Context) error {
					if first == nil {
						first = runtime.Current(ctx)
						return runtime.Suspend(ctx)
					}
					return first.Join(ctx)
				}, func([]*runtime.Coroutine) {
					first.Resume()
				}
		},
		"time-outs": func() (func(context.Context) error, func([]*runtime.Coroutine)) {
			at := sched.DeadlineAfter(50 * time.Millisecond)
			return func(ctx context.Context) error {
					w, err := sched.Enter(ctx)
					if err != nil {
						return err
					}
					defer w.Leave()
					return w.Wait(ctx, reasonTest, at, noWaker{})
				}, func([]*runtime.Coroutine) {
					hold(at.Until())
				}
		},
		"Shutdown": func() (func(context.Context) error, func([]*runtime.Coroutine)) {
			return runtime.Suspend, func(coroutines []*runtime.Coroutine) {
				from(coroutines[0].Context()).Shutdown(context.Background())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, func(ctx context.Context) {
				loop := runtime.Current(ctx).Loop()
				var coroutines []*runtime.Coroutine
				ended, most, inOne, last := 0, 0, 0, uint64(0)
				wait, wake := kind()
				for range all {
					coroutines = append(coroutines, start(ctx, func(ctx context.Context) {
						wait(ctx)
						hold(each)
						ended++
						if now := loop.Stats().Iterations; now != last {
							last, inOne = now, 0
						}
						inOne++
						most = max(most, inOne)
					}))
				}
				wake(coroutines)
				for ended < all {
					runtime.Yield(ctx)
				}
				if most > all/10 {
					t.Errorf("%d of %d coroutines have gone on between two polls", most, all)
				}
			}, runtime.WithLoops(1))
		})
	}
}

var reasonTest = sched.NewReason("test")
