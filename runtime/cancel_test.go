package runtime_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// site is something to wait at, without end.
type site struct {
	wait func(ctx context.Context) error
	// settle ends what the wait was for, and reports what the wait has left behind, if anything. It
	// is called in a coroutine.
	settle func(ctx context.Context) (fault string)
}

var sites = map[string]func(ctx context.Context) site{
	"sleep": func(context.Context) site {
		return site{
			func(ctx context.Context) error { return runtime.Sleep(ctx, time.Hour) },
			func(context.Context) string { return "" },
		}
	},
	"channel push": func(ctx context.Context) site {
		full := runtime.NewChannel[int](1)
		full.Push(ctx, 1)
		return site{
			func(ctx context.Context) error { return full.Push(ctx, 2) },
			func(ctx context.Context) string {
				v, _ := full.Pop(ctx)
				if producers, _ := full.Waiting(); v != 1 || full.Len() != 0 || producers != 0 {
					return "the value of the cancelled Push is in the channel"
				}
				return ""
			},
		}
	},
	"channel pop": func(context.Context) site {
		empty := runtime.NewChannel[int](1)
		return site{
			func(ctx context.Context) error { _, err := empty.Pop(ctx); return err },
			func(ctx context.Context) string {
				if empty.Push(ctx, 1); empty.Len() != 1 {
					return "the cancelled Pop has swallowed a value"
				}
				return ""
			},
		}
	},
	"wait group": func(context.Context) site {
		group := new(runtime.WaitGroup)
		group.Add(1)
		return site{group.Wait, func(context.Context) string {
			if group.Done(); group.Count() != 0 {
				return "the count is not 0"
			}
			return ""
		}}
	},
	"mutex": func(context.Context) site {
		mu := new(runtime.Mutex)
		mu.TryLock()
		return site{mu.Lock, func(context.Context) string {
			if mu.Unlock(); !mu.TryLock() {
				return "the mutex belongs to the cancelled Lock"
			}
			return ""
		}}
	},
	"join": func(ctx context.Context) site {
		other := start(ctx, func(context.Context) { runtime.Suspend(context.Background()) })
		return site{other.Join, func(ctx context.Context) string {
			other.Resume()
			if err := other.Join(context.WithoutCancel(ctx)); err != nil && err != runtime.ErrShutdown {
				return "Join of the joined coroutine: " + err.Error()
			}
			return ""
		}}
	},
	"suspend": func(context.Context) site {
		var co *runtime.Coroutine
		return site{
			func(ctx context.Context) error { co = runtime.Current(ctx); return runtime.Suspend(ctx) },
			func(context.Context) string {
				if err := co.Resume(); err != runtime.ErrNotSuspended {
					return "Resume of the cancelled one did not fail"
				}
				return ""
			},
		}
	},
	"await": func(context.Context) site {
		release := make(chan bool)
		return site{
			func(ctx context.Context) error {
				_, err := runtime.Await(ctx, func() (int, error) { <-release; return 0, nil })
				return err
			},
			func(context.Context) string { close(release); return "" },
		}
	},
	"signal": func(context.Context) site {
		return site{
			func(ctx context.Context) error { _, err := runtime.WaitSignal(ctx, syscall.SIGUSR2); return err },
			func(context.Context) string { return "" },
		}
	},
}

// Each kind of wait, ended in each way: it returns the right error, and leaves nothing behind.
func TestEveryWaitCanBeEnded(t *testing.T) {
	for _, ending := range []struct {
		how string
		// prepare returns the context to wait with, and what ends the wait.
		prepare func(ctx context.Context) (with context.Context, end func(co *runtime.Coroutine))
		want    error
	}{
		{"Cancel", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			return ctx, (*runtime.Coroutine).Cancel
		}, context.Canceled},
		{"Cancel by a goroutine", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			return ctx, func(co *runtime.Coroutine) { go co.Cancel() }
		}, context.Canceled},
		{"cancel of a derived context", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			derived, cancel := context.WithCancel(ctx)
			return derived, func(*runtime.Coroutine) { cancel() }
		}, context.Canceled},
		{"deadline", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			derived, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			return derived, func(co *runtime.Coroutine) { context.AfterFunc(co.Context(), cancel) }
		}, context.DeadlineExceeded},
		{"Shutdown", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			return ctx, func(co *runtime.Coroutine) { from(co.Context()).Shutdown(context.Background()) }
		}, runtime.ErrShutdown},
		{"Shutdown, with another context", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			return context.WithoutCancel(ctx), func(co *runtime.Coroutine) { from(co.Context()).Shutdown(context.Background()) }
		}, runtime.ErrShutdown},
		{"Shutdown, with a derived context", func(ctx context.Context) (context.Context, func(*runtime.Coroutine)) {
			derived, cancel := context.WithTimeout(ctx, time.Hour)
			return derived, func(co *runtime.Coroutine) {
				context.AfterFunc(co.Context(), cancel)
				from(co.Context()).Shutdown(context.Background())
			}
		}, runtime.ErrShutdown},
	} {
		t.Run(ending.how, func(t *testing.T) {
			for name, newSite := range sites {
				program(t, func(ctx context.Context) {
					site := newSite(ctx)
					var err error
					var end func(*runtime.Coroutine)
					co := start(ctx, func(ctx context.Context) {
						var with context.Context
						with, end = ending.prepare(ctx)
						err = site.wait(with)
					})
					found := false
					for _, info := range from(co.Context()).List() {
						found = found || info.ID == co.ID() && info.State == name
					}
					late := ending.want == context.DeadlineExceeded && co.Ended() // a busy machine may let the deadline pass before the wait
					if !found && !late {
						t.Errorf("%s: the list of coroutines is %v", name, from(co.Context()).List())
					}
					end(co)
					co.Join(context.Background()) // ended once by Shutdown
					co.Join(context.Background())
					if err != ending.want {
						t.Errorf("%s: error is %v, want %v", name, err, ending.want)
					}
					if fault := site.settle(context.Background()); fault != "" {
						t.Errorf("%s: %s", name, fault)
					}
				}, runtime.WithLoops(1))
			}
		})
	}
}

// A coroutine that has been cancelled begins nothing with its own context any more, but with
// others.
func TestCancelledCoroutine(t *testing.T) {
	program(t, func(ctx context.Context) {
		start(ctx, func(ctx context.Context) {
			runtime.Current(ctx).Cancel()
			for name, newSite := range sites {
				site := newSite(context.Background())
				wantError(t, name, site.wait(ctx), context.Canceled)
				if fault := site.settle(context.Background()); fault != "" {
					t.Errorf("%s: %s", name, fault)
				}
			}
			ch := runtime.NewChannel[int](1)
			wantError(t, "Push with room", ch.Push(ctx, 1), context.Canceled)
			if err := ch.Push(context.Background(), 1); err != nil {
				t.Errorf("Push with Background: %v", err)
			}
			_, err := ch.Pop(ctx)
			wantError(t, "Pop of what is there", err, context.Canceled)
			wantError(t, "Yield", runtime.Yield(ctx), context.Canceled)
			if err := runtime.Sleep(context.Background(), time.Millisecond); err != nil {
				t.Errorf("Sleep with Background: %v", err)
			}
		})
	}, runtime.WithLoops(1))
}

func TestCancelBeforeTheCoroutineBegins(t *testing.T) {
	rt := newRuntime(t)
	result := make(chan error, 1)
	co, _ := rt.Go(func(ctx context.Context) { result <- runtime.Sleep(ctx, time.Hour) })
	co.Cancel()
	rt.Start()
	wantError(t, "Sleep", receive(t, result, "end of Sleep"), context.Canceled)
}
