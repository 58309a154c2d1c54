package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/websocket"
)

// listeners are two nodes, of which b has a member in a room and a faulty broker.
func (h *house) listeners(memory cluster.MemoryHistory) (
	a, b *cluster.Hub, broker *faulty, seen *gaps, c *client,
) {
	h.t.Helper()
	bus := cluster.MemoryWith(memory)
	seen = new(gaps)
	broker = &faulty{Broker: bus.Peer()}
	config := cluster.Config{Node: "b", Broker: broker, OnGap: seen.onGap}
	if memory.Messages > 0 {
		config.Broker = faultyHistory{faulty: broker}
	}
	a, b = h.hub(cluster.Config{Broker: bus, Node: "a"}), h.hub(config)
	acquainted(h.t, []*cluster.Hub{a, b})
	c = h.dial()
	check(h.t, b.Bind(c.far, "ann"))
	check(h.t, b.Join(c.far, "room", nil))
	leaktest.Until(h.t, "the room is listened to", func() bool { return b.Stats().Subscribed == 2 })
	return a, b, broker, seen, c
}

// gaps has what OnGap was told.
type gaps struct {
	mu  sync.Mutex
	all []cluster.Gap
}

func (g *gaps) onGap(_ context.Context, gap cluster.Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, gap)
}

// want waits for a gap, and takes it away. Without a cause it is any.
func (g *gaps) want(t testing.TB, room, user string, cause error) {
	t.Helper()
	leaktest.Until(t, fmt.Sprintf("there is a gap in %s: %v", room+user, cause), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		i := slices.IndexFunc(g.all, func(gap cluster.Gap) bool {
			return gap.Room == room && gap.User == user &&
				(cause == nil || errors.Is(gap.Err, cause))
		})
		if i < 0 {
			return false
		}
		g.all = slices.Delete(g.all, i, i+1)
		return true
	})
}

// count returns how many there are in a room.
func (g *gaps) count(room string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, gap := range g.all {
		if gap.Room == room {
			n++
		}
	}
	return n
}

// A message that doesn't come is a gap when its successor has come.
func TestGapBeforeAMessage(t *testing.T) {
	h := open(t, websocket.Options{})
	a, b, broker, seen, c := h.listeners(cluster.MemoryHistory{})
	for n := range 5 {
		check(t, a.Broadcast(h.ctx, "room", text("before %d", n)))
		c.want(fmt.Sprintf("before %d", n))
		broker.loses.Store(next("room.room"))
		check(t, a.Broadcast(h.ctx, "room", text("lost")))
		check(t, a.Broadcast(h.ctx, "room", text("after %d", n)))
		c.want(fmt.Sprintf("after %d", n))
		seen.want(t, "room", "", cluster.ErrMissed)
	}
	check(t, a.ToUser(h.ctx, "ann", text("before")))
	c.want("before")
	broker.loses.Store(next("user.ann"))
	check(t, a.ToUser(h.ctx, "ann", text("lost")))
	check(t, a.ToUser(h.ctx, "ann", text("after")))
	c.want("after")
	seen.want(t, "", "ann", cluster.ErrMissed)
	if n := b.Stats().Gaps; n != 6 {
		t.Errorf("%d gaps", n)
	}
}

// The last message, and the only one, are missed with the heartbeats.
func TestGapBeforeASilence(t *testing.T) {
	h := open(t, websocket.Options{})
	a, b, broker, seen, _ := h.listeners(cluster.MemoryHistory{})
	heartbeats(t, a, 10) // it is known that b listens
	for range 5 {
		broker.loses.Store(next("room.room"))
		check(t, a.Broadcast(h.ctx, "room", text("lost")))
		seen.want(t, "room", "", cluster.ErrMissed)
	}
	if n := b.Stats().Gaps; n != 5 {
		t.Errorf("%d gaps", n)
	}
}

// heartbeats waits until a hub has received its own.
func heartbeats(t testing.TB, hub *cluster.Hub, n uint64) {
	t.Helper()
	began := hub.Stats().Received
	leaktest.Until(
		t,
		"some heartbeats have come",
		func() bool { return hub.Stats().Received >= began+n },
	)
}

