package eventloop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/goroutine"
	"github.com/whorl-go/whorl/internal/prefetch"
	"github.com/whorl-go/whorl/internal/turn"
)

// ErrClosed is returned by what needs a loop that has been closed.
var ErrClosed = errors.New("eventloop: loop closed")

// ErrRunning is returned by Run when the loop runs already.
var ErrRunning = errors.New("eventloop: loop is already running")

// A Task is something that a loop can run. Types that are posted, deferred or timed very often
// implement it, which saves them a closure each time; everyone else uses the methods that take a
// func().
type Task interface {
	// Run is called once, on the loop.
	Run()
}

type taskFunc func()

func (f taskFunc) Run() { f() }

// Loop is an event loop. Create it with [New], run it with [Loop.Run].
//
// Run, Post, PostTask, Close, Register, OnLoop, Closed, Stats, Name and String may be called from
// any goroutine. All other methods must be called on the loop (see the package comment).
type Loop struct {
	// Fixed at New.
	name     string
	log      *zap.Logger
	onPanic  func(value any, stack []byte)
	limit    time.Duration // of the watchdog; 0 = off
	poller   *poller
	finished chan struct{}

	// Life cycle, any goroutine.
	state   atomic.Int32 // stateNew … stateClosed
	closing atomic.Bool
	swept   bool           // guarded by descriptors.mu: nothing registers any more
	self    atomic.Uintptr // goroutine.ID of the loop's goroutine

	// Posted tasks. asleep is true from just before a poll that may block until it returns or
	// somebody has woken it: who turns it to false owes the eventfd a write, so a burst of posts
	// costs one.
	postMu      sync.Mutex
	posted      []Task       // guarded by postMu
	postClosed  bool         // guarded by postMu
	postedCount atomic.Int64 // len(posted), to look without the lock
	asleep      atomic.Bool
	polling     atomic.Bool // in a poll that may block, or about to be

	// Owned by the loop. The cursors live here and not on the stack so that an iteration that a
	// panic or a Goexit has torn down goes on behind the function that did it.
	phase       phase
	ready       int   // number of events in the poller's buffer
	cursor      int   // next event, or handler to be told of the end
	postedNow   batch // of step 4
	deferred    []Task
	deferredNow batch // of step 6
	timers      timerHeap
	timerPass   pass
	budget      turn.Budget // of the step
	beforePoll  func()
	afterDefer  func()
	busy        bool          // the last poll found something
	awake       int           // polls since the loop last let others run
	left        []*Descriptor // registered when the loop ended

	counters counters
}

type phase uint8

const (
	phaseBefore phase = iota
	phasePoll
	phaseEvents
	phaseTakePosted
	phasePosted
	phaseStartTimers
	phaseTimers
	phaseTakeDeferred
	phaseDeferred
	phaseAfter
	phaseLastPosted // the loop closes: what was posted and deferred before is run, and that is all
	phaseLastDeferred
	phaseEnd // the end listeners are told
)

const (
	stateNew int32 = iota
	stateRunning
	stateClosed
)

var loopNumber atomic.Int64

// Config is what a loop is made with. All of it may be left out.
type Config struct {
	Name string      // for log and profiles; "loop-N" by default
	Log  *zap.Logger // where the loop reports panics and stalls; nowhere by default

	// OnPanic gets each panic the loop has caught, after it was logged. It runs on the loop.
	OnPanic func(value any, stack []byte)

	// Watchdog is how long one function may hold the loop before that is reported. 0 and less: it
	// is not watched.
	Watchdog time.Duration
}

// New creates a loop. It fails when the kernel has no descriptor to give, and with
// errors.ErrUnsupported on systems that have neither epoll nor kqueue.
func New(config Config) (*Loop, error) {
	number := strconv.FormatInt(loopNumber.Add(1), 10)
	l := &Loop{
		name:     cmp.Or(config.Name, "loop-"+number),
		log:      cmp.Or(config.Log, zap.NewNop()),
		onPanic:  config.OnPanic,
		limit:    max(0, config.Watchdog),
		finished: make(chan struct{}),
	}
	var err error
	if l.poller, err = openPoller(); err != nil {
		return nil, fmt.Errorf("eventloop: %w", err)
	}
	return l, nil
}

// Name returns the loop's name as the log and the profiles show it.
func (l *Loop) Name() string { return l.name }

// String returns the loop's name, too, so that who prints a loop doesn't read what is the loop's.
func (l *Loop) String() string { return l.name }

// OnLoop reports whether the calling goroutine is the loop's own.
func (l *Loop) OnLoop() bool { return l.self.Load() == uintptr(goroutine.Current()) }

// Closed reports whether Close has been called.
func (l *Loop) Closed() bool { return l.closing.Load() }

