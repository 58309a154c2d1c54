package eventloop

import (
	"time"

	"github.com/whorl-go/whorl/internal/clock"
)

// A Timer runs a task when its time has come. It belongs to one loop and its methods must be called
// on that loop. Make it with [Loop.AfterFunc], or embed one and prepare it with [Loop.InitTimer]:
// then setting it never allocates.
//
// A timer never fires early: the clock is read when it is set, and again before it fires. It fires
// in the first iteration whose step 5 begins at or after its time.
type Timer struct {
	loop   *Loop
	task   Task
	when   int64  // due, on the loop's clock
	key    int64  // the time it has in the heap, never later than when
	serial uint64 // order of setting, among timers due at the same instant
	index  int32  // place in the heap + 1; 0 = not in it
	set    bool   // false = stopped or fired; its heap entry, if any, is dead
}

// AfterFunc has fn run once, d from now; d <= 0 means in the next step 5.
func (l *Loop) AfterFunc(d time.Duration, fn func()) *Timer {
	t := &Timer{loop: l, task: taskFunc(fn)}
	t.Reset(d)
	return t
}

// InitTimer prepares a timer that is part of something else; task runs each time it fires. It is
// not set yet.
func (l *Loop) InitTimer(t *Timer, task Task) { t.loop, t.task = l, task }

// Stop keeps the timer from firing and reports whether it was set.
func (t *Timer) Stop() bool {
	was := t.Disarm()
	if t.index > 0 {
		t.loop.timers.remove(int(t.index - 1))
	}
	return was
}

// Disarm is Stop for a timer that will soon be set again, such as a time-out that is renewed for
// each packet: it only marks the timer, whose entry in the loop's heap is cleared away later.
func (t *Timer) Disarm() bool {
	was := t.set
	if was {
		t.set = false
		t.loop.timers.set--
	}
	return was
}

// Reset sets the timer to fire d from now, whether it was set or not, and reports whether it was.
func (t *Timer) Reset(d time.Duration) bool {
	return t.resetAt(int64(clock.Add(clock.Now(), max(0, d))))
}

// ResetClock is Reset with a point in time on the clock of all loops, see internal/clock.
func (t *Timer) ResetClock(at time.Duration) bool { return t.resetAt(int64(max(0, at))) }

// Set reports whether the timer is set to fire.
func (t *Timer) Set() bool { return t.set }

func (t *Timer) resetAt(when int64) bool {
	was := t.set
	if !was {
		t.set = true
		t.loop.timers.set++
	}
	if p := &t.loop.timerPass; p.active {
		// It waits for the next pass: it must not come before those of this one.
		when = max(when, p.now)
	}
	t.when = when
	t.loop.timers.place(t)
	return was
}

// pass is the state of one step 5, kept in the loop so that a panic doesn't end it.
type pass struct {
	active bool
	now    int64
	serial uint64 // timers set later than this wait for the next pass
}

// startTimers begins step 5: the timers that are due now are those that it fires.
func (l *Loop) startTimers() {
	if len(l.timers.entries) == 0 {
		return
	}
	l.budget.Renew()
	l.timerPass = pass{active: true, now: int64(clock.Now()), serial: l.timers.serial}
}

// runTimers fires the timers of the step, until none is left or the step has taken its time. Those
// that are left are the first of the next step.
func (l *Loop) runTimers() {
	p := &l.timerPass
	for p.active && !l.stepOver() {
		t := l.timers.due(p.now, p.serial)
		if t == nil {
			break
		}
		t.Disarm()
		l.counters.fired.Add(1)
		l.turn()
		t.task.Run()
	}
	p.active = false
}
