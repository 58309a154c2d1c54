package runtime_test

import (
	"context"
	goruntime "runtime"
	"testing"

	"github.com/whorl-go/whorl/runtime"
)

// BenchmarkParkedCoroutine reports what a parked coroutine takes: heap, which includes the
// goroutine's descriptor, and stack.
//
// Go's runtime starts goroutines with the stack size that was enough on average at the last garbage
// collection, so the coroutines that are measured are made when there are some of their kind
// already.
func BenchmarkParkedCoroutine(b *testing.B) {
	const n = 20_000
	err := runtime.Run(func(ctx context.Context) error {
		park := func() (all [n]*runtime.Coroutine) {
			for i := range all {
				all[i], _ = runtime.Go(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
			}
			goruntime.GC()
			return all
		}
		settle := park()
		var heap, stack int64
		for range b.N {
			var before, after goruntime.MemStats
			goruntime.GC()
			goruntime.ReadMemStats(&before)
			measured := park()
			goruntime.ReadMemStats(&after)
			heap += int64(after.HeapAlloc) - int64(before.HeapAlloc)
			stack += int64(after.StackInuse) - int64(before.StackInuse)
			for _, co := range measured {
				co.Resume()
			}
			runtime.Join(ctx, measured[:]...)
		}
		each := func(bytes int64) float64 { return float64(bytes) / float64(n*b.N) }
		b.ReportMetric(each(heap), "heap-B/coroutine")
		b.ReportMetric(each(stack), "stack-B/coroutine")
		b.ReportMetric(each(heap+stack), "B/coroutine")
		for _, co := range settle {
			co.Resume()
		}
		return nil
	}, runtime.WithLoops(1), runtime.WithWatchdog(0))
	if err != nil {
		b.Fatal(err)
	}
}
