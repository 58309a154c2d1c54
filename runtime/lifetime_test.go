package runtime_test

import (
	"context"
	goruntime "runtime"
	"testing"
	"time"
	"weak"

	"github.com/whorl-go/whorl/runtime"
)

// Goroutines that a coroutine leaves behind use its context, and must still hear when what it comes
// from is cancelled.
func TestContextOfACoroutineThatHasEnded(t *testing.T) {
	base, cancelBase := context.WithCancel(context.Background())
	for how, test := range map[string]struct {
		with func(rt *runtime.Runtime) context.Context // what the coroutine's context comes from
		end  func(rt *runtime.Runtime, co *runtime.Coroutine)
	}{
		"end of the base": {
			func(*runtime.Runtime) context.Context { return base },
			func(*runtime.Runtime, *runtime.Coroutine) { cancelBase() },
		},
		"Shutdown": {
			(*runtime.Runtime).Context,
			func(rt *runtime.Runtime, _ *runtime.Coroutine) { rt.Shutdown(context.Background()) },
		},
		"Shutdown, with a context between": {
			func(rt *runtime.Runtime) context.Context { return context.WithValue(rt.Context(), keyOfTest{}, 1) },
			func(rt *runtime.Runtime, _ *runtime.Coroutine) { rt.Shutdown(context.Background()) },
		},
	} {
		t.Run(how, func(t *testing.T) {
			rt := startRuntime(t)
			results, called := make(chan error, 4), make(chan bool, 1)
			sleep := func(ctx context.Context) { results <- runtime.Sleep(ctx, time.Hour) }
			var before context.Context
			co := start(test.with(rt), func(ctx context.Context) {
				derived, cancel := context.WithCancel(ctx)
				t.Cleanup(cancel)
				before = derived
				context.AfterFunc(ctx, func() { called <- true })
				go sleep(ctx)
				go sleep(derived)
			})
			co.Join(context.Background())
			ctx := co.Context()
			after, cancel := context.WithCancel(ctx)
			defer cancel()
			go sleep(ctx)
			go sleep(after)
			for what, ctx := range map[string]context.Context{"its own": ctx, "derived before": before, "derived after": after} {
				if ctx.Err() != nil || isDone(ctx) {
					t.Errorf("context %s is done too early", what)
				}
			}
			test.end(rt, co)
			for range 4 {
				wantError(t, "Sleep", receive(t, results, "end of Sleep"), context.Canceled)
			}
			soon(t, "context", ctx, context.Canceled)
			soon(t, "context derived before", before, context.Canceled)
			soon(t, "context derived after", after, context.Canceled)
			receive(t, called, "function of AfterFunc")
		})
	}
}

func TestCancelOfACoroutineThatHasEndedReachesTheGoroutinesItLeftBehind(t *testing.T) {
	rt := startRuntime(t)
	results := make(chan error, 2)
	co, _ := rt.Go(func(ctx context.Context) {
		go func() { results <- runtime.Sleep(ctx, time.Hour) }()
	})
	co.Join(rt.Context())
	go func() { results <- runtime.Sleep(co.Context(), time.Hour) }()
	co.Cancel()
	for range 2 {
		wantError(t, "Sleep", receive(t, results, "end of Sleep"), context.Canceled)
	}
}

// A goroutine that was in a bare receive from Done before the end hears of everything that cancels
// the context afterwards.
func TestBareReceiveFromDoneOutlivesTheCoroutine(t *testing.T) {
	type world struct {
		rt     *runtime.Runtime
		base   context.Context
		cancel func()
		parent *runtime.Coroutine
		co     *runtime.Coroutine
	}
	for how, end := range map[string]func(w *world){
		"end of the base":        func(w *world) { w.cancel() },
		"Cancel":                 func(w *world) { w.co.Cancel() },
		"Cancel of the parent":   func(w *world) { w.parent.Cancel() },
		"Shutdown":               func(w *world) { w.rt.Shutdown(context.Background()) },
		"Cancel, then Shutdown":  func(w *world) { w.co.Cancel(); w.rt.Shutdown(context.Background()) },
		"Shutdown of the parent": func(w *world) { w.parent.Resume(); w.rt.Shutdown(context.Background()) },
	} {
		t.Run(how, func(t *testing.T) {
			w := &world{rt: startRuntime(t, runtime.WithLoops(1))}
			w.base, w.cancel = context.WithCancel(context.WithValue(w.rt.Context(), keyOfTest{}, 1))
			defer w.cancel()
			begun, heard, made := make(chan bool), make(chan error, 1), make(chan *runtime.Coroutine, 1)
			w.parent = start(w.base, func(ctx context.Context) {
				made <- start(ctx, func(ctx context.Context) {
					go func() {
						done := ctx.Done()
						close(begun)
						<-done
						heard <- ctx.Err()
					}()
					runtime.Await(ctx, func() (bool, error) { return <-begun, nil })
				})
				runtime.Suspend(ctx)
			})
			w.co = <-made
			w.co.Join(context.Background())
			for range 3 {
				goruntime.GC()
			}
			end(w)
			wantError(t, "context", receive(t, heard, "end of the context"), context.Canceled)
			soon(t, "context", w.co.Context(), context.Canceled)
		})
	}
}

