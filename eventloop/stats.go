package eventloop

import "sync/atomic"

// Stats are a loop's counters, which only grow, and what it has at the moment: Timers, Descriptors,
// Quiet.
type Stats struct {
	Iterations  uint64 // polls
	Sleeps      uint64 // polls that were allowed to block
	Wakeups     uint64 // wake-ups of the poll by Post and Close
	Events      uint64 // descriptors that polls reported ready
	Posted      uint64 // posted tasks run, or about to be
	Fired       uint64 // timers fired
	Deferred    uint64 // deferred functions run, or about to be
	Panics      uint64 // panics caught
	Goexits     uint64 // runtime.Goexit survived
	Stalls      uint64 // reports of the watchdog
	Timers      int    // timers set when the last poll began
	Descriptors int    // descriptors registered now
	Quiet       bool   // it sleeps, and nothing of its own could wake it: no timer, no posted task
}

type counters struct {
	iterations, sleeps, wakeups, events, posted, fired, deferred, panics, goexits, stalls atomic.Uint64

	// For the watchdog. A user function runs if the two differ.
	turns atomic.Uint64 // user functions called
	ended atomic.Uint64 // turns when the last poll began

	timers      atomic.Int64
	descriptors atomic.Int64
}

// Stats returns the loop's counters. It may be called from any goroutine; while the loop runs, the
// figures are of slightly different moments.
func (l *Loop) Stats() Stats {
	c := &l.counters
	return Stats{
		Iterations:  c.iterations.Load(),
		Sleeps:      c.sleeps.Load(),
		Wakeups:     c.wakeups.Load(),
		Events:      c.events.Load(),
		Posted:      c.posted.Load(),
		Fired:       c.fired.Load(),
		Deferred:    c.deferred.Load(),
		Panics:      c.panics.Load(),
		Goexits:     c.goexits.Load(),
		Stalls:      c.stalls.Load(),
		Timers:      int(c.timers.Load()),
		Descriptors: int(c.descriptors.Load()),
		Quiet:       l.quiet(),
	}
}
