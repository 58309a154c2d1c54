package sched

import (
	"context"
	"sync"
)

// WaitQueue is a FIFO of callers who wait, each with a value of its own. The mutex of what they
// wait for guards it.
type WaitQueue[T any] struct {
	first, last *Entry[T]
	length      int
	free        *Entry[T] // to use again
}

// Entry is a caller in a WaitQueue. It is the Queue of its Waiter.
type Entry[T any] struct {
	mu         *sync.Mutex   // guards queue
	queue      *WaitQueue[T] // nil when it was taken out
	Waiter     *Waiter
	Value      T
	next, prev *Entry[T]
}

// Wait puts w, the caller, at the end of the queue and waits until it is taken out and woken. It is
// called with mu held and returns without it. The entry it returns has what the waker has put
// there; it has to be given back with Recycle.
func (q *WaitQueue[T]) Wait(
	ctx context.Context, w *Waiter, mu *sync.Mutex, value T, reason *Reason, deadline Deadline,
) (*Entry[T], error) {
	defer w.Leave()
	entry := q.free
	if entry != nil {
		q.free = nil
	} else {
		entry = &Entry[T]{mu: mu}
	}
	entry.Waiter, entry.Value = w, value
	q.push(entry)
	mu.Unlock()
	if err := w.Wait(ctx, reason, deadline, entry); err != nil {
		q.Recycle(entry)
		return nil, err
	}
	return entry, nil
}

// Park is Wait for those who wait for nothing but being woken.
func (q *WaitQueue[T]) Park(ctx context.Context, mu *sync.Mutex, reason *Reason) error {
	w, err := Enter(ctx)
	if err != nil {
		mu.Unlock()
		return err
	}
	var none T
	entry, err := q.Wait(ctx, w, mu, none, reason, 0)
	if err == nil {
		q.Recycle(entry)
	}
	return err
}

// Recycle keeps one entry for the next wait; what it holds is let go.
func (q *WaitQueue[T]) Recycle(entry *Entry[T]) {
	var zero T
	entry.Waiter, entry.Value = nil, zero
	entry.mu.Lock()
	defer entry.mu.Unlock()
	q.free = entry
}

// Remove takes out a Waiter that gives up.
func (e *Entry[T]) Remove(*Waiter) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.queue == nil {
		return false
	}
	e.queue.remove(e)
	return true
}

// Len returns how many wait. With mu held.
func (q *WaitQueue[T]) Len() int { return q.length }

// push adds an entry at the end. With mu held, as for Pop and remove.
func (q *WaitQueue[T]) push(e *Entry[T]) {
	e.queue, e.prev = q, q.last
	if q.last != nil {
		q.last.next = e
	} else {
		q.first = e
	}
	q.last = e
	q.length++
}

// Pop takes out the first one; nil if nobody waits.
func (q *WaitQueue[T]) Pop() *Entry[T] {
	e := q.first
	if e != nil {
		q.remove(e)
	}
	return e
}

// WakeAll takes out and wakes all, in order. A wake-up only schedules, so mu may be held meanwhile.
func (q *WaitQueue[T]) WakeAll() {
	for e := q.Pop(); e != nil; e = q.Pop() {
		e.Waiter.Wake()
	}
}

func (q *WaitQueue[T]) remove(e *Entry[T]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.last = e.prev
	}
	e.queue, e.next, e.prev = nil, nil, nil
	q.length--
}
