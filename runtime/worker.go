package runtime

import (
	"context"
	"errors"
	"iter"
	"runtime/debug"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/goroutine"
)

// worker is a goroutine that coroutines run on, one after the other. It is an iter.Pull coroutine: next switches to it, on the same
// thread and without the scheduler, and comes back when what runs there yields or ends. Workers are kept for the next coroutine, with
// the stack they have grown.
type worker struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	id    goroutine.ID
	sp    uintptr    // a place on its stack, near where the coroutine has parked; not to be followed, as stacks move
	co    *Coroutine // that runs on it; nil while it is idle
	fn    func(context.Context)
	trip  *trip // that it makes for a coroutine of another worker
	dead  bool  // its goroutine has ended, or ends when it is resumed
	roomy bool  // kept for Detour
	away  bool  // its coroutine is on a detour
}

// errGoexit is what a worker panics with when a coroutine called runtime.Goexit: iter.Pull would otherwise carry the Goexit over to
// whoever resumed the coroutine, and the loop's goroutine would end. As a panic it can be stopped there.
var errGoexit = errors.New("runtime: coroutine called runtime.Goexit")

func newWorker() *worker {
	w := new(worker)
	// The goroutine's function is this one, and not a method, whose value would have a frame of its own: parked coroutines have 2 KiB for everything.
	w.next, _ = iter.Pull(func(yield func(struct{}) bool) { // ended by dead, not by stop
		w.yield, w.id = yield, goroutine.Current()
		w.co.sched.running.Store(uintptr(w.id)) // resume could not know it the first time
		for !w.dead {
			if w.trip != nil {
				w.travel(w.trip)
			} else {
				w.runCoroutine()
			}
			if !w.dead {
				yield(struct{}{})
			}
		}
	})
	return w
}

// runCoroutine runs the worker's coroutine to its end. After a Goexit it doesn't return: the deferred function ends the coroutine as it
// should be, and the worker's goroutine with it.
func (w *worker) runCoroutine() {
	co := w.co
	returned := false
	defer func() {
		if returned {
			return
		}
		co.goexit = true
		if co.state != stateEnded {
			w.dead = true
			w.end(co)
		}
		panic(errGoexit)
	}()
	fn := w.fn
	w.fn = nil
	co.call(fn)
	w.end(co)
	returned = true
}

// end runs the coroutine's deferred functions and ends it, even if one of them calls Goexit: then the rest is run while that unwinds.
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
