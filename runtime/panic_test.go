package runtime_test

import (
	"context"
	"errors"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// newLog returns a logger and what it was given.
func newLog() (*zap.Logger, *observer.ObservedLogs) {
	core, entries := observer.New(zapcore.DebugLevel)
	return zap.New(core), entries
}

var errExplosion = errors.New("explosion")

//go:noinline
func explode() { panic(errExplosion) }

// wantExplosion checks that err is the panic of explode and has the stack of where it happened.
func wantExplosion(t *testing.T, what string, err error) {
	t.Helper()
	var caught *runtime.PanicError
	if !errors.As(err, &caught) {
		t.Errorf("%s: error is %v, not a PanicError", what, err)
		return
	}
	if caught.Value != errExplosion || !errors.Is(err, errExplosion) {
		t.Errorf("%s: the panic's value is %v", what, caught.Value)
	}
	if !strings.Contains(string(caught.Stack), "runtime_test.explode(") {
		t.Errorf("%s: the stack does not name the function:\n%s", what, caught.Stack)
	}
	if text := err.Error(); !strings.Contains(text, "panic: explosion") || !strings.Contains(text, "runtime_test.explode(") {
		t.Errorf("%s: the error's text lacks the value or the stack: %s", what, text)
	}
}

func TestPanicInMainIsReturnedByRun(t *testing.T) {
	wantExplosion(t, "Run", run(t, func(context.Context) error { explode(); return nil }))
}

func TestPanicInMainAfterAWait(t *testing.T) {
	wantExplosion(t, "Run", run(t, func(ctx context.Context) error {
		runtime.Sleep(ctx, time.Millisecond)
		explode()
		return nil
	}))
}

func TestPanicInADeferredFunctionOfMain(t *testing.T) {
	wantExplosion(t, "Run", run(t, func(ctx context.Context) error {
		runtime.Defer(ctx, func(context.Context) { explode() })
		return nil
	}))
}

func TestPanicInAChildEndsOnlyTheChild(t *testing.T) {
	log, entries := newLog()
	var handled []int64
	var child *runtime.Coroutine
	program(t, func(ctx context.Context) {
		child = start(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			explode()
		})
		if err := runtime.Sleep(ctx, time.Millisecond); err != nil {
			t.Error(err)
		}
	}, runtime.WithLogger(log), runtime.WithPanicHandler(func(co *runtime.Coroutine, err *runtime.PanicError) {
		handled = append(handled, co.ID())
		wantExplosion(t, "panic handler", err)
	}))
	if len(handled) != 1 || handled[0] != child.ID() {
		t.Errorf("the panic handler was called for %v, want once for %d", handled, child.ID())
	}
	logged := entries.FilterMessage("panic in a coroutine").All()
	if len(logged) != 1 {
		t.Fatalf("the log has %v", entries.All())
	}
	fields := logged[0].ContextMap()
	if stack, _ := fields["stack"].(string); fields["coroutine"] != child.ID() || !strings.Contains(stack, "explode") {
		t.Errorf("the log's entry is %v", fields)
	}
}

func TestPanicInAFunctionOfTheLoopGoesToThePanicHandler(t *testing.T) {
	handled := make(chan *runtime.PanicError, 1)
	rt := startRuntime(t, runtime.WithPanicHandler(func(co *runtime.Coroutine, err *runtime.PanicError) {
		if co != nil {
			t.Errorf("coroutine is %v", co)
		}
		handled <- err
	}))
	rt.Loops()[0].Post(explode)
	wantExplosion(t, "panic handler", receive(t, handled, "panic"))
}

func TestPanicOfThePanicHandlerIsSurvivedAndLogged(t *testing.T) {
	log, entries := newLog()
	wantExplosion(t, "Run", run(t, func(ctx context.Context) error {
		for range 3 {
			start(ctx, func(ctx context.Context) {
				runtime.Yield(ctx)
				panic("on purpose")
			})
		}
		runtime.Sleep(ctx, time.Millisecond)
		explode()
		return nil
	}, runtime.WithLogger(log), runtime.WithPanicHandler(func(*runtime.Coroutine, *runtime.PanicError) { panic("again") })))
	if n := entries.FilterMessage("panic in the panic handler").Len(); n != 4 {
		t.Errorf("%d of 4 panics of the handler were logged", n)
	}
}

