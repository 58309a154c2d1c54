package sched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/eventloop"
)

// A Runtime is what runtime.Runtime shows. All methods may be called from any goroutine.
type Runtime struct {
	config     Config
	schedulers []*scheduler
	root       rootContext
	turn       atomic.Uint32 // of pick
	lastID     atomic.Int64
	live       atomic.Int64 // coroutines that have not ended, and Retains
	pool       awaitPool
	locals     sync.Map // see internal/local
	signals    signals
	cuts       cuts
	panic      atomic.Pointer[PanicError] // the first that nobody took

	mu        sync.Mutex
	phase     phase         // guarded by mu
	idle      chan struct{} // guarded by mu; closed when live becomes 0; nil if nobody waits
	atEnd     []func()      // guarded by mu; of AtEnd
	ended     bool          // guarded by mu: atEnd is being called, or was
	stopping  atomic.Bool
	forced    atomic.Bool
	started   chan struct{}  // closed when the loops run
	stopped   chan struct{}  // closed when Shutdown begins
	loops     sync.WaitGroup // goroutines in Loop.Run
	finished  chan struct{}  // closed when everything has ended
	finishErr error          // guarded by finished
}

type phase uint8

const (
	phaseNew phase = iota
	phaseStarted
	phaseStopped
)

// New is runtime.New.
func New(config Config) (*Runtime, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	rt := &Runtime{
		config:   config,
		started:  make(chan struct{}),
		stopped:  make(chan struct{}),
		finished: make(chan struct{}),
	}
	rt.root.rt = rt
	rt.pool.limit = config.AwaitLimit
	for i := range config.Loops {
		loop, err := eventloop.New(eventloop.Config{
			Name:     fmt.Sprintf("%s-%d", config.Name, i),
			Log:      config.Log,
			Watchdog: config.Watchdog,
			OnPanic:  rt.loopPanicked,
		})
		if err != nil {
			for _, s := range rt.schedulers {
				s.loop.Close()
			}
			return nil, fmt.Errorf("runtime: %w", err)
		}
		rt.schedulers = append(rt.schedulers, &scheduler{rt: rt, loop: loop})
	}
	return rt, nil
}

// Start starts the loops.
func (rt *Runtime) Start() error {
	rt.mu.Lock()
	if rt.phase != phaseNew {
		rt.mu.Unlock()
		return errors.New("runtime: started before")
	}
	rt.phase = phaseStarted
	rt.mu.Unlock()

	registry.add(rt)
	var running sync.WaitGroup // a loop that is closed before it runs drops what was posted
	for _, s := range rt.schedulers {
		running.Add(1)
		s.loop.Post(running.Done)
		rt.loops.Add(1)
		go func() {
			defer rt.loops.Done()
			s.loop.Run()
		}()
	}
	running.Wait()
	close(rt.started)
	return nil
}

// Shutdown ends the runtime, see finish.
func (rt *Runtime) Shutdown(ctx context.Context) error {
	s, co := whereAmI(nil)
	rt.mu.Lock()
	switch rt.phase {
	case phaseNew:
		rt.phase = phaseStopped
		for _, s := range rt.schedulers {
			s.loop.Close()
		}
		close(rt.stopped)
		close(rt.finished)
		defer rt.callAtEnd()
	case phaseStarted:
		rt.phase = phaseStopped
		rt.stopping.Store(true)
		close(rt.stopped)
		go func() {
			rt.finishErr = rt.finish(ctx)
			close(rt.finished)
		}()
	}
	rt.mu.Unlock()
	rt.root.cancelled()
	switch {
	case s != nil && (s.rt == rt || co == nil):
		return ErrOnLoop
	case co != nil: // of another runtime: its loop must not stand still
		_, err := Await(context.WithoutCancel(ctx), func() (struct{}, error) {
			<-rt.finished
			return struct{}{}, rt.finishErr
		})
		return err
	}
	<-rt.finished
	return rt.finishErr
}

// ForcedGrace is how long coroutines that are ended by force may take for their deferred calls.
// Tests shorten it.
var ForcedGrace = time.Second

