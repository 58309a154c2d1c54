package sched_test

import (
	"context"
	"os"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func inner(co *runtime.Coroutine) *sched.Coroutine { return (*sched.Coroutine)(co) }

type key struct{}

// start is runtime.Go for tests that have no use for its error.
func start(ctx context.Context, fn func(ctx context.Context)) *runtime.Coroutine {
	co, err := runtime.Go(ctx, fn)
	if err != nil {
		panic(err)
	}
	return co
}

func TestJoinThatGivesUpIsForgotten(t *testing.T) {
	runtimetest.Coroutine(t, runtimetest.Quiet, func(ctx context.Context, t *testing.T) {
		longLived := start(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
		for range 100 {
			short, cancel := context.WithTimeout(ctx, time.Microsecond)
			leaktest.WantError(t, "Join", longLived.Join(short), context.DeadlineExceeded)
			cancel()
		}
		if n := sched.JoinsOf(inner(longLived)); n != 0 {
			t.Errorf("%d calls of Join that have ended are remembered", n)
		}
		longLived.Resume()
		if err := longLived.Join(ctx); err != nil {
			t.Error(err)
		}
	})
}

// All that is left of very many coroutines whose contexts were waited for is taken back.
func TestEndedContextsLeaveNothingBehind(t *testing.T) {
	const n = 100_000
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(1))...)
	longLived, cancel := context.WithCancel(rt.Context())
	defer cancel()
	begin := make(chan bool)
	co := start(longLived, func(ctx context.Context) {
		runtime.Await(ctx, func() (bool, error) { return <-begin, nil })
		for i := range n {
			bases := []context.Context{rt.Context(), ctx, context.WithValue(ctx, key{}, 1)}
			start(bases[i%3], func(ctx context.Context) { ctx.Done() })
		}
		runtime.Suspend(ctx)
	})
	left := func() int {
		return sched.FollowersOf((*sched.Runtime)(rt)) + sched.FollowersOfCoroutine(inner(co))
	}
	before := left()
	close(begin)
	leaktest.Until(t, "all have ended", func() bool {
		return rt.Stats().Created == n+1 && rt.Stats().Coroutines == 1
	})
	leaktest.Until(t, "nothing follows the contexts but some that have just ended", func() bool {
		goruntime.GC()
		var group runtime.WaitGroup
		for range 200 {
			for _, base := range []context.Context{rt.Context(), co.Context()} {
				group.Go(base, func(ctx context.Context) { ctx.Done() })
			}
		}
		group.Wait(rt.Context())
		return left() <= before+2000
	})
}

func TestAllThatWaitForASignalGetIt(t *testing.T) {
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2))...)
	results := make(chan os.Signal, 3)
	wait := func(ctx context.Context) {
		s, _ := runtime.WaitSignal(ctx, syscall.SIGUSR1)
		results <- s
	}
	rt.Go(wait)
	rt.Go(wait)
	go wait(rt.Context())
	leaktest.Until(t, "all wait", func() bool { return sched.SignalWaits((*sched.Runtime)(rt)) == 3 })
	syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
	for range 3 {
		if s := <-results; s != syscall.SIGUSR1 {
			t.Errorf("got %v", s)
		}
	}
}

func TestShutdownEndsWaitSignal(t *testing.T) {
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	result := make(chan error, 1)
	go func() {
		_, err := runtime.WaitSignal(context.WithoutCancel(rt.Context()), syscall.SIGUSR1)
		result <- err
	}()
	leaktest.Until(t, "it waits", func() bool { return sched.SignalWaits((*sched.Runtime)(rt)) == 1 })
	rt.Shutdown(context.Background())
	leaktest.WantError(t, "WaitSignal", <-result, runtime.ErrShutdown)
}
