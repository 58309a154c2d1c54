package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/websocket"
)

// A diary has what OnPresence was told: the members that there are, by their users.
type diary struct {
	mu    sync.Mutex
	users map[string]map[cluster.ID]string // by room
	calls int
	moves int
	wrong []string
}

func (d *diary) onPresence(_ context.Context, room string, joined, left []cluster.Member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.users == nil {
		d.users = map[string]map[cluster.ID]string{}
	}
	here := d.users[room]
	if here == nil {
		here = map[cluster.ID]string{}
		d.users[room] = here
	}
	for _, m := range left {
		if _, there := here[m.ID]; !there {
			d.wrong = append(d.wrong, fmt.Sprintf("%v left and wasn't there", m))
		}
		delete(here, m.ID)
	}
	for _, m := range joined {
		if m.Replaces != (cluster.ID{}) {
			d.moves++
			if _, there := here[m.Replaces]; !there {
				d.wrong = append(d.wrong, fmt.Sprintf("%v takes the place of nobody", m))
			}
			delete(here, m.Replaces)
		}
		if _, there := here[m.ID]; there {
			d.wrong = append(d.wrong, fmt.Sprintf("%v joined twice", m))
		}
		here[m.ID] = m.User
	}
}

func (d *diary) room(name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var users []string
	for _, user := range d.users[name] {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

func (d *diary) shows(t testing.TB, room string, users ...string) {
	t.Helper()
	leaktest.Until(
		t,
		fmt.Sprintf("%s shows %v, and not %v", room, users, d.room(room)),
		func() bool {
			return slices.Equal(d.room(room), users)
		},
	)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, what := range d.wrong {
		t.Error(what)
	}
}

// join has a new connection of a user's join a room.
func (h *house) join(hub *cluster.Hub, user, room string) *client {
	h.t.Helper()
	c := h.dial()
	check(h.t, hub.Bind(c.far, user))
	check(h.t, hub.Join(c.far, room, nil))
	return c
}

// OnPresence is told of everybody who comes and goes, on all nodes.
func TestOnPresence(t *testing.T) {
	h := open(t, websocket.Options{})
	diaries := make([]diary, 3)
	hubs := h.hubs(3, func(i int, c *cluster.Config) { c.OnPresence = diaries[i].onPresence })
	shows := func(users ...string) {
		t.Helper()
		for i := range diaries {
			diaries[i].shows(t, "room", users...)
		}
	}
	ann := h.join(hubs[0], "ann", "room")
	bob := h.join(hubs[1], "bob", "room")
	h.join(hubs[2], "cat", "elsewhere")
	shows("ann", "bob")
	h.join(hubs[2], "ann", "room")
	shows("ann", "ann", "bob")
	bob.near.Abort()
	hubs[0].Leave(ann.far, "room")
	shows("ann")
	check(t, hubs[0].Join(ann.far, "room", nil))
	shows("ann", "ann")
	diaries[1].shows(t, "elsewhere", "cat")
}

// A node that comes later learns of all members, in as many parts as it takes.
func TestNewNodeLearnsAll(t *testing.T) {
	const rooms, members = 50, 20
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	first := h.hub(cluster.Config{Broker: bus, Node: "first"})
	for range members {
		c := h.dial()
		for room := range rooms {
			check(t, first.Join(c.far, fmt.Sprint("room", room), make([]byte, 1000)))
		}
	}
	var d diary
	second := h.hub(cluster.Config{Broker: bus.Peer(), Node: "second", OnPresence: d.onPresence})
	for room := range rooms {
		count(t, fmt.Sprint("room", room), members, second)
	}
	leaktest.Until(t, "the last room is told", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.users) == rooms
	})
}

