package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunReturnsWhatMainReturns(t *testing.T) {
	want := errors.New("x")
	if err := runtime.Run(func(ctx context.Context) error { return want }); err != want {
		t.Fatal(err)
	}
}

func TestSmoke(t *testing.T) {
	var out []string
	err := runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		runtime.Go(ctx, func(ctx context.Context) {
			for {
				v, err := ch.Pop(ctx)
				if err != nil {
					out = append(out, "closed")
					return
				}
				out = append(out, fmt.Sprint("pop ", v))
			}
		})
		for i := range 3 {
			out = append(out, fmt.Sprint("push ", i))
			ch.Push(ctx, i)
		}
		ch.Close()
		start := time.Now()
		runtime.Sleep(ctx, 10*time.Millisecond)
		if time.Since(start) < 10*time.Millisecond {
			t.Error("early")
		}
		v, err := runtime.Await(ctx, func() (int, error) { time.Sleep(time.Millisecond); return 7, nil })
		out = append(out, fmt.Sprint(v, err))
		done := runtime.NewChannel[int](1)
		go func() {
			runtime.Sleep(ctx, time.Millisecond)
			done.Push(ctx, 9)
		}()
		v, err = done.Pop(ctx)
		out = append(out, fmt.Sprint(v, err))
		return nil
	})
	t.Log(out, err)
}

func TestDeadlock(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		runtime.Go(ctx, func(ctx context.Context) { var g runtime.WaitGroup; g.Add(1); g.Wait(ctx) })
		_, err := ch.Pop(ctx)
		return err
	})
	t.Log(err)
	if e := new(runtime.DeadlockError); !errors.As(err, &e) || len(e.Coroutines) != 2 {
		t.Fatal(err)
	}
}

func BenchmarkSwitchPair(b *testing.B) {
	runtime.Run(func(ctx context.Context) error {
		co, _ := runtime.Go(ctx, func(ctx context.Context) {
			for runtime.Suspend(ctx) == nil {
			}
		})
		b.ReportAllocs()
		for b.Loop() {
			co.Resume()
		}
		co.Cancel()
		return nil
	}, runtime.WithLoops(1))
}

func BenchmarkGo(b *testing.B) {
	runtime.Run(func(ctx context.Context) error {
		b.ReportAllocs()
		for b.Loop() {
			runtime.Go(ctx, func(ctx context.Context) {})
		}
		return nil
	}, runtime.WithLoops(1))
}

func BenchmarkYield(b *testing.B) {
	runtime.Run(func(ctx context.Context) error {
		b.ReportAllocs()
		for b.Loop() {
			runtime.Yield(ctx)
		}
		return nil
	}, runtime.WithLoops(1))
}

func BenchmarkChannelHandOver(b *testing.B) {
	runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		runtime.Go(ctx, func(ctx context.Context) {
			for {
				if _, err := ch.Pop(ctx); err != nil {
					return
				}
			}
		})
		b.ReportAllocs()
		for b.Loop() {
			ch.Push(ctx, 1)
		}
		ch.Close()
		return nil
	}, runtime.WithLoops(1))
}
