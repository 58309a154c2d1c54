package hooks

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/socket"
)

// limit is until when the operations of one direction of a connection may wait: a deadline that can
// be moved while they do.
//
// Each operation is given the limit's present period. A period is over when the deadline passes,
// however often that is moved before. Moving it afterwards begins the next period: for what was
// waiting it is too late. Operations without a deadline are given a period, too, since one may be
// set while they wait. Whorl's operations wait as long as a context lets them, so a period can be
// had as one. Reading is done so often that it has a way without a channel: RecvUntil.
type limit struct {
	current atomic.Pointer[period]
	// Beside current, as most connections see no second one, and every operation looks at it.
	first  period
	values context.Context // that tells operations their runtime; fixed
	reader *socket.Socket  // to be told when a period is over; nil if nobody is; fixed

	mu       sync.Mutex
	deadline sched.Deadline // guarded by mu
	timer    *time.Timer    // guarded by mu; nil until there is a deadline to come
	ended    error          // guarded by mu: why the limit is over for good
}

// period returns the present period.
func (l *limit) period() *period {
	if p := l.current.Load(); p != nil {
		return p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.present()
}

// present is period with mu held.
func (l *limit) present() *period {
	p := l.current.Load()
	if p != nil {
		return p
	}
	if p = &l.first; p.Err() != nil {
		p = new(period)
	}
	l.current.Store(p)
	return p
}

// context returns a period of the limit as a context.
func (l *limit) context(p *period) context.Context {
	if c := p.context.Load(); c != nil {
		return c
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := p.context.Load()
	if c == nil {
		c = &periodContext{values: l.values}
		if err := p.Err(); err != nil {
			c.end(err)
		}
		p.context.Store(c)
	}
	return c
}

// set moves the deadline. It returns the error of a limit that is over for good.
func (l *limit) set(deadline time.Time) error {
	l.mu.Lock()
	if l.ended != nil {
		l.mu.Unlock()
		return l.ended
	}
	l.deadline = 0
	if l.timer != nil {
		l.timer.Stop() // in vain if expire has begun, which then finds that it isn't time
	}
	if p := l.current.Load(); p != nil && p.Err() != nil {
		l.current.Store(nil)
	}
	over := false
	if !deadline.IsZero() {
		left := time.Until(deadline)
		if over = left <= 0; over {
			l.present().end(os.ErrDeadlineExceeded)
		} else {
			l.deadline = sched.DeadlineAfter(left)
			l.start(left)
		}
	}
	l.mu.Unlock()
	if over {
		l.tell()
	}
	return nil
}

// start sets the timer. With mu held.
func (l *limit) start(left time.Duration) {
	if l.timer != nil {
		l.timer.Reset(left)
		return
	}
	self := weak.Make(l) // a connection that was forgotten is not to wait for its deadline
	l.timer = time.AfterFunc(left, func() {
		if l := self.Value(); l != nil {
			l.expire()
		}
	})
}

// expire is what the timer calls.
func (l *limit) expire() {
	l.mu.Lock()
	over := l.ended == nil && l.deadline.Passed()
	if over {
		l.present().end(os.ErrDeadlineExceeded)
	}
	l.mu.Unlock()
	if over {
		l.tell()
	}
}

// end ends the limit for good: everything that waits now or later gets err.
func (l *limit) end(err error) {
	l.mu.Lock()
	if l.ended != nil {
		l.mu.Unlock()
		return
	}
	l.ended = err
	if l.timer != nil {
		l.timer.Stop()
	}
	if p := l.current.Load(); p != nil && p.Err() != nil {
		l.current.Store(nil) // its deadline has passed, which says less
	}
	l.present().end(err)
	l.mu.Unlock()
	l.tell()
}

// why is for operations that have failed with err on a socket that Close has not closed. The end of
// the runtime ends the limit first and then closes the socket, and who was waiting may hear of
// either first.
func (l *limit) why(err error) error {
	if !errors.Is(err, net.ErrClosed) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		return err
	}
	return l.ended
}

// tell tells the reader that the period is over. It is called without mu: no lock is held while
// others are woken.
func (l *limit) tell() {
	if l.reader != nil {
		inner(l.reader).Interrupt()
	}
}

// period is the time until a deadline has passed.
type period struct {
	cause   atomic.Pointer[error]
	context atomic.Pointer[periodContext] // nil until somebody needs it
}

// Err returns nil at first, and os.ErrDeadlineExceeded, or what the limit has ended with, when the
// period is over.
func (p *period) Err() error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// end ends the period. With the limit's mu held.
func (p *period) end(err error) {
	if p.cause.CompareAndSwap(nil, &err) {
		if c := p.context.Load(); c != nil {
			c.end(err)
		}
	}
}

// periodContext is a context.Context that is done when its period is over, with the same error. It
// refers neither to the period nor to the limit: a coroutine that has waited by it may keep it for
// as long as it lives.
type periodContext struct {
	cause  atomic.Pointer[error]
	values context.Context

	mu    sync.Mutex
	done  chan struct{} // guarded by mu; made when somebody asks
	after *afterFunc    // guarded by mu: the last of those to call at the end
}

// afterFunc is one of a list.
type afterFunc struct {
	call func()
	next *afterFunc
}

// Deadline reports none: only the limit's own timer counts, and it may be moved.
func (c *periodContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

func (c *periodContext) Value(key any) any { return c.values.Value(key) }

func (c *periodContext) Err() error {
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

func (c *periodContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.Err() != nil {
			close(c.done)
		}
	}
	return c.done
}

// AfterFunc is how package context, and by it a coroutine that waits, hears of the end without a
// goroutine.
func (c *periodContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Err() != nil {
		go f()
		return func() bool { return false }
	}
	added := &afterFunc{f, c.after}
	c.after = added
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for at := &c.after; *at != nil; at = &(*at).next {
			if *at == added {
				*at = added.next
				return true
			}
		}
		return false
	}
}

// end is called once, with the limit's mu held. What it calls only passes the news on.
func (c *periodContext) end(err error) {
	c.mu.Lock()
	c.cause.Store(&err)
	if c.done != nil {
		close(c.done)
	}
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for ; after != nil; after = after.next {
		after.call()
	}
}
