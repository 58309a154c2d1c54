package sched

import "context"

// ReportPanic reports a panic that its caller has recovered from, in a coroutine that goes on: it
// is logged with its stack and handed to the handler of WithPanicHandler, as one that ends a
// coroutine is. value is what recover has returned, or ErrGoexit for a runtime.Goexit, and the
// deferred function that has found it out must be the one that calls, as the stack is of that
// moment. The Goexit by which a Shutdown ends coroutines whose time is over is not reported, nor
// what is called outside a coroutine.
func ReportPanic(ctx context.Context, value any) *PanicError {
	err := asPanicError(value)
	s, co := whereAmI(schedulerHint(ctx))
	if co != nil && !(value == any(ErrGoexit) && s.rt.forced.Load()) {
		s.rt.panicked(co, err)
	}
	return err
}

// Caught reports a panic that its caller has recovered from, as ReportPanic does, and that goes on
// to somebody who may handle it, as an error. On a plain goroutine it reports nothing.
func Caught(ctx context.Context, value any) *PanicError {
	if _, co := whereAmI(schedulerHint(ctx)); co != nil {
		return co.caught(value)
	}
	return asPanicError(value)
}

func (co *Coroutine) caught(value any) *PanicError {
	err := asPanicError(value)
	co.sched.rt.report(co, err)
	return err
}
