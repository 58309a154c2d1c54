package sched

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/goroutine"
	"github.com/whorl-go/whorl/internal/turn"
)

// scheduler runs the coroutines of one loop.
//
// At any moment at most one coroutine of a loop runs. It runs because the loop, or another
// coroutine of the loop, has switched to it and is itself stopped inside resume until the coroutine
// parks or ends. So everything that belongs to a scheduler is touched by one goroutine at a time,
// with a happens-before edge in each switch, and needs no lock. What the fields' comments call "on
// the loop" is: by the loop's functions or by one of its coroutines.
type scheduler struct {
	rt   *Runtime
	loop *eventloop.Loop

	// running is the goroutine of the coroutine that runs, 0 when none does. Any goroutine may
	// compare it with its own identity: if they are equal, that goroutine is the coroutine, and may
	// use what belongs to the loop.
	running atomic.Uintptr

	// On the loop.
	current  *Coroutine // that runs
	idle     []*worker
	deep     []*worker   // idle workers whose stacks have grown, for Detour and GoDeep
	spawner  *worker     // makes them, and nothing else; nil before the first
	switches uint64      // to coroutines, so far
	where    string      // the answer to errWhere
	wakeErr  error       // why the coroutine that is about to be resumed has waited in vain, or nil
	budget   turn.Budget // of the coroutine that the loop has resumed and those it has switched to

	mu    sync.Mutex
	first *Coroutine // guarded by mu: all coroutines that have not ended, newest first
	live  int        // guarded by mu: how many these are

	workers atomic.Int64 // for Stats
}

// maxIdleWorkers bounds how many workers a loop keeps for the next coroutines: 2 to 8 KiB of stack
// each.
const maxIdleWorkers = 1024

// schedulers is the list of the schedulers of all running runtimes, replaced as a whole when it
// changes.
var schedulers atomic.Pointer[[]*scheduler]

// onLoop reports whether the caller runs on s's loop: as one of its coroutines or as a function of
// the loop.
func (s *scheduler) onLoop() bool {
	id := uintptr(goroutine.Current())
	return s.running.Load() == id || s.loop.OnLoop()
}

// running tells what the calling goroutine is: a coroutine (co), a function of the event loop of s
// outside any coroutine (co is nil), or a plain goroutine (both are nil). hint is where to look
// first.
//
// It goes by the goroutine, not by a context: the context that a caller passes may be another
// coroutine's.
func whereAmI(hint *scheduler) (s *scheduler, co *Coroutine) {
	id := uintptr(goroutine.Current())
	if hint != nil && hint.running.Load() == id {
		return hint, hint.current
	}
	list := schedulers.Load()
	if list == nil {
		return nil, nil
	}
	for _, s := range *list {
		if s.running.Load() == id {
			return s, s.current
		}
	}
	for _, s := range *list {
		if s.loop.OnLoop() {
			return s, nil
		}
	}
	return nil, nil
}

// schedulerHint returns the scheduler of the coroutine whose context ctx is, nil if ctx is another
// kind of context.
func schedulerHint(ctx context.Context) *scheduler {
	if own, ok := ctx.(*coroutineContext); ok {
		return own.co.sched
	}
	return nil
}

// spawn makes a coroutine; start begins it. Any goroutine may call spawn.
func (s *scheduler) spawn(ctx context.Context, parent *Coroutine) (*Coroutine, error) {
	rt := s.rt
	if n := rt.live.Add(1); n > rt.config.MaxCoroutines {
		rt.release()
		return nil, ErrTooMany
	}
	// stopping is looked at after live was counted: Shutdown sees one of the two.
	if parent == nil && rt.stopping.Load() {
		rt.release()
		return nil, ErrShutdown
	}
	co := &Coroutine{id: rt.lastID.Add(1), sched: s}
	if parent != nil {
		co.parent = parent.id
	}
	co.ctx.init(co, ctx)
	co.waiter.co = co
	return co, nil
}

