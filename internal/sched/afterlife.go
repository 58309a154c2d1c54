package sched

import (
	"context"
	goruntime "runtime"
	"slices"
	"sync/atomic"
	"unsafe"
	"weak"
)

// afterlife closes the Done channel of the context of a coroutine that has ended, when the context
// that it comes from is done.
//
// Two promises meet here. Whoever received from Done before the end, and has nothing in hand but
// the channel, must still hear of the cancellation. And a context that lives as long as the
// process must not collect the channels of the very many coroutines that came and went: nobody
// tells when a channel is needed no more. Only the garbage collector knows. So what is registered
// with the base refers to the channel weakly. A goroutine that receives from a channel keeps it
// alive, as its stack refers to it.
//
// A channel is a pointer to a heap object, which is all that package weak and AddCleanup need;
// unsafe says so to the compiler.
type afterlife struct {
	done   weak.Pointer[byte]
	closed atomic.Bool // done is closed, or is about to be: whoever sets it does that
}

func newAfterlife(done chan struct{}) *afterlife {
	return &afterlife{done: weak.Make(*(**byte)(unsafe.Pointer(&done)))}
}

// follow makes the channel close when base is done. Contexts of this package keep a list, see
// orphans; others are hooked, and a cleanup of the channel takes the hook out.
func (a *afterlife) follow(base context.Context) {
	switch base := base.(type) {
	case *rootContext:
		base.adopt(a)
	case *coroutineContext:
		base.adopt(a)
	default:
		if object := a.done.Value(); object != nil {
			stop := context.AfterFunc(base, a.end)
			goruntime.AddCleanup(object, func(stop func() bool) { stop() }, stop)
		}
	}
}

// end closes the channel, if it is still there and nobody has closed it.
func (a *afterlife) end() {
	if object := a.done.Value(); object != nil && a.closed.CompareAndSwap(false, true) {
		close(*(*chan struct{})(unsafe.Pointer(&object)))
	}
}

func (a *afterlife) over() bool { return a.closed.Load() || a.done.Value() == nil }

// orphans are the contexts of ended coroutines that follow one of this package's. It is swept
// whenever it has grown to twice of what a sweep has left, so it is no longer than what the
// garbage collector has left.
type orphans struct {
	all   []*afterlife
	sweep int // the length at which it is swept next
}

// minSweep is the shortest list worth sweeping.
const minSweep = 64

func (o *orphans) add(a *afterlife) {
	if len(o.all) >= max(o.sweep, minSweep) {
		o.all = slices.DeleteFunc(o.all, (*afterlife).over)
		o.sweep = 2 * len(o.all)
	}
	o.all = append(o.all, a)
}
