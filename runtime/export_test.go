package runtime

import "time"

// HurryDeadlock shortens the times of the check for deadlocks. Call what it returns to restore
// them.
func HurryDeadlock(firstCheck, grace time.Duration) (restore func()) {
	wasFirst, wasGrace := firstDeadlockCheck, deadlockGrace
	firstDeadlockCheck, deadlockGrace = firstCheck, grace
	return func() { firstDeadlockCheck, deadlockGrace = wasFirst, wasGrace }
}

// HurryForcedEnd shortens the time that coroutines have when a Shutdown ends them by force. Call
// what it returns to restore it.
func HurryForcedEnd(grace time.Duration) (restore func()) {
	was := forcedGrace
	forcedGrace = grace
	return func() { forcedGrace = was }
}

// SwitchTo switches to a coroutine that waits in Suspend, on the caller's loop, and returns when that waits again or has ended.
func SwitchTo(co *Coroutine) {
	if co.suspended.CompareAndSwap(true, false) {
		co.waiter.WakeNow()
	}
}

// JoinsOf returns how many calls of Join a coroutine remembers.
func JoinsOf(co *Coroutine) int {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.rare == nil {
		return 0
	}
	return co.rare.joins.length
}

// FollowersOf returns how many contexts are registered with that of the runtime.
func FollowersOf(rt *Runtime) int {
	rt.root.mu.Lock()
	defer rt.root.mu.Unlock()
	return len(rt.root.after) + len(rt.root.orphans.all)
}

// FollowersOfCoroutine returns how many contexts are registered with that of a coroutine.
func FollowersOfCoroutine(co *Coroutine) int {
	co.ctx.mu.Lock()
	defer co.ctx.mu.Unlock()
	if co.ctx.shared == nil {
		return 0
	}
	return len(co.ctx.shared.after) + len(co.ctx.shared.orphans.all)
}

// SignalWaits returns how many wait for a signal.
func SignalWaits(rt *Runtime) int {
	rt.signals.mu.Lock()
	defer rt.signals.mu.Unlock()
	return len(rt.signals.waiting)
}
