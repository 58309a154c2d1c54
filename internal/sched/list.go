package sched

import (
	"fmt"
	"slices"
)

// Info describes a coroutine at a moment.
type Info struct {
	ID     int64
	Parent int64  // -1 = none
	Loop   string // name of its loop
	State  string // "running", or what it waits for: "sleep", "channel pop", "socket recv"
}

func (i Info) String() string {
	return fmt.Sprintf("coroutine#%d on %s: %s", i.ID, i.Loop, i.State)
}

// List describes all coroutines that have not ended.
func (rt *Runtime) List() []Info {
	var all []Info
	for _, s := range rt.schedulers {
		all = s.list(all)
	}
	return all
}

// list appends a description of each coroutine.
func (s *scheduler) list(all []Info) []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := len(all)
	all = slices.Grow(all, s.live)
	for co := s.first; co != nil; co = co.next {
		info := Info{ID: co.id, Parent: co.Parent(), Loop: s.loop.Name(), State: co.describe()}
		all = append(all, info)
	}
	slices.Reverse(all[others:])
	return all
}

// waitsFor notes what the coroutine waits for from now on; nil for one that has started or woken
// another and runs, though it isn't the one that runs now. It is nearly always what it was before,
// and an atomic store takes longer than looking.
func (co *Coroutine) waitsFor(reason *Reason) {
	if co.reason.Load() != reason {
		co.reason.Store(reason)
	}
}

// describe says what the coroutine does. With sched.mu held; any goroutine.
func (co *Coroutine) describe() string {
	reason := co.reason.Load()
	if reason == nil || co.sched.running.Load() == co.worker.id.Load() {
		return "running"
	}
	return reason.name
}

// Stats are a runtime's figures.
type Stats struct {
	Coroutines int   // that have not ended
	Created    int64 // so far
	Workers    int   // goroutines that coroutines run on, idle ones included
	Awaiting   int   // goroutines of Await, idle ones included
}

// Stats returns the runtime's figures.
func (rt *Runtime) Stats() Stats {
	st := Stats{Created: rt.lastID.Load()}
	for _, s := range rt.schedulers {
		s.mu.Lock()
		st.Coroutines += s.live
		s.mu.Unlock()
		st.Workers += int(s.workers.Load())
	}
	rt.pool.mu.Lock()
	st.Awaiting = rt.pool.goroutines
	rt.pool.mu.Unlock()
	return st
}
