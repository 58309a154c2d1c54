package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

const (
	nameExpiry  = 60 * time.Second // how long the addresses of a name are remembered
	maxNames    = 1000             // how many names are
	maxLookups  = 256              // how many look-ups run at a time
	lookupLimit = 30 * time.Second // how long one may take, the wait for its turn included
)

// nameCache remembers what names stand for, and looks them up: once for all who want the same name
// of the same resolver at a time. A look-up belongs to none of them. When one gives up, it goes on
// for the others, and for whoever asks next; it ends by itself, by a time limit of its own, or with
// the runtime of who has asked first.
//
// Look-ups run on goroutines of their own, which last as long as there are any. What else blocks,
// in runtime.Await, doesn't hold them up.
type nameCache struct {
	mu      sync.Mutex
	known   map[nameKey]*resolved // guarded by mu; also those that are being looked up
	running int                   // guarded by mu: look-ups that have a goroutine
	queue   []*nameLookup         // guarded by mu: look-ups that wait for one, oldest first

	// Tests set these.
	now       func() time.Time
	limit     time.Duration
	byDefault func() Resolver
}

var names = nameCache{
	now:       time.Now,
	limit:     lookupLimit,
	byDefault: func() Resolver { return net.DefaultResolver }, // the program may replace it
}

// nameKey is a name as one resolver has it.
type nameKey struct {
	resolver Resolver
	host     string
}

// comparable reports whether the resolver can be told from others, so that its answers can be found
// again.
func (k nameKey) comparable() bool { return reflect.ValueOf(k.resolver).Comparable() }

// resolved is what a name stands for.
type resolved struct {
	key  nameKey
	done runtime.WaitGroup // 1 while the look-up is under way, which sets the rest before it is 0

	ips     []netip.Addr
	err     error
	expires time.Time
}

// errAskerEnded is what a look-up comes to that ends with the runtime it was made for: it says
// nothing about the name.
var errAskerEnded = errors.New("the look-up has ended with the runtime that it was made for")

// resolve returns what a name stands for, and looks it up if need be.
func (c *nameCache) resolve(
	ctx context.Context, key nameKey, deadline sched.Deadline,
) (*resolved, error) {
	rt, err := sched.From(ctx)
	if err != nil {
		return nil, err
	}
	for {
		name, fresh := c.entry(key)
		if fresh {
			c.begin(rt, name)
		}
		if err := waitUntil(ctx, &name.done, deadline); err != nil {
			return nil, err
		}
		switch {
		case name.err == nil:
			return name, nil
		case name.err != errAskerEnded:
			return nil, name.err
		case rt.Context().Err() != nil:
			return nil, runtime.ErrShutdown
		}
	}
}

// entry returns what is known of a name; fresh means nothing, and that the caller has to begin a
// look-up.
func (c *nameCache) entry(key nameKey) (name *resolved, fresh bool) {
	if !key.comparable() {
		return newResolved(key), true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if name = c.known[key]; name != nil && (name.done.Count() > 0 || c.now().Before(name.expires)) {
		return name, false
	}
	if c.known == nil {
		c.known = make(map[nameKey]*resolved)
	}
	for other := range c.known {
		if len(c.known) < maxNames {
			break
		}
		delete(c.known, other) // any one: the map's order is random
	}
	name = newResolved(key)
	c.known[key] = name
	return name, true
}

func newResolved(key nameKey) *resolved {
	name := &resolved{key: key}
	name.done.Add(1)
	return name
}

// forget has a name looked up again when it is wanted next, unless that has happened already.
func (c *nameCache) forget(name *resolved) {
	if !name.key.comparable() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[name.key] == name {
		delete(c.known, name.key)
	}
}

// nameLookup is a look-up under way.
type nameLookup struct {
	name   *resolved
	rt     *sched.Runtime
	ctx    context.Context
	cancel context.CancelFunc
	ended  atomic.Bool
}

// begin begins to look a name up. It doesn't wait.
func (c *nameCache) begin(rt *sched.Runtime, name *resolved) {
	l := &nameLookup{name: name, rt: rt}
	l.ctx, l.cancel = context.WithTimeout(rt.Context(), c.limit)
	context.AfterFunc(l.ctx, func() { c.end(l, nil, l.ctx.Err()) }) // whatever the resolver does
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == maxLookups {
		c.queue = append(c.queue, l)
		return
	}
	c.running++
	go c.serve(l)
}

// serve is the goroutine of a look-up. The next one gets another, since a resolver may call
// runtime.Goexit.
func (c *nameCache) serve(l *nameLookup) {
	defer c.next()
	err := runtime.ErrGoexit // unless the resolver returns
	var ips []netip.Addr
	defer func() {
		if value := recover(); value != nil {
			stack := debug.Stack()
			l.rt.Logger().Error("panic in a resolver",
				zap.Any("panic", value), zap.ByteString("stack", stack))
			err = &runtime.PanicError{Value: value, Stack: stack}
		}
		c.end(l, ips, err)
	}()
	ips, err = l.name.key.resolver.LookupNetIP(l.ctx, "ip", l.name.key.host)
}

// next gives the place of a look-up that has ended to the next one.
func (c *nameCache) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		l := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if l.ctx.Err() == nil {
			go c.serve(l)
			return
		}
	}
	c.running--
}

// end notes what has come of a look-up, and wakes all who wait for it. Only the first call counts.
func (c *nameCache) end(l *nameLookup, ips []netip.Addr, err error) {
	if !l.ended.CompareAndSwap(false, true) {
		return
	}
	name := l.name
	if err != nil {
		switch l.ctx.Err() {
		case context.DeadlineExceeded:
			err = &net.DNSError{Err: "look-up timed out", Name: name.key.host, IsTimeout: true}
		case context.Canceled:
			err = errAskerEnded
		}
	}
	l.cancel()
	ips = slices.Clone(ips) // the resolver may keep what it has returned
	for i, ip := range ips {
		ips[i] = ip.Unmap()
	}
	name.ips, name.err = ips, err
	if err == nil {
		c.mu.Lock()
		name.expires = c.now().Add(nameExpiry)
		c.mu.Unlock()
	} else {
		c.forget(name)
	}
	name.done.Done()
}
