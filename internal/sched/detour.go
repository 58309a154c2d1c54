package sched

import "context"

// Detour is runtime.Detour. In a coroutine that GoDeep has started, fn is called where it is.
func Detour(ctx context.Context, fn func(ctx context.Context)) error {
	switch s, co := whereAmI(schedulerHint(ctx)); {
	case co == nil && s != nil:
		return ErrOnLoop
	case co == nil:
		fn(ctx)
		return nil
	case co.worker.deep || co.worker.detoured:
		return co.callDeep(ctx, fn)
	default:
		d := &detour{worker: co.deepWorker(), ctx: ctx, fn: fn}
		co.switchTo(d)
		return co.endDetour(d)
	}
}

// detour is a call of Detour. Its worker isn't the coroutine's, but has the coroutine's own
// goroutine wait in worker.next, as loops do. When the coroutine parks, it yields to its loop by
// its own worker all the same, from the other goroutine; and that is the one that is resumed. What
// is on the coroutine's own stack meanwhile is little.
type detour struct {
	worker   *worker
	ctx      context.Context
	fn       func(ctx context.Context)
	err      error
	returned bool
}

// switchTo runs the coroutine on a detour's worker, and returns when the detour has ended.
func (co *Coroutine) switchTo(d *detour) {
	own, home := co.worker, co.worker.id.Load()
	own.detoured = true
	d.worker.co, d.worker.detour = co, d
	d.worker.switchTo(co.sched.loop)
	d.worker.co, d.worker.detour = nil, nil
	own.detoured = false
	own.id.Store(home)
	co.sched.running.Store(home)
}

// endDetour gives the detour's worker back and returns the detour's error.
func (co *Coroutine) endDetour(d *detour) error {
	s, w := co.sched, d.worker
	switch {
	case w.dead:
		s.workers.Add(-1)
	case !s.keep(w):
		w.dead = true
		w.next()
		s.workers.Add(-1)
	}
	if !d.returned && s.rt.forced.Load() {
		goexit()
	}
	return d.err
}

// deepWorker returns a worker for a detour. A new one is made by another one, the spawner, as that,
// too, takes more stack than very many coroutines should have.
func (co *Coroutine) deepWorker() *worker {
	s := co.sched
	if len(s.deep) == 0 {
		if s.spawner == nil {
			s.spawner = newWorker()
			s.workers.Add(1)
		}
		another := func(context.Context) { s.deep = append(s.deep, newWorker()) }
		co.switchTo(&detour{worker: s.spawner, fn: another})
		s.workers.Add(1)
	}
	w := s.take(&s.deep)
	w.deep = true
	return w
}

// runDetour is the worker's part of a detour. After a Goexit it doesn't return, see
// worker.runFunction.
func (w *worker) runDetour(d *detour) {
	defer func() {
		if !d.returned {
			w.dead = true
			// This goroutine ends. Its identity may be another's before switchTo stores the former
			// one.
			w.co.sched.running.Store(0)
			panic(errGoexit)
		}
	}()
	w.co.worker.id.Store(w.id.Load()) // that is where the coroutine runs
	w.co.sched.running.Store(w.id.Load())
	d.err = w.co.callDeep(d.ctx, d.fn)
	d.returned = true
}

// callDeep calls fn as a detour.
func (co *Coroutine) callDeep(ctx context.Context, fn func(ctx context.Context)) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = co.caught(value)
		}
	}()
	fn(ctx)
	return nil
}

// GoDeep is Go for coroutines that need a deep stack and don't last, such as one that does nothing
// but a TLS handshake: they run on the workers of Detour, so that those of other coroutines don't
// grow. It must be called on a loop, in a coroutine or a function of it; elsewhere it is Go.
func GoDeep(ctx context.Context, fn func(ctx context.Context)) (*Coroutine, error) {
	s, parent := whereAmI(schedulerHint(ctx))
	if s == nil || ctx.Err() != nil {
		return Go(ctx, fn)
	}
	if parent != nil {
		parent.spend(0)
	}
	co, err := s.spawn(ctx, parent)
	if err == nil {
		w := s.take(&s.deep)
		w.deep = true
		s.startOn(w, co, fn)
	}
	return co, err
}