func TestGoexitInAChildEndsOnlyTheChild(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt := from(ctx)
		for i := range 20 {
			child := start(ctx, func(ctx context.Context) {
				// It waits while it ends, which must not confuse the count of workers.
				runtime.Defer(ctx, func(ctx context.Context) { runtime.Yield(ctx); runtime.Yield(ctx) })
				if i%2 == 0 {
					runtime.Yield(ctx)
				}
				goruntime.Goexit()
			})
			if err := child.Join(ctx); err != nil || !child.Ended() {
				t.Fatalf("Join: %v", err)
			}
		}
		if n := rt.Stats().Workers; n != 1 {
			t.Errorf("there are %d workers, want main's only", n)
		}
	}, runtime.WithLoops(1))
}

// A deferred call that panics after a Goexit, as one may whose coroutine Shutdown forces out, is a
// panic as any other, and what it ends has ended.
func TestAPanicAfterGoexit(t *testing.T) {
	guard(t)
	both := func() {
		defer explode()
		goruntime.Goexit()
	}
	for name, do := range map[string]func(ctx context.Context) error{
		"Go": func(ctx context.Context) error {
			return start(ctx, func(ctx context.Context) { both() }).Join(ctx)
		},
		"Go, after a wait": func(ctx context.Context) error {
			return start(ctx, func(ctx context.Context) { runtime.Yield(ctx); both() }).Join(ctx)
		},
		"Detour": func(ctx context.Context) error {
			runtime.Detour(ctx, func(ctx context.Context) { runtime.Yield(ctx); both() })
			return nil
		},
		"Map": func(ctx context.Context) error {
			err := runtime.ForEach(ctx, 1, func(ctx context.Context, _ int) error { both(); return nil })
			wantExplosion(t, "ForEach", err)
			return nil
		},
		"a function of the loop": func(ctx context.Context) error {
			ended := runtime.NewChannel[bool](1)
			runtime.Current(ctx).Loop().Post(func() {
				defer ended.Push(context.Background(), true)
				both()
			})
			_, err := ended.Pop(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			reported := 0
			err := run(t, func(ctx context.Context) error {
				if err := do(ctx); err != nil {
					return err
				}
				rt, err := runtime.From(ctx)
				if err != nil {
					return err
				}
				if n := rt.Stats().Workers; n != 1 && name != "Detour" {
					t.Errorf("there are %d workers, want main's only", n)
				}
				return runtime.Sleep(ctx, 0)
			}, silent([]runtime.Option{runtime.WithLoops(1), runtime.WithPanicHandler(
				func(*runtime.Coroutine, *runtime.PanicError) { reported++ })})...)
			if err != nil || reported != 1 {
				t.Errorf("%v; %d panics were reported", err, reported)
			}
		})
	}
}

func TestPanicsAndGoexitsAmongManyCoroutines(t *testing.T) {
	log, entries := newLog()
	const n = 300
	ended := 0
	program(t, func(ctx context.Context) {
		var all []*runtime.Coroutine
		for i := range n {
			all = append(all, start(ctx, func(ctx context.Context) {
				runtime.Defer(ctx, func(context.Context) { ended++ })
				runtime.Sleep(ctx, time.Duration(i%7)*time.Millisecond)
				switch i % 3 {
				case 0:
					explode()
				case 1:
					goruntime.Goexit()
				}
			}))
		}
		runtime.Join(ctx, all...)
	}, runtime.WithLoops(1), runtime.WithLogger(log), panicsAreMeant())
	if logged := entries.FilterMessage("panic in a coroutine").Len(); ended != n || logged != n/3 {
		t.Errorf("%d of %d coroutines ended, %d of %d panics were logged", ended, n, logged, n/3)
	}
}

func TestDeferOutsideACoroutinePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Defer outside a coroutine did not panic")
		}
	}()
	runtime.Defer(context.Background(), func(context.Context) {})
}

// Whoever recovers from a panic reports it and goes on.
func TestReportPanic(t *testing.T) {
	log, entries := newLog()
	var handled []*runtime.PanicError
	report := func(ctx context.Context) (err *runtime.PanicError) {
		defer func() { err = sched.ReportPanic(ctx, recover()) }()
		explode()
		return nil
	}
	err := run(t, func(ctx context.Context) error {
		wantExplosion(t, "ReportPanic", report(ctx))
		wantExplosion(t, "ReportPanic by another context", report(context.Background()))
		return runtime.Yield(ctx)
	}, runtime.WithLogger(log), runtime.WithPanicHandler(func(co *runtime.Coroutine, err *runtime.PanicError) { handled = append(handled, err) }))
	if err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := entries.FilterMessage("panic in a coroutine").Len(); n != 2 || len(handled) != 2 {
		t.Errorf("%d entries, %d handled", n, len(handled))
	}
	entries.TakeAll()
	handled = nil
	wantExplosion(t, "ReportPanic outside", report(context.Background()))
	if entries.Len() != 0 || handled != nil {
		t.Errorf("outside a coroutine: %v, %v", entries.All(), handled)
	}
}
