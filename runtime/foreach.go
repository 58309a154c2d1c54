package runtime

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/whorl-go/whorl/internal/sched"
)

// ForEach runs fn for each i from 0 to n-1, each in a coroutine of its own, all at once, and waits
// for all. Its errors are those of [Map]. The coroutines are where [Go] starts them: called in a
// coroutine, they are of its loop, run one at a time and need no locks between them.
// [WaitGroup.GoSpread] is for coroutines that use all processors.
func ForEach(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	indexes := make([]int, max(0, n))
	for i := range indexes {
		indexes[i] = i
	}
	_, err := Map(ctx, indexes, func(ctx context.Context, i int) (struct{}, error) {
		return struct{}{}, fn(ctx, i)
	})
	return err
}

// Map runs fn for each item, each in a coroutine of its own, all at once, and returns the results
// in the order of the items. The coroutines are where [Go] starts them, see [ForEach].
//
// The error joins those of fn. A panic in fn is logged, handed to the panic handler and counts as a
// *PanicError, a runtime.Goexit as ErrGoexit. If ctx is done first, Map returns what there is, with
// the error of ctx; items whose fn hasn't ended have a zero result, and fn is cancelled with ctx.
func Map[T, R any](
	ctx context.Context, items []T, fn func(ctx context.Context, item T) (R, error),
) ([]R, error) {
	var (
		mu      sync.Mutex // the caller may be elsewhere, and doesn't wait without end
		results = make([]R, len(items))
		errs    = make([]error, len(items))
		group   WaitGroup
	)
	note := func(i int, result R, err error) {
		mu.Lock()
		defer mu.Unlock()
		results[i], errs[i] = result, err
	}
	for i, item := range items {
		err := group.Go(ctx, func(ctx context.Context) {
			result, err := mapped(ctx, item, fn, func(err error) { note(i, *new(R), err) })
			note(i, result, err)
		})
		if err != nil {
			note(i, *new(R), err)
		}
	}
	waitErr := group.Wait(ctx)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(results), errors.Join(append(slices.Clone(errs), waitErr)...)
}

// mapped calls fn and returns its panic as an error. After a Goexit it doesn't return; exited is
// told why.
func mapped[T, R any](
	ctx context.Context, item T, fn func(context.Context, T) (R, error), exited func(error),
) (result R, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			caught := sched.Caught(ctx, value)
			err = caught
			exited(caught) // it may have come after a Goexit
			return
		}
		if sched.Current(ctx).Runtime().Forced() {
			exited(ErrShutdown)
		} else {
			exited(ErrGoexit)
		}
	}()
	result, err = fn(ctx, item)
	returned = true
	return result, err
}
