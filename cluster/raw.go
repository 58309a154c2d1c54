package cluster

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// raw are the members of a topic that are a *server.Conn, by their loops: each loop is woken once
// for a message.
type raw struct {
	mu    sync.Mutex
	parts map[runtime.Loop]*rawPart // guarded by mu
}

type rawPart struct {
	behind atomic.Int64   // bytes on their way to the loop
	now    []*server.Conn // those that a message goes to; on the loop

	mu      sync.Mutex
	sends   uint64                  // guarded by mu
	members map[*server.Conn]uint64 // guarded by mu: how many sends there were before each
}

// maxBehind is how much may be on its way to a loop for a topic.
const maxBehind = 32 << 20

func newRaw() *raw { return &raw{parts: map[runtime.Loop]*rawPart{}} }

func (r *raw) join(c *server.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	loop := c.Socket().Loop()
	part := r.parts[loop]
	if part == nil {
		part = &rawPart{members: map[*server.Conn]uint64{}}
		r.parts[loop] = part
	}
	part.mu.Lock()
	part.members[c] = part.sends
	part.mu.Unlock()
}

func (r *raw) leave(c *server.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	loop := c.Socket().Loop()
	part := r.parts[loop]
	if part == nil {
		return
	}
	part.mu.Lock()
	delete(part.members, c)
	empty := len(part.members) == 0
	part.mu.Unlock()
	if empty {
		delete(r.parts, loop)
	}
}

// send sends a message to all but those excepted. It returns to how many it is on its way, and how
// many are on a loop that is behind.
func (r *raw) send(data []byte, except []*server.Conn) (sent, missed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := int64(len(data)) + 64
	for loop, part := range r.parts {
		part.mu.Lock()
		members := len(part.members)
		part.sends++
		number := part.sends
		part.mu.Unlock()
		if part.behind.Add(n) > maxBehind {
			part.behind.Add(-n)
			missed += members
			continue
		}
		sent += members
		loop.Post(func() {
			part.behind.Add(-n)
			part.deliver(number, data, except)
		})
	}
	return sent, missed
}

// deliver sends on the members' loop, to those that had joined before. One whose queue is full has
// had its chance.
func (p *rawPart) deliver(number uint64, data []byte, except []*server.Conn) {
	p.mu.Lock()
	for c, before := range p.members {
		if before < number && !slices.Contains(except, c) {
			p.now = append(p.now, c)
		}
	}
	p.mu.Unlock()
	now := p.now
	p.now = nil // a callback may panic, or have another message delivered
	for _, c := range now {
		if c.Server().Send(c.ID(), data) != nil {
			c.Abort()
		}
	}
	clear(now)
	p.now = now[:0]
}
