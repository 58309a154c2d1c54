package runtime

import (
	"bytes"
	"fmt"
	"runtime/pprof"
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
const (
	firstDeadlockCheck = 100 * time.Millisecond
	lastDeadlockCheck  = 5 * time.Second
)

// waitIdle waits until all coroutines have ended. If it finds a deadlock, it breaks it by waking all coroutines with the error, and returns it.
func (rt *Runtime) waitIdle() *DeadlockError {
	idle := rt.whenIdle()
	if !rt.config.deadlock {
		<-idle
		return nil
	}
	interval := firstDeadlockCheck
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var before uint64
	for {
		select {
		case <-idle:
			return nil
		case <-timer.C:
		}
		stuck, now := rt.stuck()
		switch {
		case !stuck || now != before:
			interval = firstDeadlockCheck
		case rt.nobodyElse():
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
	for _, s := range rt.schedulers {
		done := make(chan struct{})
		s.loop.Post(func() {
			defer close(done)
			switches += s.switches
			for co := s.first; co != nil; co = co.next {
				if co.state == stateParked && co.queue != nil && co.reason.internal && !co.timer.Set() {
					stuck++
				}
			}
		})
		<-done
	}
	return stuck > 0 && stuck == rt.live.Load(), switches
}

// nobodyElse reports whether no goroutine of the process could wake a coroutine. That is sure only of goroutines that are Whorl's own, or
// wait in Whorl, or belong to the machinery of tests and signals; any other may be about to push to a channel.
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
	for _, function := range []string{
		module + "runtime.",
		module + "eventloop.",
		"testing.(*T).Run", "testing.(*T).Parallel", "testing.(*F).Fuzz", "testing.(*M).Run", "testing.runTests",
		"os/signal.loop", "os/signal.signal_recv",
	} {
		if strings.Contains(record, "\t"+function) {
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
	for _, s := range rt.schedulers {
		done := make(chan struct{})
		s.loop.Post(func() {
			defer close(done)
			s.breakDeadlock(deadlock)
		})
		<-done
	}
	return deadlock
}

func (s *scheduler) breakDeadlock(deadlock *DeadlockError) {
	var taken []*Coroutine
	for co := s.first; co != nil; co = co.next {
		if co.state == stateParked && co.queue != nil && co.queue.Remove(&co.waiter) {
			taken = append(taken, co)
		}
	}
	for i := len(taken) - 1; i >= 0; i-- {
		s.wakeErr = deadlock
		s.resume(taken[i])
	}
}
