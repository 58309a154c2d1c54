package sched

import (
	"context"
	"errors"
	"iter"
	"runtime/debug"
	"sync/atomic"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/goroutine"
)

// worker is a goroutine that coroutines run on, one after the other. It is an iter.Pull coroutine:
// next switches to it, on the same thread and without the scheduler, and comes back when what runs
// there yields or ends. Workers are kept for the next coroutine, with the stack they have grown.
type worker struct {
	next     func() (struct{}, bool)
	yield    func(struct{}) bool
	id       atomic.Uintptr // goroutine.ID; another worker's while its coroutine is there
	sp       uintptr        // where on its stack the coroutine has parked; not to be followed
	co       *Coroutine     // that runs on it; nil while it is idle
	fn       func(context.Context)
	detour   *detour // that it runs for a coroutine of another worker
	dead     bool    // its goroutine has ended, or ends when it is resumed
	deep     bool    // its stack has grown: kept for Detour and GoDeep
	detoured bool    // its coroutine is on a detour, on another worker
	panicked bool    // its coroutine's function
}

// errGoexit is what a worker panics with when a coroutine called runtime.Goexit: iter.Pull would
// otherwise carry the Goexit over to whoever resumed the coroutine, and the loop's goroutine would
// end. As a panic it can be stopped there.
var errGoexit = errors.New("runtime: coroutine called runtime.Goexit")

func newWorker() *worker {
	w := new(worker)
	// The goroutine's function is this one, and not a method, whose value would have a frame of its
	// own: parked coroutines have 2 KiB for everything.
	w.next, _ = iter.Pull(func(yield func(struct{}) bool) { // ended by dead, not by stop
		w.yield = yield
		w.id.Store(uintptr(goroutine.Current()))
		w.co.sched.running.Store(w.id.Load()) // resume could not know it the first time
		for !w.dead {
			if w.detour != nil {
				w.runDetour(w.detour)
			} else {
				w.runFunction()
				w.finish()
			}
			if !w.dead {
				yield(struct{}{})
			}
		}
	})
	return w
}

// runFunction runs the function of the worker's coroutine, and catches its panic. After a panic or
// a Goexit it doesn't return. It is a frame on the stack of every parked coroutine, so it does
// nothing that finish can do.
func (w *worker) runFunction() {
	co := w.co
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			// A Goexit may be under way, too, if it was a deferred call that has panicked. There is
			// no telling, so the goroutine ends in any case.
			co.uncommon().panicked, w.panicked = asPanicError(value), true
			w.dead = true
			w.finish()
			panic(errGoexit)
		}
		w.exited(co)
	}()
	fn := w.fn
	w.fn = nil
	fn(&co.ctx)
	returned = true
}

// finish is what follows runFunction. After a Goexit, by a deferred function or a handler of
// panics, it doesn't return either.
func (w *worker) finish() {
	co := w.co
	returned := false
	defer func() {
		if !returned {
			w.exited(co)
		}
	}()
	if w.panicked {
		w.panicked = false
		co.sched.rt.panicked(co, co.uncommon().panicked)
	}
	w.end(co)
	returned = true
}

// exited is called in a deferred function after a Goexit: it ends the coroutine as it should be,
// and the worker's goroutine with it.
func (w *worker) exited(co *Coroutine) {
	co.uncommon().goexit = true
	if co.state != stateEnded {
		w.dead = true
		w.end(co)
	}
	panic(errGoexit)
}

// end runs the coroutine's deferred functions and ends it, even if one of them calls Goexit: then
// the rest is run while that unwinds.
func (w *worker) end(co *Coroutine) {
	over := false
	defer func() {
		if !over {
			w.dead = true
			w.end(co)
		}
	}()
	co.exit()
	over = true
}

// switchTo continues the worker's coroutine until it parks or ends.
func (w *worker) switchTo(loop *eventloop.Loop) {
	defer func() {
		if value := recover(); value != nil && value != errGoexit {
			// A worker catches the panics of coroutines, so this one is a fault of this package.
			loop.ReportPanic(value, debug.Stack())
		}
	}()
	w.next()
}
