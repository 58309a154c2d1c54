package hooks

import (
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/socket"
)

// limit is until when the operations of one direction of a connection may wait: a deadline that can be moved while they do.
//
// Whorl's operations wait as long as a context lets them, so each operation is given the limit's present period, which is one. A period is over when the deadline
// passes, however often that is moved before. Moving it afterwards begins the next period: for what was waiting it is too late. Operations without a deadline are given
// a period, too, since one may be set while they wait. Reading is done so often that it has a way without a channel: socket.RecvUntil.
type limit struct {
	current atomic.Pointer[period]
	first   period          // beside current, since most connections see no second one
	values  context.Context // that tells operations their runtime; fixed
	reader  *socket.Socket  // to be told when a period is over; nil if nobody is; fixed

	mu       sync.Mutex
	deadline time.Time   // guarded by mu; zero: none
	timer    *time.Timer // guarded by mu; nil until there is a deadline to come
	ended    error       // guarded by mu: why the limit is over for good
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
	if p = &l.first; p.limit != nil {
		p = new(period)
	}
	p.limit = l
	l.current.Store(p)
	return p
}

// set moves the deadline. It returns the error of a limit that is over for good.
func (l *limit) set(deadline time.Time) error {
	l.mu.Lock()
	if l.ended != nil {
		l.mu.Unlock()
		return l.ended
	}
	l.deadline = deadline
	if l.timer != nil {
		l.timer.Stop() // in vain if expire has begun, which then finds that it isn't time
	}
	if p := l.current.Load(); p != nil && p.Err() != nil {
		l.current.Store(nil)
	}
	left := time.Duration(1)
	if !deadline.IsZero() {
		switch left = time.Until(deadline); {
		case left <= 0:
			l.present().end(os.ErrDeadlineExceeded)
		case l.timer == nil:
			l.timer = time.AfterFunc(left, l.expire)
		default:
			l.timer.Reset(left)
		}
	}
	l.mu.Unlock()
	if left <= 0 {
		l.tell()
	}
	return nil
}

// expire is what the timer calls.
func (l *limit) expire() {
	l.mu.Lock()
	over := l.ended == nil && !l.deadline.IsZero() && time.Until(l.deadline) <= 0
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

// tell tells the reader that the period is over. It is called without mu: no lock is held while others are woken.
func (l *limit) tell() {
	if l.reader != nil {
		l.reader.Interrupt()
	}
}

// period is a context.Context that is done when its deadline has passed. Err then returns os.ErrDeadlineExceeded, or what the limit has ended with.
type period struct {
	cause atomic.Pointer[error]
	limit *limit

	mu    sync.Mutex
	done  chan struct{} // guarded by mu; made when somebody asks
	after []*func()     // guarded by mu: to call at the end
}

// Deadline reports none: only the limit's own timer counts, and it may be moved.
func (p *period) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

func (p *period) Value(key any) any { return p.limit.values.Value(key) }

func (p *period) Err() error {
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

func (p *period) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan struct{})
		if p.Err() != nil {
			close(p.done)
		}
	}
	return p.done
}

// AfterFunc is how package context, and by it a coroutine that waits, hears of the end without a goroutine.
func (p *period) AfterFunc(f func()) (stop func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Err() != nil {
		go f()
		return func() bool { return false }
	}
	key := &f
	p.after = append(p.after, key)
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		i := slices.Index(p.after, key)
		if i < 0 {
			return false
		}
		p.after = slices.Delete(p.after, i, i+1)
		return true
	}
}

// end is called with the limit's mu held. What it calls only passes the news on.
func (p *period) end(err error) {
	p.mu.Lock()
	if !p.cause.CompareAndSwap(nil, &err) {
		p.mu.Unlock()
		return
	}
	if p.done != nil {
		close(p.done)
	}
	after := p.after
	p.after = nil
	p.mu.Unlock()
	for _, f := range after {
		(*f)()
	}
}
