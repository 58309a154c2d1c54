package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/websocket"
)

// A teller is a node of TestRandom that says numbers in rooms.
type teller struct {
	hub    *cluster.Hub
	broker *faulty
	seen   *gaps

	mu   sync.Mutex
	said map[string]int // by room: how many
}

func (t *teller) say(h *house, room string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hub.Broadcast(h.ctx, room, text("%s %s %d", t.hub.Node(), room, t.said[room])) == nil {
		t.said[room]++
	}
}

// A listener stays in a room, and checks what it gets.
type listener struct {
	c    *client
	at   int // its node
	room string

	mu     sync.Mutex
	next   map[string]int // by node
	missed int
	wrong  string
}

// listen receives until the connection ends.
func (l *listener) listen(h *house) {
	for {
		m, err := l.c.near.Recv(h.ctx)
		if err != nil {
			return
		}
		var node, room string
		var n int
		fmt.Sscan(string(m.Data), &node, &room, &n)
		l.mu.Lock()
		switch next := l.next[node]; {
		case room != l.room:
			l.wrong = fmt.Sprintf("got a message of %s in %s", room, l.room)
		case n < next:
			l.wrong = fmt.Sprintf("got %d of %s, and had %d", n, node, next)
		default:
			l.missed += n - next
		}
		l.next[node] = n + 1
		l.mu.Unlock()
	}
}

// Joins, leaves, ends and broadcasts at random, with a broker that loses messages on its way in and
// out and is away for a while: nothing comes twice or out of order, each loss is covered by a gap,
// and in the end everybody's members are the truth.
func TestRandom(t *testing.T) {
	for name, memory := range map[string]cluster.MemoryHistory{
		"without a history": {}, "with a history": {Messages: 50},
	} {
		t.Run(name, func(t *testing.T) { random(t, memory) })
	}
}

func random(t *testing.T, memory cluster.MemoryHistory) {
	const nodes, rooms, guests, length = 3, 4, 10, 3 * time.Second
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(memory)
	var tellers []*teller
	var hubs []*cluster.Hub
	for i := range nodes {
		n := &teller{broker: &faulty{Broker: bus.Peer()}, seen: new(gaps), said: map[string]int{}}
		config := cluster.Config{
			Node:        fmt.Sprint(i),
			Broker:      n.broker,
			NodeTimeout: 15 * beat,
			OnGap:       n.seen.onGap,
		}
		if memory.Messages > 0 {
			config.Broker = faultyHistory{faulty: n.broker}
		}
		n.hub = h.hub(config)
		tellers, hubs = append(tellers, n), append(hubs, n.hub)
	}
	acquainted(t, hubs)
	room := func() string { return fmt.Sprint("room", rand.IntN(rooms)) }
	var listeners []*listener
	for i := range nodes * rooms {
		l := &listener{
			c:    h.dial(),
			at:   i % nodes,
			room: fmt.Sprint("room", i/nodes),
			next: map[string]int{},
		}
		check(t, hubs[l.at].Join(l.c.far, l.room, nil))
		listeners = append(listeners, l)
	}
	heartbeats(t, hubs[0], 10*nodes)
	end := time.Now().Add(length)
	var work sync.WaitGroup
	for _, l := range listeners {
		go l.listen(h)
	}
	for _, n := range tellers {
		work.Go(func() { // somebody speaks, and at times something is lost
			lossy := func(string, []byte) bool { return rand.IntN(100) == 0 }
			for time.Now().Before(end) {
				for range rand.IntN(20) {
					n.say(h, room())
				}
				switch rand.IntN(10) {
				case 0:
					n.broker.drops.Store(&lossy)
				case 1:
					n.broker.loses.Store(&lossy)
				case 2:
					n.broker.drops.Store(nil)
					n.broker.loses.Store(nil)
				}
				time.Sleep(
					time.Millisecond,
				) // the length of a run is given, and not how much is said in it
			}
			n.broker.drops.Store(nil)
			n.broker.loses.Store(nil)
		})
	}
	work.Go(func() { // one node after the other is cut off
		for i := 0; time.Now().Before(end); i++ {
			b := tellers[i%nodes].broker
			b.silent.Store(true)
			time.Sleep(time.Duration(rand.IntN(30)) * beat)
			b.silent.Store(false)
			time.Sleep(5 * beat)
		}
	})
	work.Go(func() { // others come and go
		var here []*client
		for time.Now().Before(end) {
			if len(here) < guests {
				here = append(here, h.dial())
			}
			c := here[rand.IntN(len(here))]
			hub := hubs[int(c.far.ID())%nodes]
			switch rand.IntN(4) {
			case 0, 1:
				hub.Join(c.far, room(), []byte("guest"))
			case 2:
				hub.Leave(c.far, room())
			case 3:
				c.near.Abort()
				here = slices.DeleteFunc(here, func(other *client) bool { return other == c })
			}
		}
		for _, c := range here {
			c.near.Abort()
		}
	})
	work.Wait()
	leaktest.Until(t, "everybody knows everybody", func() bool {
		for _, hub := range hubs {
			for i := range rooms {
				if hub.Count(fmt.Sprint("room", i)) != nodes {
					return false
				}
			}
		}
		return true
	})
	for _, n := range tellers {
		for i := range rooms {
			leaktest.Until(t, "the last word is taken", func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.hub.Broadcast(
					h.ctx,
					fmt.Sprint("room", i),
					text("%s room%d %d", n.hub.Node(), i,
						n.said[fmt.Sprint("room", i)]),
				) == nil
			})
		}
	}
	for _, l := range listeners {
		leaktest.Until(t, "the last word has come", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, n := range tellers {
				if l.next[n.hub.Node()] != n.said[l.room]+1 {
					return false
				}
			}
			return true
		})
		if l.wrong != "" {
			t.Error(l.wrong)
		}
		if l.missed > 0 && tellers[l.at].seen.count(l.room) == 0 {
			t.Errorf(
				"node %d has missed %d messages in %s, and wasn't told",
				l.at,
				l.missed,
				l.room,
			)
		}
		l.c.near.Abort()
	}
	for _, hub := range hubs {
		leaktest.Until(
			t,
			"nobody is left",
			func() bool { return hub.Stats().Members == 0 && hub.Stats().Rooms == 0 },
		)
		t.Logf("%+v", hub.Stats())
	}
}
