package event_test

import (
	"context"
	"testing"
	"time"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
)

func benchmark(b *testing.B, main func(ctx context.Context)) {
	err := runtime.Run(func(ctx context.Context) error {
		b.ReportAllocs()
		main(ctx)
		return nil
	}, runtime.WithLoops(1), runtime.WithWatchdog(0))
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDefer(b *testing.B) {
	benchmark(b, func(ctx context.Context) {
		nothing := func(context.Context) {}
		for n := 0; b.Loop(); n++ {
			event.Defer(ctx, nothing)
			if n%100 == 99 {
				runtime.Yield(ctx)
			}
		}
	})
}

func BenchmarkAfterClear(b *testing.B) {
	benchmark(b, func(ctx context.Context) {
		nothing := func(context.Context) {}
		for b.Loop() {
			timer, _ := event.After(ctx, time.Hour, nothing)
			timer.Clear()
		}
	})
}

func BenchmarkBeat(b *testing.B) {
	benchmark(b, func(ctx context.Context) {
		event.Tick(ctx, 1, func(context.Context) {})
		for b.Loop() {
			runtime.Yield(ctx)
		}
		event.ClearAll(ctx)
	})
}

func BenchmarkReadable(b *testing.B) {
	benchmark(b, func(ctx context.Context) {
		calls := 0
		r, w := pipe(b)
		w.write("x")
		event.Add(ctx, r.fd, func(context.Context) { calls++ }, nil)
		for b.Loop() {
			runtime.Yield(ctx)
		}
		event.Del(ctx, r.fd)
		b.ReportMetric(float64(calls)/float64(b.N), "calls/op")
	})
}
