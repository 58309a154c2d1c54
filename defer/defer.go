package event

import (
	"context"
	"fmt"

	"github.com/whorl-go/whorl/runtime"
)

// Defer has fn called at the end of this iteration of the loop: after its descriptors, the work
// posted to it and its timers, in the order of the calls to Defer. Deferred by a deferred function,
// fn is called in the next iteration. A pending Defer keeps the loop from sleeping.
//
// Once Defer has returned nil, fn is called, also when ctx is done by then or the runtime shuts
// down. The errors are those of runtime.Go: runtime.ErrNoRuntime, runtime.ErrTooMany, the error of
// a ctx that is done, and runtime.ErrShutdown, which a coroutine doesn't get with a ctx that isn't
// done: it may defer as long as it runs.
func Defer(ctx context.Context, fn func(ctx context.Context)) error {
	if fn == nil {
		return fmt.Errorf("event: defer: %w", errNoFunction)
	}
	// Yield ends in the step of deferred functions. And a coroutine that is there already can't be
	// refused when fn is due. fn is called when Shutdown forces the coroutine out, too.
	_, err := runtime.Go(ctx, func(ctx context.Context) {
		defer fn(ctx)
		runtime.Yield(ctx)
	})
	if err != nil {
		return fmt.Errorf("event: defer: %w", err)
	}
	return nil
}
