package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// usesOfContext are calls that wait, each of which must do the same wherever it is made from and
// whichever context it is given.
var usesOfContext = []struct {
	name string
	call func(ctx context.Context) error
}{
	{"Sleep", func(ctx context.Context) error { return runtime.Sleep(ctx, time.Millisecond) }},
	{"Yield", runtime.Yield},
	{"Channel", func(ctx context.Context) error {
		there, back := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
		_, err := runtime.Go(ctx, func(ctx context.Context) {
			for range 10 {
				v, _ := there.Pop(ctx)
				back.Push(ctx, v)
			}
		})
		for i := range 10 {
			if err == nil {
				err = there.Push(ctx, i)
			}
			if err != nil {
				return err
			}
			v, e := back.Pop(ctx)
			if v != i {
				return fmt.Errorf("%d came back as %d", i, v)
			}
			err = e
		}
		return err
	}},
	{"Channel with time-out", func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		if _, err := ch.PopTimeout(ctx, time.Millisecond); err != runtime.ErrChannelTimeout {
			return fmt.Errorf("PopTimeout: %w", err)
		}
		ch.Push(ctx, 1)
		if err := ch.PushTimeout(ctx, 2, time.Millisecond); err != runtime.ErrChannelTimeout {
			return fmt.Errorf("PushTimeout: %w", err)
		}
		return nil
	}},
	{"WaitGroup", func(ctx context.Context) error {
		var group runtime.WaitGroup
		for range 3 {
			err := group.Go(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Millisecond) })
			if err != nil {
				return err
			}
		}
		return group.Wait(ctx)
	}},
	{"Mutex", func(ctx context.Context) error {
		var mu runtime.Mutex
		if err := mu.Lock(ctx); err != nil {
			return err
		}
		_, err := runtime.Go(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, time.Millisecond)
			mu.Unlock()
		})
		if err != nil {
			return err
		}
		defer mu.Unlock()
		return mu.Lock(ctx)
	}},
	{"Join", func(ctx context.Context) error {
		var all []*runtime.Coroutine
		for i := range 3 {
			co, err := runtime.Go(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Duration(i)*time.Millisecond) })
			if err != nil {
				return err
			}
			all = append(all, co)
		}
		err := runtime.Join(ctx, all...)
		for _, co := range all {
			if !co.Ended() {
				return errors.New("Join returned before a coroutine had ended")
			}
		}
		return err
	}},
	{"Await", func(ctx context.Context) error {
		v, err := runtime.Await(ctx, func() (int, error) { return 7, nil })
		if v != 7 {
			return fmt.Errorf("got %d", v)
		}
		return err
	}},
	{"Map", func(ctx context.Context) error {
		squares, err := runtime.Map(ctx, []int{1, 2, 3}, func(ctx context.Context, i int) (int, error) {
			return i * i, runtime.Sleep(ctx, time.Millisecond)
		})
		if fmt.Sprint(squares) != "[1 4 9]" {
			return fmt.Errorf("got %v", squares)
		}
		return err
	}},
}

func tryAll(t *testing.T, who string, ctx context.Context) {
	for _, use := range usesOfContext {
		if err := use.call(ctx); err != nil {
			t.Errorf("%s, %s: %v", who, use.name, err)
		}
	}
}

func TestGoroutineStartedInACoroutineUsesItsContext(t *testing.T) {
	program(t, func(ctx context.Context) {
		end := runtime.NewChannel[string](2)
		child := start(ctx, func(ctx context.Context) {
			go func() {
				tryAll(t, "goroutine beside its coroutine", ctx)
				end.Push(ctx, "beside")
			}()
			tryAll(t, "coroutine beside its goroutine", ctx)
		})
		start(ctx, func(ctx context.Context) {
			go func() {
				runtime.Join(ctx, child, runtime.Current(ctx))
				tryAll(t, "goroutine that outlives its coroutine", ctx)
				end.Push(ctx, "outlives")
			}()
		})
		for range 2 {
			if _, err := end.Pop(ctx); err != nil {
				t.Error(err)
			}
		}
	}, runtime.WithLoops(2))
}

