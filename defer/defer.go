package event

import (
	"context"
	"fmt"

	"github.com/whorl-go/whorl/runtime"
)

// Defer has fn called at the end of this iteration of the loop: after its descriptors, the work posted to it and its timers, in the order of the
// calls to Defer. Deferred by a deferred function, fn is called in the next iteration. A pending Defer keeps the loop from sleeping.
//
// fn is called once and in any case, also when ctx is done by then; only if the runtime has as many coroutines as it may have, that is logged
// instead. Defer fails with runtime.ErrNoRuntime, or with runtime.ErrShutdown when the loop has closed.
func Defer(ctx context.Context, fn func(ctx context.Context)) error {
	if fn == nil {
		return fmt.Errorf("event: defer: %w", errNoFunction)
	}
	p, err := placeFor(ctx)
	if err != nil {
		return fmt.Errorf("event: defer: %w", err)
	}
	d := &deferral{rt: p.rt, ctx: ctx, fn: fn}
	p.rt.Retain()
	if p.onLoop {
		p.loop.DeferTask(d)
		return nil
	}
	if p.loop.Post(func() { p.loop.DeferTask(d) }) != nil {
		p.rt.Release()
		return fmt.Errorf("event: defer: %w", runtime.ErrShutdown)
	}
	return nil
}

// deferral is one call of Defer, and the loop's task.
type deferral struct {
	rt  *runtime.Runtime
	ctx context.Context
	fn  func(context.Context)
}

func (d *deferral) Run() {
	defer d.rt.Release() // after start: the coroutine counts by itself by then
	start(d.rt.Logger(), d.ctx, d.fn)
}
