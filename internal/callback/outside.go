package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// ErrOverflow is the cause of the end of a connection for which more was sent from elsewhere than
// Limits.Queue allows.
var ErrOverflow error = overflow{}

type overflow struct{}

func (overflow) Error() string { return "the output queue has overflowed" }
func (overflow) Code() int     { return 1009 } // SW_ERROR_OUTPUT_BUFFER_OVERFLOW, for socket.Code

// DefaultQueue is Limits.Queue unless something else is asked for: 2 MiB.
const DefaultQueue = 2 << 20

// NewLimits fills in the defaults of what is 0: DefaultQueue, and 80 and 20 per cent of the queue
// for the marks. The names in its errors are those of the fields that configurations have for them.
func NewLimits(queue, high, low int, stall time.Duration) (Limits, error) {
	if queue < 0 || high < 0 || low < 0 {
		return Limits{}, errors.New("MaxQueue, HighWater and LowWater must not be negative")
	}
	if queue == 0 {
		queue = DefaultQueue
	}
	if high == 0 {
		high = queue / 10 * 8
	}
	if low == 0 {
		low = min(queue/10*2, high)
	}
	if low > high || high > queue {
		return Limits{}, fmt.Errorf(
			"LowWater (%d), HighWater (%d) and MaxQueue (%d) must not decrease",
			low,
			high,
			queue,
		)
	}
	return Limits{Queue: queue, High: high, Low: low, Stall: max(0, stall)}, nil
}

// Outside is what a connection has for those who send from elsewhere than its loop: how much is on
// its way there.
type Outside struct{ bytes atomic.Int64 }

// Send copies p and hands it to the connection's loop, where send, which is the connection's Send
// or ends in it, is called. What one goroutine sends stays in order. As much may be on its way as
// may be queued: beyond that it is socket.ErrQueueFull. What was taken is never dropped in silence:
// if send fails, the connection is ended, with ErrOverflow if that is because the queue was full.
func (o *Outside) Send(c *Conn, p []byte, send func(p []byte) error) error {
	n := int64(len(p))
	if o.bytes.Add(n) > int64(c.limits.Queue) {
		o.bytes.Add(-n)
		return socket.ErrQueueFull
	}
	p = bytes.Clone(p)
	err := c.Socket.Loop().Post(func() {
		defer o.bytes.Add(-n) // it has arrived when it was sent, see Arrive
		if c.Over() {
			return
		}
		switch err := send(p); {
		case err == nil:
		case errors.Is(err, socket.ErrQueueFull):
			c.End(ErrOverflow, true)
		default:
			c.End(err, true)
		}
	})
	if err != nil { // the loop has ended, and the connection with it
		o.bytes.Add(-n)
		return net.ErrClosed
	}
	return nil
}

// Arrive waits until what the caller has sent from elsewhere before has come to the connection's
// loop, so that what it does next comes behind it. On the loop it does nothing.
func (o *Outside) Arrive(ctx context.Context, c *Conn) error {
	if o.bytes.Load() == 0 || c.House().OnLoop() {
		return nil
	}
	var arrived runtime.WaitGroup
	arrived.Add(1)
	if c.Socket.Loop().Post(arrived.Done) != nil {
		return runtime.ErrShutdown
	}
	return arrived.Wait(ctx)
}

// WriteReleased is to be called after an operation that has held the write lock, such as SendFile:
// what was sent meanwhile is sent then. It may be called from anywhere.
func (c *Conn) WriteReleased() {
	switch {
	case !c.owing.Load():
	case c.House().OnLoop():
		c.released()
	default:
		c.Socket.Loop().Post(c.released)
	}
}