// A node that is silent loses its members, and has them again when it is heard again.
func TestSilentNode(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	var seen diary
	stays := h.hub(cluster.Config{
		Broker: bus, Node: "stays", NodeTimeout: 10 * beat, OnPresence: seen.onPresence,
	})
	broker := &faulty{Broker: bus.Peer()}
	goes := h.hub(cluster.Config{Broker: broker, Node: "goes", NodeTimeout: 10 * beat})
	h.join(stays, "ann", "room")
	h.join(goes, "bob", "room")
	gone := h.join(goes, "cat", "room")
	seen.shows(t, "room", "ann", "bob", "cat")
	broker.silent.Store(true)
	seen.shows(t, "room", "ann")
	count(t, "room", 1, stays)
	count(t, "room", 2, goes) // for it, it is the other one that is silent
	gone.near.Abort()
	h.join(goes, "dan", "room")
	broker.silent.Store(false)
	seen.shows(t, "room", "ann", "bob", "dan")
	count(t, "room", 3, stays, goes)
}

// What is lost of what nodes say to each other is learnt anew.
func TestLostDiff(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus.Peer()}
	a := h.hub(cluster.Config{Broker: bus, Node: "a"})
	b := h.hub(cluster.Config{Broker: broker, Node: "b"})
	acquainted(t, []*cluster.Hub{a, b})
	for n := range 20 {
		broker.loses.Store(next("nodes"))
		c := h.join(a, "ann", "room")
		count(t, "room", 1, a, b)
		broker.loses.Store(next([]string{"nodes", "node.b"}[n%2]))
		c.near.Abort()
		count(t, "room", 0, a, b)
	}
}

// A node that begins anew takes the place of the one before, whose members are gone at once.
func TestNewLife(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	var seen diary
	stays := h.hub(cluster.Config{Broker: bus, Node: "stays", OnPresence: seen.onPresence})
	broker := &faulty{Broker: bus.Peer()}
	h.join(h.hub(cluster.Config{Broker: broker, Node: "lives twice"[:5]}), "bob", "room")
	seen.shows(t, "room", "bob")
	broker.silent.Store(true)
	h.join(h.hub(cluster.Config{Broker: bus.Peer(), Node: "lives"}), "cat", "room")
	seen.shows(t, "room", "cat")
	if n := stays.Stats().Nodes; n != 2 {
		t.Errorf("%d nodes", n)
	}
}

// Who is known to move isn't told to have left, unless it doesn't come in time.
func TestHandOver(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	var seen diary
	stays := h.hub(cluster.Config{
		Broker: bus, Node: "stays", MoveTimeout: time.Second, OnPresence: seen.onPresence,
	})
	goes := cluster.New(quick(cluster.Config{Broker: bus.Peer(), Node: "goes"}))
	check(t, goes.Start(h.ctx))
	ann, bob := h.join(goes, "ann", "room"), h.join(goes, "bob", "room")
	seen.shows(t, "room", "ann", "bob")
	before := id(t, goes, ann.far)
	goes.HandOver()
	leaktest.Until(t, "the other node knows", func() bool {
		nodes := stays.Nodes()
		return len(nodes) == 2 && nodes[1].Moving
	})
	ann.near.Abort()
	bob.near.Abort()
	check(t, goes.Close(h.ctx))
	again := h.hub(cluster.Config{Broker: bus.Peer(), Node: "goes"}) // its successor has its name
	acquainted(t, []*cluster.Hub{stays, again})
	h.join(again, "ann", "room")
	leaktest.Until(t, "ann is there again", func() bool {
		members, err := stays.Members(h.ctx, "room")
		check(t, err)
		return slices.ContainsFunc(members, func(m cluster.Member) bool {
			return m.User == "ann" && m.ID != before
		})
	})
	count(t, "room", 2, stays)
	leaktest.Until(t, "the move is told", func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return seen.moves == 1
	})
	seen.shows(t, "room", "ann") // when bob hasn't come
}

// Callbacks may use the hub, and wait.
func TestCallbacksUseTheHub(t *testing.T) {
	h := open(t, websocket.Options{})
	var hub *cluster.Hub
	told := make(chan []cluster.Member, 1)
	hub = h.hub(
		cluster.Config{
			OnPresence: func(ctx context.Context, room string, joined, _ []cluster.Member) {
				check(t, hub.Broadcast(ctx, room, text("%d joined", len(joined))))
				members, err := hub.Members(ctx, room)
				check(t, err)
				told <- members
			},
		},
	)
	c := h.dial()
	check(t, hub.Join(c.far, "room", nil))
	c.want("1 joined")
	if members := receive(t, told); len(members) != 1 {
		t.Error(members)
	}
}

