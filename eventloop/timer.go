package eventloop

import (
	"math"
	"time"
)

// A Timer runs a task when its time has come. It belongs to one loop and its methods must be called on that loop. Make it with
// [Loop.AfterFunc] or [Loop.Every], or embed one and prepare it with [Loop.InitTimer]: then setting it never allocates.
//
// A timer never fires early: the clock is read when it is set, and again before it fires. It fires in the first iteration
// whose step 5 begins at or after its time.
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

// Every has fn run every d, first d from now. The beat doesn't drift: the n-th is due n·d after the timer was set. Beats that the loop
// was too busy for are skipped, not made up for. It panics when d <= 0, as [time.NewTicker] does.
func (l *Loop) Every(d time.Duration, fn func()) *Timer {
	if d <= 0 {
		panic("eventloop: non-positive interval for Every")
	}
	b := &beat{Timer: Timer{loop: l}, period: int64(d), fn: fn}
	b.task = b
	b.Reset(d)
	return &b.Timer
}

// beat is a timer that sets itself again.
type beat struct {
	Timer
	period int64
	fn     func()
}

// Run sets the timer to the next beat that has not been missed, counted from the one that was due, and calls the function.
func (b *beat) Run() {
	missed := (b.loop.timerPass.now - b.when) / b.period
	b.resetAt(b.when + (missed+1)*b.period)
	b.fn()
}

// InitTimer prepares a timer that is part of something else; task runs each time it fires. It is not set yet.
func (l *Loop) InitTimer(t *Timer, task Task) { t.loop, t.task = l, task }

// Stop keeps the timer from firing and reports whether it was set.
func (t *Timer) Stop() bool {
	was := t.Disarm()
	if t.index > 0 {
		t.loop.timers.remove(int(t.index - 1))
	}
	return was
}

// Disarm is Stop for a timer that will soon be set again, such as a time-out that is renewed for each packet: it only marks the timer,
// whose entry in the loop's heap is cleared away later.
func (t *Timer) Disarm() bool {
	was := t.set
	if was {
		t.set = false
		t.loop.timers.set--
	}
	return was
}

// Reset sets the timer to fire d from now, whether it was set or not, and reports whether it was. A timer made by Every goes on with
// its period from there.
func (t *Timer) Reset(d time.Duration) bool {
	return t.resetAt(saturatingAdd(nanotime(), int64(max(0, d))))
}

// ResetAt is Reset with a point in time, which is compared on the monotonic clock if deadline has its reading.
func (t *Timer) ResetAt(deadline time.Time) bool {
	return t.resetAt(int64(max(0, deadline.Sub(clockBase))))
}

// ResetClock is Reset with a point in time on the loops' clock, see [Clock].
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
		when = max(when, p.now) // it waits for the next pass, so it must not come before timers that are due in this one
	}
	t.when = when
	t.loop.timers.place(t)
	return was
}

func saturatingAdd(a, b int64) int64 {
	if a > math.MaxInt64-1-b {
		return math.MaxInt64 - 1
	}
	return a + b
}

// pass is the state of one step 5, kept in the loop so that a panic doesn't end it.
type pass struct {
	active bool
	now    int64
	serial uint64 // timers set later than this wait for the next pass
}

// runTimers fires the timers that were due when it started.
func (l *Loop) runTimers() {
	h := &l.timers
	if len(h.entries) == 0 {
		l.timerPass.active = false // it may have been the last timer's function that panicked
		return
	}
	if !l.timerPass.active {
		l.timerPass = pass{active: true, now: nanotime(), serial: h.serial}
	}
	now := l.timerPass.now
	for {
		t := h.due(now, l.timerPass.serial)
		if t == nil {
			break
		}
		t.Disarm()
		l.counters.fired.Add(1)
		l.turn()
		t.task.Run()
	}
	l.timerPass.active = false
}
