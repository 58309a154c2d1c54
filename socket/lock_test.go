//go:build linux

package socket

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/runtime"
)

// inside runs fn in a coroutine of a runtime of two loops.
func inside(t testing.TB, fn func(ctx context.Context), options ...runtime.Option) {
	t.Helper()
	err := runtime.Run(func(ctx context.Context) error { fn(ctx); return nil }, append([]runtime.Option{runtime.WithLoops(2)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
}

// onGoroutine runs fn on a plain goroutine while the calling coroutine waits.
func onGoroutine(ctx context.Context, fn func()) {
	var done runtime.WaitGroup
	done.Add(1)
	go func() { defer done.Done(); fn() }()
	done.Wait(ctx)
}

func TestLockExcludes(t *testing.T) {
	kinds := map[string]uint32{"using": using, "reading": reading, "writing": writing, "both": both}
	excluded := map[[2]string]bool{
		{"reading", "reading"}: true, {"reading", "both"}: true, {"both", "reading"}: true,
		{"writing", "writing"}: true, {"writing", "both"}: true, {"both", "writing"}: true,
		{"both", "both"}: true,
	}
	inside(t, func(ctx context.Context) {
		home, err := runtime.HomeFor(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for first, held := range kinds {
			for second, wanted := range kinds {
				for _, shared := range []bool{false, true} {
					l := lock{home: home}
					here := func(fn func()) { fn() }
					if shared {
						here = func(fn func()) { onGoroutine(ctx, fn) }
					}
					if err := l.acquire(held); err != nil {
						t.Fatal(err)
					}
					here(func() {
						err := l.acquire(wanted)
						if excluded[[2]string{first, second}] {
							if err != ErrBusy {
								t.Errorf("%s while %s: %v", second, first, err)
							}
							return
						}
						if err != nil {
							t.Errorf("%s while %s: %v", second, first, err)
							return
						}
						if l.release(wanted) {
							t.Error("an open descriptor is to be destroyed")
						}
					})
					if l.shared.Load() != shared {
						t.Errorf("shared is %v", l.shared.Load())
					}
					if busy := l.busy(); busy != (first != "using") {
						t.Errorf("%s: busy is %v", first, busy)
					}
					if l.release(held) {
						t.Error("an open descriptor is to be destroyed")
					}
					if l.busy() {
						t.Error("busy after release")
					}
					if err := l.acquire(both); err != nil {
						t.Errorf("after %s and %s: %v", first, second, err)
					}
				}
			}
		}
	})
}

// The last user of a closed descriptor destroys it, be it Close itself.
func TestLockTellsTheLastUser(t *testing.T) {
	inside(t, func(ctx context.Context) {
		home, _ := runtime.HomeFor(ctx)
		for _, shared := range []bool{false, true} {
			l := lock{home: home}
			l.shared.Store(shared)
			l.shut.Store(true)
			if !l.close() {
				t.Error("nobody uses it, but close isn't the last")
			}

			l = lock{home: home}
			l.shared.Store(shared)
			for _, kind := range []uint32{reading, writing, using} {
				if err := l.acquire(kind); err != nil {
					t.Fatal(err)
				}
			}
			l.shut.Store(true)
			if l.close() {
				t.Error("close is the last though others use it")
			}
			for _, kind := range []uint32{using, reading, writing, both} {
				if err := l.acquire(kind); err != net.ErrClosed {
					t.Errorf("acquire after close: %v", err)
				}
			}
			for _, kind := range []uint32{writing, using} {
				if l.release(kind) {
					t.Error("release is the last though a reader is left")
				}
			}
			if !l.release(reading) {
				t.Error("the last release isn't the last")
			}
		}
	})
}

// Between Close and the loop that does it, nobody may begin but who closes.
func TestLockThatIsEnding(t *testing.T) {
	inside(t, func(ctx context.Context) {
		home, _ := runtime.HomeFor(ctx)
		for _, shared := range []bool{false, true} {
			l := lock{home: home}
			l.shared.Store(shared)
			l.ending.Store(true)
			for _, kind := range []uint32{using, reading, writing, both} {
				if err := l.acquire(kind); err != net.ErrClosed {
					t.Errorf("acquire while it is ending: %v", err)
				}
			}
			l.hold()
			if l.close() {
				t.Error("close is the last though it is held")
			}
			if !l.release(using) {
				t.Error("the last release isn't the last")
			}
		}
	})
}

// From many places at once: those who have a lock are alone with it, and exactly one is told to destroy the descriptor.
func TestLockUnderContention(t *testing.T) {
	const users, rounds = 4, 200
	inside(t, func(ctx context.Context) {
		home, _ := runtime.HomeFor(ctx)
		for range 20 {
			var (
				l                           = &lock{home: home}
				destroyed, readers, writers atomic.Int32
				all                         runtime.WaitGroup
			)
			use := func(pause func()) {
				for range rounds {
					kind := []uint32{using, reading, writing, both}[rand.IntN(4)]
					switch err := l.acquire(kind); {
					case errors.Is(err, net.ErrClosed):
						return
					case err != nil:
						pause()
						continue
					}
					if kind&lockReading != 0 && readers.Add(1) != 1 || kind&lockWriting != 0 && writers.Add(1) != 1 {
						t.Error("two at a time")
					}
					pause()
					if kind&lockReading != 0 {
						readers.Add(-1)
					}
					if kind&lockWriting != 0 {
						writers.Add(-1)
					}
					if l.release(kind) {
						destroyed.Add(1)
					}
				}
			}
			for i := range users {
				if i%2 == 0 {
					all.Go(ctx, func(ctx context.Context) { use(func() { runtime.Yield(ctx) }) })
					continue
				}
				all.Add(1)
				go func() { defer all.Done(); use(goruntime.Gosched) }()
			}
			var closers sync.WaitGroup
			for range 2 {
				all.Add(1)
				closers.Go(func() {
					defer all.Done()
					for range rand.IntN(2 * rounds) {
						goruntime.Gosched()
					}
					if l.shut.CompareAndSwap(false, true) {
						l.atHome(func() {
							if l.close() {
								destroyed.Add(1)
							}
						})
					}
				})
			}
			all.Wait(ctx)
			for destroyed.Load() == 0 { // what atHome has posted is on its way
				runtime.Yield(ctx)
			}
			if n := destroyed.Load(); n != 1 {
				t.Errorf("destroyed %d times", n)
			}
		}
	})
}
