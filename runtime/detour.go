package runtime

import "context"

var reasonDetour = NewInternalReason("detour")

// Detour runs fn in a coroutine of its own and waits for it to end. The coroutine's worker is kept for other detours, with the stack it has
// grown: something that needs a deep stack for a while, such as a TLS handshake, doesn't make the stacks of the many coroutines that go through it grow, and
// doesn't pay for growing one each time. fn's context is cancelled when ctx is; Detour returns only when fn has. A panic in fn is returned as a
// *PanicError. Outside a coroutine fn is simply called, with ctx.
func Detour(ctx context.Context, fn func(ctx context.Context)) error {
	s, co := whereAmI(schedulerHint(ctx))
	if s == nil {
		fn(ctx)
		return nil
	}
	if co == nil {
		return ErrOnLoop
	}
	other, err := s.spawn(ctx, co)
	if err != nil {
		return err
	}
	done := &single{waiter: &co.waiter}
	ended, waiting := false, false
	w := s.take(&s.roomy)
	w.roomy = true
	s.startOn(w, other, func(ctx context.Context) {
		Defer(ctx, func(context.Context) {
			if ended = true; waiting {
				done.fire()
			}
		})
		fn(ctx)
	})
	for waiting = true; !ended; done.taken.Store(false) {
		// Whatever interrupts this wait has cancelled the other coroutine too: it will end.
		co.waiter.Wait(context.Background(), reasonDetour, 0, done)
	}
	if other.rare.panicked != nil {
		return other.rare.panicked
	}
	return nil
}
