package runtime

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// nobody is the Queue of waits that nobody ends but time and cancellation.
type nobody struct{}

func (nobody) Remove(*Waiter) bool { return true }

// Sleep waits for d. It returns nil afterwards, or before that the error of ctx or ErrShutdown. With d <= 0 it is Yield.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return Yield(ctx)
	}
	w, err := Enter(ctx)
	if err != nil {
		return err
	}
	defer w.Leave()
	if err := w.Wait(ctx, reasonSleep, DeadlineAfter(d), nobody{}); err != ErrTimeout {
		return err
	}
	return nil
}

// single is the place of one Waiter that one event ends.
type single struct {
	waiter *Waiter
	taken  atomic.Bool
}

func (s *single) Remove(*Waiter) bool { return s.taken.CompareAndSwap(false, true) }

// fire wakes the waiter and reports true, unless something else has ended its wait.
func (s *single) fire() bool {
	if !s.taken.CompareAndSwap(false, true) {
		return false
	}
	s.waiter.Wake()
	return true
}

// Suspend parks the current coroutine until [Coroutine.Resume]. It returns nil then, or the error of ctx or ErrShutdown. Outside a coroutine
// it is an error.
func Suspend(ctx context.Context) error {
	co := Current(ctx)
	if co == nil {
		return errors.New("runtime: Suspend outside a coroutine")
	}
	co.suspended.Store(true)
	return co.waiter.Wait(ctx, reasonSuspend, 0, (*suspendQueue)(co))
}

type suspendQueue Coroutine

func (q *suspendQueue) Remove(*Waiter) bool { return q.suspended.CompareAndSwap(true, false) }

// Resume continues a coroutine that waits in Suspend. On the coroutine's own loop it is switched to at once. A coroutine that doesn't wait
// there, but for something else or not at all, is left alone: ErrNotSuspended.
func (co *Coroutine) Resume() error {
	if !co.suspended.CompareAndSwap(true, false) {
		return ErrNotSuspended
	}
	co.waiter.Wake()
	return nil
}

// join is one call of Join.
type join struct {
	single
	left atomic.Int64
}

// Run counts one coroutine that has ended; the loop calls it in the step of deferred functions.
func (j *join) Run() {
	if j.left.Add(-1) == 0 {
		j.fire()
	}
}

// Join waits until all the coroutines have ended. The caller goes on in the deferred functions of the loop's turn in which the last one
// ended. Joining oneself is an error.
func Join(ctx context.Context, coroutines ...*Coroutine) error {
	if err := refuse(ctx); err != nil {
		return err
	}
	w, err := Enter(ctx)
	if err != nil {
		return err
	}
	defer w.Leave()
	j := &join{single: single{waiter: w}}
	j.left.Store(1) // ours, until all are registered
	for _, co := range coroutines {
		if co == w.co {
			return errors.New("runtime: a coroutine can't join itself")
		}
	}
	for _, co := range coroutines {
		co.addJoin(j)
	}
	if j.left.Add(-1) == 0 {
		return ctx.Err()
	}
	if err := w.Wait(ctx, reasonJoin, 0, j); err != nil {
		for _, co := range coroutines {
			co.dropJoin(j)
		}
		return err
	}
	return nil
}

// Join waits until the coroutine has ended.
func (co *Coroutine) Join(ctx context.Context) error { return Join(ctx, co) }

// Ended reports whether the coroutine has ended.
func (co *Coroutine) Ended() bool {
	return co.over.Load()
}

func (co *Coroutine) addJoin(j *join) {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.over.Load() {
		return
	}
	j.left.Add(1)
	if co.rare == nil {
		co.rare = new(rare)
	}
	co.rare.joins = append(co.rare.joins, j)
}

// dropJoin forgets a Join that has given up.
func (co *Coroutine) dropJoin(j *join) {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.rare != nil {
		co.rare.joins = slices.DeleteFunc(co.rare.joins, func(other *join) bool { return other == j })
	}
}

// takeJoins takes out who waits for the coroutine's end, when it is over.
func (co *Coroutine) takeJoins() []*join {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.rare == nil {
		return nil
	}
	joins := co.rare.joins
	co.rare.joins = nil
	return joins
}
