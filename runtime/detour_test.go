package runtime_test

import (
	"context"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestDetourRunsInACoroutineOfItsOwnAndWaitsForIt(t *testing.T) {
	prints(t, `
		detour in coroutine#2
		others run
		detour ends
		main goes on: <nil>
		short detour
		main goes on: <nil>
	`, func(ctx context.Context, say func(string, ...any)) {
		err := runtime.Detour(ctx, func(ctx context.Context) {
			say("detour in %v", runtime.Current(ctx))
			start(ctx, func(context.Context) { say("others run") })
			runtime.Yield(ctx)
			say("detour ends")
		})
		say("main goes on: %v", err)
		err = runtime.Detour(ctx, func(context.Context) { say("short detour") })
		say("main goes on: %v", err)
	})
}

func TestPanicAndGoexitInADetour(t *testing.T) {
	program(t, func(ctx context.Context) {
		for _, wait := range []bool{false, true} {
			err := runtime.Detour(ctx, func(ctx context.Context) {
				if wait {
					runtime.Yield(ctx)
				}
				explode()
			})
			wantExplosion(t, "Detour", err)
			deferred := false
			runtime.Detour(ctx, func(ctx context.Context) {
				defer func() { deferred = true }()
				if wait {
					runtime.Yield(ctx)
				}
				goruntime.Goexit()
			})
			if !deferred {
				t.Error("Detour returned before its function had ended")
			}
		}
	})
}

func TestCancelReachesADetour(t *testing.T) {
	program(t, func(ctx context.Context) {
		var inside error
		traveller := start(ctx, func(ctx context.Context) {
			err := runtime.Detour(ctx, func(ctx context.Context) { inside = runtime.Sleep(ctx, time.Hour) })
			if err != nil {
				t.Errorf("Detour: %v", err)
			}
		})
		traveller.Cancel()
		traveller.Join(ctx)
		wantError(t, "Sleep in the detour", inside, context.Canceled)
	})
}

func TestDetourOutsideACoroutine(t *testing.T) {
	ran := false
	err := runtime.Detour(context.Background(), func(ctx context.Context) { ran = ctx == context.Background() })
	if !ran || err != nil {
		t.Errorf("ran with the caller's context: %v, error: %v", ran, err)
	}
	program(t, func(ctx context.Context) {
		result := runtime.NewChannel[error](1)
		runtime.Current(ctx).Loop().Post(func() {
			result.Push(ctx, runtime.Detour(ctx, func(context.Context) { t.Error("it ran") }))
		})
		err, _ := result.Pop(ctx)
		wantError(t, "Detour on the loop", err, runtime.ErrOnLoop)
	})
}

func TestShutdownDuringADetour(t *testing.T) {
	for name, with := range map[string]context.Context{"orderly": context.Background(), "forced": expired()} {
		rt := startRuntime(t, runtime.WithLoops(1))
		inside := make(chan error, 1)
		rt.Go(func(ctx context.Context) {
			runtime.Detour(ctx, func(ctx context.Context) {
				defer func() { inside <- runtime.Sleep(ctx, time.Hour) }()
				runtime.Sleep(ctx, time.Hour)
			})
		})
		parked(t, rt, 1, "detour")
		if err := rt.Shutdown(with); err != nil {
			t.Errorf("%s Shutdown: %v", name, err)
		}
		wantError(t, name, receive(t, inside, "end of the detour"), runtime.ErrShutdown)
	}
}