// What looked at Done before the end says nothing about who looks afterwards.
func TestDoneAfterTheEnd(t *testing.T) {
	base, cancel := context.WithCancel(context.Background())
	program(t, func(ctx context.Context) {
		co := start(base, func(ctx context.Context) {
			if isDone(ctx) {
				t.Error("done too early")
			}
		})
		ended, cancelled := co.Context(), start(base, func(ctx context.Context) { runtime.Current(ctx).Cancel() }).Context()
		if isDone(ended) || ended.Err() != nil {
			t.Error("done by the end of the coroutine")
		}
		if !isDone(cancelled) || cancelled.Err() != context.Canceled {
			t.Error("the context of a coroutine that was cancelled is not done after its end")
		}
		done := ended.Done()
		cancel()
		runtime.Await(ctx, func() (struct{}, error) { return receive(t, done, "end of the context"), nil })
		if ended.Err() != context.Canceled {
			t.Errorf("Err is %v", ended.Err())
		}
	})
}

// A context that lives as long as the process, such as that of signal.NotifyContext, is the base of
// very many coroutines in time.
func TestLongLivedContextDoesNotCollectCoroutines(t *testing.T) {
	const n = 10_000
	longLived, cancel := context.WithCancel(context.Background())
	defer cancel()
	program(t, func(ctx context.Context) {
		var refs []weak.Pointer[runtime.Coroutine]
		for range n {
			co := start(longLived, func(ctx context.Context) {
				if isDone(ctx) {
					t.Error("done too early")
				}
				derived, cancel := context.WithTimeout(ctx, time.Hour)
				runtime.Yield(derived)
				runtime.Sleep(derived, time.Microsecond)
				cancel()
				if len(refs)%10 == 0 { // a goroutine that it leaves behind
					go runtime.Sleep(ctx, time.Microsecond)
				}
			})
			refs = append(refs, weak.Make(co))
			if len(refs)%100 == 0 {
				runtime.Sleep(ctx, time.Millisecond)
			}
		}
		runtime.Sleep(ctx, 5*time.Millisecond)
		left := 0
		for range 10 {
			goruntime.GC()
			left = 0
			for _, ref := range refs {
				if ref.Value() != nil {
					left++
				}
			}
			if left <= n/100 { // stacks and lists of free things may still mention a few
				return
			}
			runtime.Sleep(ctx, 10*time.Millisecond)
		}
		t.Errorf("%d of %d coroutines that have ended are still in memory", left, n)
	}, runtime.WithLoops(1))
}

func TestChainOfCoroutinesStaysFlat(t *testing.T) {
	const n = 100_000
	heap := func() uint64 {
		goruntime.GC()
		var m goruntime.MemStats
		goruntime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early, late uint64
	program(t, func(ctx context.Context) {
		var link func(ctx context.Context)
		i := 0
		link = func(ctx context.Context) {
			runtime.Yield(ctx) // its predecessor ends
			switch i++; i {
			case n / 10:
				early = heap()
			case n:
				late = heap()
				return
			}
			start(ctx, link)
		}
		start(ctx, link)
	}, runtime.WithLoops(1))
	if late > early+1<<20 {
		t.Errorf("heap: %d bytes after %d coroutines, %d after %d", early, n/10, late, n)
	}
}
