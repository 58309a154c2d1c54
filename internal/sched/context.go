package sched

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/local"
)

type (
	coroutineKey struct{}
	runtimeKey   struct{}
)

// coroutineContext is the context of one coroutine, and part of it.
//
// It must be cheap for coroutines that only use it to wait, so it has no channel and no
// registration with the context it comes from until somebody asks for them. It must keep the
// promises of context.Context all the same: Done closes when the coroutine is cancelled or the
// context it comes from is, also after the coroutine's end, and contexts that derive from it are
// cancelled with it.
//
// A coroutine that is started with the bare context of another one on the same loop is linked into
// a tree (tied, child, sibling), by which Cancel finds it; the tree belongs to the loop and needs
// no lock. When it ends it leaves the tree, and its context follows the other one's from then on.
// In all other cases base is followed.
type coroutineContext struct {
	cause atomic.Pointer[error] // what waiting returns when it was cancelled; nil if not
	// base is where values, deadline and cancellation come from; never a bare context of the same
	// loop's coroutine.
	base context.Context
	co   *Coroutine

	mu     sync.Mutex
	shared *sharedContext // guarded by mu; nil until somebody asks for Done

	// The tree, on the loop.
	tied                        atomic.Pointer[Coroutine] // cancelled with it; fixed at the end
	child, sibling, prevSibling *Coroutine
}

// sharedContext is the part that is only there for those who use the context elsewhere than in the
// coroutine's own waits.
type sharedContext struct {
	done      chan struct{}
	after     map[*func()]struct{} // to call when it is cancelled
	unhook    func() bool          // ends following base; nil while it isn't followed
	afterlife *afterlife           // closes done after the coroutine's end; nil before
	orphans   orphans              // of coroutines that were tied to this one
}

func (c *coroutineContext) init(co *Coroutine, ctx context.Context) {
	c.co, c.base = co, ctx
	if own, ok := ctx.(*coroutineContext); ok && own.co.sched == co.sched {
		c.tied.Store(own.co)
		c.base = own.base
	}
}

// tie links the context into the tree. On the loop, when the coroutine starts.
func (c *coroutineContext) tie() {
	if c.co.sched.rt.stopping.Load() {
		c.cancel(ErrShutdown)
	}
	tied := c.tied.Load()
	for tied != nil && tied.state == stateEnded {
		if why := tied.ctx.cause.Load(); why != nil {
			c.cancel(*why)
		}
		tied = tied.ctx.tied.Load()
	}
	if c.tied.Store(tied); tied == nil {
		return
	}
	c.link(tied)
	if why := tied.ctx.cause.Load(); why != nil {
		c.cancel(*why)
	}
}

func (c *coroutineContext) link(parent *Coroutine) {
	c.tied.Store(parent)
	c.prevSibling, c.sibling = nil, parent.ctx.child
	if c.sibling != nil {
		c.sibling.ctx.prevSibling = c.co
	}
	parent.ctx.child = c.co
}

// ended takes the context out of the tree; its children are tied to what it was tied to. On the
// loop, when the coroutine ends.
func (c *coroutineContext) ended() {
	tied := c.tied.Load()
	if tied != nil {
		if c.prevSibling != nil {
			c.prevSibling.ctx.sibling = c.sibling
		} else {
			tied.ctx.child = c.sibling
		}
		if c.sibling != nil {
			c.sibling.ctx.prevSibling = c.prevSibling
		}
	}
	for child := c.child; child != nil; {
		next := child.ctx.sibling
		if tied != nil {
			child.ctx.link(tied)
		} else {
			child.ctx.tied.Store(nil)
			child.ctx.sibling, child.ctx.prevSibling = nil, nil
		}
		child = next
	}
	c.child, c.sibling, c.prevSibling = nil, nil, nil

	c.mu.Lock()
	defer c.mu.Unlock()
	c.co.over.Store(true)
	if c.shared != nil && tied != nil {
		c.shared.unfollow() // it is above that is followed from now on
	}
	c.refollow()
	if c.shared == nil {
		return
	}
	for _, a := range c.shared.orphans.all { // they stay here, too, for a Cancel after the end
		if !a.over() {
			a.follow(c.above())
		}
	}
}

// adopt makes a channel close when the context is cancelled.
func (c *coroutineContext) adopt(a *afterlife) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.Load() != nil {
		a.end()
		return
	}
	c.share().orphans.add(a)
	if c.co.over.Load() {
		a.follow(c.above())
	}
}

// cancel cancels the context, once. Any goroutine.
func (c *coroutineContext) cancel(err error) {
	if !c.mark(err) {
		return
	}
	s := c.co.sched
	if s.onLoop() {
		c.cancelled()
	} else {
		s.loop.Post(c.cancelled) // a loop that has closed has no coroutine left that would wait
	}
}

// mark is the part of cancel that wakes no coroutine. It reports whether the context wasn't
// cancelled before. Any goroutine.
func (c *coroutineContext) mark(err error) bool {
	c.mu.Lock()
	if !c.cause.CompareAndSwap(nil, &err) {
		c.mu.Unlock()
		return false
	}
	var after map[*func()]struct{}
	if s := c.shared; s != nil {
		if s.afterlife == nil {
			close(s.done)
		} else {
			s.afterlife.end()
		}
		for _, a := range s.orphans.all {
			a.end()
		}
		s.orphans.all = nil
		after, s.after = s.after, nil
		c.refollow()
	}
	c.mu.Unlock()
	for f := range after {
		(*f)()
	}
	return true
}

