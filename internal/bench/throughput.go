package bench

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// sampleBelow is the size of messages of which not each one is timed: reading the clock would cost
// as much as the message.
const (
	sampleBelow = 4 << 10
	sampleEvery = 64
)

// throughput is mode Throughput. When its time is over, senders stop, say so to the peer
// (half-close), and wait for the peer's end: so what is counted as sent has arrived, and the time
// until then counts too.
func (r *run) throughput(ctx context.Context) error {
	// Streams may wait for their peers without end, so a context tells them when the time is over.
	streams, cancel := context.WithCancel(r.rt.Context())
	defer cancel()
	return r.crowd(ctx, workload{
		duration: r.options.Duration,
		prepare:  r.connect,
		body: func(ctx context.Context, w *worker) {
			if w.socket != nil {
				defer w.socket.Close()
				r.stream(ctx, streams, w)
			}
		},
		atEnd: cancel,
	})
}

// stream sends, receives, or both. limited is done when the time is over.
func (r *run) stream(ctx, limited context.Context, w *worker) {
	if r.options.Direction == Receive {
		r.streamEnded(w, r.receive(limited, w, true))
		return
	}
	var receiver *runtime.Coroutine
	echo := error(runtime.ErrShutdown) // what the receiver ends with
	if r.options.Direction == Both {
		var err error
		receiver, err = runtime.Go(r.rt.Context(), func(ctx context.Context) {
			echo = r.receive(ctx, w, false)
		})
		if err != nil {
			w.lane.fail(classify(err), err)
			return
		}
	}
	err := r.send(limited, w)
	r.streamEnded(w, err)
	if err != nil {
		w.socket.Abort() // ends the receiver, too
		return
	}
	if err = w.socket.Shutdown(ctx, socket.ShutdownWrite); err == nil {
		err = r.confirmed(ctx, w, receiver, &echo)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// cut off by the end of the time, a message may have ended anywhere
		w.lane.last = clock.Now()
	case receiver != nil && !errors.Is(err, runtime.ErrTimeout):
		r.streamEnded(w, err)
		fallthrough
	default:
		w.lane.unended++
	}
}

// confirmed waits for the end that the peer makes when it has everything, and returns io.EOF then.
func (r *run) confirmed(ctx context.Context, w *worker, receiver *runtime.Coroutine,
	echo *error) error {
	if receiver != nil {
		receiver.Join(context.WithoutCancel(ctx)) // a shutdown ends it as well
		return *echo
	}
	t := w.socket.Timeouts()
	t.Read = r.options.Grace
	w.socket.SetTimeouts(t)
	for {
		p, err := w.socket.RecvPacket(ctx)
		if err != nil {
			return err
		}
		w.lane.unasked += int64(len(p))
	}
}

// streamEnded notes why a stream has ended, unless its time was over.
func (r *run) streamEnded(w *worker, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		w.lane.fail(classify(err), err)
	}
	w.lane.last = max(w.lane.last, min(clock.Now(), r.pace.end()))
}

// every is of how many messages one is timed.
func (r *run) every() int {
	if r.options.Size < sampleBelow {
		return sampleEvery
	}
	return 1
}

// send sends messages until the time or their number is over. It returns an error only if the
// connection has failed.
func (r *run) send(ctx context.Context, w *worker) error {
	l, every := w.lane, r.every()
	now := clock.Now()
	for k := 0; ; k++ {
		timed := k%every == 0 || r.options.Rate > 0
		if timed {
			now = clock.Now()
		}
		next, ok := r.pace.take(now)
		if !ok || r.await(ctx, l, next, now) != nil {
			return nil
		}
		w.use(next)
		n, err := w.socket.SendSoon(ctx, r.nextMessage(l))
		if next.measured {
			l.sent.Add(int64(n))
		}
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			if next.measured && r.options.Rate > 0 && timedOut(err) {
				l.waited(clock.Now() - next.intended)
			}
			return err
		}
		if !next.measured {
			continue
		}
		if timed {
			end := clock.Now()
			r.sample(l, end, end-next.intended)
			now = end
		}
		if r.options.Direction == Send {
			l.operations.Add(1)
			r.count(l, now, int64(n))
		}
	}
}

// receive counts messages until the peer's end or, if each one takes a ticket, until the time or
// their number is over. At the end of the stream between two messages it returns io.EOF.
func (r *run) receive(ctx context.Context, w *worker, tickets bool) error {
	l, every := w.lane, r.every()
	now := clock.Now()
	for k := 0; ; k++ {
		timed := k%every == 0
		if timed {
			now = clock.Now()
		}
		measured := now >= r.pace.open
		if tickets {
			next, ok := r.pace.take(now)
			if !ok {
				return nil
			}
			measured = next.measured
			w.use(next)
		}
		message, err := w.socket.RecvPacket(ctx)
		if err != nil {
			return err
		}
		if !measured {
			continue
		}
		if timed {
			end := clock.Now()
			if tickets { // with an echo it is the sending that is timed
				r.sample(l, end, end-now)
			}
			now = end
		}
		l.received.Add(int64(len(message)))
		l.operations.Add(1)
		r.count(l, now, int64(len(message)))
	}
}

// sample notes how long a message took to be handed over, or to come after the one before it.
func (r *run) sample(l *lane, now, took time.Duration) {
	record(&l.latency, took)
	l.series.at(now - r.pace.open).record(took)
}

// count notes one message in the time series.
func (r *run) count(l *lane, now time.Duration, bytes int64) {
	c := l.series.at(now - r.pace.open)
	c.operations++
	c.bytes += bytes
}
