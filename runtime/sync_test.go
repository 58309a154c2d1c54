package runtime_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestMutexExcludesOverLoopsAndGoroutines(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(3))
	var mu runtime.Mutex
	var inside atomic.Int32
	counter, locked := 0, atomic.Int32{} // counter is guarded by mu only, as the race detector will notice
	var ended sync.WaitGroup
	for i := range 12 {
		ended.Add(1)
		work := func(ctx context.Context) {
			defer ended.Done()
			for range 60 {
				short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(400))*time.Microsecond)
				if err := mu.Lock(short); err == nil {
					if inside.Add(1) != 1 {
						t.Error("two have locked the mutex")
					}
					counter++
					locked.Add(1)
					if rand.IntN(4) == 0 {
						runtime.Sleep(ctx, 50*time.Microsecond)
					}
					inside.Add(-1)
					mu.Unlock()
				}
				cancel()
			}
		}
		if i%4 == 0 {
			go work(rt.Context())
		} else {
			rt.Go(work)
		}
	}
	ended.Wait()
	if !mu.TryLock() {
		t.Error("in the end the mutex is locked")
	}
	if counter != int(locked.Load()) || counter == 0 {
		t.Errorf("counted %d, locked %d times", counter, locked.Load())
	}
}

func TestMisuseOfMutexAndWaitGroupPanics(t *testing.T) {
	panics := func(what string, fn func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", what)
			}
		}()
		fn()
	}
	var mu runtime.Mutex
	var group runtime.WaitGroup
	panics("Unlock of an unlocked Mutex", mu.Unlock)
	panics("Done of an empty WaitGroup", group.Done)
	group.Add(2)
	panics("Add(-3) to 2", func() { group.Add(-3) })
	if !mu.TryLock() || group.Count() != 2 {
		t.Error("a misuse has changed something")
	}
}

func TestWaitGroupOverLoops(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt := from(ctx)
		for range 50 {
			var group runtime.WaitGroup
			var done atomic.Int32
			for range 10 {
				group.Add(1)
				rt.Go(func(ctx context.Context) {
					defer group.Done()
					runtime.Yield(ctx)
					done.Add(1)
				})
			}
			var waiters []*runtime.Coroutine
			for range 3 {
				co, _ := rt.Go(func(ctx context.Context) {
					if err := group.Wait(ctx); err != nil || done.Load() != 10 {
						t.Errorf("Wait returned %v when %d of 10 were done", err, done.Load())
					}
				})
				waiters = append(waiters, co)
			}
			if err := group.Wait(ctx); err != nil || done.Load() != 10 {
				t.Errorf("Wait returned %v when %d of 10 were done", err, done.Load())
			}
			runtime.Join(ctx, waiters...)
		}
	}, runtime.WithLoops(3))
}

func TestWaitGroupIsDoneWhenItsCoroutinePanics(t *testing.T) {
	program(t, func(ctx context.Context) {
		var group runtime.WaitGroup
		group.Go(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			panic("on purpose")
		})
		if err := group.Wait(ctx); err != nil || group.Count() != 0 {
			t.Errorf("Wait: %v, count %d", err, group.Count())
		}
	}, panicsAreMeant())
}

func TestJoin(t *testing.T) {
	program(t, func(ctx context.Context) {
		ended := start(ctx, func(context.Context) {})
		if err := runtime.Join(ctx); err != nil {
			t.Errorf("Join of nobody: %v", err)
		}
		if err := runtime.Join(ctx, ended, ended); err != nil {
			t.Errorf("Join of one that has ended: %v", err)
		}
		if err := runtime.Join(ctx, ended, runtime.Current(ctx)); err == nil {
			t.Error("a coroutine joined itself")
		}
		slow := start(ctx, func(ctx context.Context) { runtime.Sleep(ctx, 5*time.Millisecond) })
		var joiners []*runtime.Coroutine
		for range 3 { // several may wait for one
			joiners = append(joiners, start(ctx, func(ctx context.Context) {
				if err := runtime.Join(ctx, ended, slow, slow); err != nil || !slow.Ended() {
					t.Errorf("Join: %v, ended: %v", err, slow.Ended())
				}
			}))
		}
		if err := runtime.Join(ctx, joiners...); err != nil {
			t.Error(err)
		}
	})
}

func TestJoinOverLoopsRacesTheEnd(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt := from(ctx)
		for range 500 {
			co, err := rt.Go(func(context.Context) {})
			if err != nil {
				t.Fatal(err)
			}
			if err := co.Join(ctx); err != nil || !co.Ended() {
				t.Fatalf("Join: %v, ended: %v", err, co.Ended())
			}
		}
	}, runtime.WithLoops(3))
}

func TestSuspendOutsideACoroutine(t *testing.T) {
	if err := runtime.Suspend(context.Background()); err == nil {
		t.Error("no error")
	}
}

// Any goroutine may resume a coroutine: each Suspend is ended once, by one of them.
func TestResumeFromManyGoroutines(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	const n = 500
	var suspended atomic.Int32
	co, _ := rt.Go(func(ctx context.Context) {
		for range n {
			if err := runtime.Suspend(ctx); err != nil {
				t.Error(err)
			}
			suspended.Add(1)
		}
	})
	var resumed atomic.Int32
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for !co.Ended() {
				if co.Resume() == nil {
					resumed.Add(1)
				} else {
					runtime.Yield(context.Background())
				}
			}
		})
	}
	all.Wait()
	if suspended.Load() != n || resumed.Load() != n {
		t.Errorf("%d times suspended, %d times resumed, want %d", suspended.Load(), resumed.Load(), n)
	}
}
