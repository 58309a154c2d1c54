package sched

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// nobody is the Queue of waits that nobody ends but time and cancellation.
type nobody struct{}

func (nobody) Remove(*Waiter) bool { return true }

// Sleep is runtime.Sleep.
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

// single is the entry of one Waiter that one event ends.
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

// Suspend is runtime.Suspend.
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

// Resume has a coroutine go on that waits in Suspend. It only schedules, see [Waiter.Wake].
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

// ended counts one coroutine that has ended, and wakes the caller of Join after the last one.
func (j *join) ended() {
	if j.left.Add(-1) == 0 {
		j.fire()
	}
}

// Join is runtime.Join.
func Join(ctx context.Context, coroutines ...*Coroutine) error {
	if err := Begin(ctx, 0); err != nil {
		return err
	}
	w, err := Enter(ctx)
	if err != nil {
		return err
	}
	defer w.Leave()
	for _, co := range coroutines {
		if co == w.co {
			return errors.New("runtime: a coroutine can't join itself")
		}
	}
	j := &join{single: single{waiter: w}}
	j.left.Store(1) // ours, until all are registered
	entries := make([]Entry[*join], len(coroutines))
	for i, co := range coroutines {
		entries[i].Value = j
		co.addJoin(&entries[i])
	}
	if j.left.Add(-1) == 0 {
		return ctx.Err()
	}
	if err := w.Wait(ctx, reasonJoin, 0, j); err != nil {
		for i, co := range coroutines {
			co.dropJoin(&entries[i])
		}
		return err
	}
	return nil
}

// Ended reports whether the coroutine has ended.
func (co *Coroutine) Ended() bool {
	return co.over.Load()
}

func (co *Coroutine) addJoin(entry *Entry[*join]) {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.over.Load() {
		return
	}
	entry.Value.left.Add(1)
	if co.rare == nil {
		co.rare = new(rare)
	}
	co.rare.joins.push(entry)
}

// dropJoin forgets a Join that has given up.
func (co *Coroutine) dropJoin(entry *Entry[*join]) {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if entry.queue != nil {
		entry.queue.remove(entry)
	}
}

// wakeJoins tells those who wait for the coroutine's end, when it is over.
func (co *Coroutine) wakeJoins() {
	co.ctx.mu.Lock()
	r := co.rare
	co.ctx.mu.Unlock()
	if r == nil {
		return
	}
	for {
		co.ctx.mu.Lock()
		entry := r.joins.Pop()
		co.ctx.mu.Unlock()
		if entry == nil {
			return
		}
		entry.Value.ended()
	}
}
