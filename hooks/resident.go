package hooks

import (
	"context"
	goruntime "runtime"
	"sync"
	"weak"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/socket"
)

// # What nobody closes
//
// A Conn, Listener, PacketConn or Stream that the program has forgotten is closed when the garbage collector finds it, as those of package net are, and one
// that is open when its runtime has ended is closed then: nothing could wait on it any more. For both somebody must know the socket without keeping the Conn
// alive. So nothing that lasts longer than a call refers to the Conn: the loop knows the descriptor alone, the runtime a resident, and timers, and the end of
// the runtime, find the Conn by a weak pointer. Who waits in a call keeps the Conn by the stack that it waits on; the calls give something of the Conn back
// when they have waited, which has the compiler keep it until then.

// resident is a socket of this package that lives on a runtime.
type resident struct {
	socket *socket.Socket
	owner  owner
	house  *residents

	prev, next *resident // guarded by house.mu: in its list; nil if it is in none

	cleanup goruntime.Cleanup // by which the garbage collector tells of the owner's end
}

// owner is what a resident belongs to: a Conn, for one.
type owner interface {
	// shutdownBegins says that whoever waits has to stop.
	shutdownBegins()
	// runtimeEnded says that the socket is about to be closed, as the loops have ended.
	runtimeEnded()
}

// ownerOf has T own something by its pointer.
type ownerOf[T any] interface {
	*T
	owner
}

// weakly is an owner that isn't kept alive.
type weakly[T any, P ownerOf[T]] struct{ pointer weak.Pointer[T] }

func (w weakly[T, P]) shutdownBegins() {
	if p := P(w.pointer.Value()); p != nil {
		p.shutdownBegins()
	}
}

func (w weakly[T, P]) runtimeEnded() {
	if p := P(w.pointer.Value()); p != nil {
		p.runtimeEnded()
	}
}

// moveIn has the socket, which has its descriptor, closed when nobody refers to its owner any more, and when its runtime has ended. leave ends that.
func moveIn[T any, P ownerOf[T]](s *socket.Socket, of P) *resident {
	home, _ := s.Home()
	r := &resident{socket: s, owner: weakly[T, P]{weak.Make((*T)(of))}, house: residentsOf(home.Runtime())}
	r.cleanup = goruntime.AddCleanup((*T)(of), (*resident).forgotten, r)
	r.house.admit(r)
	return r
}

// leave is for who closes the socket itself. It may be called more than once; the owner must be alive.
func (r *resident) leave() {
	r.cleanup.Stop()
	r.house.dismiss(r)
}

// forgotten is called when the owner is gone.
func (r *resident) forgotten() {
	r.house.dismiss(r)
	r.socket.Close()
}

// residents are those of one runtime.
type residents struct {
	rt *sched.Runtime

	mu       sync.Mutex
	list     resident // guarded by mu: the head of a ring
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

// admit takes a resident in. If its runtime shuts down, or has ended, the resident is treated as those were that have seen it.
func (h *residents) admit(r *resident) {
	h.mu.Lock()
	stopping, ended := h.stopping, h.ended
	if !ended {
		r.prev, r.next = &h.list, h.list.next
		r.prev.next, r.next.prev = r, r
	}
	h.mu.Unlock()
	if stopping {
		r.owner.shutdownBegins()
	}
	if ended {
		r.end()
	}
}

// dismiss takes a resident out, if it is still there.
func (h *residents) dismiss(r *resident) {
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
	var all []*resident
	for r := h.list.next; r != &h.list; r = r.next {
		all = append(all, r)
	}
	h.mu.Unlock()
	for _, r := range all {
		r.owner.shutdownBegins()
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
func (h *residents) first() *resident {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.list.next == &h.list {
		return nil
	}
	return h.list.next
}

// end closes a socket whose loop has ended.
func (r *resident) end() {
	r.owner.runtimeEnded()
	// From its first use elsewhere than on its loop on, a descriptor is changed by atomic operations only. Where there is no loop any more, that has to begin before
	// closing: others may be using it just now.
	r.socket.Control(func(uintptr) {})
	r.socket.Close()
}
