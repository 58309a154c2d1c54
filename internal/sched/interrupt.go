package sched

// Interrupt ends the present wait only, with ErrInterrupted.
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
