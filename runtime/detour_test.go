package runtime_test

import (
	"context"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestDetourIsTheSameCoroutineAndMayWait(t *testing.T) {
	prints(t, `
		detour in coroutine#1
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

// All of them are on their detours at the same time, and wait, there and afterwards.
func TestDetoursOfManyCoroutines(t *testing.T) {
	program(t, func(ctx context.Context) {
		type key struct{}
		const many = 50
		var group runtime.WaitGroup
		gate := runtime.NewChannel[int](0)
		sum := 0
		for i := range many {
			group.Go(context.WithValue(ctx, key{}, i), func(ctx context.Context) {
				co := runtime.Current(ctx)
				for range 3 {
					err := runtime.Detour(ctx, func(inside context.Context) {
						n, err := gate.Pop(inside)
						if err != nil || inside != ctx || inside.Value(key{}) != i || runtime.Current(inside) != co {
							t.Errorf("coroutine %d: %v, value %v, in %v", i, err, inside.Value(key{}), runtime.Current(inside))
						}
						sum += deeper(1000) * n
					})
					if err != nil || runtime.Current(ctx) != co {
						t.Errorf("coroutine %d: %v, in %v", i, err, runtime.Current(ctx))
					}
					n, err := gate.Pop(ctx)
					if err != nil {
						t.Error(err)
					}
					sum += n
				}
			})
		}
		for range 2 * 3 * many {
			if err := gate.Push(ctx, 1); err != nil {
				t.Error(err)
			}
		}
		if err := group.Wait(ctx); err != nil || sum != 3*many*(1000+1) {
			t.Errorf("sum is %d, %v", sum, err)
		}
	})
}

// deeper returns n, and needs a stack for it.
func deeper(n int) int {
	var room [64]byte
	if n == 0 {
		return int(room[0])
	}
	room[n%len(room)] = byte(n)
	return deeper(n-1) + 1 - int(room[(n+1)%len(room)])
}

func TestDetourInADetour(t *testing.T) {
	program(t, func(ctx context.Context) {
		outer := runtime.Detour(ctx, func(ctx context.Context) {
			co := runtime.Current(ctx)
			workers := from(co.Context()).Stats().Workers
			wantExplosion(t, "inner Detour", runtime.Detour(ctx, func(ctx context.Context) {
				if runtime.Current(ctx) != co {
					t.Errorf("in %v", runtime.Current(ctx))
				}
				runtime.Yield(ctx)
				explode()
			}))
			runtime.Yield(ctx)
			if n := from(co.Context()).Stats().Workers; n != workers {
				t.Errorf("%d workers instead of %d: the inner one needs no other stack", n, workers)
			}
		})
		if outer != nil {
			t.Error(outer)
		}
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
		inside, after := make(chan error, 1), make(chan bool, 1)
		rt.Go(func(ctx context.Context) {
			ended, returned := false, false
			defer func() { after <- returned == ended }()
			runtime.Detour(ctx, func(ctx context.Context) {
				defer func() { inside <- runtime.Sleep(ctx, time.Hour) }()
				runtime.Sleep(ctx, time.Hour)
				ended = true
			})
			returned = true
		})
		parked(t, rt, 1, "sleep")
		if err := rt.Shutdown(with); err != nil {
			t.Errorf("%s Shutdown: %v", name, err)
		}
		wantError(t, name, receive(t, inside, "end of the detour"), runtime.ErrShutdown)
		if !receive(t, after, "end of the coroutine") {
			t.Errorf("%s Shutdown: the coroutine goes on behind a detour that was ended", name)
		}
	}
}

// After a Goexit in a Detour its goroutine is gone, and its identity may be that of another
// goroutine at once, which must not be taken for the coroutine.
func TestPlainGoroutineIsNeverTakenForACoroutineAfterAGoexit(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	over := make(chan bool)
	co, _ := rt.Go(func(ctx context.Context) {
		for end := time.Now().Add(time.Second); time.Now().Before(end); runtime.Yield(ctx) {
			runtime.Detour(ctx, func(context.Context) { goruntime.Goexit() })
		}
		close(over)
	})
	var asking sync.WaitGroup
	taken := new(atomic.Int64)
	for done := false; !done; {
		select {
		case <-over:
			done = true
		default:
			asking.Go(func() {
				if runtime.Current(context.Background()) != nil {
					taken.Add(1)
				}
			})
			goruntime.Gosched()
		}
	}
	asking.Wait()
	co.Join(context.Background())
	if n := taken.Load(); n > 0 {
		t.Errorf("%d plain goroutines were taken for the coroutine", n)
	}
}
