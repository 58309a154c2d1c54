package sched

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// DeadlockError says that all coroutines wait for each other, and that nothing was seen that could
// wake one.
type DeadlockError struct {
	Coroutines []Blocked // in the order in which they were created, for each loop
}

// Blocked is a coroutine in a deadlock.
type Blocked struct {
	ID      int64
	Waiting string // what for, such as "channel pop"
	Where   string // file:line of the call, outside Whorl
}

func (e *DeadlockError) Error() string {
	return fmt.Sprintf("runtime: deadlock: all %d coroutines are asleep "+
		"and nothing was seen that could wake them%s", len(e.Coroutines), e.places())
}

func (e *DeadlockError) places() string {
	var b strings.Builder
	for _, co := range e.Coroutines {
		fmt.Fprintf(&b, "\n\tcoroutine#%d: %s at %s", co.ID, co.Waiting, co.Where)
	}
	return b.String()
}

// How often a silent runtime is looked at: a check is only made when it could be a deadlock, and
// one that can't tell is repeated less and less often. DeadlockGrace is how long the coroutines may
// take to end when one is Run's error. Tests shorten them.
var (
	FirstDeadlockCheck = 100 * time.Millisecond
	lastDeadlockCheck  = 5 * time.Second
	DeadlockGrace      = 5 * time.Second
)

// waitIdle waits until all coroutines have ended, which idle tells, main has failed, or a Shutdown
// has given up on some coroutines. Meanwhile it looks for deadlocks. It returns one if that is to
// be Run's error, and else logs it, once as long as the same coroutines wait in the same places.
func (rt *Runtime) waitIdle(idle, failed <-chan struct{}) *DeadlockError {
	if rt.config.Deadlock == DeadlockIgnored {
		rt.waitForEnd(idle, failed, nil)
		return nil
	}
	interval := FirstDeadlockCheck
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var before uint64
	var reported string
	for rt.waitForEnd(idle, failed, timer.C) {
		stuck, now := rt.stuck()
		switch {
		case !stuck || now != before:
			interval = FirstDeadlockCheck
		case rt.nobodyElse() && rt.stillStuck(now):
			deadlock := rt.describeDeadlock(now)
			if deadlock != nil && rt.config.Deadlock == DeadlockIsError {
				return deadlock
			}
			if deadlock != nil && deadlock.places() != reported {
				reported = deadlock.places()
				rt.warn(reported)
			}
			fallthrough
		default:
			interval = min(2*interval, lastDeadlockCheck)
		}
		before = now
		timer.Reset(interval)
	}
	return nil
}

func (rt *Runtime) warn(places string) {
	rt.config.Log.Warn("all coroutines wait for each other, "+
		"and nothing is seen that could wake one; what can't be seen is a function "+
		"that time.AfterFunc or context.AfterFunc will call, "+
		"a callback from C, another process",
		zap.String("runtime", rt.config.Name), zap.String("coroutines", places))
}

// waitForEnd reports true when it is time for a check, false when there is nothing to wait for any
// more.
func (rt *Runtime) waitForEnd(idle, failed <-chan struct{}, check <-chan time.Time) bool {
	select {
	case <-idle:
	case <-failed:
	case <-rt.finished:
	case <-check:
		return true
	}
	return false
}

// stuck reports whether all coroutines wait where only another coroutine or a goroutine can wake
// them, and no timer or descriptor is left. switches stays the same as long as none of them has
// run.
func (rt *Runtime) stuck() (all bool, switches uint64) {
	for _, s := range rt.schedulers {
		if st := s.loop.Stats(); !st.Quiet || st.Descriptors > 0 {
			return false, 0 // nearly always; the loops needn't be asked
		}
	}
	var stuck int64
	asked := rt.onEachLoop(func(s *scheduler) {
		switches += s.switches
		for _, co := range s.coroutines() {
			if co.stuck() {
				stuck++
			}
		}
	})
	if !asked {
		return false, 0
	}
	return stuck > 0 && stuck == rt.live.Load(), switches
}

// stillStuck reports whether nothing has run since stuck returned switches: a goroutine may have
// woken a coroutine and ended, just before nobodyElse looked.
func (rt *Runtime) stillStuck(switches uint64) bool {
	stuck, now := rt.stuck()
	return stuck && now == switches
}

