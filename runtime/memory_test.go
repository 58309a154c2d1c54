package runtime_test

import (
	"context"
	goruntime "runtime"
	"testing"

	"github.com/whorl-go/whorl/runtime"
)

// BenchmarkParkedCoroutine reports what a parked coroutine takes: heap, which includes the goroutine's descriptor, and stack.
//
// Go's runtime starts goroutines with the stack size that was enough on average at the last garbage collection, so the coroutines that are measured are
// made when there are some of their kind already.
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
		for range b.N {
			var before, after goruntime.MemStats
			goruntime.ReadMemStats(&before)
			measured := park()
			goruntime.ReadMemStats(&after)
			heap := float64(after.HeapAlloc-before.HeapAlloc) / n
			stack := float64(after.StackInuse-before.StackInuse) / n
			b.ReportMetric(heap, "heap-B/coroutine")
			b.ReportMetric(stack, "stack-B/coroutine")
			b.ReportMetric(heap+stack, "B/coroutine")
			for _, co := range measured {
				co.Resume()
			}
		}
		for _, co := range settle {
			co.Resume()
		}
		return nil
	}, runtime.WithLoops(1), runtime.WithWatchdog(0))
	if err != nil {
		b.Fatal(err)
	}
}
