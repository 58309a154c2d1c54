package runtime

import "time"

// HurryDeadlock shortens the times of the check for deadlocks. Call what it returns to restore them.
func HurryDeadlock(firstCheck, grace time.Duration) (restore func()) {
	wasFirst, wasGrace := firstDeadlockCheck, deadlockGrace
	firstDeadlockCheck, deadlockGrace = firstCheck, grace
	return func() { firstDeadlockCheck, deadlockGrace = wasFirst, wasGrace }
}

// HurryForcedEnd shortens the time that coroutines have when a Shutdown ends them by force. Call what it returns to restore it.
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