// What a member has said of itself is what it has said last, also when that is only learnt later.
func TestLostDiffOfMeta(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus.Peer()}
	var seen diary
	a := h.hub(cluster.Config{Broker: bus, Node: "a"})
	b := h.hub(cluster.Config{Broker: broker, Node: "b", OnPresence: seen.onPresence})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.join(a, "ann", "room")
	seen.shows(t, "room", "ann")
	for n := range 5 {
		lost := func(subject string, message []byte) bool { return saidBy("a", message) == 4 }
		broker.loses.Store(&lost)
		a.Leave(c.far, "room")
		check(t, a.Join(c.far, "room", fmt.Append(nil, n)))
		leaktest.Until(t, "it is told", func() bool {
			members, err := b.Members(h.ctx, "room")
			check(t, err)
			return len(members) == 1 && string(members[0].Meta) == fmt.Sprint(n)
		})
		broker.loses.Store(nil)
		seen.shows(t, "room", "ann")
	}
}

// A node that hands over goes on if it isn't ended: whoever has left it is gone when the time is
// over, and others know that it hands over though they have missed its word.
func TestHandOverThatIsNoEnd(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus}
	var seen, own diary
	const soon = 50 * beat
	stays := h.hub(cluster.Config{
		Broker: broker, Node: "stays", MoveTimeout: soon, OnPresence: seen.onPresence,
	})
	moves := h.hub(cluster.Config{
		Broker: bus.Peer(), Node: "moves", MoveTimeout: soon, OnPresence: own.onPresence,
	})
	acquainted(t, []*cluster.Hub{stays, moves})
	ann, bob := h.join(moves, "ann", "room"), h.join(moves, "bob", "room")
	seen.shows(t, "room", "ann", "bob")
	own.shows(t, "room", "ann", "bob")
	calls := func(d *diary) int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.calls
	}
	before, beforeOwn := calls(&seen), calls(&own)
	var once sync.Once
	loses := func(_ string, message []byte) (lost bool) {
		if saidBy("moves", message) == kindBye {
			once.Do(func() { lost = true })
		}
		return lost
	}
	broker.loses.Store(&loses)
	moves.HandOver()
	leaktest.Until(t, "the other node knows", func() bool { return stays.Nodes()[1].Moving })
	h.join(stays, "ann", "room")
	count(t, "room", 2, stays, moves)
	bob.near.Abort()
	leaktest.Until(t, "bob has left", func() bool { return moves.Count("room") == 1 })
	if a, b := calls(&seen), calls(&own); a != before+1 || b != beforeOwn+1 || seen.moves != 1 ||
		own.moves != 1 {
		t.Errorf("told of more than a move: %v, %v", seen.users, own.users)
	}
	leaktest.Until(t, "the time is over", func() bool {
		return !stays.Nodes()[1].Moving && !moves.Nodes()[0].Moving
	})
	count(t, "room", 2, stays, moves) // ann is in the room twice, bob isn't
	ann.near.Abort()
	count(t, "room", 1, stays, moves)
}

// Who is on a node that hands over is there once, also when that isn't heard for a while.
func TestHandOverAndSilence(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus.Peer()}
	var seen diary
	stays := h.hub(cluster.Config{
		Broker: broker, Node: "stays", NodeTimeout: 5 * beat, OnPresence: seen.onPresence,
	})
	moves := h.hub(cluster.Config{Broker: bus, Node: "moves"})
	acquainted(t, []*cluster.Hub{stays, moves})
	check(t, moves.Join(h.dial().far, "room", nil))
	count(t, "room", 1, stays)
	moves.HandOver()
	leaktest.Until(t, "the other node knows", func() bool { return stays.Nodes()[1].Moving })
	cut := func(_ string, message []byte) bool { return saidBy("moves", message) != 0 }
	broker.loses.Store(&cut)
	leaktest.Until(t, "it isn't heard", func() bool { return stays.Stats().Nodes == 1 })
	broker.loses.Store(nil)
	acquainted(t, []*cluster.Hub{stays, moves})
	heartbeats(t, stays, 10)
	count(t, "room", 1, stays)
	seen.shows(t, "room", "")
}
