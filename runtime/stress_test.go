package runtime_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/runtime"
)

// Two hundred coroutines on four loops, and some goroutines, do everything at once for a while,
// cancel each other, and are shut down in the middle of it. It has to end cleanly, and what can be
// counted must add up.
func TestEverythingAtOnce(t *testing.T) {
	guard(t)
	rt, err := runtime.New(silent([]runtime.Option{runtime.WithLoops(4), runtime.WithAwaitLimit(8)})...)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	const coroutines, goroutines = 200, 10
	var (
		channels       [5]*runtime.Channel[int]
		mu             runtime.Mutex
		pushed, popped atomic.Int64
		operations     atomic.Int64
		victims        sync.Map // coroutines to cancel
		ended          sync.WaitGroup
	)
	for i := range channels {
		channels[i] = runtime.NewChannel[int](1 + i)
	}
	operation := func(ctx context.Context) {
		ch := channels[rand.IntN(len(channels))]
		switch rand.IntN(9) {
		case 0, 1:
			if ch.PushTimeout(ctx, 1, time.Millisecond) == nil {
				pushed.Add(1)
			}
		case 2, 3:
			if _, err := ch.PopTimeout(ctx, time.Millisecond); err == nil {
				popped.Add(1)
			}
		case 4:
			if mu.Lock(ctx) == nil {
				runtime.Yield(ctx)
				mu.Unlock()
			}
		case 5:
			runtime.Await(ctx, func() (int, error) { return 1, nil })
		case 6:
			runtime.Sleep(ctx, time.Duration(rand.IntN(500))*time.Microsecond)
		case 7:
			child, err := runtime.Go(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Duration(rand.IntN(2000))*time.Microsecond) })
			if err == nil {
				victims.Store(child, true)
				child.Join(ctx)
				victims.Delete(child)
			}
		case 8:
			runtime.Map(ctx, []int{1, 2, 3}, func(ctx context.Context, i int) (int, error) { return i, runtime.Yield(ctx) })
		}
		operations.Add(1)
	}
	work := func(ctx context.Context) {
		if co := runtime.Current(ctx); co != nil {
			victims.Store(co, true)
			defer victims.Delete(co)
		}
		for ctx.Err() == nil {
			short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Microsecond)
			switch rand.IntN(3) {
			case 0:
				operation(short)
			case 1:
				operation(ctx)
			case 2:
				go cancel()
				operation(short)
			}
			cancel()
		}
	}
	for range coroutines {
		if _, err := rt.Go(work); err != nil {
			t.Error(err)
		}
	}
	for range goroutines {
		ended.Go(func() { work(rt.Context()) })
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < time.Second; <-tick.C {
		victims.Range(func(co, _ any) bool {
			if co.(*runtime.Coroutine).Cancel(); co.(*runtime.Coroutine).Parent() == -1 {
				rt.Go(work) // in its place
			}
			return rand.IntN(3) > 0
		})
		rt.List()
		rt.Stats()
	}
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	ended.Wait()
	var left int64
	for _, ch := range channels {
		left += int64(ch.Len())
		if producers, consumers := ch.Waiting(); producers+consumers != 0 {
			t.Errorf("still in a queue: %d producers, %d consumers", producers, consumers)
		}
	}
	if pushed.Load() != popped.Load()+left {
		t.Errorf("%d pushed, %d popped, %d left", pushed.Load(), popped.Load(), left)
	}
	if !mu.TryLock() {
		t.Error("the mutex is locked")
	}
	if st := rt.Stats(); st.Coroutines != 0 || st.Workers != 0 {
		t.Errorf("Stats: %+v", st)
	}
	if operations.Load() < 1000 {
		t.Errorf("%d operations: this test shows nothing", operations.Load())
	}
	goleak.VerifyNone(t)
}
