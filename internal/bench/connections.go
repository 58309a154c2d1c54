package bench

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

var (
	errStillWaiting = errors.New("the heartbeat before is still unanswered")
	errUnanswered   = errors.New("the heartbeat was still unanswered when the connection was " +
		"closed at the end")
	errGone = errors.New("the connection was closed or reset while it was held")
)

// held is a connection of mode Connections. It belongs to its lane.
type held struct {
	run    *run
	lane   *lane
	socket *socket.Socket // nil once it is lost
	due    time.Duration  // of the heartbeat that a coroutine was woken for
	busy   bool           // a heartbeat is under way
}

// connections is mode Connections: open, look at the memory, hold, close.
func (r *run) connections(ctx context.Context) error {
	n := int(r.options.Operations)
	// made before memory is looked at: this is the generator's book-keeping, not a connection's
	// cost
	for _, l := range r.lanes {
		// room for all, as pointers into it are kept; what isn't used is never touched
		l.held = make([]held, 0, n)
	}
	r.enter("looking at the memory")
	before := proc.TakeMemory()
	if err := r.crowd(ctx, workload{body: r.openers}); err != nil {
		return err
	}
	if opened := r.opened(); !r.interrupted && opened > 0 {
		r.enter("looking at the memory")
		per := proc.TakeMemory().Per(opened, before)
		r.perConn = &per
		r.hold(ctx)
	}
	return r.release()
}

// opened returns how many connections were opened.
func (r *run) opened() int64 {
	n := int64(0)
	for _, l := range r.lanes {
		n += l.operations.Load()
	}
	return n
}

// openers opens connections and keeps them.
func (r *run) openers(ctx context.Context, w *worker) {
	i := w.index
	r.each(ctx, w, func(ctx context.Context, w *worker, t *trial) error {
		s, err := r.establish(ctx, w.lane, t, i)
		i += int64(r.options.Connections)
		if err != nil {
			return err
		}
		if t.ended == 0 {
			t.ended = clock.Now()
		}
		l := w.lane
		l.held = append(l.held, held{run: r, lane: l, socket: s})
		if r.options.Hold == HoldCoroutine {
			return l.held[len(l.held)-1].watch()
		}
		return nil
	})
}

// watch starts a coroutine that waits on the connection and makes its heartbeats. It has few
// frames, and small ones, so that a coroutine that waits fits into the smallest stack.
func (h *held) watch() error {
	h.patience(0)
	_, err := runtime.Go(h.run.rt.Context(), func(ctx context.Context) {
		for {
			if err := h.listen(ctx); err != nil && !h.attend(ctx, err) {
				return
			}
		}
	})
	return err
}

// listen waits for something to come.
func (h *held) listen(ctx context.Context) (err error) {
	if h.run.options.webSocket() {
		_, err = h.run.receiveMessage(ctx, h.socket)
	} else {
		_, err = h.socket.Recv(ctx, h.lane.scratch[:])
	}
	return err
}

// attend sees to what has ended the wait on the connection, and reports whether it is held on.
func (h *held) attend(ctx context.Context, err error) bool {
	switch {
	case errors.Is(err, socket.ErrCanceled):
		h.patience(h.run.options.Timeout)
		h.beat(ctx, h.due)
		if h.socket == nil {
			return false
		}
		h.patience(0)
		return true
	case !errors.Is(err, net.ErrClosed) && !errors.Is(err, runtime.ErrShutdown):
		h.lose(&phaseError{"held", err})
	}
	return false
}

// patience sets how long the connection waits for something to come; 0: without end.
func (h *held) patience(d time.Duration) {
	t := h.socket.Timeouts()
	t.Read = d
	h.socket.SetTimeouts(t)
}

// lose gives up the connection.
func (h *held) lose(err error) {
	h.lane.fail(classify(err), err)
	if s := h.socket; s != nil {
		h.socket = nil
		s.Abort()
	}
}

