package websocket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// registry finds established connections by their IDs.
type registry struct {
	shards [16]shard
	count  atomic.Int64
	ending atomic.Bool
	over   *runtime.Channel[struct{}] // closed when, in a Shutdown, none is left
}

type shard struct {
	mu  sync.RWMutex
	all map[server.ID]*Conn // guarded by mu
}

func (g *registry) shard(id server.ID) *shard { return &g.shards[uint64(id)%uint64(len(g.shards))] }

func (g *registry) add(c *Conn) {
	h := g.shard(c.id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = make(map[server.ID]*Conn)
	}
	h.all[c.id] = c
	g.count.Add(1)
}

func (g *registry) remove(c *Conn) {
	h := g.shard(c.id)
	h.mu.Lock()
	found := h.all[c.id] == c
	if found {
		delete(h.all, c.id)
	}
	h.mu.Unlock()
	if found {
		g.left(g.count.Add(-1))
	}
}

// left tells those who wait that none is left.
func (g *registry) left(n int64) {
	if n == 0 && g.ending.Load() {
		g.over.Close()
	}
}

func (g *registry) find(id server.ID) *Conn {
	h := g.shard(id)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.all[id]
}

func (g *registry) all() []*Conn {
	var all []*Conn
	for i := range g.shards {
		h := &g.shards[i]
		h.mu.RLock()
		for _, c := range h.all {
			all = append(all, c)
		}
		h.mu.RUnlock()
	}
	return all
}

// wait waits until none is left, or until ctx is done, whose error it returns.
func (g *registry) wait(ctx context.Context) error {
	g.ending.Store(true)
	g.left(g.count.Load())
	if _, err := g.over.Pop(ctx); !errors.Is(err, runtime.ErrChannelClosed) {
		return err
	}
	return nil
}
