package websocket

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/turn"
	"github.com/whorl-go/whorl/runtime"
)

// A hub is an event loop as a home: that of all Conns on it, whatever they belong to.
//
// What others want of its Conns goes through one inbox, in order: pushes, broadcasts, Join and
// Leave. However many there are, the loop is woken once.
//
// Time-outs are minded without a timer for each Conn: the Conns are in so many slots, and the hub
// looks at those of one slot after the other. So each is looked at eight times in the shortest of
// their intervals.
type hub struct {
	at   sched.Home
	loop runtime.Loop
	ctx  context.Context // the runtime's
	cast atomic.Int64    // of broadcasts on their way

	mu     sync.Mutex
	inbox  []func() // guarded by mu
	posted bool     // guarded by mu: the loop will come to the inbox

	// On the loop.
	spare   []func() // the inbox that was worked off last
	rest    []func() // what is left of it for another turn
	timer   eventloop.Timer
	period  time.Duration // between two slots
	clock   uint32        // milliseconds, as of the last slot
	slots   [hubSlots]*Conn
	looked  int // the slot that was looked at last
	filled  int // the slot that got a Conn last
	members int
}

const (
	hubSlots       = 8
	shortestPeriod = time.Millisecond
)

var hubs = sched.NewByLoop(func(at sched.Home) *hub {
	h := &hub{at: at, loop: at.Loop(), ctx: at.Runtime().Context(), period: time.Hour}
	at.Runtime().AtEnd(h.endHooked)
	return h
}, nil)

func (h *hub) here() bool               { return h.at.Here() }
func (h *hub) context() context.Context { return h.ctx }

func (h *hub) do(fn func()) bool {
	if h.here() {
		fn()
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.posted && h.loop.PostTask((*inbox)(h)) != nil {
		return false
	}
	h.posted = true
	h.inbox = append(h.inbox, fn)
	return true
}

func (h *hub) later(fn func())       { h.loop.Defer(fn) }
func (h *hub) behind() *atomic.Int64 { return &h.cast }

// inbox is the task that works off a hub's inbox.
type inbox hub

func (t *inbox) Run() {
	h := (*hub)(t)
	defer h.comeBack() // also after a panic
	if len(h.rest) == 0 {
		h.mu.Lock()
		h.inbox, h.rest = h.spare[:0], h.inbox
		h.mu.Unlock()
		h.spare = h.rest
	}
	var budget turn.Budget
	budget.Renew()
	for len(h.rest) > 0 && (h.at.Loop().Closed() || !budget.Spent(turn.Coroutine)) {
		fn := h.rest[0]
		h.rest[0] = nil
		h.rest = h.rest[1:]
		budget.Count(0)
		fn()
	}
}

// comeBack has the loop go on with the inbox if something is left in it. A loop that ends may come
// to nothing that is deferred any more: there the inbox is worked off until nothing comes, and
// then nobody can put anything into it.
func (h *hub) comeBack() {
	h.mu.Lock()
	h.posted = len(h.rest) > 0 || len(h.inbox) > 0
	left := h.posted
	h.mu.Unlock()
	switch {
	case !left:
	case h.at.Loop().Closed():
		(*inbox)(h).Run()
	default:
		h.loop.DeferTask((*inbox)(h))
	}
}

func milliseconds() uint32 { return uint32(clock.Now() / time.Millisecond) }

func (h *hub) now() uint32 { return h.clock }

// enter has the hub look at a Conn. Its params say how often.
func (h *hub) enter(c *Conn) {
	h.filled = (h.filled + 1) % hubSlots
	c.slot, c.prev, c.next = uint8(h.filled), nil, h.slots[h.filled]
	if c.next != nil {
		c.next.prev = c
	}
	h.slots[h.filled] = c
	if h.members++; h.members == 1 {
		h.clock = milliseconds()
		h.loop.InitTimer(&h.timer, (*beat)(h))
		h.period = time.Hour
	}
	h.pace(c)
}

func (h *hub) pace(c *Conn) {
	if p := c.params().period(); p < h.period {
		h.period = p
		h.timer.Reset(p)
	}
}

func (h *hub) leave(c *Conn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else if h.slots[c.slot] == c {
		h.slots[c.slot] = c.next
	} else {
		return // it never entered, or has left
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	if h.members--; h.members == 0 {
		h.timer.Stop()
	}
}

// beat is the timer of a hub.
type beat hub

func (t *beat) Run() {
	h := (*hub)(t)
	h.clock = milliseconds()
	h.looked = (h.looked + 1) % hubSlots
	for c := h.slots[h.looked]; c != nil; {
		next := c.next // c may end
		c.look(h.clock)
		c = next
	}
	h.timer.Reset(h.period)
}

// period is how often a hub looks at one of its slots, for the shortest of the intervals.
func (s *shared) period() time.Duration {
	shortest := time.Hour
	for _, d := range []time.Duration{s.PingInterval, s.PongTimeout, s.CloseTimeout, s.patience} {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	return max(shortest/(hubSlots*8), shortestPeriod)
}
