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
	behind atomic.Int64 // bytes on their way to the loop

	mu      sync.Mutex
	members map[*server.Conn]struct{} // guarded by mu
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
		part = &rawPart{members: map[*server.Conn]struct{}{}}
		r.parts[loop] = part
	}
	part.mu.Lock()
	part.members[c] = struct{}{}
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
		part.mu.Unlock()
		if part.behind.Add(n) > maxBehind {
			part.behind.Add(-n)
			missed += members
			continue
		}
		sent += members
		loop.Post(func() {
			part.behind.Add(-n)
			part.deliver(data, except)
		})
	}
	return sent, missed
}

// deliver sends on the members' loop. One whose queue is full has had its chance.
func (p *rawPart) deliver(data []byte, except []*server.Conn) {
	var slow []*server.Conn
	p.mu.Lock()
	for c := range p.members {
		if !slices.Contains(except, c) && c.Server().Send(c.ID(), data) != nil {
			slow = append(slow, c)
		}
	}
	p.mu.Unlock()
	for _, c := range slow {
		c.Abort()
	}
}
