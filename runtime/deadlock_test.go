package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// line returns the place of its caller, as a deadlock reports it, some lines further down.
func line(further int) string {
	_, file, n, _ := goruntime.Caller(1)
	return fmt.Sprintf("%s:%d", file, n+further)
}

// wantDeadlock checks that the error lists the waits, each as "what for at where".
func wantDeadlock(t *testing.T, err error, want ...string) {
	t.Helper()
	var deadlock *runtime.DeadlockError
	if !errors.As(err, &deadlock) {
		t.Errorf("Run returned %v, not a DeadlockError", err)
		return
	}
	var got []string
	for _, co := range deadlock.Coroutines {
		got = append(got, co.Waiting+" at "+co.Where)
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("deadlock of:\n%s\nwant:\n%s", g, w)
	}
	for i, co := range deadlock.Coroutines {
		if text := fmt.Sprintf("coroutine#%d: %s", co.ID, want[i]); !strings.Contains(err.Error(), text) {
			t.Errorf("the error's text lacks %q:\n%v", text, err)
		}
	}
}

func TestDeadlockIsReportedWithThePlaceOfEachWait(t *testing.T) {
	var want []string
	wait := func(what, where string) { want = append(want, what+" at "+where) }
	var deferred []string
	err := run(t, func(ctx context.Context) error {
		never := runtime.NewChannel[int](1)
		full := runtime.NewChannel[int](1)
		full.Push(ctx, 1)
		var group runtime.WaitGroup
		group.Add(1)
		var mu runtime.Mutex
		mu.Lock(ctx)
		wait("channel pop", line(+23)) // main is the oldest
		start(ctx, func(ctx context.Context) {
			runtime.Defer(ctx, func(context.Context) { deferred = append(deferred, "runtime.Defer") })
			defer func() { deferred = append(deferred, "defer") }()
			wait("channel push", line(+1))
			full.Push(ctx, 2)
		})
		start(ctx, func(ctx context.Context) {
			wait("wait group", line(+1))
			group.Wait(ctx)
		})
		start(ctx, func(ctx context.Context) {
			wait("mutex", line(+1))
			mu.Lock(ctx)
		})
		start(ctx, func(ctx context.Context) {
			wait("suspend", line(+1))
			runtime.Suspend(ctx)
		})
		start(ctx, func(ctx context.Context) {
			wait("join", line(+1))
			start(ctx, waitsDeepDown(never, wait)).Join(ctx)
		})
		_, err := never.Pop(ctx)
		return err
	}, runtime.WithLoops(1))
	wantDeadlock(t, err, want...)
	if s := strings.Join(deferred, " "); s != "defer runtime.Defer" {
		t.Errorf("deferred functions that ran: %s", s)
	}
	for _, place := range want {
		if !strings.Contains(place, filepath.Join("runtime", "deadlock_test.go")) {
			t.Errorf("not a place in this file: %s", place)
		}
	}
}

// waitsDeepDown waits in a function of Whorl that calls others: what counts is where its user
// called it.
func waitsDeepDown(ch *runtime.Channel[int], wait func(what, where string)) func(ctx context.Context) {
	return func(ctx context.Context) {
		wait("wait group", line(+1))
		runtime.ForEach(ctx, 1, func(ctx context.Context, i int) error {
			wait("channel pop", line(+1))
			_, err := ch.Pop(ctx)
			return err
		})
	}
}

func TestDeadlockOverTwoLoops(t *testing.T) {
	var want []string
	err := run(t, func(ctx context.Context) error {
		rt := from(ctx)
		a, b := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
		began := runtime.NewChannel[bool](1)
		rt.Go(func(context.Context) {}) // is on the first loop, so the next one is on the second
		co, _ := rt.Go(func(ctx context.Context) {
			began.Push(ctx, true)
			b.Pop(ctx)
		})
		began.Pop(ctx)
		if co.Loop() == runtime.Current(ctx).Loop() {
			t.Error("both coroutines are on one loop: this test shows nothing")
		}
		defer b.Close() // wakes the other one, which must be in the report all the same
		want = append(want, "channel pop at "+line(+1))
		_, err := a.Pop(ctx)
		return err
	}, runtime.WithLoops(2))
	var deadlock *runtime.DeadlockError
	if !errors.As(err, &deadlock) || len(deadlock.Coroutines) != 2 {
		t.Fatalf("Run returned %v", err)
	}
	if main := deadlock.Coroutines[0]; main.Waiting+" at "+main.Where != want[0] {
		t.Errorf("main: %v, want %s", main, want[0])
	}
}

func TestDeadlockWithAGoroutineThatWaitsToo(t *testing.T) {
	guard(t)
	ch := runtime.NewChannel[int](1)
	gone := make(chan error, 1)
	err := runtime.Run(func(ctx context.Context) error {
		go func() {
			_, err := ch.Pop(context.Background())
			gone <- err
		}()
		_, err := runtime.NewChannel[int](1).Pop(ctx)
		return err
	}, silent(nil)...)
	if e := new(runtime.DeadlockError); !errors.As(err, &e) || len(e.Coroutines) != 1 {
		t.Errorf("Run returned %v", err)
	}
	ch.Close()
	wantError(t, "Pop of the goroutine", receive(t, gone, "end of the goroutine"), runtime.ErrChannelClosed)
}