// Where a heartbeat is missing, anything may be.
func TestGapOfAHeartbeat(t *testing.T) {
	h := open(t, websocket.Options{})
	a, _, broker, seen, c := h.listeners(cluster.MemoryHistory{})
	broker.loses.Store(next("nodes"))
	seen.want(t, "room", "", cluster.ErrNode)
	check(t, a.Broadcast(h.ctx, "room", text("goes on")))
	c.want("goes on")
}

// What the broker loses on its way in is missed by all, the sender included.
func TestGapOfASender(t *testing.T) {
	h := open(t, websocket.Options{})
	_, b, broker, seen, c := h.listeners(cluster.MemoryHistory{})
	heartbeats(t, b, 10)
	broker.drops.Store(next("room.room"))
	check(t, b.Broadcast(h.ctx, "room", text("lost")))
	seen.want(t, "room", "", cluster.ErrMissed)
	broker.silent.Store(true)
	leaktest.Until(t, "it is known that nothing goes out", func() bool {
		return errors.Is(b.Broadcast(h.ctx, "room", text("lost")), cluster.ErrDisconnected)
	})
	broker.silent.Store(false)
	seen.want(t, "room", "", nil)
	leaktest.Until(t, "something goes out", func() bool {
		return b.Broadcast(h.ctx, "room", text("again")) == nil
	})
	c.want("again")
}

// A node that is gone without a word may have taken messages with it.
func TestGapOfANode(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	var seen gaps
	b := h.hub(cluster.Config{Broker: bus, NodeTimeout: 5 * beat, OnGap: seen.onGap})
	broker := &faulty{Broker: bus.Peer()}
	a := h.hub(cluster.Config{Broker: broker})
	acquainted(t, []*cluster.Hub{a, b})
	check(t, b.Join(h.dial().far, "room", nil))
	broker.silent.Store(true)
	seen.want(t, "room", "", cluster.ErrNode)
}

// What the Broker says is a gap.
func TestGapOfTheBroker(t *testing.T) {
	h := open(t, websocket.Options{})
	_, b, broker, seen, _ := h.listeners(cluster.MemoryHistory{})
	broker.Lost("room.room", cluster.ErrSlow)
	seen.want(t, "room", "", cluster.ErrSlow)
	broker.Lost("user.ann", cluster.ErrSlow)
	seen.want(t, "", "ann", cluster.ErrSlow)
	broker.Lost("room.other", cluster.ErrSlow)
	broker.Lost("", cluster.ErrReconnected)
	seen.want(t, "room", "", cluster.ErrReconnected)
	seen.want(t, "", "ann", cluster.ErrReconnected)
	if s := b.Stats(); s.Lost != 4 || s.Gaps != 4 {
		t.Errorf("%+v", s)
	}
}

// What comes late, and was told to be missing, is delivered yet if nothing behind it was, and is
// not told twice.
func TestLate(t *testing.T) {
	h := open(t, websocket.Options{})
	a, b, broker, seen, c := h.listeners(cluster.MemoryHistory{})
	heartbeats(t, a, 10)
	var kept atomic.Pointer[[]byte]
	keep := func(subject string, message []byte) bool {
		return subject == "room.room" && kept.CompareAndSwap(nil, &message)
	}
	broker.loses.Store(&keep)
	check(t, a.Broadcast(h.ctx, "room", text("late")))
	seen.want(t, "room", "", cluster.ErrMissed)
	broker.Receive("room.room", *kept.Load(), cluster.Position{})
	c.want("late")
	check(t, a.Broadcast(h.ctx, "room", text("next")))
	c.want("next")
	if s := b.Stats(); s.Gaps != 1 || s.Late != 0 {
		t.Errorf("%+v", s)
	}
}

