package runtime_test

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// everywhere runs a check in a coroutine, on one loop and on several, and on a plain goroutine.
func everywhere(t *testing.T, check func(t *testing.T, ctx context.Context)) {
	for _, loops := range []int{1, 3} {
		t.Run(fmt.Sprintf("in a coroutine, %d loops", loops), func(t *testing.T) {
			program(t, func(ctx context.Context) { check(t, ctx) }, runtime.WithLoops(loops))
		})
	}
	t.Run("on a plain goroutine", func(t *testing.T) { check(t, startRuntime(t, runtime.WithLoops(3)).Context()) })
}

func TestResultsComeInTheOrderOfTheItems(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		results, err := runtime.Map(ctx, []int{5, 1, 3}, func(ctx context.Context, i int) (string, error) {
			err := runtime.Sleep(ctx, time.Duration(i)*time.Millisecond)
			return fmt.Sprint("slept ", i), err
		})
		if got := fmt.Sprintf("%q", results); got != `["slept 5" "slept 1" "slept 3"]` || err != nil {
			t.Errorf("Map returned %s, %v", got, err)
		}
		squares := make([]int, 20)
		err = runtime.ForEach(ctx, 20, func(ctx context.Context, i int) error {
			defer func() { squares[i] = i * i }()
			return runtime.Yield(ctx)
		})
		if fmt.Sprint(squares) != "[0 1 4 9 16 25 36 49 64 81 100 121 144 169 196 225 256 289 324 361]" || err != nil {
			t.Errorf("ForEach filled in %v, %v", squares, err)
		}
	})
}

func TestMapOfNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		none := func(context.Context, int) (int, error) { return 0, errors.New("it ran") }
		if results, err := runtime.Map(ctx, nil, none); len(results) != 0 || err != nil {
			t.Errorf("Map returned %v, %v", results, err)
		}
		for _, n := range []int{0, -1} {
			err := runtime.ForEach(ctx, n, func(context.Context, int) error { return errors.New("it ran") })
			if err != nil {
				t.Errorf("ForEach of %d: %v", n, err)
			}
		}
	})
}

func TestErrorsAndPanicsAreJoined(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	everywhere(t, func(t *testing.T, ctx context.Context) {
		results, err := runtime.Map(ctx, []int{0, 1, 2, 3}, func(ctx context.Context, i int) (int, error) {
			runtime.Yield(ctx)
			switch i {
			case 0:
				return 10, first
			case 2:
				return 12, second
			case 3:
				explode()
			}
			return i, nil
		})
		wantError(t, "Map", err, first)
		wantError(t, "Map", err, second)
		wantExplosion(t, "Map", err)
		if fmt.Sprint(results) != "[10 1 12 0]" {
			t.Errorf("results are %v", results)
		}
	})
}

func TestMapEndsWithItsContext(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		cancellable, cancel := context.WithCancel(ctx)
		defer cancel()
		ended, goOn := runtime.NewChannel[error](1), runtime.NewChannel[bool](1)
		var begun runtime.WaitGroup
		begun.Add(2)
		functions := []func(ctx context.Context) (int, error){
			func(ctx context.Context) (int, error) {
				begun.Wait(ctx)
				runtime.Defer(ctx, func(context.Context) { cancel() }) // when the result has been taken
				return 1, nil
			},
			func(ctx context.Context) (int, error) {
				begun.Done()
				err := runtime.Sleep(ctx, time.Hour)
				ended.Push(context.Background(), err)
				return 2, err
			},
			func(context.Context) (int, error) { // doesn't listen to its context
				begun.Done()
				goOn.Pop(context.Background())
				return 3, nil
			},
		}
		results, err := runtime.Map(cancellable, functions, func(ctx context.Context, fn func(context.Context) (int, error)) (int, error) {
			return fn(ctx)
		})
		wantError(t, "Map", err, context.Canceled)
		if results[0] != 1 || results[2] != 0 {
			t.Errorf("results are %v", results)
		}
		err, _ = ended.Pop(ctx)
		wantError(t, "the one that was cancelled", err, context.Canceled)
		goOn.Close()
	})
}

func TestForEachEndsAtTheDeadline(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		short, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
		defer cancel()
		err := runtime.ForEach(short, 3, func(ctx context.Context, _ int) error { return runtime.Sleep(ctx, time.Hour) })
		wantError(t, "ForEach", err, context.DeadlineExceeded)
	})
}

func TestMapWithAContextThatIsDone(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, err := runtime.Map(done, []int{1, 2}, func(ctx context.Context, i int) (int, error) {
			return i, runtime.Sleep(ctx, time.Hour)
		})
		wantError(t, "Map", err, context.Canceled)
	})
}

// Neither a Goexit nor a panic in fn is taken for a result, and each panic is reported.
func TestMapOfAGoexit(t *testing.T) {
	var reported []error
	program(t, func(ctx context.Context) {
		results, err := runtime.Map(ctx, []int{0, 1, 2}, func(ctx context.Context, i int) (int, error) {
			runtime.Yield(ctx)
			switch i {
			case 1:
				goruntime.Goexit()
			case 2:
				panic(errExplosion)
			}
			return 7, nil
		})
		wantError(t, "Map", err, runtime.ErrGoexit)
		wantError(t, "Map", err, errExplosion)
		if fmt.Sprint(results) != "[7 0 0]" {
			t.Errorf("results: %v", results)
		}
	}, runtime.WithLoops(1), runtime.WithPanicHandler(func(_ *runtime.Coroutine, err *runtime.PanicError) {
		reported = append(reported, err)
	}))
	if len(reported) != 1 || !errors.Is(reported[0], errExplosion) {
		t.Errorf("reported: %v", reported)
	}
}
