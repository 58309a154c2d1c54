package sched

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