// Nothing is delivered twice, whatever the broker does.
func TestNothingTwice(t *testing.T) {
	h := open(t, websocket.Options{})
	a, b, broker, _, c := h.listeners(cluster.MemoryHistory{})
	var kept atomic.Pointer[[]byte]
	keep := func(subject string, message []byte) bool {
		if subject == "room.room" {
			kept.CompareAndSwap(nil, &message)
		}
		return false
	}
	broker.loses.Store(&keep)
	check(t, a.Broadcast(h.ctx, "room", text("once")))
	c.want("once")
	for range 3 {
		broker.Receive("room.room", *kept.Load(), cluster.Position{})
	}
	check(t, a.Broadcast(h.ctx, "room", text("again")))
	c.want("again")
	if n := b.Stats().Late; n != 3 {
		t.Errorf("%d were late", n)
	}
}

// refusing is a Broker that can't subscribe to rooms for a while.
type refusing struct {
	cluster.Broker
	refuses atomic.Bool
}

func (r *refusing) Subscribe(subject string) error {
	if r.refuses.Load() && strings.HasPrefix(subject, "room.") {
		return cluster.ErrDisconnected
	}
	return r.Broker.Subscribe(subject)
}

// A room that couldn't be listened to may have lost something until it is, and whoever comes to it
// anew before that is a member like any other.
func TestGapOfASubscription(t *testing.T) {
	h := open(t, websocket.Options{})
	var seen gaps
	broker := &refusing{Broker: cluster.Memory()}
	b := h.hub(cluster.Config{Broker: broker, OnGap: seen.onGap})
	c := h.dial()
	for n := range 5 {
		room := fmt.Sprint("room", n)
		broker.refuses.Store(true)
		check(t, b.Join(c.far, room, nil))
		seen.want(t, room, "", cluster.ErrDisconnected)
		b.Leave(c.far, room)
		broker.refuses.Store(false)
		check(t, b.Join(c.far, room, nil))
		heartbeats(t, b, 3)
		if n := b.Count(room); n != 1 {
			t.Fatalf("%d members", n)
		}
		check(t, b.Broadcast(h.ctx, room, text("hello")))
		c.want("hello")
	}
	broker.refuses.Store(true)
	check(t, b.Join(c.far, "other", nil))
	seen.want(t, "other", "", cluster.ErrDisconnected)
	broker.refuses.Store(false)
	seen.want(t, "other", "", cluster.ErrDisconnected)
}

// What a node has said last is missed, too, though the node has ended; what comes late of it comes,
// and doesn't bring it back.
func TestGapOfALastWord(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	var seen gaps
	broker := &faulty{Broker: bus}
	b := h.hub(cluster.Config{Node: "b", Broker: broker, OnGap: seen.onGap})
	c := h.dial()
	check(t, b.Join(c.far, "room", nil))
	heartbeats(t, b, 10)
	a := cluster.New(quick(cluster.Config{Node: "a", Broker: bus.Peer()}))
	check(t, a.Start(h.ctx))
	acquainted(t, []*cluster.Hub{a, b})
	var kept atomic.Pointer[[]byte]
	keep := func(subject string, message []byte) bool {
		return subject == "room.room" && kept.CompareAndSwap(nil, &message)
	}
	broker.loses.Store(&keep)
	check(t, a.Broadcast(h.ctx, "room", text("lost")))
	check(t, a.Close(h.ctx))
	leaktest.Until(t, "a has ended", func() bool { return b.Stats().Nodes == 1 })
	seen.want(t, "room", "", cluster.ErrMissed)
	broker.Receive("room.room", *kept.Load(), cluster.Position{})
	c.want("lost")
	if n := b.Stats().Nodes; n != 1 {
		t.Errorf("%d nodes", n)
	}
}