func TestDeadlockInADetour(t *testing.T) {
	err := run(t, func(ctx context.Context) error {
		return runtime.Detour(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
	})
	if e := new(runtime.DeadlockError); !errors.As(err, &e) || len(e.Coroutines) != 1 {
		t.Errorf("Run returned %v", err)
	}
}

// One that ignores the error of the deadlock, and all others, must not keep Run from returning it.
func TestDeadlockOfACoroutineThatIgnoresErrors(t *testing.T) {
	defer runtime.HurryDeadlock(10*time.Millisecond, 10*time.Millisecond)()
	err := run(t, func(ctx context.Context) error {
		for {
			runtime.Suspend(ctx)
		}
	})
	if e := new(runtime.DeadlockError); !errors.As(err, &e) {
		t.Errorf("Run returned %v", err)
	}
}

// What these programs wait for comes after the time in which a deadlock would have been found.
func TestNoDeadlockWhileSomethingMayStillWake(t *testing.T) {
	defer runtime.HurryDeadlock(10*time.Millisecond, patience)()
	const late = 60 * time.Millisecond
	for name, main := range map[string]func(ctx context.Context, ch *runtime.Channel[int]){
		"goroutine that waits for a Go channel": func(ctx context.Context, ch *runtime.Channel[int]) {
			timer := time.NewTimer(late)
			go func() { <-timer.C; ch.Push(ctx, 1) }()
		},
		"goroutine in Sleep of this package": func(ctx context.Context, ch *runtime.Channel[int]) {
			go func() { runtime.Sleep(ctx, late); ch.Push(ctx, 1) }()
		},
		"goroutine in PopTimeout": func(ctx context.Context, ch *runtime.Channel[int]) {
			go func() { runtime.NewChannel[int](1).PopTimeout(ctx, late); ch.Push(ctx, 1) }()
		},
		"goroutine with a deadline": func(ctx context.Context, ch *runtime.Channel[int]) {
			short, cancel := context.WithTimeout(ctx, late)
			go func() { defer cancel(); runtime.NewChannel[int](1).Pop(short); ch.Push(ctx, 1) }()
		},
		"goroutine in Await": func(ctx context.Context, ch *runtime.Channel[int]) {
			go runtime.Await(ctx, func() (int, error) { time.Sleep(late); ch.Push(ctx, 1); return 0, nil })
		},
		"coroutine in Sleep": func(ctx context.Context, ch *runtime.Channel[int]) {
			start(ctx, func(ctx context.Context) { runtime.Sleep(ctx, late); ch.Push(ctx, 1) })
		},
		"coroutine in Await": func(ctx context.Context, ch *runtime.Channel[int]) {
			start(ctx, func(ctx context.Context) {
				runtime.Await(ctx, func() (int, error) { time.Sleep(late); return 0, nil })
				ch.Push(ctx, 1)
			})
		},
		"function of an Await that was left": func(ctx context.Context, ch *runtime.Channel[int]) {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			runtime.Await(short, func() (int, error) { time.Sleep(late); ch.Push(ctx, 1); return 0, nil })
		},
		"coroutine in PopTimeout": func(ctx context.Context, ch *runtime.Channel[int]) {
			start(ctx, func(ctx context.Context) {
				runtime.NewChannel[int](1).PopTimeout(ctx, late)
				ch.Push(ctx, 1)
			})
		},
		"coroutine with a derived time-out": func(ctx context.Context, ch *runtime.Channel[int]) {
			start(ctx, func(ctx context.Context) {
				short, cancel := context.WithTimeout(ctx, late)
				defer cancel()
				runtime.NewChannel[int](1).Pop(short)
				ch.Push(ctx, 1)
			})
		},
		"coroutine whose own context has a deadline": func(ctx context.Context, ch *runtime.Channel[int]) {
			short, cancel := context.WithTimeout(ctx, late)
			start(short, func(short context.Context) {
				defer cancel()
				runtime.NewChannel[int](1).Pop(short)
				ch.Push(ctx, 1)
			})
		},
		"timer of the loop": func(ctx context.Context, ch *runtime.Channel[int]) {
			runtime.Current(ctx).Loop().AfterFunc(late, func() { ch.Push(ctx, 1) })
		},
		"descriptor": func(ctx context.Context, ch *runtime.Channel[int]) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Error(err)
			}
			d := new(eventloop.Descriptor)
			time.AfterFunc(late, func() { w.Close() }) // of which the check knows nothing
			err = runtime.Current(ctx).Loop().Register(d, int(r.Fd()), eventloop.Readable, handler(func(eventloop.Events) {
				d.Unregister()
				r.Close()
				ch.Push(ctx, 1)
			}))
			if err != nil {
				t.Error(err)
			}
		},
		"something retained": func(ctx context.Context, ch *runtime.Channel[int]) {
			rt := (*sched.Runtime)(from(ctx))
			rt.Retain()
			time.AfterFunc(late, func() { ch.Push(ctx, 1); rt.Release() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, func(ctx context.Context) {
				ch := runtime.NewChannel[int](1)
				main(ctx, ch)
				if v, err := ch.Pop(ctx); v != 1 || err != nil {
					t.Errorf("Pop: %v, %v", v, err)
				}
			}, runtime.WithLoops(1))
		})
	}
}

