package runtime_test

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

func TestRunReturnsTheFirstPanicThatNothingTook(t *testing.T) {
	mainErr := errors.New("main's")
	for name, panics := range map[string]func(ctx context.Context){
		"child": func(ctx context.Context) { start(ctx, func(context.Context) { explode() }) },
		"coroutine on another loop": func(ctx context.Context) {
			co, _ := runtime.GoSpread(ctx, func(context.Context) { explode() })
			co.Join(ctx)
		},
		"function of the loop": func(ctx context.Context) {
			runtime.Current(ctx).Loop().Defer(explode)
			runtime.Yield(ctx)
		},
		"timer of the loop": func(ctx context.Context) {
			runtime.Current(ctx).Loop().AfterFunc(0, explode)
			runtime.Sleep(ctx, time.Millisecond)
		},
		"deferred function": func(ctx context.Context) {
			start(ctx, func(ctx context.Context) { runtime.Defer(ctx, func(context.Context) { explode() }) })
		},
		"function of an Await that was left": func(ctx context.Context) {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			left := make(chan bool)
			runtime.Await(short, func() (int, error) { <-left; explode(); return 0, nil })
			close(left)
			runtime.Sleep(ctx, 10*time.Millisecond)
		},
	} {
		for _, want := range []error{nil, mainErr} {
			err := run(t, func(ctx context.Context) error {
				panics(ctx)
				start(ctx, func(context.Context) { panic("a later one") })
				return want
			}, runtime.WithLoops(2))
			wantExplosion(t, name, err)
			if want != nil {
				wantError(t, name, err, want)
			}
			if strings.Contains(fmt.Sprint(err), "a later one") {
				t.Errorf("%s: the error has the second panic, too", name)
			}
		}
	}
}

// A panic that its caller is given as an error is logged and goes to the panic handler, once, but
// isn't Run's business.
func TestPanicsThatAreReturnedAreReportedOnce(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context) error{
		"Detour": func(ctx context.Context) error { return runtime.Detour(ctx, func(context.Context) { explode() }) },
		"Detour in a Detour": func(ctx context.Context) error {
			var inner error
			runtime.Detour(ctx, func(ctx context.Context) {
				inner = runtime.Detour(ctx, func(context.Context) { explode() })
			})
			return inner
		},
		"ForEach": func(ctx context.Context) error {
			return runtime.ForEach(ctx, 1, func(context.Context, int) error { explode(); return nil })
		},
		"Await, recovered": func(ctx context.Context) (err error) {
			defer func() { err = recover().(error) }()
			runtime.Await(ctx, func() (int, error) { explode(); return 0, nil })
			return nil
		},
	} {
		log, entries := newLog()
		program(t, func(ctx context.Context) { wantExplosion(t, name, call(ctx)) }, runtime.WithLogger(log))
		if n := entries.FilterMessage("panic in a coroutine").Len(); n != 1 && name != "Await, recovered" {
			t.Errorf("%s: logged %d times", name, n)
		}
		handled := 0
		err := run(t, func(ctx context.Context) error {
			var caught *runtime.PanicError
			if err := call(ctx); errors.As(err, &caught) {
				panic(caught) // on, as it is
			}
			return nil
		}, runtime.WithPanicHandler(func(_ *runtime.Coroutine, err *runtime.PanicError) { handled++ }))
		wantExplosion(t, name, err)
		if handled != 1 {
			t.Errorf("%s: handled %d times", name, handled)
		}
	}
}

func TestWhenMainFailsTheOthersAreCancelled(t *testing.T) {
	mainErr := errors.New("main's")
	for name, fail := range map[string]struct {
		main func() error
		want error
	}{
		"error":  {func() error { return mainErr }, mainErr},
		"panic":  {func() error { explode(); return nil }, errExplosion},
		"Goexit": {func() error { goruntime.Goexit(); return nil }, runtime.ErrGoexit},
	} {
		t.Run(name, func(t *testing.T) {
			var ended []string
			err := run(t, func(ctx context.Context) error {
				start(ctx, func(ctx context.Context) {
					err := runtime.Sleep(ctx, time.Hour)
					runtime.Sleep(context.Background(), time.Millisecond) // Run waits for its orderly end
					ended = append(ended, fmt.Sprint("child: ", err))
				})
				start(context.Background(), func(context.Context) {
					ended = append(ended, fmt.Sprint("other: ", runtime.Sleep(context.Background(), time.Hour)))
				})
				return fail.main()
			}, runtime.WithLoops(1))
			wantError(t, "Run", err, fail.want)
			if got := strings.Join(ended, ", "); got != "other: runtime: shutting down, child: runtime: shutting down" {
				t.Errorf("the others said %q", got)
			}
		})
	}
}

func TestShutdownSaysWhatWasCut(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(1))
	lost := errors.New("4 bytes to 192.0.2.1:25 were cut")
	inner := (*sched.Runtime)(rt)
	inner.Retain()
	go func() {
		defer inner.Release()
		until(t, "the time for an orderly end is over", inner.Forced)
		for range 100 {
			inner.Cut(lost)
		}
	}()
	inner.AtEnd(func() { inner.Cut(errExplosion) })
	err := rt.Shutdown(expired())
	wantError(t, "Shutdown", err, lost)
	if text := fmt.Sprint(err); strings.Count(text, "4 bytes") != 16 || !strings.Contains(text, "cut 85 more") {
		t.Errorf("Shutdown: %v", err)
	}
}
