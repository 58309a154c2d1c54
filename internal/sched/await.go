package sched

import (
	"context"
	"sync"
	"time"
)

// Await is runtime.Await.
func Await[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return await(ctx, fn, false)
}

// AwaitEnd is Await that returns only when fn has ended, whatever becomes of ctx and the runtime
// meanwhile: for a function that uses what is the caller's, such as a buffer. It must end by
// itself.
func AwaitEnd[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return await(ctx, fn, true)
}

func await[T any](ctx context.Context, fn func() (T, error), toTheEnd bool) (T, error) {
	var zero T
	s, co, err := begin(ctx, 0)
	if s != nil && co == nil {
		return zero, ErrOnLoop
	}
	if err != nil {
		return zero, err
	}
	if co == nil {
		return fn()
	}
	if s.rt.forced.Load() {
		co.refused()
		return zero, ErrShutdown
	}
	call := &awaitCall[T]{single: single{waiter: &co.waiter}, fn: fn, toTheEnd: toTheEnd}
	s.rt.pool.submit(call)
	if err := co.waiter.Wait(ctx, reasonAwait, 0, call); err != nil {
		return zero, err
	}
	if call.panicked != nil {
		panic(call.panicked)
	}
	return call.value, call.err
}

// awaitCall is one call of Await. Its results are written before fire and read after it.
type awaitCall[T any] struct {
	single
	fn       func() (T, error)
	value    T
	err      error
	panicked *PanicError
	toTheEnd bool // nothing but fn ends the wait
}

// Remove is that of single, unless the wait must not end.
func (c *awaitCall[T]) Remove(w *Waiter) bool { return !c.toTheEnd && c.single.Remove(w) }

// run runs fn on a goroutine of the pool. After a Goexit in fn that goroutine ends, which the pool
// allows for.
func (c *awaitCall[T]) run() {
	c.err = ErrGoexit // unless fn returns
	defer func() {
		if !c.fire() && c.panicked != nil { // Await has returned without it
			c.leftBehind()
		}
	}()
	defer func() {
		if value := recover(); value != nil {
			c.panicked = asPanicError(value)
		}
	}()
	c.value, c.err = c.fn()
}

// leftBehind reports the panic of a function whose Await has returned without it. The panic handler
// runs on the loop, as always, or when that has ended.
func (c *awaitCall[T]) leftBehind() {
	co := c.waiter.co
	rt := co.sched.rt
	report := func() { rt.panicked(co, c.panicked) }
	if co.sched.loop.Post(report) != nil {
		rt.AtEnd(report)
	}
}

type awaitTask interface{ run() }

// awaitPool runs tasks on goroutines that it keeps for a while.
type awaitPool struct {
	limit int

	mu         sync.Mutex
	goroutines int         // guarded by mu
	idle       int         // guarded by mu: goroutines waiting on work
	queue      []awaitTask // guarded by mu: what no goroutine has taken yet
	closed     bool        // guarded by mu
	work       chan awaitTask
}

// awaitIdle is how long an idle goroutine of the pool waits for work.
const awaitIdle = 5 * time.Second

func (p *awaitPool) submit(t awaitTask) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.work == nil {
		p.work = make(chan awaitTask, p.limit)
	}
	switch {
	case p.idle > 0:
		p.idle--
		p.work <- t // has room: no more than limit goroutines are idle
	case p.goroutines < p.limit:
		p.goroutines++
		go p.serve(t)
	default:
		p.queue = append(p.queue, t)
	}
}

// serve is a goroutine of the pool.
func (p *awaitPool) serve(t awaitTask) {
	orderly := false
	defer func() {
		if !orderly { // Goexit in a task: what is queued needs another goroutine
			if next := p.following(); next != nil {
				go p.serve(next)
			}
		}
	}()
	timer := time.NewTimer(awaitIdle)
	defer timer.Stop()
	for t != nil {
		t.run()
		if t = p.next(); t != nil {
			continue
		}
		timer.Reset(awaitIdle)
		select {
		case t = <-p.work:
		case <-timer.C:
			t = p.retire()
		}
	}
	orderly = true
}

// following returns the next queued task, or counts the goroutine out and returns nil.
func (p *awaitPool) following() awaitTask {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.goroutines--
		return nil
	}
	return p.pop()
}

// next returns the next queued task, or counts the goroutine as idle and returns nil.
func (p *awaitPool) next() awaitTask {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		return p.pop()
	}
	p.idle++
	if p.closed {
		p.idle--
		p.work <- nil
	}
	return nil
}

func (p *awaitPool) pop() awaitTask {
	t := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	return t
}

// retire counts an idle goroutine out, unless a task has just been given to it, which it returns.
func (p *awaitPool) retire() awaitTask {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case t := <-p.work:
		return t
	default:
	}
	p.idle--
	p.goroutines--
	return nil
}

// close sends the idle goroutines home; those at work go when they have finished.
func (p *awaitPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for ; p.idle > 0; p.idle-- {
		p.work <- nil
	}
}
