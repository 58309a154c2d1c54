package dialing

import (
	"context"

	"github.com/whorl-go/whorl/runtime"
)

// Done returns why a context is done, nil if it isn't. It is what a wait with that context returns:
// runtime.ErrShutdown if its runtime shuts down.
func Done(ctx context.Context) error {
	err := ctx.Err()
	if err == context.Canceled {
		if rt, _ := runtime.From(ctx); rt != nil && rt.Context().Err() != nil {
			return runtime.ErrShutdown
		}
	}
	return err
}
