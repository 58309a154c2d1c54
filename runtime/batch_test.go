package runtime_test

import (
	"context"
	"errors"
	"fmt"
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
		batch, err := runtime.Batch(ctx,
			func(ctx context.Context) (int, error) { return 1, runtime.Sleep(ctx, 2*time.Millisecond) },
			func(ctx context.Context) (int, error) { return 2, nil },
			func(ctx context.Context) (int, error) { return 3, runtime.Yield(ctx) })
		if fmt.Sprint(batch) != "[1 2 3]" || err != nil {
			t.Errorf("Batch returned %v, %v", batch, err)
		}
		squares := make([]int, 20)
		err = runtime.Parallel(ctx, 20, func(ctx context.Context, i int) error {
			defer func() { squares[i] = i * i }()
			return runtime.Yield(ctx)
		})
		if fmt.Sprint(squares) != "[0 1 4 9 16 25 36 49 64 81 100 121 144 169 196 225 256 289 324 361]" || err != nil {
			t.Errorf("Parallel filled in %v, %v", squares, err)
		}
	})
}

func TestBatchOfNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		if results, err := runtime.Batch[int](ctx); len(results) != 0 || err != nil {
			t.Errorf("Batch returned %v, %v", results, err)
		}
		for _, n := range []int{0, -1} {
			err := runtime.Parallel(ctx, n, func(context.Context, int) error { return errors.New("it ran") })
			if err != nil {
				t.Errorf("Parallel of %d: %v", n, err)
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

func TestBatchEndsWithItsContext(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		cancellable, cancel := context.WithCancel(ctx)
		defer cancel()
		ended, goOn := runtime.NewChannel[error](1), runtime.NewChannel[bool](1)
		results, err := runtime.Batch(cancellable,
			func(ctx context.Context) (int, error) {
				runtime.Defer(ctx, func(context.Context) { cancel() }) // when the result has been taken
				return 1, nil
			},
			func(ctx context.Context) (int, error) {
				err := runtime.Sleep(ctx, time.Hour)
				ended.Push(context.Background(), err)
				return 2, err
			},
			func(context.Context) (int, error) { // doesn't listen to its context
				goOn.Pop(context.Background())
				return 3, nil
			})
		wantError(t, "Batch", err, context.Canceled)
		if results[0] != 1 || results[2] != 0 {
			t.Errorf("results are %v", results)
		}
		err, _ = ended.Pop(ctx)
		wantError(t, "the one that was cancelled", err, context.Canceled)
		goOn.Close()
	})
}

func TestBatchEndsAtTheDeadline(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		short, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
		defer cancel()
		err := runtime.Parallel(short, 3, func(ctx context.Context, _ int) error { return runtime.Sleep(ctx, time.Hour) })
		wantError(t, "Parallel", err, context.DeadlineExceeded)
	})
}

func TestBatchWithAContextThatIsDone(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, err := runtime.Map(done, []int{1, 2}, func(ctx context.Context, i int) (int, error) {
			return i, runtime.Sleep(ctx, time.Hour)
		})
		wantError(t, "Map", err, context.Canceled)
	})
}