// finish is what Shutdown does when it is called first.
func (rt *Runtime) finish(ctx context.Context) error {
	<-rt.started
	rt.signals.close()
	rt.interruptAll()
	left := rt.whenEnded(ctx)
	var cause error // why something may be cut
	if left > 0 {
		cause = context.Cause(ctx)
		rt.forced.Store(true)
		rt.interruptAll()
		grace, cancel := context.WithTimeout(context.Background(), ForcedGrace)
		left = rt.whenEnded(grace)
		cancel()
	}
	rt.pool.close()
	for _, s := range rt.schedulers {
		s.loop.Post(s.dismiss)
		s.loop.Close()
	}
	if left > 0 {
		go rt.whenLoopsEnd() // those that are still there must know where they are until then
		err := fmt.Errorf("runtime: %d coroutines or retained tasks did not end: %w", left, cause)
		return joined(err, rt.cuts.err())
	}
	rt.whenLoopsEnd()
	if err := rt.cuts.err(); err != nil {
		return joined(cause, err)
	}
	return nil
}

// Forced reports whether the time for an orderly Shutdown is over: what is retained is to end.
func (rt *Runtime) Forced() bool { return rt.forced.Load() }

// whenLoopsEnd is the last thing that a runtime does.
func (rt *Runtime) whenLoopsEnd() {
	rt.loops.Wait()
	registry.remove(rt)
	rt.callAtEnd()
}

// AtEnd has fn called when the runtime has ended, before Shutdown and Run return: the loops have
// come to a stand, and nothing runs on them any more. So it is the place to close what lives on
// them and nobody has closed. If Shutdown gives up on coroutines, fn is called when these have let
// their loops go. After the end, AtEnd calls fn itself. Functions are called in the reverse order
// of AtEnd, on a plain goroutine; they must not wait for the runtime.
func (rt *Runtime) AtEnd(fn func()) {
	rt.mu.Lock()
	ended := rt.ended
	if !ended {
		rt.atEnd = append(rt.atEnd, fn)
	}
	rt.mu.Unlock()
	if ended {
		fn()
	}
}

func (rt *Runtime) callAtEnd() {
	rt.mu.Lock()
	rt.ended = true
	all := rt.atEnd
	rt.atEnd = nil
	rt.mu.Unlock()
	for _, fn := range slices.Backward(all) {
		fn()
	}
}

// whenEnded waits until no coroutine is left, or ctx is done, and returns how many are left then.
func (rt *Runtime) whenEnded(ctx context.Context) (left int64) {
	for rt.live.Load() > 0 {
		select {
		case <-rt.whenIdle():
		case <-ctx.Done():
			return rt.live.Load()
		}
	}
	return 0
}

// Context returns the context that the coroutines' come from.
func (rt *Runtime) Context() context.Context { return &rt.root }

// Go starts a coroutine on one of the loops, each in turn, and doesn't wait for it.
func (rt *Runtime) Go(fn func(ctx context.Context)) (*Coroutine, error) {
	if rt.stopping.Load() {
		return nil, ErrShutdown
	}
	return rt.pick().launch(&rt.root, fn)
}

// Retain keeps Run from returning, and Shutdown until its context is done, as a coroutine would,
// until Release is called: for what lives on a loop without a coroutine, such as a timer.
func (rt *Runtime) Retain() { rt.live.Add(1) }

// Release takes one Retain back.
func (rt *Runtime) Release() { rt.release() }

// Loops returns the runtime's loops.
func (rt *Runtime) Loops() []*eventloop.Loop {
	loops := make([]*eventloop.Loop, len(rt.schedulers))
	for i, s := range rt.schedulers {
		loops[i] = s.loop
	}
	return loops
}

// Logger returns the logger that the runtime was given.
func (rt *Runtime) Logger() *zap.Logger { return rt.config.Log }

// pick returns the schedulers in turn.
func (rt *Runtime) pick() *scheduler {
	return rt.schedulers[int(rt.turn.Add(1)-1)%len(rt.schedulers)]
}

