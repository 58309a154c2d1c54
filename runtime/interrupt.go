package runtime

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
		return co.interruptLater(ErrInterrupted)
	}
	return !co.Ended() && co.sched.loop.Post(func() { co.interrupt(ErrInterrupted) }) == nil
}

// interruptLater ends the coroutine's wait with err, if it waits and nobody else is about to end
// it. It goes on in the loop's deferred functions. On the loop.
func (co *Coroutine) interruptLater(err error) bool {
	if co.state != stateParked || co.queue == nil || !co.queue.Remove(&co.waiter) {
		return false
	}
	co.queue = nil // until it goes on, nothing else ends this wait
	co.sched.loop.DeferTask(&interruption{co, err})
	return true
}

// interruption resumes a coroutine whose wait has ended with err.
type interruption struct {
	co  *Coroutine
	err error
}

func (i *interruption) Run() {
	i.co.sched.wakeErr = i.err
	i.co.sched.resume(i.co)
}

// shutdownTask ends the wait of a coroutine for a Shutdown.
type shutdownTask Coroutine

func (t *shutdownTask) Run() { (*Coroutine)(t).interrupt(ErrShutdown) }

// mustEnd reports whether a Shutdown has cancelled the coroutine, or would have if it had seen it.
// One that delivers what was sent goes on until the time for an orderly end is over.
func (co *Coroutine) mustEnd() bool {
	rt := co.sched.rt
	return rt.forced.Load() || rt.stopping.Load() && !co.courier
}

// interruptAll cancels all coroutines, and then ends all their waits, once each, with ErrShutdown.
// The contexts come first, all of them, so that nobody begins something anew. Each coroutine is a
// task of its own, between which the loops let others have their turn.
func (rt *Runtime) interruptAll() {
	all := make([][]*Coroutine, len(rt.schedulers))
	for i, s := range rt.schedulers {
		for _, co := range s.coroutines() {
			if co.mustEnd() {
				co.ctx.mark(ErrShutdown)
				all[i] = append(all[i], co)
			}
		}
	}
	for i, s := range rt.schedulers {
		s.loop.Post(func() {
			for _, co := range all[i] {
				s.loop.DeferTask((*shutdownTask)(co))
			}
		})
	}
}
