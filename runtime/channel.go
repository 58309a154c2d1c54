package runtime

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
)

var (
	reasonPush = sched.NewInternalReason("channel push")
	reasonPop  = sched.NewInternalReason("channel pop")
)

// ErrChannelTimeout is returned by PushTimeout and PopTimeout when their time has passed. It is
// also ErrTimeout.
var ErrChannelTimeout error = channelTimeout{}

type channelTimeout struct{}

func (channelTimeout) Error() string   { return "runtime: channel timeout" }
func (channelTimeout) Timeout() bool   { return true }
func (channelTimeout) Temporary() bool { return true }
func (channelTimeout) Is(target error) bool {
	return target == ErrTimeout || target == os.ErrDeadlineExceeded
}

// ErrChannelClosed is returned by Push to a closed Channel, and by Pop from one that is closed and
// empty.
var ErrChannelClosed = errors.New("runtime: channel closed")

// Channel is a bounded FIFO queue between coroutines, in the manner of Swoole's. Values go straight
// to a coroutine that waits for one: a Push that finds a coroutine of the same loop waiting in Pop
// switches to it at once, and so does a Pop that finds one waiting in Push. So don't hold a
// sync.Mutex around them that the other one may lock. Those who wait are served in the order of
// arrival.
//
// It may be used from coroutines of any loop, and from plain goroutines. Make it with NewChannel.
type Channel[T any] struct {
	mu        sync.Mutex
	capacity  int
	buffer    []T // a ring
	head      int // of the ring
	length    int
	closed    bool
	producers sched.WaitQueue[handOver[T]]
	consumers sched.WaitQueue[handOver[T]]
}

// handOver is what passes between one who waits and the one who ends the wait.
type handOver[T any] struct {
	value T
	done  bool // the value was taken or given; otherwise the channel was closed
}

// NewChannel makes a Channel that holds up to capacity values; less than 1 counts as 1.
func NewChannel[T any](capacity int) *Channel[T] {
	return &Channel[T]{capacity: max(1, capacity)}
}

// Push appends v, and waits while the channel is full. It returns ErrChannelClosed, also if the
// channel is closed while it waits, or the error of ctx or ErrShutdown; then v was not taken. A ctx
// that is done already ends Push and Pop even where they needn't wait.
func (c *Channel[T]) Push(ctx context.Context, v T) error { return c.push(ctx, v, 0) }

// PushTimeout is Push that waits for d at most and then returns ErrChannelTimeout; d <= 0 waits
// without end.
func (c *Channel[T]) PushTimeout(ctx context.Context, v T, d time.Duration) error {
	return c.push(ctx, v, sched.DeadlineAfter(d))
}

func (c *Channel[T]) push(ctx context.Context, v T, deadline sched.Deadline) error {
	caller, err := sched.BeginAs(ctx, 0)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrChannelClosed
	}
	if consumer := c.consumers.Pop(); consumer != nil {
		consumer.Value = handOver[T]{v, true}
		c.mu.Unlock()
		caller.WakeNow(consumer.Waiter)
		return nil
	}
	if c.length < c.capacity {
		c.put(v)
		c.mu.Unlock()
		return nil
	}
	_, err = c.wait(ctx, caller, v, &c.producers, reasonPush, deadline)
	return err
}

// Pop takes the first value, and waits while the channel is empty. A closed channel first gives
// what it still holds, then ErrChannelClosed; other errors are those of ctx and ErrShutdown.
func (c *Channel[T]) Pop(ctx context.Context) (T, error) { return c.pop(ctx, 0) }

// PopTimeout is Pop that waits for d at most and then returns ErrChannelTimeout; d <= 0 waits
// without end.
func (c *Channel[T]) PopTimeout(ctx context.Context, d time.Duration) (T, error) {
	return c.pop(ctx, sched.DeadlineAfter(d))
}

func (c *Channel[T]) pop(ctx context.Context, deadline sched.Deadline) (T, error) {
	var zero T
	caller, err := sched.BeginAs(ctx, 0)
	if err != nil {
		return zero, err
	}
	c.mu.Lock()
	if c.length > 0 {
		v := c.take()
		producer := c.producers.Pop()
		if producer != nil {
			c.put(producer.Value.value)
			producer.Value.done = true
		}
		c.mu.Unlock()
		if producer != nil {
			caller.WakeNow(producer.Waiter)
		}
		return v, nil
	}
	if c.closed {
		c.mu.Unlock()
		return zero, ErrChannelClosed
	}
	return c.wait(ctx, caller, zero, &c.consumers, reasonPop, deadline)
}

// wait waits in q, with v to give or for a value to take. It is called with mu held and returns
// without it.
func (c *Channel[T]) wait(
	ctx context.Context, caller sched.Caller, v T,
	q *sched.WaitQueue[handOver[T]], reason *sched.Reason, deadline sched.Deadline,
) (T, error) {
	var zero T
	w, err := caller.Enter()
	if err != nil {
		c.mu.Unlock()
		return zero, err
	}
	entry, err := q.Wait(ctx, w, &c.mu, handOver[T]{value: v}, reason, deadline)
	if err == ErrTimeout {
		err = ErrChannelTimeout
	}
	if err != nil {
		return zero, err
	}
	passed := entry.Value
	q.Recycle(entry)
	if !passed.done {
		return zero, ErrChannelClosed
	}
	return passed.value, nil
}

// Close closes the channel: whoever waits in Push, then whoever waits in Pop, gets
// ErrChannelClosed. It only schedules them. It returns ErrChannelClosed if the channel was closed
// before.
func (c *Channel[T]) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrChannelClosed
	}
	c.closed = true
	c.producers.WakeAll()
	c.consumers.WakeAll()
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

// Waiting returns how many wait in Push, and how many in Pop.
func (c *Channel[T]) Waiting() (producers, consumers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.producers.Len(), c.consumers.Len()
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
