package runtime

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Batch runs the functions as coroutines, all at once, waits for all, and returns their results in the order of the functions. The error joins
// those of the functions. If ctx is done first, Batch returns what there is, with the error of ctx; those that haven't ended have a zero result, and
// are cancelled with ctx.
func Batch[T any](ctx context.Context, functions ...func(ctx context.Context) (T, error)) ([]T, error) {
	return Map(ctx, functions, func(ctx context.Context, fn func(context.Context) (T, error)) (T, error) { return fn(ctx) })
}

// Parallel runs fn n times, as n coroutines at once, with i from 0 to n-1, and waits for all. Its errors are those of [Batch].
func Parallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	indexes := make([]int, max(0, n))
	for i := range indexes {
		indexes[i] = i
	}
	_, err := Map(ctx, indexes, func(ctx context.Context, i int) (struct{}, error) { return struct{}{}, fn(ctx, i) })
	return err
}

// Map runs fn for each item, each in a coroutine of its own, all at once, and returns the results in the order of the items. Its errors are those of [Batch]. A
// panic in fn counts as a *PanicError.
func Map[T, R any](ctx context.Context, items []T, fn func(ctx context.Context, item T) (R, error)) ([]R, error) {
	var (
		mu      sync.Mutex // the coroutines may run on another loop than the caller, who doesn't wait for them without end
		results = make([]R, len(items))
		errs    = make([]error, len(items))
		group   WaitGroup
	)
	for i, item := range items {
		err := group.Go(ctx, func(ctx context.Context) {
			defer func() {
				if value := recover(); value != nil {
					mu.Lock()
					defer mu.Unlock()
					errs[i] = asPanicError(value)
				}
			}()
			result, err := fn(ctx, item)
			mu.Lock()
			defer mu.Unlock()
			results[i], errs[i] = result, err
		})
		if err != nil {
			mu.Lock()
			errs[i] = err
			mu.Unlock()
		}
	}
	waitErr := group.Wait(ctx)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(results), errors.Join(append(slices.Clone(errs), waitErr)...)
}
