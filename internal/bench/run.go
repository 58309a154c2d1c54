package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/bench/report"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// stallLimit is how long a coroutine may hold a loop before that is noted.
const stallLimit = 100 * time.Millisecond

// shutdownPatience is how long coroutines may take to end after the run.
const shutdownPatience = 30 * time.Second

// run is a run under way.
type run struct {
	options *Options
	rt      *runtime.Runtime
	lanes   []*lane
	byLoop  map[runtime.Loop]*lane
	dialer  *dialer
	pace    *pacer
	stage   atomic.Pointer[string]
	begun   atomic.Int64 // when measuring began, for the display; 0: not yet

	handshakesBegun atomic.Int64

	// Set up before the workers run.
	messages    [][]byte // of modes with messages: sent in turn
	frames      [][]byte // the same as they are sent, if that differs
	casts       broadcasts
	certificate string

	// Of who steers the run.
	interrupted bool
	// it was over when as many operations had ended as there were to be, before its time
	counted  bool
	from, to instant // the run's time
	drained  instant // all that counts has ended
	perConn  *proc.Each
	held     int64
}

// worker is one of the coroutines that make the load.
type worker struct {
	lane   *lane
	index  int64
	socket *socket.Socket // of modes that keep one
	used   bool           // it has begun an operation that is measured

	greeted bool // what the server says by itself has come, on the socket
}

// use notes that an operation begins.
func (w *worker) use(t ticket) {
	if t.measured && !w.used {
		w.used = true
		w.lane.used++
	}
}