type keyOfTest struct{}

// uncomparable panics when it is compared.
type uncomparable struct {
	context.Context
	_ []string
}

func TestCoroutineUsesAnyContext(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt := from(ctx)
		timeout, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		cancellable, cancel := context.WithCancel(context.Background())
		defer cancel()
		contexts := map[string]context.Context{
			"its own":                    ctx,
			"WithTimeout":                timeout,
			"WithValue":                  context.WithValue(timeout, keyOfTest{}, 1),
			"WithoutCancel":              context.WithoutCancel(ctx),
			"Background":                 context.Background(),
			"WithCancel of Background":   cancellable,
			"the runtime's":              rt.Context(),
			"uncomparable":               uncomparable{Context: ctx},
			"uncomparable, of a timeout": uncomparable{Context: timeout},
			"an ended coroutine's":       start(ctx, func(context.Context) {}).Context(),
		}
		otherLoop, inOrder := runtime.NewChannel[context.Context](1), runtime.NewChannel[bool](1)
		for { // until it is on another loop than this
			co, _ := rt.Go(func(ctx context.Context) {
				otherLoop.Push(ctx, ctx)
				inOrder.Pop(ctx)
			})
			contexts["another loop's coroutine's"], _ = otherLoop.Pop(ctx)
			if co.Loop() != runtime.Current(ctx).Loop() {
				break
			}
		}
		parent := ctx
		start(ctx, func(ctx context.Context) {
			tryAll(t, "coroutine with its parent's context", parent)
			for name, with := range contexts {
				tryAll(t, "coroutine with "+name, with)
				for _, use := range usesOfContext { // alternating from wait to wait
					if err := runtime.Sleep(ctx, time.Microsecond); err != nil {
						t.Error(err)
					}
					if err := use.call(with); err != nil {
						t.Errorf("%s, %s in turn with its own: %v", name, use.name, err)
					}
				}
			}
		}).Join(ctx)
		inOrder.Close()
	}, runtime.WithLoops(2))
}

func TestContextWithoutARuntime(t *testing.T) {
	none := func(what string) {
		_, err := runtime.From(context.Background())
		wantError(t, what+": From", err, runtime.ErrNoRuntime)
		_, err = runtime.Go(context.Background(), func(context.Context) {})
		wantError(t, what+": Go", err, runtime.ErrNoRuntime)
		_, err = sched.HomeFor(context.Background())
		wantError(t, what+": HomeFor", err, runtime.ErrNoRuntime)
	}
	none("no runtime")
	a := startRuntime(t)
	if rt, err := runtime.From(context.Background()); rt != a || err != nil {
		t.Errorf("one runtime: From returned %v, %v", rt, err)
	}
	tryAll(t, "plain goroutine with Background", context.Background())
	b := startRuntime(t)
	none("two runtimes")
	for _, rt := range []*runtime.Runtime{a, b} {
		tryAll(t, "plain goroutine with a runtime's context", rt.Context())
		if from, err := runtime.From(context.WithValue(rt.Context(), keyOfTest{}, 1)); from != rt || err != nil {
			t.Errorf("From returned %v, %v", from, err)
		}
		ended := make(chan error)
		rt.Go(func(ctx context.Context) {
			tryAll(t, "coroutine with Background, while two runtimes run", context.Background())
			from, err := runtime.From(context.Background())
			if from != rt {
				err = fmt.Errorf("From returned %v, %w", from, err)
			}
			ended <- err
		})
		if err := receive(t, ended, "end of the coroutine"); err != nil {
			t.Error(err)
		}
	}
}

