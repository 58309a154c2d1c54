package runtime_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

func TestGoSpreadUsesTheLoopsInTurn(t *testing.T) {
	everywhere := func(ctx context.Context) string {
		var mu sync.Mutex
		loops := make(map[string]int)
		var group runtime.WaitGroup
		for range 30 {
			err := group.GoSpread(ctx, func(ctx context.Context) {
				mu.Lock()
				defer mu.Unlock()
				loops[runtime.Current(ctx).Loop().Name()]++
			})
			if err != nil {
				t.Error(err)
			}
		}
		group.Wait(ctx)
		return fmt.Sprint(loops)
	}
	const want = "map[whorl-0:10 whorl-1:10 whorl-2:10]"
	program(t, func(ctx context.Context) {
		if got := everywhere(ctx); got != want {
			t.Errorf("from a coroutine: %s", got)
		}
	}, runtime.WithLoops(3))
	rt := startRuntime(t, runtime.WithLoops(3))
	if got := everywhere(rt.Context()); got != want {
		t.Errorf("from a goroutine: %s", got)
	}
}

func TestGoSpreadStartsAChild(t *testing.T) {
	program(t, func(ctx context.Context) {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, keyOfTest{}, 7))
		result := runtime.NewChannel[error](1)
		co, err := runtime.GoSpread(ctx, func(ctx context.Context) {
			if ctx.Value(keyOfTest{}) != 7 {
				t.Error("the child lacks the context's value")
			}
			result.Push(context.Background(), runtime.Sleep(ctx, time.Hour))
		})
		if err != nil || co.Parent() != runtime.Current(ctx).ID() {
			t.Errorf("parent is %d, error %v", co.Parent(), err)
		}
		cancel()
		err, _ = result.Pop(context.Background())
		wantError(t, "the child's Sleep", err, context.Canceled)
	}, runtime.WithLoops(2))
}

// For a runtime, the coroutines of another one are strangers.
func TestGoSpreadFromAnotherRuntime(t *testing.T) {
	other := startRuntime(t)
	program(t, func(ctx context.Context) {
		there := context.WithoutCancel(other.Context())
		co, err := runtime.GoSpread(there, func(context.Context) {})
		if err != nil || co.Parent() != -1 {
			t.Errorf("parent is %d, error %v", co.Parent(), err)
		}
		release := make(chan int)
		if _, err := other.Go(func(ctx context.Context) {
			sched.AwaitEnd(ctx, func() (int, error) { return <-release, nil })
		}); err != nil {
			t.Error(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- other.Shutdown(context.Background()) }()
		<-other.Context().Done()
		_, err = runtime.GoSpread(there, func(context.Context) { t.Error("begun while it ends") })
		wantError(t, "GoSpread", err, runtime.ErrShutdown)
		close(release)
		if _, err := runtime.Await(ctx, func() (int, error) { return 0, <-ended }); err != nil {
			t.Error(err)
		}
	})
}

// A context that is done already means that nothing is begun.
func TestNothingBeginsWithAContextThatIsDone(t *testing.T) {
	check := func(t *testing.T, ctx context.Context) {
		done, cancel := context.WithCancel(ctx)
		cancel()
		never := func(context.Context) { t.Error("a coroutine was started") }
		ended := start(ctx, func(context.Context) {})
		ended.Join(ctx)
		one, group, mu := runtime.NewChannel[int](2), new(runtime.WaitGroup), new(runtime.Mutex)
		one.Push(ctx, 1)
		for what, begin := range map[string]func() error{
			"Go":           func() error { _, err := runtime.Go(done, never); return err },
			"GoSpread":     func() error { _, err := runtime.GoSpread(done, never); return err },
			"GoDeep":       func() error { _, err := sched.GoDeep(done, never); return err },
			"WaitGroup.Go": func() error { return group.Go(done, never) },
			"WaitGroup":    func() error { return group.Wait(done) },
			"Mutex":        func() error { return mu.Lock(done) },
			"Sleep":        func() error { return runtime.Sleep(done, time.Microsecond) },
			"Sleep(0)":     func() error { return runtime.Sleep(done, 0) },
			"Yield":        func() error { return runtime.Yield(done) },
			"Push":         func() error { return one.Push(done, 2) },
			"Pop":          func() error { _, err := one.Pop(done); return err },
			"Join":         func() error { return ended.Join(done) },
			"Join of none": func() error { return runtime.Join(done) },
			"WaitSignal":   func() error { _, err := runtime.WaitSignal(done, syscall.SIGUSR2); return err },
			"Await": func() error {
				_, err := runtime.Await(done, func() (int, error) { t.Error("called"); return 0, nil })
				return err
			},
			"ForEach": func() error {
				return runtime.ForEach(done, 1, func(context.Context, int) error { t.Error("called"); return nil })
			},
			"ForEach of 0": func() error { return runtime.ForEach(done, 0, nil) },
			"Map": func() error {
				_, err := runtime.Map(done, []int{1}, func(context.Context, int) (int, error) { t.Error("called"); return 0, nil })
				return err
			},
			"Push, timeout": func() error { return one.PushTimeout(done, 2, time.Hour) },
		} {
			wantError(t, what, begin(), context.Canceled)
		}
		if one.Len() != 1 || !mu.TryLock() {
			t.Errorf("the channel has %d values, or the mutex is locked", one.Len())
		}
	}
	everywhere(t, check)
}
