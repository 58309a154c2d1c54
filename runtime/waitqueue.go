package runtime

import (
	"context"
	"sync"
)

// waitQueue is a FIFO of callers who wait, each with a value of its own. The mutex of what they
// wait for guards it.
type waitQueue[T any] struct {
	first, last *waiting[T]
	length      int
	free        *waiting[T] // to use again
}

// waiting is a caller's place in a waitQueue. It is the Queue of its Waiter.
type waiting[T any] struct {
	mu         *sync.Mutex   // guards queue
	queue      *waitQueue[T] // nil when it was taken out
	waiter     *Waiter
	value      T
	next, prev *waiting[T]
}

// wait puts w, the caller, at the end of the queue and waits until it is taken out and woken. It is
// called with mu held and returns without it. The place it returns has what the waker has put
// there; it has to be given back with recycle.
func (q *waitQueue[T]) wait(
	ctx context.Context, w *Waiter, mu *sync.Mutex, value T, reason *Reason, deadline Deadline,
) (*waiting[T], error) {
	defer w.Leave()
	place := q.free
	if place != nil {
		q.free = nil
	} else {
		place = &waiting[T]{mu: mu}
	}
	place.waiter, place.value = w, value
	q.push(place)
	mu.Unlock()
	if err := w.Wait(ctx, reason, deadline, place); err != nil {
		q.recycle(place)
		return nil, err
	}
	return place, nil
}

// join is wait for those who wait for nothing but being woken.
func (q *waitQueue[T]) join(ctx context.Context, mu *sync.Mutex, reason *Reason) error {
	w, err := Enter(ctx)
	if err != nil {
		mu.Unlock()
		return err
	}
	var none T
	place, err := q.wait(ctx, w, mu, none, reason, 0)
	if err == nil {
		q.recycle(place)
	}
	return err
}

// recycle keeps one place for the next wait; what it holds is let go.
func (q *waitQueue[T]) recycle(place *waiting[T]) {
	var zero T
	place.waiter, place.value = nil, zero
	place.mu.Lock()
	defer place.mu.Unlock()
	q.free = place
}

// Remove takes out a Waiter that gives up.
func (p *waiting[T]) Remove(*Waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queue == nil {
		return false
	}
	p.queue.remove(p)
	return true
}

// push adds a place at the end. With mu held, as for pop and remove.
func (q *waitQueue[T]) push(p *waiting[T]) {
	p.queue, p.prev = q, q.last
	if q.last != nil {
		q.last.next = p
	} else {
		q.first = p
	}
	q.last = p
	q.length++
}

// pop takes out the first one; nil if nobody waits.
func (q *waitQueue[T]) pop() *waiting[T] {
	p := q.first
	if p != nil {
		q.remove(p)
	}
	return p
}

// wakeAll takes out and wakes all, in order. A wake-up only schedules, so mu may be held meanwhile.
func (q *waitQueue[T]) wakeAll() {
	for p := q.pop(); p != nil; p = q.pop() {
		p.waiter.Wake()
	}
}

func (q *waitQueue[T]) remove(p *waiting[T]) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		q.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		q.last = p.prev
	}
	p.queue, p.next, p.prev = nil, nil, nil
	q.length--
}