// What a node has said while it wasn't heard is lost, and that is known when it is heard again.
func TestGapOfANodeThatComesBack(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	var seen gaps
	broker := &faulty{Broker: bus}
	b := h.hub(cluster.Config{Node: "b", Broker: broker, OnGap: seen.onGap, NodeTimeout: 5 * beat})
	a := h.hub(cluster.Config{Node: "a", Broker: bus.Peer()})
	acquainted(t, []*cluster.Hub{a, b})
	check(t, b.Join(h.dial().far, "room", nil))
	cut := func(_ string, message []byte) bool { return saidBy("a", message) != 0 }
	for _, silence := range []uint64{1, 50} { // it is still remembered, or not any more
		broker.loses.Store(&cut)
		seen.want(t, "room", "", cluster.ErrNode)
		check(t, a.Broadcast(h.ctx, "room", text("lost")))
		heartbeats(t, a, silence)
		heartbeats(t, b, silence)
		if n := seen.count("room"); n > 0 {
			t.Errorf("%d gaps more", n)
		}
		broker.loses.Store(nil)
		seen.want(t, "room", "", cluster.ErrNode)
		acquainted(t, []*cluster.Hub{a, b})
	}
}

// A heartbeat that was lost is missed even when the next that is heard of its node is a state,
// which is as of behind it.
func TestGapBeforeAState(t *testing.T) {
	h := open(t, websocket.Options{})
	_, b, broker, seen, _ := h.listeners(cluster.MemoryHistory{})
	var mu sync.Mutex
	var beats, states int
	loses := func(subject string, message []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		switch kind := saidBy("a", message); {
		case kind == kindState:
			states++
			return states < 3
		case subject == "nodes" && kind != 0:
			beats++
			return beats == 1 || beats > 2 && states < 3
		}
		return false
	}
	broker.loses.Store(&loses)
	seen.want(t, "room", "", cluster.ErrNode) // the first was missing
	seen.want(t, "room", "", cluster.ErrNode) // others up to the state
	if n := b.Stats().Nodes; n != 2 {
		t.Errorf("%d nodes", n)
	}
}

// Messages that are under way when a heartbeat lists them are not missing, in however many parts it
// comes.
func TestMarksInParts(t *testing.T) {
	const rooms, slow = 3000, 25 * beat
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus}
	a := h.hub(cluster.Config{Node: "a", Broker: bus.Peer(), Heartbeat: slow})
	b := h.hub(cluster.Config{Node: "b", Broker: broker, Heartbeat: slow})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.dial()
	for n := range rooms {
		if n%100 == 0 {
			c = h.dial()
		}
		check(t, b.Join(c.far, fmt.Sprint("a-room-with-a-name-that-is-long-enough-", n), nil))
	}
	leaktest.Until(t, "all are listened to", func() bool { return b.Stats().Subscribed == rooms })
	heartbeats(t, b, 10)
	var mu sync.Mutex
	var late [][2]string
	delay := func(subject string, message []byte) bool {
		if saidBy("a", message) != kindMessage {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		late = append(late, [2]string{subject, string(message)})
		return true
	}
	parts := make(chan struct{}, 1000)
	arrived := func(subject string, message []byte) bool {
		if len(message) > 100<<10 {
			parts <- struct{}{}
		}
		return delay(subject, message)
	}
	broker.loses.Store(&arrived)
	for n := range rooms {
		check(
			t,
			a.Broadcast(h.ctx, fmt.Sprint("a-room-with-a-name-that-is-long-enough-", n), text("x")),
		)
	}
	receive(t, parts)
	broker.loses.Store(nil)
	mu.Lock()
	for _, m := range late {
		broker.Receive(m[0], []byte(m[1]), cluster.Position{})
	}
	mu.Unlock()
	heartbeats(t, a, 6)
	if s := b.Stats(); s.Gaps > 0 || s.Late > 0 {
		t.Errorf("%+v", s)
	}
}