// release counts a coroutine or a Retain out.
func (rt *Runtime) release() {
	if rt.live.Add(-1) > 0 {
		return
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.idle != nil && rt.over() {
		close(rt.idle)
		rt.idle = nil
	}
}

// over reports whether nothing is left that keeps Run or Shutdown, which one of them asks: then
// that is the end, and nothing new begins.
func (rt *Runtime) over() bool {
	if rt.live.Load() > 0 {
		return false
	}
	// Something has begun meanwhile, see spawn.
	if was := rt.stopping.Swap(true); rt.live.Load() > 0 {
		rt.stopping.Store(was)
		return false
	}
	return true
}

// whenIdle returns a channel that is closed when no coroutine is left.
func (rt *Runtime) whenIdle() <-chan struct{} {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.over() {
		none := make(chan struct{})
		close(none)
		return none
	}
	return rt.nextIdle()
}

// nextIdle is whenIdle for a caller that holds mu, and that may yet start the first coroutine.
func (rt *Runtime) nextIdle() <-chan struct{} {
	if rt.idle == nil {
		rt.idle = make(chan struct{})
	}
	return rt.idle
}

// panicked reports a panic that has ended a coroutine, or one of its deferred functions.
func (rt *Runtime) panicked(co *Coroutine, err *PanicError) {
	rt.report(co, err)
	rt.untaken(err)
}

// untaken remembers the first panic that no handler took, for Run's error.
func (rt *Runtime) untaken(err *PanicError) {
	if rt.config.OnPanic == nil {
		rt.panic.CompareAndSwap(nil, err)
	}
}

// report logs a panic in the program's code and hands it to the panic handler, once, however far it
// goes.
func (rt *Runtime) report(co *Coroutine, err *PanicError) {
	if err.reported.Swap(true) {
		return
	}
	rt.config.Log.Error("panic in a coroutine", zap.Int64("coroutine", co.id),
		zap.Any("value", err.Value), zap.ByteString("stack", err.Stack))
	if rt.config.OnPanic == nil {
		return
	}
	defer func() {
		if again := recover(); again != nil {
			rt.config.Log.Error("panic in the panic handler",
				zap.Int64("coroutine", co.id), zap.Any("value", again))
		}
	}()
	rt.config.OnPanic(co, err)
}

// loopPanicked reports a panic in a function of a loop, which the loop has logged already.
func (rt *Runtime) loopPanicked(value any, stack []byte) {
	err, ok := value.(*PanicError)
	if !ok {
		err = &PanicError{Value: value, Stack: stack}
	}
	rt.untaken(err)
	if rt.config.OnPanic != nil && !err.reported.Swap(true) {
		rt.config.OnPanic(nil, err)
	}
}

// registry knows the running runtimes of the process.
var registry runtimes

type runtimes struct {
	mu      sync.Mutex
	running []*Runtime // guarded by mu
}

func (r *runtimes) add(rt *Runtime) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = append(r.running, rt)
	r.publish()
}

func (r *runtimes) remove(rt *Runtime) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = slices.DeleteFunc(r.running, func(other *Runtime) bool { return other == rt })
	r.publish()
}

// publish makes the list that whereAmI searches. With mu held.
func (r *runtimes) publish() {
	var all []*scheduler
	for _, rt := range r.running {
		all = append(all, rt.schedulers...)
	}
	schedulers.Store(&all)
}

// only returns the running runtime if there is exactly one. One whose Shutdown has given up doesn't
// count.
func (r *runtimes) only() *Runtime {
	r.mu.Lock()
	defer r.mu.Unlock()
	var only *Runtime
	for _, rt := range r.running {
		select {
		case <-rt.finished:
			continue
		default:
		}
		if only != nil {
			return nil
		}
		only = rt
	}
	return only
}

// From is runtime.From.
func From(ctx context.Context) (*Runtime, error) {
	if rt, ok := ctx.Value(runtimeKey{}).(*Runtime); ok {
		return rt, nil
	}
	if s, _ := whereAmI(nil); s != nil {
		return s.rt, nil
	}
	if rt := registry.only(); rt != nil {
		return rt, nil
	}
	return nil, ErrNoRuntime
}