// start begins a coroutine and returns when it parks or has ended. On the loop.
func (s *scheduler) start(co *Coroutine, fn func(context.Context)) {
	s.startOn(s.take(&s.idle), co, fn)
}

// startOn begins a coroutine on a worker.
func (s *scheduler) startOn(w *worker, co *Coroutine, fn func(context.Context)) {
	s.loop.InitTimer(&co.timer, (*timeoutTask)(co))
	co.worker, w.co, w.fn = w, co, fn
	s.link(co)
	co.state = stateParked
	co.ctx.tie()
	s.resume(co)
}

// take takes a worker from a list of idle ones, or makes one.
func (s *scheduler) take(idle *[]*worker) *worker {
	if n := len(*idle); n > 0 {
		w := (*idle)[n-1]
		(*idle)[n-1] = nil
		*idle = (*idle)[:n-1]
		return w
	}
	s.workers.Add(1)
	return newWorker()
}

// resume switches to a parked coroutine and returns when it parks again or has ended. On the loop.
func (s *scheduler) resume(co *Coroutine) {
	previous, previousID := s.current, s.running.Load()
	w := co.worker
	s.current = co
	s.running.Store(w.id.Load())
	co.state = stateRunning
	if previous == nil {
		s.budget.Renew() // a turn is a turn, however many coroutines it starts or switches to
	} else {
		previous.waitsFor(nil)
	}
	s.switches++
	w.switchTo(s.loop)
	s.current = previous
	s.running.Store(previousID)
	if w.dead && co.state == stateEnded {
		s.workers.Add(-1)
	}
}

// resumeTask resumes a parked coroutine from a posted or deferred task.
type resumeTask Coroutine

func (t *resumeTask) Run() { co := (*Coroutine)(t); co.sched.resume(co) }

// park stops the running coroutine until resume. On the loop, by the coroutine itself.
func (co *Coroutine) park() {
	co.state = stateParked
	w := co.worker
	w.sp = uintptr(unsafe.Pointer(&w))
	w.yield(struct{}{})
}

// ended gives the coroutine's worker back. On the loop, by the coroutine itself, as the last thing
// it does.
func (s *scheduler) ended(co *Coroutine) {
	w := co.worker
	s.unlink(co)
	co.worker, w.co, w.fn = nil, nil, nil
	if !w.dead && !s.keep(w) {
		w.dead = true
	}
	if w.dead {
		// The goroutine ends, and its identity may be another's before resume has stored the
		// previous.
		s.running.Store(0)
	}
	s.rt.release()
}

// keep puts a worker on its list of idle ones, unless there are enough.
func (s *scheduler) keep(w *worker) bool {
	idle := &s.idle
	if w.deep {
		idle = &s.deep
	}
	if len(*idle) >= maxIdleWorkers || s.rt.stopping.Load() {
		return false
	}
	*idle = append(*idle, w)
	return true
}

// dismiss ends the idle workers. On the loop.
func (s *scheduler) dismiss() {
	workers := append(s.idle, s.deep...)
	if s.spawner != nil {
		workers = append(workers, s.spawner)
	}
	for _, w := range workers {
		w.dead = true
		w.next()
		s.workers.Add(-1)
	}
	s.idle, s.deep, s.spawner = nil, nil, nil
}

func (s *scheduler) link(co *Coroutine) {
	s.mu.Lock()
	co.next = s.first
	if s.first != nil {
		s.first.prev = co
	}
	s.first = co
	s.live++
	s.mu.Unlock()
}

func (s *scheduler) unlink(co *Coroutine) {
	s.mu.Lock()
	if co.prev != nil {
		co.prev.next = co.next
	} else {
		s.first = co.next
	}
	if co.next != nil {
		co.next.prev = co.prev
	}
	co.prev, co.next = nil, nil
	s.live--
	s.mu.Unlock()
}

// coroutines returns all that have not ended, in the order of creation. Any goroutine.
func (s *scheduler) coroutines() []*Coroutine {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Coroutine, 0, s.live)
	for co := s.first; co != nil; co = co.next {
		all = append(all, co)
	}
	slices.Reverse(all)
	return all
}
