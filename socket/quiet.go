package socket

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// quiet is a loop's list of connections that may have become quiet.
type quiet struct {
	loop  runtime.Loop
	timer eventloop.Timer // the loop's

	compact atomic.Int64 // connections that are

	mu      sync.Mutex
	all     []*secure     // guarded by mu
	period  time.Duration // guarded by mu: between two looks
	running bool          // guarded by mu
}

var quiets = sched.NewByLoop(func(at sched.Home) *quiet {
	return &quiet{loop: at.Loop(), period: longestLook}
}, nil)

const (
	shortestLook = 5 * time.Millisecond
	longestLook  = 500 * time.Millisecond
)

// quicken has the list be looked at often enough for a silence.
func (q *quiet) quicken(after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.period = max(shortestLook, min(q.period, after/2))
}

func (q *quiet) add(t *secure) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, t)
	if !q.running {
		q.running = q.loop.PostTask((*beginLooking)(q)) == nil
	}
}

type beginLooking quiet

func (b *beginLooking) Run() {
	q := (*quiet)(b)
	q.mu.Lock()
	period := q.period
	q.mu.Unlock()
	q.loop.InitTimer(&q.timer, (*look)(q))
	q.timer.Reset(period)
}

// look is the timer of a list.
type look quiet

func (l *look) Run() {
	q := (*quiet)(l)
	q.mu.Lock()
	all, period := q.all, q.period
	q.all = nil
	q.mu.Unlock()
	kept := all[:0]
	for _, t := range all {
		c := t.compactible
		active := c.active.Swap(false)
		if c.passed += period; active && c.state.Load() != nil {
			c.passed = 0
		}
		if c.passed >= c.settings.After && t.toRest() {
			if c.given {
				continue
			}
			if active && c.state.Load() == nil {
				kept = append(kept, t) // there was half a record: again at the next look
				continue
			}
			c.passed = 0
			c.listed.Store(false)
			if !c.active.Load() || !c.listed.CompareAndSwap(false, true) {
				continue
			} // somebody has come meanwhile, and found it listed
		}
		kept = append(kept, t)
	}
	clear(all[len(kept):])
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all = append(kept, q.all...); len(q.all) == 0 {
		q.running, q.all = false, nil
		return
	}
	q.timer.Reset(period)
}

// mayRest begins to mind how quiet a connection is, after its handshake.
func (t *secure) mayRest(settings CompactTLS) {
	c := &compactible{list: quiets.Of(t.fd.home), settings: settings}
	c.list.quicken(settings.After)
	c.listed.Store(true)
	c.active.Store(true)
	t.compactible = c
	c.list.add(t)
}
