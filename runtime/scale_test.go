package runtime_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// The benchmarks here say what one of n takes. That must not depend on n, but for what memory takes
// that no longer fits the processor's caches.

// ofMany runs a benchmark with 1,000 and with 100,000 of something. round does it once for all of
// them.
func ofMany(b *testing.B, prepare func(ctx context.Context, n int) (round func())) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			inCoroutine(b, func(ctx context.Context) {
				round := prepare(ctx, n)
				rounds := 0
				for b.Loop() {
					round()
					rounds++
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rounds)/float64(n), "ns/each")
			})
		})
	}
}

// BenchmarkManyCoroutines starts coroutines, each of which yields once, and waits until they have
// ended.
func BenchmarkManyCoroutines(b *testing.B) {
	ofMany(b, func(ctx context.Context, n int) func() {
		return func() {
			var group runtime.WaitGroup
			for range n {
				group.Go(ctx, func(ctx context.Context) { runtime.Yield(ctx) })
			}
			group.Wait(ctx)
		}
	})
}

// BenchmarkManyWaiters has coroutines wait for the same thing and ends their waits: they are woken,
// or cancelled, the first one first or last.
func BenchmarkManyWaiters(b *testing.B) {
	kinds := []struct {
		name string
		new  func(ctx context.Context) (wait func(ctx context.Context) error, wake func(n int))
	}{
		{"WaitGroup", func(context.Context) (func(context.Context) error, func(int)) {
			group := new(runtime.WaitGroup)
			group.Add(1)
			return group.Wait, func(int) { group.Done() }
		}},
		{"Mutex", func(context.Context) (func(context.Context) error, func(int)) {
			mu := new(runtime.Mutex)
			mu.TryLock()
			return func(ctx context.Context) error {
				err := mu.Lock(ctx)
				if err == nil {
					mu.Unlock()
				}
				return err
			}, func(int) { mu.Unlock() }
		}},
		{"Pop", func(ctx context.Context) (func(context.Context) error, func(int)) {
			ch := runtime.NewChannel[int](1)
			return func(ctx context.Context) error { _, err := ch.Pop(ctx); return err },
				func(n int) {
					for range n {
						ch.Push(ctx, 1)
					}
				}
		}},
		{"Push", func(ctx context.Context) (func(context.Context) error, func(int)) {
			ch := runtime.NewChannel[int](1)
			ch.Push(ctx, 1)
			return func(ctx context.Context) error { return ch.Push(ctx, 1) },
				func(n int) {
					for range n {
						ch.Pop(ctx)
					}
				}
		}},
		{"Join", func(ctx context.Context) (func(context.Context) error, func(int)) {
			co := start(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
			return co.Join, func(int) { co.Resume() }
		}},
	}
	for _, kind := range kinds {
		for _, end := range []string{"woken", "cancelled, first one first", "cancelled, last one first"} {
			b.Run(kind.name+"/"+end, func(b *testing.B) {
				ofMany(b, func(ctx context.Context, n int) func() {
					return func() {
						wait, wake := kind.new(ctx)
						all := make([]*runtime.Coroutine, n)
						for i := range all {
							all[i] = start(ctx, func(ctx context.Context) { wait(ctx) })
						}
						if end == "woken" {
							wake(n)
						} else {
							if end == "cancelled, last one first" {
								slices.Reverse(all)
							}
							for _, co := range all {
								co.Cancel()
							}
							defer wake(0)
						}
						runtime.Join(ctx, all...)
					}
				})
			})
		}
	}
}

// BenchmarkManySleepers has coroutines sleep until different points in time, and waits until they
// are awake.
func BenchmarkManySleepers(b *testing.B) {
	ofMany(b, func(ctx context.Context, n int) func() {
		return func() {
			var group runtime.WaitGroup
			for i := range n {
				group.Go(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Duration(1+i%1000)) })
			}
			group.Wait(ctx)
		}
	})
}
