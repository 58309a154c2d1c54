package runtime

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrChannelClosed is returned by Push to a closed Channel, and by Pop from one that is closed and empty.
var ErrChannelClosed = errors.New("runtime: channel closed")

// Channel is a bounded FIFO queue between coroutines, in the manner of Swoole's. Values go straight to a coroutine that waits for one: a Push
// that finds a coroutine of the same loop waiting in Pop switches to it at once, and so does a Pop that finds one waiting in Push. Who waits is
// served in the order of arrival.
//
// It may be used from coroutines of any loop, and from plain goroutines. Make it with NewChannel.
type Channel[T any] struct {
	mu        sync.Mutex
	capacity  int
	buffer    []T // a ring
	head      int // of the ring
	length    int
	closed    bool
	producers channelQueue[T]
	consumers channelQueue[T]
	free      *channelNode[T] // to use again
}

// channelNode is one waiting Push or Pop.
type channelNode[T any] struct {
	channel    *Channel[T]
	waiter     *Waiter
	value      T
	served     bool // value was taken or given; otherwise the channel was closed
	queue      *channelQueue[T]
	next, prev *channelNode[T]
}

type channelQueue[T any] struct {
	first, last *channelNode[T]
	length      int
}

// NewChannel makes a Channel that holds up to capacity values; less than 1 counts as 1.
func NewChannel[T any](capacity int) *Channel[T] {
	return &Channel[T]{capacity: max(1, capacity)}
}

// Push appends v, and waits while the channel is full. It returns ErrChannelClosed, also if the channel is closed while it waits, or the error of
// ctx or ErrShutdown; then v was not taken. A ctx that is
// done already ends Push and Pop even where they needn't wait.
func (c *Channel[T]) Push(ctx context.Context, v T) error { return c.push(ctx, v, 0) }

// PushTimeout is Push that waits for d at most and then returns ErrTimeout; d <= 0 waits without end.
func (c *Channel[T]) PushTimeout(ctx context.Context, v T, d time.Duration) error {
	return c.push(ctx, v, DeadlineAfter(d))
}

func (c *Channel[T]) push(ctx context.Context, v T, deadline Deadline) error {
	if err := refuse(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrChannelClosed
	}
	if consumer := c.consumers.pop(); consumer != nil {
		consumer.value, consumer.served = v, true
		c.mu.Unlock()
		consumer.waiter.Wake()
		return nil
	}
	if c.length < c.capacity {
		c.put(v)
		c.mu.Unlock()
		return nil
	}
	node, err := c.wait(ctx, v, &c.producers, reasonPush, deadline)
	if err != nil {
		return err
	}
	served := node.served
	c.recycle(node)
	if !served {
		return ErrChannelClosed
	}
	return nil
}

// Pop takes the first value, and waits while the channel is empty. A closed channel first gives what it still holds, then ErrChannelClosed; other
// errors are those of ctx and ErrShutdown.
func (c *Channel[T]) Pop(ctx context.Context) (T, error) { return c.pop(ctx, 0) }

// PopTimeout is Pop that waits for d at most and then returns ErrTimeout; d <= 0 waits without end.
func (c *Channel[T]) PopTimeout(ctx context.Context, d time.Duration) (T, error) {
	return c.pop(ctx, DeadlineAfter(d))
}

func (c *Channel[T]) pop(ctx context.Context, deadline Deadline) (T, error) {
	var zero T
	if err := refuse(ctx); err != nil {
		return zero, err
	}
	c.mu.Lock()
	if c.length > 0 {
		v := c.take()
		producer := c.producers.pop()
		if producer != nil {
			c.put(producer.value)
			producer.served = true
		}
		c.mu.Unlock()
		if producer != nil {
			producer.waiter.Wake()
		}
		return v, nil
	}
	if c.closed {
		c.mu.Unlock()
		return zero, ErrChannelClosed
	}
	node, err := c.wait(ctx, zero, &c.consumers, reasonPop, deadline)
	if err != nil {
		return zero, err
	}
	v, served := node.value, node.served
	c.recycle(node)
	if !served {
		return zero, ErrChannelClosed
	}
	return v, nil
}

// Close closes the channel: whoever waits in Push, then whoever waits in Pop, gets ErrChannelClosed. It returns ErrChannelClosed if the channel
// was closed before.
func (c *Channel[T]) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrChannelClosed
	}
	c.closed = true
	var waiters []*Waiter
	for _, q := range []*channelQueue[T]{&c.producers, &c.consumers} {
		for node := q.pop(); node != nil; node = q.pop() {
			waiters = append(waiters, node.waiter)
		}
	}
	c.mu.Unlock()
	for _, w := range waiters {
		w.Wake()
	}
	return nil
}

// Len returns how many values the channel holds; those of waiting pushes don't count.
func (c *Channel[T]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.length
}

// Cap returns how many values the channel can hold.
func (c *Channel[T]) Cap() int { return c.capacity }

// ChannelStats says how many wait at a Channel, and how many values it holds.
type ChannelStats struct{ Producers, Consumers, Len int }

// Stats returns the channel's figures.
func (c *Channel[T]) Stats() ChannelStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ChannelStats{c.producers.length, c.consumers.length, c.length}
}

// wait puts the caller into q. It is called with mu held and returns without it.
func (c *Channel[T]) wait(ctx context.Context, v T, q *channelQueue[T], reason *Reason, deadline Deadline) (*channelNode[T], error) {
	w, err := Enter(ctx)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	defer w.Leave()
	node := c.free
	if node != nil {
		c.free = node.next
	} else {
		node = &channelNode[T]{channel: c}
	}
	node.waiter, node.value, node.served, node.next = w, v, false, nil
	q.push(node)
	c.mu.Unlock()
	if err := w.Wait(ctx, reason, deadline, node); err != nil {
		c.recycle(node)
		return nil, err
	}
	return node, nil
}

// Remove takes a Waiter that gives up out of its queue.
func (n *channelNode[T]) Remove(*Waiter) bool {
	n.channel.mu.Lock()
	defer n.channel.mu.Unlock()
	if n.queue == nil {
		return false
	}
	n.queue.remove(n)
	return true
}

// recycle keeps one node for the next wait; the values it holds are let go.
func (c *Channel[T]) recycle(n *channelNode[T]) {
	var zero T
	n.value, n.waiter = zero, nil
	c.mu.Lock()
	if c.free == nil {
		c.free = n
	}
	c.mu.Unlock()
}

func (c *Channel[T]) put(v T) {
	if c.length == len(c.buffer) {
		grown := make([]T, min(c.capacity, max(8, 2*len(c.buffer))))
		n := copy(grown, c.buffer[c.head:])
		copy(grown[n:], c.buffer[:c.head])
		c.buffer, c.head = grown, 0
	}
	c.buffer[(c.head+c.length)%len(c.buffer)] = v
	c.length++
}

func (c *Channel[T]) take() T {
	var zero T
	v := c.buffer[c.head]
	c.buffer[c.head] = zero
	c.head = (c.head + 1) % len(c.buffer)
	c.length--
	return v
}

func (q *channelQueue[T]) push(n *channelNode[T]) {
	n.queue, n.prev = q, q.last
	if q.last != nil {
		q.last.next = n
	} else {
		q.first = n
	}
	q.last = n
	q.length++
}

func (q *channelQueue[T]) pop() *channelNode[T] {
	n := q.first
	if n != nil {
		q.remove(n)
	}
	return n
}

func (q *channelQueue[T]) remove(n *channelNode[T]) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		q.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		q.last = n.prev
	}
	n.queue, n.next, n.prev = nil, nil, nil
	q.length--
}