// Run runs the loop until Close is called. The functions run on a goroutine of the loop's own; the
// caller is parked meanwhile. A loop runs once: after Close, or when it runs already, Run returns
// ErrClosed or ErrRunning.
func (l *Loop) Run() error {
	if !l.state.CompareAndSwap(stateNew, stateRunning) {
		if l.state.Load() == stateRunning {
			return ErrRunning
		}
		return ErrClosed
	}
	if l.limit > 0 {
		go l.watch()
	}
	go l.main()
	<-l.finished
	return nil
}

// Close asks the loop to stop and returns at once; Run returns when the iteration under way has
// ended. What was posted and deferred before is still run, once; but not if Run was never called,
// as there is nothing to run it on. Timers that are pending don't fire any more. Descriptors that
// are registered stay open: they belong to whoever registered them, whose handlers are told if they
// are an [EndListener]. May be called from any goroutine, more than once.
func (l *Loop) Close() error {
	if !l.closing.CompareAndSwap(false, true) {
		return nil
	}
	l.refusePosts()
	if l.state.CompareAndSwap(stateNew, stateClosed) {
		l.left, l.phase = descriptors.takeLoop(l), phaseEnd
		for !l.iterate() {
		}
		l.release()
		return nil
	}
	l.wake()
	return nil
}

// main is the body of the loop's goroutine. A Goexit in a user function unwinds it; then a new
// goroutine takes over where it stood.
func (l *Loop) main() {
	orderly := false
	defer func() {
		if !orderly {
			// This goroutine ends, and its identity may be another's before the new one has stored
			// its own.
			l.self.Store(0)
			l.counters.goexits.Add(1)
			l.log.Error("runtime.Goexit in a function run by the loop; the loop goes on in a new goroutine",
				zap.String("loop", l.name))
			go l.main()
		}
	}()
	l.self.Store(uintptr(goroutine.Current()))
	// Labels are inherited by the coroutines created on the loop, so profiles and the watchdog can
	// tell whose they are.
	labels := pprof.Labels(loopLabel, l.name)
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), labels))
	for !l.iterate() {
	}
	l.self.Store(0)
	l.release()
	orderly = true
}

// release gives back what New took and lets Run return.
func (l *Loop) release() {
	l.state.Store(stateClosed)
	l.poller.close()
	close(l.finished)
}

// iterate runs iterations until the loop is closed (true) or a user function has panicked (false;
// call it again).
func (l *Loop) iterate() (closed bool) {
	defer l.caught()
	for {
		switch l.phase {
		case phaseBefore:
			if l.closing.Load() {
				l.refusePosts()
				l.takePosted()
				l.phase = phaseLastPosted
				continue
			}
			l.phase = phasePoll
			l.counters.iterations.Add(1)
			if l.beforePoll != nil {
				l.turn()
				l.beforePoll()
			}
		case phasePoll:
			l.poll()
			l.phase = phaseEvents
		case phaseEvents:
			l.runEvents()
			l.phase = phaseTakePosted
		case phaseTakePosted:
			l.takePosted()
			l.phase = phasePosted
		case phasePosted:
			l.run(&l.postedNow)
			l.phase = phaseStartTimers
		case phaseStartTimers:
			l.startTimers()
			l.phase = phaseTimers
		case phaseTimers:
			l.runTimers()
			l.phase = phaseTakeDeferred
		case phaseTakeDeferred:
			l.takeDeferred()
			l.phase = phaseDeferred
		case phaseDeferred:
			l.run(&l.deferredNow)
			l.phase = phaseAfter
		case phaseAfter:
			l.phase = phaseBefore
			if l.afterDefer != nil {
				l.turn()
				l.afterDefer()
			}
		case phaseLastPosted:
			l.run(&l.postedNow)
			l.takeDeferred()
			l.phase = phaseLastDeferred
		case phaseLastDeferred:
			l.run(&l.deferredNow)
			l.left = descriptors.takeLoop(l)
			l.cursor, l.phase = 0, phaseEnd
		case phaseEnd:
			l.tellEnd()
			return true
		}
	}
}

// caught keeps the loop alive over a panic in a user function. The cursor of the phase is already
// behind that function.
func (l *Loop) caught() {
	value := recover()
	if value == nil {
		return
	}
	l.ReportPanic(value, debug.Stack())
}

// ReportPanic logs a panic that was caught on this loop, counts it and hands it to the panic
// handler. It is for the floors above, which catch the panics of their own functions before the
// loop sees them.
func (l *Loop) ReportPanic(value any, stack []byte) {
	l.counters.panics.Add(1)
	l.log.Error("panic", zap.String("loop", l.name), zap.Any("value", value),
		zap.ByteString("stack", stack))
	if l.onPanic == nil {
		return
	}
	defer func() {
		if again := recover(); again != nil {
			l.log.Error("panic in the panic handler", zap.String("loop", l.name),
				zap.Any("value", again))
		}
	}()
	l.onPanic(value, stack)
}

