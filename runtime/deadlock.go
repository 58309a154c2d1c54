package runtime

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

// DeadlockError is returned by Run when all coroutines waited for each other and nothing was left that could have woken one.
type DeadlockError struct {
	mu         sync.Mutex
	Coroutines []Blocked // in the order in which they were created, for each loop
}

// Blocked is a coroutine in a deadlock.
type Blocked struct {
	ID      int64
	Waiting string // what for, such as "channel pop"
	Where   string // file:line of the call, outside Whorl
}

func (e *DeadlockError) Error() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "runtime: deadlock: all %d coroutines are asleep and nothing is left to wake them", len(e.Coroutines))
	for _, co := range e.Coroutines {
		fmt.Fprintf(&b, "\n\tcoroutine#%d: %s at %s", co.ID, co.Waiting, co.Where)
	}
	return b.String()
}

// add is called by each coroutine when it is woken with the error: only it can tell where it waited.
func (e *DeadlockError) add(co *Coroutine, reason *Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Coroutines = append(e.Coroutines, Blocked{co.id, reason.name, callerOutside()})
}

// How often a silent runtime is looked at: a check is only made when it could be a deadlock, and one that can't tell is repeated less and less often.
// deadlockGrace is how long the coroutines may take to end when one was found. Tests shorten them.
var (
	firstDeadlockCheck = 100 * time.Millisecond
	lastDeadlockCheck  = 5 * time.Second
	deadlockGrace      = 5 * time.Second
)

// waitIdle waits until all coroutines have ended, or a Shutdown has given up on some. If it finds a deadlock, it breaks it by waking all
// coroutines with the error, and returns it.
func (rt *Runtime) waitIdle() *DeadlockError {
	idle := rt.whenIdle()
	var check <-chan time.Time
	interval := firstDeadlockCheck
	timer := time.NewTimer(interval)
	defer timer.Stop()
	if rt.config.deadlock {
		check = timer.C
	}
	var before uint64
	for {
		select {
		case <-idle:
			return nil
		case <-rt.finished:
			return nil
		case <-check:
		}
		stuck, now := rt.stuck()
		switch {
		case !stuck || now != before:
			interval = firstDeadlockCheck
		case rt.nobodyElse() && rt.stillStuck(now):
			return rt.breakDeadlock()
		default:
			interval = min(2*interval, lastDeadlockCheck)
		}
		before = now
		timer.Reset(interval)
	}
}

// stuck reports whether all coroutines wait where only another coroutine or a goroutine can wake them, and no timer or descriptor is left. switches
// stays the same as long as none of them has run.
func (rt *Runtime) stuck() (all bool, switches uint64) {
	for _, s := range rt.schedulers {
		if !s.loop.Quiet() || s.loop.Stats().Descriptors > 0 {
			return false, 0 // nearly always; the loops needn't be asked
		}
	}
	var stuck int64
	asked := rt.onEachLoop(func(s *scheduler) {
		switches += s.switches
		for co := s.first; co != nil; co = co.next {
			if co.stuck() {
				stuck++
			}
		}
	})
	return asked && stuck > 0 && stuck == rt.live.Load(), switches
}

// stillStuck reports whether nothing has run since stuck returned switches: a goroutine may have woken a coroutine and ended, just before
// nobodyElse looked.
func (rt *Runtime) stillStuck(switches uint64) bool {
	stuck, now := rt.stuck()
	return stuck && now == switches
}

// stuck reports whether the coroutine waits without end where only a coroutine or goroutine can wake it. On the loop.
func (co *Coroutine) stuck() bool {
	if co.state != stateParked || co.queue == nil || !co.reason.internal || co.timer.Set() {
		return false
	}
	switch {
	case co.own:
		_, limited := co.ctx.Deadline()
		return !limited
	case co.follows != nil:
		return !co.follows.limited
	}
	return true
}

// onEachLoop has fn run on one loop after the other, and waits for it. It reports false if a loop has been closed.
func (rt *Runtime) onEachLoop(fn func(s *scheduler)) bool {
	all := true
	for _, s := range rt.schedulers {
		done := make(chan struct{})
		if s.loop.Post(func() { defer close(done); fn(s) }) != nil {
			all = false
			continue
		}
		<-done
	}
	return all
}

// nobodyElse reports whether no goroutine of the process could wake a coroutine. That is sure only of goroutines that are Whorl's own, or
// wait in Whorl without end, or belong to the machinery of tests and signals; any other may be about to push to a channel. What can't be seen is
// a function that a timer of Go's will start: time.AfterFunc.
func (rt *Runtime) nobodyElse() bool {
	if registry.only() != rt {
		return false
	}
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return false
	}
	_, records, _ := strings.Cut(profile.String(), "\n") // "goroutine profile: total 12"
	for record := range strings.SplitSeq(records, "\n\n") {
		if strings.TrimSpace(record) != "" && !harmless(record) {
			return false
		}
	}
	return true
}

// harmless reports whether a record of a goroutine profile shows goroutines that can't wake a coroutine.
func harmless(record string) bool {
	if strings.Contains(record, "\t"+module+"runtime.(*awaitPool).serve+") {
		return !strings.Contains(record, "\t"+module+"runtime.(*awaitCall[...]).run+") // which runs a function of somebody's
	}
	for _, function := range []string{
		module + "eventloop.(*Loop).Run", module + "eventloop.(*Loop).main", module + "eventloop.(*Loop).watch",
		module + "runtime.newWorker.func1", module + "runtime.(*Coroutine).park", // coroutines: stuck has looked at them
		module + "runtime.(*Runtime).waitIdle",
		module + "runtime.(*Waiter).waitWithoutEnd",
		"testing.(*T).Run", "testing.(*T).Parallel", "testing.(*F).Fuzz", "testing.(*M).Run", "testing.runTests",
		"os/signal.loop", "os/signal.signal_recv",
	} {
		if strings.Contains(record, "\t"+function+"+") {
			return true
		}
	}
	return false
}

// breakDeadlock wakes all coroutines with the error, which collects where they were. All are taken out of their queues first, so that those that
// go on first don't wake others, which then would be missing.
func (rt *Runtime) breakDeadlock() *DeadlockError {
	deadlock := new(DeadlockError)
	rt.stopping.Store(true)
	taken := make(map[*scheduler][]*Coroutine)
	rt.onEachLoop(func(s *scheduler) {
		for co := s.first; co != nil; co = co.next {
			if co.state == stateParked && co.queue != nil && co.queue.Remove(&co.waiter) {
				taken[s] = append(taken[s], co)
			}
		}
		slices.Reverse(taken[s]) // in the order of creation
	})
	rt.onEachLoop(func(s *scheduler) {
		for _, co := range taken[s] {
			s.wakeErr = deadlock
			s.resume(co)
		}
	})
	return deadlock
}
