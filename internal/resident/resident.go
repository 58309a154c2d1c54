// Package resident closes the sockets that a program has forgotten, and those that are open when
// their runtime has ended.
package resident

import (
	"context"
	goruntime "runtime"
	"sync"
	"weak"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/socket"
)

// # What nobody closes
//
// A Conn, Listener, PacketConn or Stream that the program has forgotten is closed when the garbage
// collector finds it, as those of package net are, and one that is open when its runtime has ended
// is closed then: nothing could wait on it any more. For both somebody must know the socket without
// keeping the Conn alive. So nothing that lasts longer than a call refers to the Conn: the loop
// knows the descriptor alone, the runtime a Resident, and timers, and the end of the runtime, find
// the Conn by a weak pointer. Who waits in a call keeps the Conn by the stack that it waits on; the
// calls give something of the Conn back when they have waited, which has the compiler keep it until
// then.

// Resident is a socket that lives on a runtime.
type Resident struct {
	socket *socket.Socket
	owner  Owner
	house  *residents

	prev, next *Resident // guarded by house.mu: in its list; nil if it is in none

	cleanup goruntime.Cleanup // by which the garbage collector tells of the owner's end
}

// Owner is what a resident belongs to: a Conn, for one.
type Owner interface {
	// ShutdownBegins says that whoever waits has to stop.
	ShutdownBegins()
	// RuntimeEnded says that the socket is about to be closed, as the loops have ended.
	RuntimeEnded()
}

// ownerOf has T own something by its pointer.
type ownerOf[T any] interface {
	*T
	Owner
}

// weakly is an owner that isn't kept alive.
type weakly[T any, P ownerOf[T]] struct{ pointer weak.Pointer[T] }

func (w weakly[T, P]) ShutdownBegins() {
	if p := P(w.pointer.Value()); p != nil {
		p.ShutdownBegins()
	}
}

func (w weakly[T, P]) RuntimeEnded() {
	if p := P(w.pointer.Value()); p != nil {
		p.RuntimeEnded()
	}
}

// MoveIn has the socket, which has its descriptor, closed when nobody refers to its owner any more,
// and when its runtime has ended. Leave ends that.
func MoveIn[T any, P ownerOf[T]](s *socket.Socket, of P) *Resident {
	home, _ := socket.House(s, house.Key{}).Home()
	r := &Resident{
		socket: s,
		owner:  weakly[T, P]{weak.Make((*T)(of))},
		house:  residentsOf(home.Runtime()),
	}
	r.cleanup = goruntime.AddCleanup((*T)(of), (*Resident).forgotten, r)
	r.house.admit(r)
	return r
}

// Leave is for who closes the socket itself. It may be called more than once; the owner must be
// alive.
func (r *Resident) Leave() {
	r.cleanup.Stop()
	r.house.dismiss(r)
}

// forgotten is called when the owner is gone.
func (r *Resident) forgotten() {
	r.house.dismiss(r)
	r.socket.Close()
}

// residents are those of one runtime.
type residents struct {
	rt *sched.Runtime

	mu       sync.Mutex
	list     Resident // guarded by mu: the head of a ring
	stopping bool     // guarded by mu: Shutdown has begun
	ended    bool     // guarded by mu: the loops have ended
}

// houses has the residents of each runtime that has, or had, some: *sched.Runtime to *residents.
var houses sync.Map

func residentsOf(rt *sched.Runtime) *residents {
	if found, ok := houses.Load(rt); ok {
		return found.(*residents)
	}
	made := &residents{rt: rt}
	made.list.prev, made.list.next = &made.list, &made.list
	if found, ok := houses.LoadOrStore(rt, made); ok {
		return found.(*residents)
	}
	context.AfterFunc(rt.Context(), made.stop)
	rt.AtEnd(made.end)
	return made
}

// admit takes a resident in. If its runtime shuts down, or has ended, the resident is treated as
// those were that have seen it.
func (h *residents) admit(r *Resident) {
	h.mu.Lock()
	stopping, ended := h.stopping, h.ended
	if !ended {
		r.prev, r.next = &h.list, h.list.next
		r.prev.next, r.next.prev = r, r
	}
	h.mu.Unlock()
	if stopping {
		r.owner.ShutdownBegins()
	}
	if ended {
		r.end()
	}
}

// dismiss takes a resident out, if it is still there.
func (h *residents) dismiss(r *Resident) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.next != nil {
		r.prev.next, r.next.prev = r.next, r.prev
		r.prev, r.next = nil, nil
	}
}

// stop is called when the runtime's Shutdown has begun.
func (h *residents) stop() {
	h.mu.Lock()
	h.stopping = true
	var all []*Resident
	for r := h.list.next; r != &h.list; r = r.next {
		all = append(all, r)
	}
	h.mu.Unlock()
	for _, r := range all {
		r.owner.ShutdownBegins()
	}
}

// end is called when the loops have ended.
func (h *residents) end() {
	houses.Delete(h.rt)
	h.stop() // unless that was done
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	for r := h.first(); r != nil; r = h.first() {
		h.dismiss(r)
		r.end()
	}
}

// first returns one of those that are left.
func (h *residents) first() *Resident {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.list.next == &h.list {
		return nil
	}
	return h.list.next
}

// end closes a socket whose loop has ended.
func (r *Resident) end() {
	r.owner.RuntimeEnded()
	// From its first use elsewhere than on its loop on, a descriptor is changed by atomic
	// operations only. Where there is no loop any more, that has to begin before closing: others
	// may be using it just now.
	socket.House(r.socket, house.Key{}).Control(func(uintptr) {})
	r.socket.Close()
}
