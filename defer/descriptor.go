package event

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Add has read called whenever the file descriptor is readable, and write whenever it is writable;
// either may be nil. Readable includes the end of the data, and an error on the descriptor counts
// as both.
//
// The watch is level-triggered: a function that returns and has left the descriptor as it was is
// called again in the next iteration of the loop. It should read or write until EAGAIN, or once;
// the descriptor should be non-blocking. A function is not called again while a call of it is still
// under way, so it may wait in the middle of its work. (Swoole would call it again and again.) read
// is called before write.
//
// Before fd is closed, it must be taken out with [Del]: the number may soon be another file's. Add,
// Set and Del don't touch fd itself, nor close it. The watch ends when ctx is done.
//
// Add fails with eventloop.ErrRegistered when some loop of the process watches fd already, also on
// behalf of a socket; with the error of epoll_ctl(2), EPERM for regular files; when ctx is done
// already; with runtime.ErrNoRuntime; and with runtime.ErrShutdown when the runtime shuts down.
func Add(ctx context.Context, fd int, read, write func(ctx context.Context)) error {
	if read == nil && write == nil {
		return fmt.Errorf("event: add descriptor %d: %w", fd, errNoFunction)
	}
	if err := add(ctx, fd, read, write); err != nil {
		return fmt.Errorf("event: add descriptor %d: %w", fd, err)
	}
	return nil
}

func add(ctx context.Context, fd int, read, write func(context.Context)) error {
	home, err := sched.HomeFor(ctx)
	if err != nil {
		return err
	}
	reg, err := registryOf(home.Runtime())
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &watch{reg: reg, ctx: ctx, fd: fd, read: direction{fn: read}, write: direction{fn: write}}
	if err := w.register(home.Loop()); err != nil {
		return err
	}
	w.follow()
	return nil
}