// beat makes one heartbeat: a message and its echo, timed from when it was due.
func (h *held) beat(ctx context.Context, due time.Duration) {
	h.busy = true
	h.lane.beating++
	t := trial{ticket: ticket{intended: due, measured: true}}
	err := h.run.exchange(ctx, h.lane, h.socket, &t, 0)
	h.busy = false
	h.lane.beating--
	switch {
	case err == nil:
		record(&h.lane.phases[phaseHeartbeat], clock.Now()-due)
	case errors.Is(err, net.ErrClosed), errors.Is(err, runtime.ErrShutdown):
		if !h.run.interrupted { // written before the connections were closed
			h.waited(due)
			err = failedIn(phaseHeartbeat, errUnanswered)
			h.lane.fail(classify(err), err)
		}
	default:
		if timedOut(err) {
			h.waited(due)
		}
		h.lose(failedIn(phaseHeartbeat, err))
	}
}

// waited notes among the latencies a heartbeat that has no answer.
func (h *held) waited(due time.Duration) {
	took := clock.Now() - due
	record(&h.lane.phases[phaseHeartbeat], took)
	h.lane.cutBeats.note(took, 1)
}

// hold keeps the connections for a while.
func (r *run) hold(ctx context.Context) {
	r.enter("holding")
	begin := clock.Now()
	end := begin + r.options.Duration
	r.begun.Store(int64(begin))
	r.pace.close.Store(int64(end)) // for the display
	if r.options.Heartbeat == 0 {
		if !waitFor(ctx, nil, end) && ctx.Err() != nil {
			r.interrupted = true
		}
		return
	}
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(r.lanes))
	for _, l := range r.lanes {
		go func() {
			errs <- r.on(bounded, l, func(ctx context.Context, l *lane) error {
				return r.heartbeats(ctx, l, begin, end)
			})
		}()
	}
	for range r.lanes {
		if err := <-errs; err != nil && ctx.Err() != nil {
			r.interrupted = true
		}
	}
}

// heartbeats has each connection of a lane make a heartbeat in each period, spread evenly over it.
func (r *run) heartbeats(ctx context.Context, l *lane, begin, end time.Duration) error {
	period := r.options.Heartbeat
	for start := begin; len(l.held) > 0; start += period {
		for at := range l.held {
			due := start + time.Duration(float64(period)*float64(at)/float64(len(l.held)))
			if due >= end {
				return r.lastBeats(ctx, l, end)
			}
			if ahead := due - clock.Now(); ahead > 0 {
				if err := runtime.Sleep(ctx, ahead); err != nil {
					return err
				}
				l.woke(clock.Now() - due)
			}
			sched.Spend(ctx, 0)
			if err := l.held[at].startBeat(due); err != nil {
				return err
			}
		}
	}
	return r.lastBeats(ctx, l, end)
}

// lastBeats waits for the end, and then for the heartbeats that are under way, as long as the run's
// grace is.
func (r *run) lastBeats(ctx context.Context, l *lane, end time.Duration) error {
	err := runtime.Sleep(ctx, end-clock.Now())
	for err == nil && l.beating > 0 && clock.Now() < end+r.options.Grace {
		err = runtime.Sleep(ctx, time.Millisecond)
	}
	return err
}

// startBeat has the connection make its heartbeat.
func (h *held) startBeat(due time.Duration) error {
	if h.socket == nil {
		return nil
	}
	if !h.busy && h.run.options.Hold == HoldSocket {
		h.busy = true // before its coroutine begins, or a slow period would start two
		_, err := runtime.Go(h.run.rt.Context(), func(ctx context.Context) { h.beat(ctx, due) })
		return err
	}
	if !h.busy {
		h.due = due
	}
	if h.busy || !h.socket.Cancel(socket.ReadEvent) {
		err := failedIn(phaseHeartbeat, errStillWaiting)
		h.lane.fail(classify(err), err)
	}
	return nil
}

// release looks which connections are still there, and closes them.
func (r *run) release() error {
	r.enter("closing")
	ctx, cancel := context.WithTimeout(context.Background(), shutdownPatience)
	defer cancel()
	var errs []error
	for _, l := range r.lanes {
		errs = append(errs, r.on(ctx, l, func(ctx context.Context, l *lane) error {
			for at := range l.held {
				h := &l.held[at]
				if h.socket == nil {
					continue
				}
				sched.Spend(ctx, 0)
				if !h.socket.Alive() {
					h.lose(&phaseError{"held", errGone})
					continue
				}
				r.held++
				h.socket.Close()
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}