// stuck reports whether the coroutine waits without end where only a coroutine or goroutine can
// wake it. On the loop.
func (co *Coroutine) stuck() bool {
	if co.state != stateParked || co.queue == nil || !co.reason.Load().internal || co.timer.Set() {
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

// onEachLoop has fn run on one loop after the other. It reports false if a loop doesn't do that
// soon: it is held, or has been closed. Then fn may still run there, but what it writes is nobody's
// any more.
func (rt *Runtime) onEachLoop(fn func(s *scheduler)) bool {
	patience := time.NewTimer(FirstDeadlockCheck)
	defer patience.Stop()
	for _, s := range rt.schedulers {
		taken, done := new(atomic.Bool), make(chan struct{})
		if s.loop.Post(func() {
			if taken.CompareAndSwap(false, true) {
				fn(s)
				close(done)
			}
		}) != nil {
			return false
		}
		select {
		case <-done:
		case <-patience.C:
			if taken.CompareAndSwap(false, true) {
				return false
			}
			<-done // it has just begun, and doesn't wait
		}
	}
	return true
}

// errWhere is what a waiting coroutine is resumed with to say where it waits, which only it can
// tell. It doesn't leave its place in the queue, and waits on.
var errWhere = errors.New("runtime: where does the coroutine wait?")

// sayWhere is the answer to errWhere.
func (co *Coroutine) sayWhere() {
	co.sched.wakeErr = nil
	co.sched.where = callerOutside()
}

// describeDeadlock returns where each coroutine waits; nil if one has run since stuck returned
// switches.
func (rt *Runtime) describeDeadlock(switches uint64) *DeadlockError {
	deadlock := new(DeadlockError)
	same := true
	seen := uint64(0)
	asked := rt.onEachLoop(func(s *scheduler) {
		before := s.switches
		seen += before
		for _, co := range s.coroutines() {
			if !co.stuck() {
				same = false
				continue
			}
			s.wakeErr = errWhere
			s.resume(co)
			blocked := Blocked{co.id, co.reason.Load().name, s.where}
			deadlock.Coroutines = append(deadlock.Coroutines, blocked)
		}
		s.switches = before // nothing has gone on
	})
	if !asked || !same || seen != switches {
		return nil
	}
	return deadlock
}

// nobodyElse reports whether no goroutine of the process could wake a coroutine. That is sure only
// of goroutines that are Whorl's own, or wait in Whorl without end, or belong to the machinery of
// tests and signals; any other may be about to push to a channel. What can't be seen is a function
// that is yet to be started by time.AfterFunc or context.AfterFunc, or called from C.
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

// harmless reports whether a record of a goroutine profile shows goroutines that can't wake a
// coroutine.
func harmless(record string) bool {
	for _, function := range []string{
		// Coroutines: stuck has looked at them.
		module + "internal/sched.newWorker.func1", module + "internal/sched.(*Coroutine).park",
		// What waits for the kernel on behalf of a loop.
		module + "eventloop.(*poller).round.func1",
		module + "internal/sched.(*Runtime).waitIdle",
		module + "internal/sched.(*Waiter).waitWithoutEnd",
		"testing.(*T).Run", "testing.(*T).Parallel", "testing.(*F).Fuzz",
		"testing.(*M).Run", "testing.runTests",
		"os/signal.loop", "os/signal.signal_recv",
	} {
		if strings.Contains(record, "\t"+function+"+") {
			return true
		}
	}
	return ownGoroutine(record)
}

// ownGoroutine reports whether the record shows goroutines that Whorl has started and that don't
// run a function of the program's.
func ownGoroutine(record string) bool {
	var begun string
	for line := range strings.Lines(record) {
		// A frame has "#", the address, function+offset, file:line.
		frame := strings.Split(strings.TrimSpace(line), "\t")
		if len(frame) < 4 || frame[0] != "#" {
			continue
		}
		function, _, _ := strings.Cut(strings.TrimSpace(frame[2]), "+")
		file, _, _ := strings.Cut(frame[3], ".go:")
		if !insideWhorl(function, file+".go") && !standard(function) {
			return false
		}
		begun = function
	}
	return strings.HasPrefix(begun, module)
}

// standard reports whether a function belongs to the parts of the standard library that Whorl's own
// goroutines wait in.
func standard(function string) bool {
	for _, prefix := range []string{
		"runtime.", "internal/", "sync.", "time.", "context.", "net.",
		"os.", "os/signal.", "syscall.", "iter.",
	} {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}