// Set replaces both functions of a descriptor that was added; nil means that fd is not watched in
// that direction any more. A call of the former function that is under way goes on, and the new one
// is not called before it ends. The functions get their contexts from that of Add.
//
// Set fails with eventloop.ErrNotRegistered when fd was not added, in the runtime of the calling
// coroutine or else of ctx, and when both are nil.
func Set(ctx context.Context, fd int, read, write func(ctx context.Context)) error {
	if read == nil && write == nil {
		return fmt.Errorf("event: set descriptor %d: %w", fd, errNoFunction)
	}
	w := findWatch(ctx, fd)
	if w == nil {
		return fmt.Errorf("event: set descriptor %d: %w", fd, eventloop.ErrNotRegistered)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read.fn, w.write.fn = read, write
	if err := w.rearm(); err != nil {
		return fmt.Errorf("event: set descriptor %d: %w", fd, err)
	}
	return nil
}

// Del ends the watch of a descriptor. Its functions are not called any more; called elsewhere than
// on the loop that watches fd, a call may be just about to begin. A call that is under way goes on;
// it may be the caller. Del fails with eventloop.ErrNotRegistered as [Set] does.
func Del(ctx context.Context, fd int) error {
	if w := findWatch(ctx, fd); w != nil && w.remove() {
		return nil
	}
	return fmt.Errorf("event: delete descriptor %d: %w", fd, eventloop.ErrNotRegistered)
}

// Isset reports in which directions the descriptor is watched.
func Isset(ctx context.Context, fd int) (read, write bool) {
	w := findWatch(ctx, fd)
	if w == nil {
		return false, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.read.fn != nil, w.write.fn != nil
}

func findWatch(ctx context.Context, fd int) *watch {
	r := lookup(ctx)
	if r == nil {
		return nil
	}
	return r.watch(fd)
}

// watch is a descriptor that was added.
//
// The kernel reports a level as long as it lasts, so while a call is under way its direction is not
// asked for. Asking anew when the call has ended reports what is there by then. A call that ends
// before its coroutine waits, as most do, costs no system call.
type watch struct {
	reg        *registry
	ctx        context.Context
	fd         int
	descriptor eventloop.Descriptor

	mu          sync.Mutex // taken before reg.mu
	read, write direction
	armed       eventloop.Events // what the kernel was asked for
	removed     bool
	unhook      func() bool // ends following ctx
}

// direction is guarded by the watch's mu.
type direction struct {
	fn   func(context.Context)
	busy bool // a call is under way
}

// register adds the watch to the registry and to the loop.
func (w *watch) register(loop *eventloop.Loop) error {
	w.mu.Lock() // until all is done: others may find it by the registry, and events may come
	defer w.mu.Unlock()
	if err := w.reg.addWatch(w); err != nil {
		return err
	}
	w.armed = w.wanted()
	err := loop.Register(&w.descriptor, w.fd, w.armed, w)
	if err == nil {
		return nil
	}
	w.removed = true
	w.reg.dropWatch(w)
	if errors.Is(err, eventloop.ErrClosed) {
		return runtime.ErrShutdown
	}
	return err
}

// follow sees to it that the watch ends when ctx is done.
func (w *watch) follow() {
	if w.ctx.Done() == nil {
		return
	}
	unhook := context.AfterFunc(w.ctx, func() { w.remove() })
	w.mu.Lock()
	removed := w.removed
	w.unhook = unhook
	w.mu.Unlock()
	if removed {
		unhook()
	}
}

// remove ends the watch and reports whether it was there.
func (w *watch) remove() bool {
	w.mu.Lock()
	if w.removed {
		w.mu.Unlock()
		return false
	}
	w.removed = true
	w.descriptor.Unregister()
	unhook := w.unhook
	w.mu.Unlock()
	if unhook != nil {
		unhook()
	}
	w.reg.dropWatch(w)
	return true
}

// wanted returns what the kernel is to be asked for. With mu held.
func (w *watch) wanted() eventloop.Events {
	var events eventloop.Events
	if w.read.fn != nil && !w.read.busy {
		events |= eventloop.Readable
	}
	if w.write.fn != nil && !w.write.busy {
		events |= eventloop.Writable
	}
	if events == 0 {
		// Errors and hang-ups can't be switched off, but they need not be reported over and over.
		return eventloop.EdgeTriggered
	}
	return events
}

// rearm asks the kernel for what is wanted now. With mu held.
func (w *watch) rearm() error {
	wanted := w.wanted()
	if wanted == w.armed {
		return nil
	}
	w.armed = wanted
	return w.descriptor.Modify(wanted)
}

// HandleEvents is called by the loop.
func (w *watch) HandleEvents(events eventloop.Events) {
	// What follows ctx comes by way of another goroutine, and may not be here yet.
	if w.ctx.Err() != nil {
		w.remove()
		return
	}
	const both = eventloop.Hangup | eventloop.Error
	if events&(eventloop.Readable|both) != 0 {
		w.call(&w.read)
	}
	if events&(eventloop.Writable|both) != 0 {
		w.call(&w.write)
	}
	w.rearmAfter(nil)
}

// call starts the function of a direction, unless it still runs.
func (w *watch) call(d *direction) {
	w.mu.Lock()
	fn := d.fn
	if w.removed || fn == nil || d.busy {
		w.mu.Unlock()
		return
	}
	d.busy = true
	w.reg.rt.Retain() // the watch may be removed before the coroutine counts
	w.mu.Unlock()
	defer w.reg.rt.Release()
	started := start(w.ctx, w.reg.quiet, func(ctx context.Context) {
		defer w.rearmAfter(d)
		fn(ctx)
	})
	if !started {
		w.rearmAfter(d)
	}
}

// rearmAfter notes that the call of ended, if not nil, is over, and asks the kernel for what is
// wanted now. If that fails and the watch is still there, the descriptor has been closed: the watch
// is over.
func (w *watch) rearmAfter(ended *direction) {
	w.mu.Lock()
	if ended != nil {
		ended.busy = false
	}
	err := w.rearm()
	w.mu.Unlock()
	if err != nil && w.remove() {
		w.reg.rt.Logger().
			Error("event: descriptor was closed before Del", zap.Int("descriptor", w.fd), zap.Error(err))
	}
}