// Run makes a run and returns what was found. When ctx is done the run ends early, and what was
// found up to then is returned. An error means that there is nothing to report: the options are
// wrong, the limits of the system too low, or the server can't be reached.
func Run(ctx context.Context, options Options) (*report.Result, error) {
	o := options
	if err := errors.Join(o.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	o.complete()
	connections := int64(o.Connections)
	if o.holds() {
		connections = o.Operations
		o.Connections = int(min(connections, int64(o.Connections)))
	}
	if err := errors.Join(AllowDescriptors(connections), CheckSystem(connections)); err != nil {
		return nil, err
	}
	r, err := newRun(&o, connections)
	if err != nil {
		return nil, err
	}
	stopDisplay := r.display()
	started := time.Now()
	err = r.prepare(ctx, connections)
	if err == nil {
		err = r.perform(ctx)
	}
	err = errors.Join(err, r.shutdown())
	stopDisplay()
	if err != nil {
		return nil, err
	}
	result := r.result()
	result.Started = started
	return result, nil
}

func newRun(o *Options, connections int64) (*run, error) {
	rt, err := runtime.New(
		runtime.WithLoops(o.Loops), runtime.WithName("bench"), runtime.WithLogger(zap.NewNop()),
		runtime.WithWatchdog(stallLimit),
		runtime.WithMaxCoroutines(int(4*connections)+4*o.Connections+1000))
	if err != nil {
		return nil, err
	}
	r := &run{options: o, rt: rt, byLoop: make(map[runtime.Loop]*lane)}
	for _, loop := range rt.Loops() {
		l := newLane(loop)
		r.lanes = append(r.lanes, l)
		r.byLoop[loop] = l
	}
	if r.dialer, err = newDialer(o, r.lanes); err != nil {
		return nil, errors.Join(err, rt.Shutdown(context.Background()))
	}
	if o.Mode != Handshake {
		r.messages = o.Framing.Numbered(o.Size, messagesInTurn(o.Size))
		r.frames = r.messages
	}
	if o.webSocket() {
		r.frames = make([][]byte, len(r.messages))
		for i, m := range r.messages {
			r.frames[i] = o.frame(m)
		}
	}
	r.enter("connecting")
	return r, rt.Start()
}

func (r *run) enter(stage string) { r.stage.Store(&stage) }

// on runs fn in a coroutine of the lane's loop and waits for it; when ctx is done it is cancelled.
func (r *run) on(ctx context.Context, l *lane, fn func(ctx context.Context, l *lane) error) error {
	bounded, cancel := context.WithCancel(r.rt.Context())
	defer cancel()
	done := make(chan error, 1)
	err := l.loop.Post(func() {
		_, err := runtime.Go(bounded, func(ctx context.Context) {
			err := runtime.ErrShutdown
			defer func() { done <- err }()
			err = fn(ctx, l)
		})
		if err != nil {
			done <- err
		}
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		cancel()
		<-done
		return ctx.Err()
	}
}

func (r *run) laneOf(ctx context.Context) *lane { return r.byLoop[runtime.Current(ctx).Loop()] }

// prepare resolves the target and makes a connection, to see that it can be done.
func (r *run) prepare(ctx context.Context, connections int64) error {
	return r.on(ctx, r.lanes[0], func(ctx context.Context, l *lane) error {
		var t trial
		addresses, err := r.dialer.resolve(ctx, &t)
		if err != nil {
			return err
		}
		l.notePhases(&t)
		var failures []error
		for _, address := range addresses {
			r.dialer.use(address)
			if r.dialer.sources, err = r.options.spread(connections, address,
				localPorts()); err == nil {
				if err = r.try(ctx, l); err == nil {
					return nil
				}
			}
			failures = append(failures, fmt.Errorf("%s: %w", address, err))
		}
		return errors.Join(failures...)
	})
}

// try makes a connection that doesn't count.
func (r *run) try(ctx context.Context, l *lane) error {
	s, err := r.dialer.open(ctx, l, new(trial), 0, false)
	if err != nil {
		return err
	}
	defer s.Close()
	if state, ok := s.ConnectionState(); ok {
		r.certificate = describeCertificate(state.PeerCertificates)
	}
	return r.firstByte(ctx, s, new(trial))
}

// perform does what the mode says.
func (r *run) perform(ctx context.Context) error {
	if r.options.Resume > 0 {
		for _, l := range r.lanes {
			if err := r.on(ctx, l, r.seed); err != nil {
				return err
			}
		}
	}
	switch r.options.Mode {
	case Handshake:
		return r.crowd(ctx, workload{duration: r.options.Duration, body: r.handshakes})
	case PingPong, WebSocketEcho:
		return r.crowd(ctx, workload{duration: r.options.Duration, prepare: r.connect,
			body: r.roundTrips})
	case WebSocketBroadcast:
		return r.crowd(ctx, workload{duration: r.options.Duration, prepare: r.enroll,
			body: r.broadcast})
	case Throughput:
		return r.throughput(ctx)
	default:
		return r.connections(ctx)
	}
}

// seed gives a loop a session to resume.
func (r *run) seed(ctx context.Context, l *lane) error {
	s, err := r.dialer.open(ctx, l, new(trial), 0, true)
	if err != nil {
		return err
	}
	defer s.Close()
	return awaitTicket(ctx, l, s)
}

// workload is what a crowd of workers does.
type workload struct {
	duration time.Duration // 0: until all operations are done
	prepare  func(ctx context.Context, w *worker)
	body     func(ctx context.Context, w *worker)
	// called when the time is over; then what follows, to the end of all workers, is part of the
	// measurement too
	atEnd func()
}

// crowd lets Options.Connections workers run the workload's body: first prepare, each; when all
// have done that, body, together. It returns when all have ended, or when the run is over and their
// grace is as well; they are ended by shutdown then.
func (r *run) crowd(ctx context.Context, load workload) error {
	o := r.options
	n := int64(o.Connections)
	var preparing, working atomic.Int64
	preparing.Store(n)
	working.Store(n)
	ready, done := make(chan struct{}), make(chan struct{})
	var gate runtime.WaitGroup
	gate.Add(1)
	for i := range n {
		_, err := r.rt.Go(func(ctx context.Context) {
			defer func() {
				if working.Add(-1) == 0 {
					close(done)
				}
			}()
			w := &worker{lane: r.laneOf(ctx), index: i}
			if load.prepare != nil {
				load.prepare(ctx, w)
			}
			if preparing.Add(-1) == 0 {
				close(ready)
			}
			if gate.Wait(ctx) == nil {
				load.body(ctx, w)
			}
		})
		if err != nil {
			return err
		}
	}
	over := !waitFor(ctx, ready, never)
	r.pace = newPacer(clock.Now(), o.Warmup, load.duration, o.Operations, o.Rate)
	if over {
		r.interrupted = true
		r.from = r.instant()
		r.pace.stop(r.from.at)
		r.to, r.drained = r.from, r.from
		return nil
	}
	gate.Done()
	r.steer(ctx, load, done)
	return nil
}

// steer sees a run through its warm-up and to its end.
func (r *run) steer(ctx context.Context, load workload, done <-chan struct{}) {
	r.enter("warming up")
	over := waitFor(ctx, done, r.pace.open)
	r.from = r.instant()
	r.enter(string(r.options.Mode))
	r.begun.Store(int64(r.from.at))
	over = over || waitFor(ctx, done, r.pace.end())
	r.counted = over && r.pace.exhausted()
	if over && !r.counted && load.atEnd == nil && r.pace.end() != never {
		waitFor(ctx, nil, r.pace.end()) // all that was to begin has ended, but the time hasn't
	}
	r.to = r.instant()
	grace := ctx
	if ctx.Err() != nil && !r.counted && r.to.at < r.pace.end() {
		r.interrupted = true
		r.pace.stop(r.to.at)
		grace = context.WithoutCancel(ctx)
	}
	if load.atEnd != nil {
		load.atEnd()
	}
	if !over && (load.atEnd != nil || !r.interrupted) {
		r.enter("finishing")
		over = waitFor(grace, done, clock.Now()+r.options.Grace)
		// Whoever doesn't wait for the end of the grace has no right to say that it is over.
		r.interrupted = r.interrupted || !over && ctx.Err() != nil
	}
	r.drained = r.to
	if load.atEnd != nil || r.options.Rate == 0 {
		r.drained = r.instant()
	}
	if load.atEnd != nil {
		r.to = r.drained
	}
}

// waitFor waits, on a plain goroutine, for a channel to be closed, and reports whether it was; it
// gives up at a moment, or when ctx is done.
func waitFor(ctx context.Context, done <-chan struct{}, until time.Duration) bool {
	timer := time.NewTimer(max(0, until-clock.Now()))
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (r *run) instant() instant {
	i := takeInstant(clock.Now())
	for _, l := range r.lanes {
		i.stallCount += l.loop.Stats().Stalls
	}
	return i
}

// shutdown ends what still runs.
func (r *run) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownPatience)
	defer cancel()
	return r.rt.Shutdown(ctx)
}

// maxBackoff bounds how long a worker of a closed loop pauses after failures in a row.
const maxBackoff = 100 * time.Millisecond

// each does one operation after the other, as the pacer says, until there is none left. operate
// returns what went wrong.
func (r *run) each(ctx context.Context, w *worker, operate func(ctx context.Context, w *worker,
	t *trial) error) {
	backoff := time.Millisecond
	for {
		now := clock.Now()
		next, ok := r.pace.take(now)
		if !ok {
			return
		}
		if r.await(ctx, w.lane, next, now) != nil {
			return // it had not begun
		}
		w.use(next)
		t := trial{ticket: next}
		err := operate(ctx, w, &t)
		r.settle(w.lane, &t, err)
		switch {
		case err == nil:
			backoff = time.Millisecond
		case errors.Is(err, runtime.ErrShutdown):
			return
		case r.options.Rate == 0:
			if runtime.Sleep(ctx, backoff) != nil {
				return
			}
			backoff = min(2*backoff, maxBackoff)
		}
	}
}

// await waits for an operation's moment, in an open loop.
func (r *run) await(ctx context.Context, l *lane, next ticket, now time.Duration) error {
	if r.options.Rate == 0 {
		return nil
	}
	ahead := next.intended - now
	if ahead <= 0 {
		if next.measured {
			l.queued(-ahead)
		}
		return nil
	}
	if err := runtime.Sleep(ctx, ahead); err != nil {
		return err
	}
	if next.measured {
		l.woke(clock.Now() - next.intended)
	}
	return nil
}