// cancelled is the part of cancel that is done on the loop.
func (c *coroutineContext) cancelled() {
	err := *c.cause.Load()
	for child := c.child; child != nil; child = child.ctx.sibling {
		child.ctx.cancel(err)
	}
	if c.co.own {
		c.co.interrupt(err)
	}
}

// failed returns the error of a coroutine that waits with its own context, nil if it may. It is
// inlined: see Waiter.Wait.
func (c *coroutineContext) failed() error {
	if _, root := c.base.(*rootContext); root && c.cause.Load() == nil {
		return nil // what cancels the base, the end of the runtime, cancels each coroutine
	}
	return c.failedOrFollows()
}

// failedOrFollows is failed for the other cases.
func (c *coroutineContext) failedOrFollows() error {
	if why := c.cause.Load(); why != nil {
		return *why
	}
	if c.base.Done() == nil {
		return nil
	}
	c.mu.Lock()
	c.share() // has base followed
	c.mu.Unlock()
	return waitError(c.base, c.base.Err())
}

// Deadline, Done, Err and Value make it a context.Context.
func (c *coroutineContext) Deadline() (time.Time, bool) { return c.base.Deadline() }

func (c *coroutineContext) Err() error {
	if why := c.cause.Load(); why != nil {
		if *why == ErrShutdown {
			return context.Canceled
		}
		return *why
	}
	return c.above().Err()
}

// above returns the context that this one is cancelled with. As long as the coroutine is in the
// tree, that has its part in it.
func (c *coroutineContext) above() context.Context {
	if c.co.over.Load() {
		if tied := c.tied.Load(); tied != nil {
			return &tied.ctx
		}
	}
	return c.base
}

func (c *coroutineContext) Value(key any) any {
	switch key.(type) {
	case coroutineKey:
		return c.co
	case runtimeKey:
		return c.co.sched.rt
	}
	return c.base.Value(key)
}

func (c *coroutineContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.share().done
}

// share makes the shared part. With mu held.
func (c *coroutineContext) share() *sharedContext {
	if c.shared == nil {
		c.shared = &sharedContext{done: make(chan struct{})}
		if c.cause.Load() != nil {
			close(c.shared.done)
		}
		c.refollow()
	}
	return c.shared
}

// refollow follows base, or stops following it, whichever the users of the context need. With mu
// held.
//
// A context that lives long must not collect the contexts of coroutines that came and went. So
// after the end of the coroutine base is followed by way of the Done channel's afterlife, and else
// only for contexts that derive from this one, which say when they need it no more.
func (c *coroutineContext) refollow() {
	s := c.shared
	if s == nil {
		return
	}
	need := c.cause.Load() == nil && c.above().Done() != nil
	if need && c.co.over.Load() && s.afterlife == nil {
		s.afterlife = newAfterlife(s.done)
		s.afterlife.follow(c.above())
	}
	if c.co.over.Load() {
		need = need && len(s.after) > 0
	} else if _, isRoot := c.base.(*rootContext); isRoot {
		need = false // the end of the runtime cancels each coroutine
	}
	switch {
	case need && s.unhook == nil:
		above := c.above()
		s.unhook = context.AfterFunc(above, func() { c.cancel(waitError(above, above.Err())) })
	case !need && s.unhook != nil:
		s.unfollow()
	}
}

func (s *sharedContext) unfollow() {
	if s.unhook != nil {
		s.unhook()
		s.unhook = nil
	}
}

// AfterFunc lets the context package derive from this context without a goroutine.
func (c *coroutineContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.share()
	if c.cause.Load() != nil {
		go f()
		return func() bool { return false }
	}
	if s.after == nil {
		s.after = make(map[*func()]struct{})
	}
	key := &f
	s.after[key] = struct{}{}
	c.refollow()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := s.after[key]
		delete(s.after, key)
		c.refollow()
		return waiting
	}
}

func (c *coroutineContext) String() string { return c.co.String() + ".Context" }

// rootContext is what the contexts of a runtime's coroutines come from.
type rootContext struct {
	rt    *Runtime
	mu    sync.Mutex
	after map[*func()]struct{} // guarded by mu: to call when it is cancelled

	orphans orphans // guarded by mu
}

func (c *rootContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *rootContext) Done() <-chan struct{}       { return c.rt.stopped }
func (c *rootContext) String() string              { return "whorl runtime.Context" }

func (c *rootContext) Err() error {
	select {
	case <-c.rt.stopped:
		return context.Canceled
	default:
		return nil
	}
}

// AfterFunc lets the context package derive from this context without a goroutine.
func (c *rootContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Err() != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = make(map[*func()]struct{})
	}
	key := &f
	c.after[key] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.after[key]
		delete(c.after, key)
		return waiting
	}
}

// adopt makes a channel close when the context is cancelled.
func (c *rootContext) adopt(a *afterlife) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Err() != nil {
		a.end()
		return
	}
	c.orphans.add(a)
}

// cancelled calls what AfterFunc was given. rt.stopped has been closed.
func (c *rootContext) cancelled() {
	c.mu.Lock()
	after, left := c.after, c.orphans.all
	c.after, c.orphans.all = nil, nil
	c.mu.Unlock()
	for _, a := range left {
		a.end()
	}
	for f := range after {
		(*f)()
	}
}

func (c *rootContext) Value(key any) any {
	switch key.(type) {
	case runtimeKey:
		return c.rt
	case local.Key:
		return &c.rt.locals
	}
	return nil
}
