package event_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
)

// Everything at once, from plain goroutines and coroutines of two loops, with a Shutdown in the
// middle. What was accepted must end, or Shutdown would not return; what is refused must be refused
// for the shutdown's sake.
func TestStress(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		core, logs := observer.New(zap.ErrorLevel)
		rt := started(t, runtime.WithLoops(2), runtime.WithLogger(zap.New(core)))
		var busy sync.WaitGroup
		var done atomic.Bool
		for worker := range 4 {
			a, b := socketpair(t)
			ctx := rt.Context()
			step := func(ctx context.Context) { stressStep(t, ctx, a, b) }
			if worker%2 == 0 {
				busy.Go(func() {
					for !done.Load() {
						for range 16 {
							step(ctx)
						}
						keepUp(ctx)
					}
				})
				continue
			}
			rt.Go(func(ctx context.Context) {
				for !done.Load() {
					for range 16 {
						step(ctx)
						runtime.Yield(ctx)
					}
					runtime.Sleep(ctx, 100*time.Microsecond) // a loop that never waits starves the rest when GOMAXPROCS is 1
				}
			})
		}
		ticks := make(chan struct{}, 1)
		event.Tick(rt.Context(), 100*time.Microsecond, func(context.Context) {
			select {
			case ticks <- struct{}{}:
			default:
			}
		})
		for range 10 {
			<-ticks
		}
		shutdown := make(chan error)
		go func() { shutdown <- rt.Shutdown(context.Background()) }()
		<-rt.Context().Done()
		done.Store(true)
		if err := <-shutdown; err != nil {
			t.Error(err)
		}
		busy.Wait()
		if logs.Len() > 0 {
			t.Error(logs.All()[0])
		}
	}
}

// keepUp waits until the loop has caught up with the caller, a plain goroutine.
func keepUp(ctx context.Context) {
	called := make(chan struct{})
	if event.Defer(ctx, func(context.Context) { close(called) }) == nil {
		<-called
	}
}

func stressStep(t *testing.T, ctx context.Context, a, b *descriptor) {
	nothing := func(context.Context) {}
	var err error
	switch rand.IntN(8) {
	case 0:
		_, err = event.After(ctx, time.Duration(1+rand.IntN(1000)), func(ctx context.Context) { runtime.Yield(ctx) })
	case 1:
		var tick *event.Timer
		if tick, err = event.Tick(ctx, time.Duration(1+rand.IntN(1000)), nothing); err == nil {
			tick.Info()
			tick.Clear()
		}
	case 2:
		ctx, cancel := context.WithCancel(ctx)
		_, err = event.Tick(ctx, time.Hour, nothing)
		cancel()
	case 3:
		err = event.Defer(ctx, func(ctx context.Context) { event.Defer(ctx, nothing) })
	case 4:
		err = event.Cycle(ctx, nothing, rand.IntN(2) == 0)
	case 5:
		event.Cycle(ctx, nil, rand.IntN(2) == 0)
	case 6:
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err = event.Add(ctx, a.fd, func(ctx context.Context) { a.read() }, nothing)
		if err == nil {
			syscall.Write(b.fd, []byte("x")) // may be full
			event.Set(ctx, a.fd, func(ctx context.Context) { runtime.Yield(ctx); a.read() }, nil)
			if rand.IntN(2) == 0 {
				event.Del(ctx, a.fd)
			}
		} else if !errors.Is(err, runtime.ErrShutdown) { // the cancelled watch of the last time may not have gone yet
			err = nil
		}
	case 7:
		for _, timer := range event.List(ctx) {
			if timer.Info().Interval == time.Hour {
				event.Clear(ctx, timer.ID())
			}
		}
	}
	if err != nil && !errors.Is(err, runtime.ErrShutdown) && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Run's end and a cycle function, which is no reason to wait, don't disturb each other.
func TestRunEndsWhileTheLoopCycles(t *testing.T) {
	for range 20 {
		run(t, func(ctx context.Context) error {
			nothing := func(ctx context.Context) { runtime.Yield(ctx) }
			event.Cycle(ctx, nothing, true)
			event.Cycle(ctx, nothing, false)
			return nil
		})
	}
}