// Waiting in a function that the loop runs itself would stop the loop, so it is refused, whichever
// context is given.
func TestWaitsInFunctionsOfTheLoopAreRefused(t *testing.T) {
	program(t, func(ctx context.Context) {
		var mu runtime.Mutex
		var group runtime.WaitGroup
		mu.TryLock()
		group.Add(1)
		empty, full := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
		full.Push(ctx, 1)
		co := runtime.Current(ctx)
		waits := map[string]func(ctx context.Context) error{
			"Sleep":     func(ctx context.Context) error { return runtime.Sleep(ctx, time.Hour) },
			"Yield":     runtime.Yield,
			"Push":      func(ctx context.Context) error { return full.Push(ctx, 2) },
			"Pop":       func(ctx context.Context) error { _, err := empty.Pop(ctx); return err },
			"WaitGroup": group.Wait,
			"Mutex":     mu.Lock,
			"Join":      co.Join,
			"Await": func(ctx context.Context) error {
				_, err := runtime.Await(ctx, func() (int, error) { return 1, nil })
				return err
			},
			"WaitSignal": func(ctx context.Context) error {
				_, err := runtime.WaitSignal(ctx, syscall.SIGUSR1)
				return err
			},
		}
		results := runtime.NewChannel[error](1)
		for name, wait := range waits {
			for _, with := range []context.Context{ctx, context.Background(), from(co.Context()).Context()} {
				co.Loop().Post(func() { results.Push(ctx, wait(with)) })
				err, _ := results.Pop(ctx)
				wantError(t, name, err, runtime.ErrOnLoop)
			}
		}
		co.Loop().Post(func() { results.Push(ctx, runtime.Suspend(ctx)) })
		if err, _ := results.Pop(ctx); err == nil {
			t.Error("Suspend: no error")
		}
		producers, _ := full.Waiting()
		_, consumers := empty.Waiting()
		if producers != 0 || full.Len() != 1 || consumers != 0 {
			t.Error("a call that was refused has left something in a queue")
		}
	}, runtime.WithLoops(2))
}

func TestFunctionOfTheLoopMayStartCoroutines(t *testing.T) {
	program(t, func(ctx context.Context) {
		here := runtime.Current(ctx)
		started := runtime.NewChannel[*runtime.Coroutine](1)
		here.Loop().Post(func() {
			if runtime.Current(ctx) != nil {
				t.Error("a function of the loop takes itself for the coroutine whose context it has")
			}
			co := start(ctx, func(ctx context.Context) { started.Push(ctx, runtime.Current(ctx)) })
			if !co.Ended() || co.Loop() != here.Loop() || co.Parent() != -1 {
				t.Errorf("%v: ended: %v, parent %d", co, co.Ended(), co.Parent())
			}
		})
		if co, err := started.Pop(ctx); co == nil || err != nil {
			t.Errorf("%v, %v", co, err)
		}
	})
}

func TestHomeIsWhereTheCallerRuns(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt, here := from(ctx), runtime.Current(ctx).Loop()
		for _, with := range []context.Context{ctx, context.Background(), rt.Context()} {
			home, err := sched.HomeFor(with)
			if err != nil || home.Loop() != here || !home.Here() {
				t.Errorf("HomeFor(%v) is %v, %v", with, home, err)
			}
		}
		runtime.Await(ctx, func() (int, error) {
			home, err := sched.HomeFor(context.WithValue(ctx, keyOfTest{}, 1))
			if err != nil || home.Loop() != here {
				t.Errorf("HomeFor on a plain goroutine is %v, %v", home, err)
			}
			if home.Here() {
				t.Error("a plain goroutine takes itself for the loop's")
			}
			return 0, nil
		})
	}, runtime.WithLoops(2))
}

// A context that is done goes before a deadline that has passed, always, for goroutines as for
// coroutines.
func TestContextGoesBeforeTheDeadline(t *testing.T) {
	rt := startRuntime(t)
	ctx, cancel := context.WithCancel(rt.Context())
	cancel()
	wait := func(ctx context.Context) error {
		w, err := sched.Enter(ctx)
		if err != nil {
			return err
		}
		defer w.Leave()
		return w.Wait(ctx, sched.NewReason("test"), sched.DeadlineAfter(1), noWaker{})
	}
	look := func(where string, err error) {
		if err != context.Canceled {
			t.Errorf("%s: %v", where, err)
		}
	}
	for range 100 {
		look("goroutine", wait(ctx))
		co, err := rt.Go(func(context.Context) { look("coroutine", wait(ctx)) })
		if err == nil {
			err = co.Join(rt.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
