package sched

// Interrupt ends what the coroutine waits for at present, which returns ErrInterrupted, and nothing
// else: unlike Cancel it leaves the context as it is, so the coroutine may wait again. It is what
// Swoole's Coroutine::cancel does. The coroutine goes on in the deferred functions of its loop's
// turn.
//
// On the coroutine's own loop Interrupt reports whether there was a wait to end: not if the
// coroutine runs, yields, is about to go on anyway, or has ended. Called elsewhere it has the loop
// do this soon, and reports whether the coroutine has not ended.
func (co *Coroutine) Interrupt() bool {
	if co.sched.onLoop() {
		return co.interrupt(ErrInterrupted)
	}
	return !co.Ended() && co.sched.loop.Post(func() { co.interrupt(ErrInterrupted) }) == nil
}

// interruptAll cancels all coroutines, and ends all their waits, once each, with ErrShutdown. The
// contexts come first, all of them, so that nobody begins something anew; then the waits, before
// anybody goes on, so that none ends for another reason that the end of somebody else has caused.
// Each coroutine goes on in a task of its own, between which the loops let others have their turn.
func (rt *Runtime) interruptAll() {
	all := make([][]*Coroutine, len(rt.schedulers))
	for i, s := range rt.schedulers {
		for _, co := range s.coroutines() {
			co.ctx.mark(ErrShutdown)
			all[i] = append(all[i], co)
		}
	}
	for i, s := range rt.schedulers {
		s.loop.Post(func() {
			for _, co := range all[i] {
				co.interrupt(ErrShutdown)
			}
		})
	}
}
