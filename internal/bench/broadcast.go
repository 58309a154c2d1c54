package bench

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// In mode WebSocketBroadcast an operation is a message of the first connection that the server
// sends to all of them: it ends with the last delivery. The phase "delivery" has each of them.

// cast is a message under way.
type cast struct {
	message  []byte
	measured bool
	sent     time.Duration
	left     atomic.Int64 // deliveries that are to come
	done     *runtime.Channel[struct{}]
}

// broadcasts is what the workers share.
type broadcasts struct {
	now     atomic.Pointer[cast]
	members atomic.Int64 // who receives
	over    atomic.Bool
}

// broadcast is the work of a worker of mode WebSocketBroadcast.
func (r *run) broadcast(ctx context.Context, w *worker) {
	if w.index == 0 {
		defer r.dismiss()
	}
	if w.socket == nil {
		return // it couldn't connect
	}
	defer w.socket.Close()
	if w.index > 0 {
		r.member(ctx, w)
	} else {
		r.each(ctx, w, r.castOne)
	}
}

// enroll opens a worker's connection, whose messages are waited for from then on.
func (r *run) enroll(ctx context.Context, w *worker) {
	if r.connect(ctx, w); w.socket == nil {
		return
	}
	w.lane.used++
	w.used = true
	w.lane.members = append(w.lane.members, w.socket)
	r.casts.members.Add(1)
	// How long it is idle is the sender's affair.
	t := w.socket.Timeouts()
	if t.Read = 0; w.index == 0 {
		t.Read = r.options.Timeout
	}
	w.socket.SetTimeouts(t)
}

// castOne makes one operation.
func (r *run) castOne(ctx context.Context, w *worker, t *trial) error {
	c := &cast{message: r.messages[(w.lane.sends+1)%uint(len(r.messages))], measured: t.measured,
		sent: clock.Now(), done: runtime.NewChannel[struct{}](1)}
	c.left.Store(r.casts.members.Load())
	members := c.left.Load()
	r.casts.now.Store(c)
	if _, err := w.socket.SendSoon(ctx, r.nextMessage(w.lane)); err != nil {
		return err
	}
	for own := false; !own; {
		p, err := r.receiveMessage(ctx, w.socket)
		if err != nil {
			return err
		}
		own = r.delivered(w, p)
	}
	patience, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	if _, err := c.done.Pop(patience); err != nil {
		return err
	}
	n := int64(len(c.message))
	t.bytes += n * (1 + members)
	if t.measured {
		w.lane.sent.Add(n)
		w.lane.received.Add(n * members)
	}
	return nil
}

// delivered notes what a connection has got, and reports whether it is what is under way: one of
// before, which came too late, isn't.
func (r *run) delivered(w *worker, p []byte) bool {
	c := r.casts.now.Load()
	if c == nil || !bytes.Equal(p, c.message) {
		return false
	}
	if c.measured {
		record(&w.lane.phases[phaseDelivery], clock.Now()-c.sent)
	}
	r.casts.gone(c)
	return true
}

// gone counts a delivery that isn't waited for any more.
func (b *broadcasts) gone(c *cast) {
	if c != nil && c.left.Add(-1) == 0 {
		c.done.Push(context.Background(), struct{}{}) // it has room
	}
}

// member receives to the end.
func (r *run) member(ctx context.Context, w *worker) {
	for !r.casts.over.Load() {
		p, err := r.receiveMessage(ctx, w.socket)
		switch {
		case r.casts.over.Load(), errors.Is(err, runtime.ErrShutdown):
			return
		case err != nil:
			w.lane.fail(classify(err), err)
			r.casts.members.Add(-1)
			r.casts.gone(r.casts.now.Load())
			return
		}
		r.delivered(w, p)
	}
}

// dismiss ends the others' wait.
func (r *run) dismiss() {
	r.casts.over.Store(true)
	for _, l := range r.lanes {
		l.loop.Post(func() {
			for _, s := range l.members {
				s.Cancel(socket.ReadEvent)
			}
		})
	}
}