type handler func(eventloop.Events)

func (h handler) HandleEvents(e eventloop.Events) { h(e) }

// What the check can't see is all that these programs have: they are warned, and run to their end.
func TestDeadlockIsLoggedOnceAndEndsNothing(t *testing.T) {
	defer runtime.HurryDeadlock(10*time.Millisecond, patience)()
	for name, later := range map[string]func(fn func()){
		"time.AfterFunc": func(fn func()) { time.AfterFunc(10*time.Millisecond, fn) },
		"context.AfterFunc": func(fn func()) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			context.AfterFunc(ctx, func() { cancel(); fn() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, entries := newLog()
			var where string
			program(t, func(ctx context.Context) {
				a, b := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
				start(ctx, func(ctx context.Context) {
					b.Pop(ctx)
					a.Push(ctx, 1)
				})
				var look func()
				look = func() { // nobody else wakes them
					if entries.Len() == 0 {
						later(look)
						return
					}
					b.Push(ctx, 1)
				}
				later(look)
				where = line(+1)
				if v, err := a.Pop(ctx); v != 1 || err != nil {
					t.Errorf("Pop: %v, %v", v, err)
				}
			}, runtime.WithLoops(1), runtime.WithDeadlockCheck(true), runtime.WithLogger(log))
			warnings := entries.FilterMessageSnippet("wait for each other").All()
			if len(warnings) != 1 {
				t.Fatalf("the log has %v", entries.All())
			}
			said := fmt.Sprint(warnings[0].Message, warnings[0].ContextMap())
			for _, part := range []string{"coroutine#1: channel pop at " + where, "coroutine#2: channel pop at ", "time.AfterFunc"} {
				if !strings.Contains(said, part) {
					t.Errorf("the warning lacks %q:\n%s", part, said)
				}
			}
		})
	}
}

// Goroutines that Whorl has started, and that are idle, hide no deadlock.
func TestDeadlockIsSeenBesideGoroutinesOfTheHouse(t *testing.T) {
	defer runtime.HurryDeadlock(10*time.Millisecond, patience)()
	err := run(t, func(ctx context.Context) error {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		runtime.WaitSignal(short, os.Interrupt)
		runtime.Await(ctx, func() (int, error) { return 0, nil })
		runtime.Detour(ctx, func(ctx context.Context) { runtime.Yield(ctx) })
		runtime.ForEach(ctx, 100, func(ctx context.Context, _ int) error { return runtime.Yield(ctx) })
		start(ctx, func(ctx context.Context) { ctx.Done() })
		goruntime.GC()
		return runtime.Suspend(ctx)
	}, runtime.WithWatchdog(time.Minute))
	if e := new(runtime.DeadlockError); !errors.As(err, &e) || len(e.Coroutines) != 1 {
		t.Errorf("Run returned %v", err)
	}
}

// A loop that is held doesn't hold the check, nor what waits for the check's goroutine: the end of
// Run.
func TestDeadlockCheckDoesNotWaitForALoopThatIsHeld(t *testing.T) {
	defer runtime.HurryDeadlock(time.Millisecond, patience)()
	program(t, func(ctx context.Context) {
		for range 20 {
			release := time.After(5 * time.Millisecond)
			co := start(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
			<-release // holds the loop
			co.Resume()
			co.Join(ctx)
		}
	}, runtime.WithLoops(1))
}

func TestDeadlockCheckCanBeSwitchedOff(t *testing.T) {
	defer runtime.HurryDeadlock(10*time.Millisecond, patience)()
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		time.AfterFunc(60*time.Millisecond, func() { ch.Push(ctx, 1) }) // of which the check would know nothing
		if v, err := ch.Pop(ctx); v != 1 || err != nil {
			t.Errorf("Pop: %v, %v", v, err)
		}
	}, runtime.WithDeadlockCheck(false))
}

func TestNoDeadlockWhileAnotherRuntimeRuns(t *testing.T) {
	defer runtime.HurryDeadlock(10*time.Millisecond, patience)()
	other := startRuntime(t)
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		other.Go(func(other context.Context) { runtime.Sleep(other, 60*time.Millisecond); ch.Push(ctx, 1) })
		if v, err := ch.Pop(ctx); v != 1 || err != nil {
			t.Errorf("Pop: %v, %v", v, err)
		}
	})
}