// The first message of a node is missed, too, soon after a room is listened to.
func TestGapBeforeAFirstMessage(t *testing.T) {
	const slow = 25 * beat
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus}
	var seen gaps
	a := h.hub(cluster.Config{Node: "a", Broker: bus.Peer(), Heartbeat: slow})
	b := h.hub(cluster.Config{Node: "b", Broker: broker, Heartbeat: slow, OnGap: seen.onGap})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.dial()
	check(t, b.Join(c.far, "room", nil))
	check(t, b.Join(c.far, "quiet", nil))
	leaktest.Until(t, "the rooms are listened to", func() bool { return b.Stats().Subscribed == 2 })
	beats := make(chan struct{}, 100)
	watch := func(subject string, message []byte) bool {
		if saidBy("a", message) != 0 && subject == "nodes" {
			beats <- struct{}{}
		}
		return saidBy("a", message) == kindMessage && strings.Contains(string(message), "lost")
	}
	broker.loses.Store(&watch)
	for range 3 {
		receive(t, beats)
	}
	check(t, a.Broadcast(h.ctx, "quiet", text("lost")))
	check(t, a.Broadcast(h.ctx, "room", text("lost")))
	check(t, a.Broadcast(h.ctx, "room", text("second")))
	c.want("second")
	seen.want(t, "room", "", cluster.ErrMissed)
	seen.want(t, "quiet", "", cluster.ErrMissed)
}

// What comes when its successors have come, and nothing is known of them any more, comes too late,
// also when its node was given up meanwhile.
func TestTooLate(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker, far := &faulty{Broker: bus.Peer()}, &faulty{Broker: bus.Peer()}
	a := h.hub(cluster.Config{Broker: far, Node: "a"})
	b := h.hub(cluster.Config{Broker: broker, Node: "b", NodeTimeout: 10 * beat})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.dial()
	check(t, b.Join(c.far, "room", nil))
	leaktest.Until(t, "the room is listened to", func() bool { return b.Stats().Subscribed == 1 })
	for _, away := range []bool{false, true} {
		var kept atomic.Pointer[[]byte]
		keep := func(subject string, message []byte) bool {
			return subject == "room.room" && kept.CompareAndSwap(nil, &message)
		}
		broker.loses.Store(&keep)
		check(t, a.Broadcast(h.ctx, "room", text("late")))
		check(t, a.Broadcast(h.ctx, "room", text("next")))
		c.want("next")
		if away {
			far.silent.Store(true)
			leaktest.Until(t, "a is given up", func() bool { return b.Stats().Nodes == 1 })
			far.silent.Store(false)
			acquainted(t, []*cluster.Hub{a, b})
		} else {
			heartbeats(t, b, 30)
		}
		broker.Receive("room.room", *kept.Load(), cluster.Position{})
		check(t, b.Broadcast(h.ctx, "room", text("last")))
		c.want("last")
	}
	if n := b.Stats().Late; n != 2 {
		t.Errorf("%d were late", n)
	}
}

// What a node publishes while its connection loses all is missed by the others, heard or not, with
// a history and without.
func TestGapOfACutConnection(t *testing.T) {
	for name, memory := range map[string]cluster.MemoryHistory{"without a history": {}, "with a history": someHistory} {
		t.Run(name, func(t *testing.T) {
			h := open(t, websocket.Options{})
			bus := cluster.MemoryWith(memory)
			far := &faulty{Broker: bus.Peer()}
			var seen gaps
			a := h.hub(cluster.Config{Broker: far, Node: "a"})
			b := h.hub(cluster.Config{Broker: bus, Node: "b", OnGap: seen.onGap})
			acquainted(t, []*cluster.Hub{a, b})
			c := h.dial()
			check(t, b.Join(c.far, "room", nil))
			leaktest.Until(
				t,
				"the room is listened to",
				func() bool { return b.Stats().Subscribed == 1 },
			)
			for n := range 4 {
				said, beats := n%2 == 0, n/2 == 0
				if said {
					check(t, a.Broadcast(h.ctx, "room", text("before")))
					c.want("before")
				}
				heartbeats(t, b, 30)
				all := func(string, []byte) bool { return true }
				far.drops.Store(&all)
				for n := range 3 {
					check(t, a.Broadcast(h.ctx, "room", text("lost %d", n)))
				}
				leaktest.Until(t, "they are lost", func() bool { return a.Stats().Queued == 0 })
				if beats {
					heartbeats(t, b, 6) // b's own
				}
				far.drops.Store(nil)
				seen.want(t, "room", "", nil)
				check(t, a.Broadcast(h.ctx, "room", text("after")))
				c.want("after")
				heartbeats(t, b, 10)
			}
		})
	}
}
