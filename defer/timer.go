package event

import (
	"context"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
)

// A Timer calls a function later. [After] and [Tick] make one. Its methods may be called from
// anywhere.
type Timer struct {
	// Fixed when it is set.
	id    int64
	reg   *registry
	home  sched.Home
	ctx   context.Context
	fn    func(context.Context)
	every time.Duration // 0 = once

	timer eventloop.Timer // on the loop

	// Guarded by reg.mu. The timer is pending as long as reg.timers has it.
	runs   int64
	due    time.Duration // on the loops' clock
	unhook func() bool   // ends following ctx
}

// Info is the state of a timer.
type Info struct {
	Interval time.Duration // of a Tick; 0 for After
	Runs     int64         // calls of the function that have begun
	Left     time.Duration // until the next call; 0 when it is due or the timer is not pending
	Pending  bool          // there will be another call, unless the timer is cleared
}

// After has fn called once, d from now. It is never called early; when the loop is on time, it is
// called in the first iteration in which d has passed, also if that is the iteration after the one
// the timer was set in. (Swoole would be a round late there.)
//
// The timer ends when ctx is done. After fails when d <= 0 or ctx is done already, with
// runtime.ErrNoRuntime, and with runtime.ErrShutdown when the runtime shuts down.
func After(ctx context.Context, d time.Duration, fn func(ctx context.Context)) (*Timer, error) {
	t, err := set(ctx, d, 0, fn)
	if err != nil {
		return nil, fmt.Errorf("event: after: %w", err)
	}
	return t, nil
}

// Tick has fn called every interval, first one interval from now. The ticks don't drift: the n-th
// is due n intervals from now. Ticks that the loop was too busy for are skipped, not made up for.
// But a tick doesn't wait for the coroutine of the one before: if that waits for longer than an
// interval, several calls of fn are under way.
//
// The timer ends when ctx is done. Tick fails when every <= 0 or ctx is done already, with
// runtime.ErrNoRuntime, and with runtime.ErrShutdown when the runtime shuts down.
//
// fn can end the timer by cancelling ctx; or by [Timer.Clear] if Tick was called on the loop, so
// that the timer is known before fn is called first.
func Tick(ctx context.Context, every time.Duration, fn func(ctx context.Context)) (*Timer, error) {
	t, err := set(ctx, every, every, fn)
	if err != nil {
		return nil, fmt.Errorf("event: tick: %w", err)
	}
	return t, nil
}

// set makes a timer that is due d from now and then, if every isn't 0, every so often.
func set(ctx context.Context, d, every time.Duration, fn func(context.Context)) (*Timer, error) {
	if d <= 0 {
		return nil, fmt.Errorf("interval %v is not positive", d)
	}
	if fn == nil {
		return nil, errNoFunction
	}
	home, err := sched.HomeFor(ctx)
	if err != nil {
		return nil, err
	}
	reg, err := registryOf(home.Runtime())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	due := clock.Add(clock.Now(), d)
	t := &Timer{reg: reg, home: home, ctx: ctx, fn: fn, every: every, due: due}
	if err := reg.addTimer(t); err != nil {
		return nil, err
	}
	t.follow()
	if err := run(home, t.arm); err != nil {
		t.Clear()
		return nil, err
	}
	return t, nil
}

// follow sees to it that the timer is cleared when ctx is done.
func (t *Timer) follow() {
	if t.ctx.Done() == nil {
		return
	}
	unhook := context.AfterFunc(t.ctx, func() { t.Clear() })
	t.reg.mu.Lock()
	pending := t.pending()
	if pending {
		t.unhook = unhook
	}
	t.reg.mu.Unlock()
	if !pending { // cleared since it was added
		unhook()
	}
}

// arm sets the loop's timer. On the loop.
func (t *Timer) arm() {
	t.reg.mu.Lock()
	defer t.reg.mu.Unlock()
	if t.pending() {
		t.home.Loop().InitTimer(&t.timer, (*timerTask)(t))
		t.timer.ResetClock(t.due)
	}
}

func (t *Timer) disarm() { t.timer.Stop() }

// pending reports whether the timer has neither ended nor been cleared. With reg.mu held.
func (t *Timer) pending() bool { return t.reg.timers[t.id] == t }

// timerTask is what the loop's timer runs.
type timerTask Timer

func (task *timerTask) Run() {
	t := (*Timer)(task)
	// What follows ctx comes by way of another goroutine, and may not be here yet.
	if t.ctx.Err() != nil {
		t.Clear()
		return
	}
	if !t.begin() {
		return
	}
	defer t.reg.rt.Release()
	start(t.ctx, t.reg.rt.Logger(), t.fn)
}

// begin counts a call of fn and sets the next time or ends the timer. If it returns true, the
// runtime is retained, once, until fn has been started.
func (t *Timer) begin() bool {
	t.reg.mu.Lock()
	if !t.pending() {
		t.reg.mu.Unlock()
		return false
	}
	t.runs++
	if t.every > 0 {
		t.due = clock.NextTick(t.due, t.every, clock.Now())
		t.timer.ResetClock(t.due)
		t.reg.rt.Retain()
		t.reg.mu.Unlock()
		return true
	}
	unhook := t.end() // what the timer has retained is now the caller's to release
	t.reg.mu.Unlock()
	unhook()
	return true
}

// end takes the timer out of the registry. With reg.mu held; the caller calls unhook without it.
func (t *Timer) end() (unhook func() bool) {
	delete(t.reg.timers, t.id)
	if t.unhook == nil {
		return func() bool { return false }
	}
	return t.unhook
}

// ID returns the timer's number: from 1, in the order in which timers were set, never used again
// within a runtime.
func (t *Timer) ID() int64 { return t.id }

// Clear ends the timer: its function is not called any more, though a call that has begun goes on.
// It reports whether the timer was pending: false when it was cleared before, or when it was an
// After whose function has been called. It may be called within the function.
func (t *Timer) Clear() bool {
	t.reg.mu.Lock()
	if !t.pending() {
		t.reg.mu.Unlock()
		return false
	}
	unhook := t.end()
	t.reg.mu.Unlock()
	unhook()
	if t.home.Here() {
		t.disarm()
	} else {
		t.home.Loop().Post(t.disarm) // a loop that has closed fires no timer
	}
	t.reg.rt.Release()
	return true
}

// Info returns the timer's state, which may change at once.
func (t *Timer) Info() Info {
	t.reg.mu.Lock()
	defer t.reg.mu.Unlock()
	info := Info{Interval: t.every, Runs: t.runs, Pending: t.pending()}
	if info.Pending {
		info.Left = max(0, t.due-clock.Now())
	}
	return info
}

// Clear is [Timer.Clear] for the pending timer with that ID; without such a timer it returns false.
// The timer is looked for in the runtime of the calling coroutine, or else of ctx; this goes for
// the other functions here, too.
func Clear(ctx context.Context, id int64) bool {
	if r := lookup(ctx); r != nil {
		if t := r.timer(id); t != nil {
			return t.Clear()
		}
	}
	return false
}

// ClearAll clears all timers of the runtime and returns how many there were.
func ClearAll(ctx context.Context) int {
	n := 0
	for _, t := range List(ctx) {
		if t.Clear() {
			n++
		}
	}
	return n
}

// Exists reports whether a timer with that ID is pending.
func Exists(ctx context.Context, id int64) bool {
	r := lookup(ctx)
	return r != nil && r.timer(id) != nil
}

// List returns the pending timers of the runtime, by ID.
func List(ctx context.Context) []*Timer {
	r := lookup(ctx)
	if r == nil {
		return nil
	}
	return r.listTimers()
}
