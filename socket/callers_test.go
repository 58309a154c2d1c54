//go:build linux

package socket_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// soon is for time-outs that are to pass, patience for those that are not.
const (
	soon     = 20 * time.Millisecond
	patience = 30 * time.Second
)

// A caller is a kind of goroutine that makes calls, with the context that it has.
type caller struct {
	name string
	call func(ctx context.Context, fn func(ctx context.Context))
}

// callers are all of them; call is made in a coroutine, and returns when fn has.
var callers = []caller{
	{"coroutine", func(ctx context.Context, fn func(ctx context.Context)) { fn(ctx) }},
	{"goroutine of a coroutine", onGoroutine},
	{"plain goroutine", func(ctx context.Context, fn func(ctx context.Context)) {
		rt, _ := runtime.From(ctx)
		onGoroutine(rt.Context(), fn)
	}},
	{"goroutine without a runtime's context", func(ctx context.Context, fn func(ctx context.Context)) {
		onGoroutine(context.Background(), fn)
	}},
	{"coroutine of another loop", func(ctx context.Context, fn func(ctx context.Context)) {
		elsewhere(ctx, fn).Join(ctx)
	}},
}

// onGoroutine runs fn on a goroutine and waits for it.
func onGoroutine(ctx context.Context, fn func(ctx context.Context)) {
	var done runtime.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		fn(ctx)
	}()
	done.Wait(context.WithoutCancel(ctx))
}

// elsewhere starts a coroutine on another loop than the caller's.
func elsewhere(ctx context.Context, fn func(ctx context.Context)) *runtime.Coroutine {
	rt, _ := runtime.From(ctx)
	here := runtime.Current(ctx).Loop()
	for {
		co, err := rt.Go(func(ctx context.Context) {
			if runtime.Current(ctx).Loop() != here {
				fn(ctx)
			}
		})
		if err != nil {
			panic(err)
		}
		if co.Loop() != here {
			return co
		}
	}
}

// start is runtime.Go for tests that have no use for its error.
func start(ctx context.Context, fn func(ctx context.Context)) *runtime.Coroutine {
	co, err := runtime.Go(ctx, fn)
	if err != nil {
		panic(err)
	}
	return co
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

// sleepsFully checks that no wake-up was left over for the caller: it would end the next wait
// early.
func sleepsFully(ctx context.Context, t testing.TB) {
	t.Helper()
	begun := time.Now()
	if err := runtime.Sleep(context.WithoutCancel(ctx), time.Millisecond); err != nil {
		t.Error(err)
	}
	if time.Since(begun) < time.Millisecond {
		t.Error("a wake-up was left over")
	}
}

// fresh makes a Socket.
func fresh(t testing.TB, network string) *socket.Socket {
	t.Helper()
	s, err := socket.New(network)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
