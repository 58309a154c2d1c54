package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/runtime"
)

// A Generator makes round trips in turns, for servers that are compared: while a turn lasts there
// is one message outstanding on each connection (a closed loop), between turns the connections
// stand idle. Its work is that of mode PingPong: each echo is compared. Its methods are for one
// goroutine at a time, but for Messages.
type Generator struct {
	run  *run
	spin bool

	workers int64
	gate    *runtime.WaitGroup // done when the next turn begins
	turning sync.WaitGroup     // workers in a turn
	lost    atomic.Int64       // workers that have failed
	over    atomic.Bool        // the turn is to end
}

// GeneratorOptions are what a generator needs beside the options of a run of mode PingPong, of
// which it takes Target, Loops, Timeout, Source, TLS, StartTLS, Size and Framing.
type GeneratorOptions struct {
	Options
	Most int64 // connections

	// Spin keeps the loops awake during a turn. A loop that sleeps has to be woken by the server,
	// inside its write: that costs the server about a microsecond (an interrupt to another CPU),
	// the more often the slower it is, and tells nothing about servers whose clients are elsewhere.
	// It needs CPUs of its own.
	Spin bool

	// Counter, if set, is where the messages of a loop are counted.
	Counter func(loop int) *atomic.Int64
}

// NewGenerator makes a generator, which has tried to reach the server and has no connections yet.
func NewGenerator(ctx context.Context, o GeneratorOptions) (*Generator, error) {
	options := o.Options
	options.Mode, options.Rate, options.Connections = PingPong, 0, int(o.Most)
	options.Operations, options.Duration, options.Warmup = 0, maxDuration, 0
	if err := errors.Join(options.Check(), AllowDescriptors(o.Most),
		CheckSystem(o.Most)); err != nil {
		return nil, err
	}
	options.complete()
	r, err := newRun(&options, o.Most)
	if err != nil {
		return nil, err
	}
	if o.Counter != nil {
		for i, l := range r.lanes {
			l.operations = o.Counter(i)
		}
	}
	g := &Generator{run: r, spin: o.Spin, gate: newGate()}
	if err := r.prepare(ctx, o.Most); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func newGate() *runtime.WaitGroup {
	gate := new(runtime.WaitGroup)
	gate.Add(1)
	return gate
}

// atATime is how many connections a generator opens at a time: fewer than a listener's queue holds.
const atATime = 64

// Open opens n more connections, between turns. It returns when a message has come back on each.
func (g *Generator) Open(n int) error {
	for ; n > 0; n -= atATime {
		wave := min(n, atATime)
		opened := make(chan error, wave)
		for range wave {
			index, gate := g.workers, g.gate
			_, err := g.run.rt.Go(func(ctx context.Context) { g.work(ctx, index, gate, opened) })
			if err != nil {
				return err
			}
			g.workers++
		}
		for range wave {
			if err := <-opened; err != nil {
				return err
			}
		}
	}
	return nil
}

// work is what the coroutine of a connection does.
func (g *Generator) work(ctx context.Context, index int64, gate *runtime.WaitGroup,
	opened chan<- error) {
	w := &worker{lane: g.run.laneOf(ctx), index: index}
	defer func() {
		if w.socket != nil {
			w.socket.Abort() // thousands of ports in TIME_WAIT would be in the way of the next one
		}
	}()
	err := g.run.roundTrip(ctx, w, new(trial))
	opened <- err
	for err == nil && gate.Wait(ctx) == nil {
		// Start has put the next one there before this one was done; after this turn comes another.
		gate = g.gate
		if err = g.turn(ctx, w); err != nil {
			g.lost.Add(1)
		}
		g.turning.Done()
	}
}

// turn makes round trips to the end of the turn. It notes no times: what the generator takes is
// what the server waits for.
func (g *Generator) turn(ctx context.Context, w *worker) error {
	var t trial
	for !g.over.Load() {
		if err := g.run.exchange(ctx, w.lane, w.socket, &t, 0); err != nil {
			w.lane.fail(classify(err), err)
			return err
		}
		w.lane.operations.Add(1)
	}
	return nil
}

// Start begins a turn.
func (g *Generator) Start() error {
	g.over.Store(false)
	g.turning.Add(int(g.workers - g.lost.Load()))
	if g.spin {
		for _, l := range g.run.lanes {
			g.turning.Add(1)
			err := l.loop.Post(func() {
				if _, err := runtime.Go(g.run.rt.Context(), g.keepAwake); err != nil {
					g.turning.Done()
				}
			})
			if err != nil {
				g.turning.Done()
				return err
			}
		}
	}
	gate := g.gate
	g.gate = newGate()
	gate.Done()
	return nil
}

// keepAwake always has something to do, so its loop doesn't sleep.
func (g *Generator) keepAwake(ctx context.Context) {
	defer g.turning.Done()
	for !g.over.Load() && runtime.Yield(ctx) == nil {
	}
}

// Messages returns how many messages have come back in turns. It may be called from anywhere.
func (g *Generator) Messages() (n int64) {
	for _, l := range g.run.lanes {
		n += l.operations.Load()
	}
	return n
}

// Stop ends a turn: it waits for what is outstanding, as long as the options' time-out is. It
// returns what has gone wrong in the turns.
func (g *Generator) Stop() error {
	g.over.Store(true)
	g.turning.Wait()
	var errs []error
	for _, l := range g.run.lanes {
		for _, class := range slices.Sorted(maps.Keys(l.failures)) {
			f := l.failures[class]
			errs = append(errs, fmt.Errorf("%d times: %s, such as: %s", f.count, class, f.example))
		}
	}
	return errors.Join(errs...)
}

// Close ends what is under way and resets the connections.
func (g *Generator) Close() error { return g.run.shutdown() }
