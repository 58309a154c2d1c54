package runtime

import "context"

var reasonDetour = NewInternalReason("detour")

// Detour runs fn in a coroutine of its own and waits for it to end. The coroutine's worker is kept for other detours, with the stack it has
// grown: something that needs a deep stack for a while, such as a TLS handshake, doesn't make the stacks of the many coroutines that go through it grow, and
// doesn't pay for growing one each time. fn's context is cancelled when ctx is; Detour returns only when fn has. A panic in fn is returned as a
// *PanicError. Outside a coroutine, and in one that GoDeep has started, fn is simply called, with ctx.
func Detour(ctx context.Context, fn func(ctx context.Context)) error {
	s, co := whereAmI(schedulerHint(ctx))
	if s == nil {
		fn(ctx)
		return nil
	}
	if co == nil {
		return ErrOnLoop
	}
	if co.worker.roomy {
		return callDeep(ctx, fn)
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

// callDeep calls fn as a detour.
func callDeep(ctx context.Context, fn func(ctx context.Context)) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = asPanicError(value)
		}
	}()
	fn(ctx)
	return nil
}

// GoDeep is Go for coroutines that need a deep stack and don't last, such as one that does nothing but a TLS handshake: they run on the workers of Detour, so that
// those of other coroutines don't grow. It must be called on a loop, in a coroutine or a function of it; elsewhere it is Go.
func GoDeep(ctx context.Context, fn func(ctx context.Context)) (*Coroutine, error) {
	s, parent := whereAmI(schedulerHint(ctx))
	if s == nil {
		return Go(ctx, fn)
	}
	co, err := s.spawn(ctx, parent)
	if err == nil {
		w := s.take(&s.roomy)
		w.roomy = true
		s.startOn(w, co, fn)
	}
	return co, err
}
