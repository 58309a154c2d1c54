package runtime

import (
	"context"
	goruntime "runtime"
	"sync/atomic"
	"unsafe"
	"weak"
)

// afterlife closes the Done channel of the context of a coroutine that has ended, when the context that it comes from is done.
//
// Two promises meet here. Whoever received from Done before the end, and has nothing in hand but the channel, must still hear
// of the cancellation. And a context that lives as long as the process must not collect the channels of the very many coroutines
// that came and went: nobody tells when a channel is needed no more. Only the garbage collector knows. So what is registered
// with the base refers to the channel weakly, and is taken out by a cleanup of the channel. A goroutine that receives from a
// channel keeps it alive, as its stack refers to it.
//
// A channel is a pointer to a heap object, which is all that package weak and AddCleanup need; unsafe says so to the compiler.
type afterlife struct {
	done    weak.Pointer[byte]
	closed  atomic.Bool // done is closed, or is about to be: whoever sets it does that
	stop    func() bool
	cleanup goruntime.Cleanup
}

// liveOn makes done close when base is done.
func liveOn(base context.Context, done chan struct{}) *afterlife {
	object := *(**byte)(unsafe.Pointer(&done))
	a := &afterlife{done: weak.Make(object)}
	a.stop = context.AfterFunc(base, a.baseDone)
	a.cleanup = goruntime.AddCleanup(object, func(stop func() bool) { stop() }, a.stop)
	return a
}

func (a *afterlife) baseDone() {
	if object := a.done.Value(); object != nil && a.closed.CompareAndSwap(false, true) {
		close(*(*chan struct{})(unsafe.Pointer(&object)))
	}
}

// end stops following the base. It reports whether done is still to be closed, which is the caller's then.
func (a *afterlife) end() bool {
	a.cleanup.Stop()
	a.stop()
	return a.closed.CompareAndSwap(false, true)
}