// turn marks that the loop has come to the next user function; the watchdog looks whether it moves.
func (l *Loop) turn() { l.counters.turns.Add(1) }

// between marks that no user function runs until the next turn: the loop polls.
func (l *Loop) between() { l.counters.ended.Store(l.counters.turns.Load()) }

// quiet is Stats.Quiet.
func (l *Loop) quiet() bool {
	// In this order: between a post and the run of its batch, one of the first two says no.
	return l.postedCount.Load() == 0 && l.polling.Load() && l.counters.timers.Load() == 0
}

// poll waits for descriptors and fills the poller's buffer, if that has been worked off.
func (l *Loop) poll() {
	l.between()
	l.budget.Renew()
	if l.cursor < l.ready {
		l.stayAwake()
		return
	}
	l.cursor, l.ready = 0, 0
	l.counters.timers.Store(int64(l.timers.set))
	timeout := l.pollTimeout()
	if timeout == 0 || l.busy {
		// A loop under load finds something nearly every time, and a poll that can't block needs no
		// word to the scheduler.
		l.ready = l.poller.poll()
		l.busy = l.ready > 0
		if l.busy || timeout == 0 {
			l.counters.events.Add(uint64(l.ready))
			l.stayAwake()
			return
		}
	}
	l.polling.Store(true) // before others run, who may ask whether the loop is quiet
	l.letOthers()
	l.asleep.Store(true)
	if l.postedCount.Load() > 0 || l.closing.Load() {
		timeout = 0
	} else if timeout > 0 {
		timeout = l.pollTimeout()
	}
	l.counters.sleeps.Add(1)
	l.ready = l.poller.wait(timeout)
	l.asleep.Store(false)
	l.polling.Store(false)
	l.busy = l.ready > 0
	l.counters.events.Add(uint64(l.ready))
}

// maxAwake is how many polls in a row a loop may do without blocking before it lets other
// goroutines run; the scheduler would make it only after 10 ms.
const maxAwake = 16

// stayAwake follows a poll that didn't block.
func (l *Loop) stayAwake() {
	if l.awake++; l.awake == maxAwake {
		l.letOthers()
	}
}

// letOthers lets the goroutines run that wait for this loop's P: those that it has made runnable,
// among others. If it went to sleep instead, they would have to wait until the scheduler notices
// that the P sits in a system call.
func (l *Loop) letOthers() {
	l.awake = 0
	runtime.Gosched()
}

// pollTimeout returns how long the poll may take: 0 not at all, negative without end.
func (l *Loop) pollTimeout() time.Duration {
	if len(l.deferred)+l.deferredNow.left()+l.postedNow.left() > 0 || l.postedCount.Load() > 0 ||
		l.closing.Load() {
		return 0
	}
	when := l.timers.next()
	if when == math.MaxInt64 {
		return -1
	}
	return max(0, time.Duration(when)-clock.Now())
}

// runEvents calls the handlers of what the last poll has found, until none is left or the step has
// taken its time.
func (l *Loop) runEvents() {
	for l.cursor < l.ready && !l.stepOver() {
		l.anticipate(l.cursor)
		d, events := l.event(l.cursor)
		l.cursor++
		if d != nil {
			l.turn()
			d.handler.HandleEvents(events)
		}
	}
}

// event returns the i-th event of the last poll; no descriptor if it is to be passed over.
func (l *Loop) event(i int) (*Descriptor, Events) {
	fd, generation, events := l.poller.event(i)
	d := descriptors.lookup(fd)
	if d == nil || d.generation != generation || d.loop != l {
		// The poller's own, which has ended the wait; or unregistered earlier in this batch, and
		// perhaps the number is in use again.
		return nil, 0
	}
	return d, events
}

// How Anticipators are prepared: an event's Descriptor is fetched when anticipation events are
// still to be handled before it, and the stages follow, one with each of these.
const (
	stages       = 3
	anticipation = stages + 1

	descriptorLines = 3 // with the beginning of what it is part of
)

// anticipate prepares the events after the i-th.
func (l *Loop) anticipate(i int) {
	if i == 0 {
		for j := 1; j < anticipation; j++ {
			l.fetch(j)
		}
	}
	l.fetch(i + anticipation)
	for stage := range stages {
		if j := i + stages - stage; j < l.ready {
			if d, _ := l.event(j); d != nil && d.anticipates {
				d.handler.(Anticipator).Anticipate(stage)
			}
		}
	}
}

// fetch begins to fetch the Descriptor of the i-th event.
func (l *Loop) fetch(i int) {
	if i < l.ready {
		fd, _, _ := l.poller.event(i)
		prefetch.Lines(uintptr(unsafe.Pointer(descriptors.lookup(fd))), descriptorLines)
	}
}
