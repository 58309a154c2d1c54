package runtime

import "fmt"

// Info describes a coroutine at a moment.
type Info struct {
	ID     int64
	Parent int64  // -1 = none
	Loop   string // name of its loop
	State  string // "running", or what it waits for: "sleep", "channel pop", "socket recv"
}

func (i Info) String() string { return fmt.Sprintf("coroutine#%d on %s: %s", i.ID, i.Loop, i.State) }

// List returns all coroutines that have not ended, in the order of creation for each loop. It asks each loop in turn, so it must not be
// called on a loop: there, and when a loop doesn't answer because it is being closed, the coroutines of other loops are missing.
func (rt *Runtime) List() []Info {
	rt.mu.Lock()
	started := rt.phase != phaseNew
	rt.mu.Unlock()
	if !started {
		return nil // nobody would answer
	}
	here, _ := whereAmI(nil)
	var all []Info
	for _, s := range rt.schedulers {
		switch {
		case here == s:
			all = append(all, s.list()...)
		case here == nil:
			answer := make(chan []Info, 1)
			if s.loop.Post(func() { answer <- s.list() }) == nil {
				all = append(all, <-answer...)
			}
		}
	}
	return all
}

// list describes the coroutines of one loop. On the loop.
func (s *scheduler) list() []Info {
	var all []Info
	for co := s.first; co != nil; co = co.next {
		all = append(all, Info{ID: co.id, Parent: co.Parent(), Loop: s.loop.Name(), State: co.describe()})
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all
}

func (co *Coroutine) describe() string {
	if co.state == stateParked && co.reason != nil {
		return co.reason.name
	}
	return "running"
}

// Stats are a runtime's figures.
type Stats struct {
	Coroutines int   // that have not ended
	Created    int64 // so far
	Workers    int   // goroutines that coroutines run on, idle ones included
	Awaiting   int   // goroutines of Await, idle ones included
}

// Stats returns the runtime's figures. The figures are of slightly different moments.
func (rt *Runtime) Stats() Stats {
	st := Stats{Created: rt.lastID.Load()}
	for _, s := range rt.schedulers {
		st.Coroutines += int(s.live.Load())
		st.Workers += int(s.workers.Load())
	}
	rt.pool.mu.Lock()
	st.Awaiting = rt.pool.goroutines
	rt.pool.mu.Unlock()
	return st
}
