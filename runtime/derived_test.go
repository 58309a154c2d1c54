package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestDeadlineOfADerivedContextWakes(t *testing.T) {
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		for _, from := range []context.Context{ctx, context.Background(), uncomparable{Context: ctx}} {
			short, cancel := context.WithTimeout(from, time.Millisecond)
			_, err := ch.Pop(short)
			wantError(t, "Pop", err, context.DeadlineExceeded)
			_, err = ch.Pop(short)
			wantError(t, "Pop after the deadline", err, context.DeadlineExceeded)
			cancel()
		}
		if _, n := ch.Waiting(); n != 0 {
			t.Errorf("%d are still waiting", n)
		}
	})
}

func TestCancelOfADerivedContextWakes(t *testing.T) {
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		for name, call := range map[string]func(cancel func()){
			"by a goroutine":          func(cancel func()) { go cancel() },
			"by a coroutine":          func(cancel func()) { start(ctx, func(ctx context.Context) { runtime.Yield(ctx); cancel() }) },
			"by a function of a loop": func(cancel func()) { runtime.Current(ctx).Loop().Defer(cancel) },
			"before":                  func(cancel func()) { cancel() },
		} {
			derived, cancel := context.WithCancel(context.WithValue(ctx, keyOfTest{}, 1))
			call(cancel)
			_, err := ch.Pop(uncomparable{Context: context.WithValue(derived, keyOfTest{}, 2)})
			wantError(t, name, err, context.Canceled)
		}
	})
}

func TestCancelOfTheCoroutineWakesAWaitWithADerivedContext(t *testing.T) {
	program(t, func(ctx context.Context) {
		results := runtime.NewChannel[error](2)
		sleeper := start(ctx, func(ctx context.Context) {
			derived, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			results.Push(context.WithoutCancel(ctx), runtime.Sleep(derived, time.Hour))
		})
		sleeper.Cancel()
		err, _ := results.Pop(ctx)
		wantError(t, "Sleep", err, context.Canceled)
	})
}

func TestWithoutCancelKeepsAWaitFromBeingCancelled(t *testing.T) {
	program(t, func(ctx context.Context) {
		child := start(ctx, func(ctx context.Context) {
			if err := runtime.Sleep(context.WithoutCancel(ctx), 2*time.Millisecond); err != nil {
				t.Errorf("Sleep: %v", err)
			}
			wantError(t, "Sleep with the coroutine's context", runtime.Sleep(ctx, time.Hour), context.Canceled)
		})
		child.Cancel()
		child.Join(ctx)
	})
}

// The end of a context must not end a wait that goes by another one, even if an earlier wait went
// by it.
func TestContextOfAnEarlierWaitDoesNotEndALaterOne(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt := from(ctx)
		longer, cancelLonger := context.WithCancel(context.Background())
		defer cancelLonger()
		for name, with := range map[string]context.Context{
			"its own": ctx, "Background": context.Background(), "the runtime's": rt.Context(), "another derived one": longer,
		} {
			earlier, cancel := context.WithCancel(ctx)
			if err := runtime.Sleep(earlier, time.Microsecond); err != nil {
				t.Error(err)
			}
			heard := make(chan bool)
			context.AfterFunc(earlier, func() { close(heard) })
			start(ctx, func(ctx context.Context) {
				runtime.Yield(ctx)
				cancel()
			})
			ch := runtime.NewChannel[int](1)
			go func() {
				<-heard
				runtime.Sleep(ctx, 2*time.Millisecond) // in which the end of the earlier context comes to the loop
				ch.Push(ctx, 7)
			}()
			if v, err := ch.Pop(with); v != 7 || err != nil {
				t.Errorf("Pop with %s: %v, %v", name, v, err)
			}
		}
	})
}

func TestContextsAlternateFromWaitToWait(t *testing.T) {
	program(t, func(ctx context.Context) {
		timeout, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		cancellable, cancelNow := context.WithCancel(ctx)
		defer cancelNow()
		contexts := []context.Context{ctx, timeout, context.Background(), cancellable, context.WithValue(timeout, keyOfTest{}, 1)}
		there, back := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
		start(ctx, func(ctx context.Context) {
			for {
				v, err := there.Pop(ctx)
				if err != nil {
					return
				}
				runtime.Yield(ctx)
				back.Push(ctx, v)
			}
		})
		for i := range 1000 {
			there.Push(contexts[i%5], i)
			if v, err := back.Pop(contexts[(i/5+i)%5]); v != i || err != nil {
				t.Fatalf("%d came back as %d, %v", i, v, err)
			}
		}
		there.Close()
		cancelNow()
		wantError(t, "Sleep", runtime.Sleep(cancellable, time.Hour), context.Canceled)
		if err := runtime.Sleep(timeout, time.Microsecond); err != nil {
			t.Error(err)
		}
	})
}

func TestWaitsAllocateNothing(t *testing.T) {
	program(t, func(ctx context.Context) {
		derived, cancel := context.WithTimeout(context.WithValue(ctx, keyOfTest{}, 1), time.Hour)
		defer cancel()
		for name, with := range map[string]context.Context{"its own": ctx, "a derived one": derived, "Background": context.Background()} {
			ch := runtime.NewChannel[int](1)
			feeder := start(ctx, func(ctx context.Context) {
				for runtime.Suspend(ctx) == nil {
					ch.Push(ctx, 1)
				}
			})
			waits := map[string]func() error{
				"Sleep": func() error { return runtime.Sleep(with, time.Microsecond) },
				"Yield": func() error { return runtime.Yield(with) },
				"Pop": func() error {
					runtime.Current(ctx).Loop().DeferTask((*resume)(feeder))
					_, err := ch.Pop(with)
					return err
				},
				"PopTimeout": func() error {
					runtime.Current(ctx).Loop().DeferTask((*resume)(feeder))
					_, err := ch.PopTimeout(with, time.Hour)
					return err
				},
			}
			for what, wait := range waits {
				n := testing.AllocsPerRun(100, func() {
					if err := wait(); err != nil {
						t.Errorf("%s with %s: %v", what, name, err)
					}
				})
				if n != 0 {
					t.Errorf("%s with %s allocates %v times", what, name, n)
				}
			}
			feeder.Cancel()
		}
	}, runtime.WithLoops(1))
}

// resume is a task that resumes a coroutine.
type resume runtime.Coroutine

func (r *resume) Run() { (*runtime.Coroutine)(r).Resume() }
