package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

var someHistory = cluster.MemoryHistory{Messages: 100}

// With a history, what was lost is fetched, and comes in order: nobody is told of a gap.
func TestRecovers(t *testing.T) {
	h := open(t, websocket.Options{})
	a, b, broker, seen, c := h.listeners(someHistory)
	heartbeats(t, a, 10)
	check(t, a.Broadcast(h.ctx, "room", text("first")))
	c.want("first")
	for n := range 10 {
		broker.loses.Store(next("room.room"))
		check(t, a.Broadcast(h.ctx, "room", text("lost %d", n)))
		for i := range 3 * (n % 2) { // or the heartbeat shows it
			check(t, a.Broadcast(h.ctx, "room", text("after %d", i)))
		}
		c.want(fmt.Sprintf("lost %d", n))
		for i := range 3 * (n % 2) {
			c.want(fmt.Sprintf("after %d", i))
		}
	}
	broker.Lost("", cluster.ErrReconnected)
	check(t, a.Broadcast(h.ctx, "room", text("last")))
	c.want("last")
	if s := b.Stats(); s.Recovered < 10 {
		t.Errorf("%+v", s)
	}
	if n := seen.count("room"); n > 0 {
		t.Errorf("%d gaps", n)
	}
}

// What the history doesn't have, as it never got there, is a gap.
func TestUnrecoverable(t *testing.T) {
	h := open(t, websocket.Options{})
	a, b, broker, seen, c := h.listeners(someHistory)
	heartbeats(t, a, 10)
	check(t, b.Broadcast(h.ctx, "room", text("first")))
	c.want("first")
	broker.drops.Store(next("room.room"))
	check(t, b.Broadcast(h.ctx, "room", text("lost")))
	check(t, b.Broadcast(h.ctx, "room", text("second")))
	c.want("second")
	seen.want(t, "room", "", cluster.ErrMissed)
	broker.loses.Store(&everything)
	for range 150 {
		check(t, a.Broadcast(h.ctx, "room", text("too much")))
	}
	heartbeats(t, a, 1)
	broker.loses.Store(nil)
	check(t, a.Broadcast(h.ctx, "room", text("third")))
	c.want("third")
	seen.want(t, "room", "", cluster.ErrUnrecoverable)
}

var everything = func(subject string, _ []byte) bool { return subject == "room.room" }

// A said is what clients are told with a position.
type said struct {
	At   cluster.Position
	Text string
}

func withPosition(p cluster.Publication) websocket.Message {
	data, _ := json.Marshal(said{p.At, string(p.Message.Data)})
	return websocket.Message{Opcode: websocket.Text, Data: data}
}

func (c *client) said() said {
	c.h.t.Helper()
	m, err := c.near.Recv(c.h.inTime())
	check(c.h.t, err)
	var s said
	check(c.h.t, json.Unmarshal(m.Data, &s))
	return s
}

// A client that comes back, on another node, gets what it has missed, and then what is said, once
// and in order, also while much is being said.
func TestJoinSince(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(cluster.MemoryHistory{Messages: 10_000})
	var hubs []*cluster.Hub
	for i := range 2 {
		config := cluster.Config{
			Broker:    bus.Peer(),
			Node:      fmt.Sprint(i),
			Encode:    withPosition,
			MaxMissed: 10_000,
		}
		hubs = append(hubs, h.hub(config))
	}
	acquainted(t, hubs)
	witness := h.dial()
	check(t, hubs[0].Join(witness.far, "room", nil))
	c := h.dial()
	at, err := hubs[1].JoinSince(h.ctx, c.far, "room", nil, cluster.Position{})
	check(t, err)
	const all = 3000
	go func() {
		for n := range all {
			if err := hubs[n%2].Broadcast(h.ctx, "room", text("x")); err != nil {
				t.Error(err)
			}
		}
	}()
	var want, got []cluster.Position
	joins := 0
	for range all {
		want = append(want, witness.said().At)
	}
	for len(got) < all {
		s := c.said()
		got = append(got, s.At)
		if s.At.Offset <= at.Offset {
			t.Fatalf("%v came behind %v", s.At, at)
		}
		at = s.At
		if len(got)%250 == 0 && len(got) < all {
			joins++
			c.near.Abort()
			c = h.dial()
			if _, err = hubs[joins%2].JoinSince(h.ctx, c.far, "room", nil, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("message %d is %v, want %v", i, got[i], want[i])
		}
	}
	if joins != all/250-1 {
		t.Errorf("%d joins", joins)
	}
}

// Who can't be given all joins, is given nothing, and is told.
func TestJoinSinceTooLate(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(cluster.MemoryHistory{Messages: 10})
	hub := h.hub(cluster.Config{Broker: bus, Encode: withPosition, MaxMissed: 5})
	c := h.dial()
	at, err := hub.JoinSince(h.ctx, c.far, "room", nil, cluster.Position{})
	check(t, err)
	say := func(n int) {
		for range n {
			check(t, hub.Broadcast(h.ctx, "room", text("x")))
			c.said()
		}
	}
	say(5)
	other := h.dial()
	now, err := hub.JoinSince(h.ctx, other.far, "room", nil, at)
	check(t, err)
	for range 5 {
		if s := other.said(); s.At.Offset > now.Offset || s.At.Offset <= at.Offset {
			t.Errorf("%v isn't between %v and %v", s.At, at, now)
		}
	}
	for what, since := range map[string]cluster.Position{
		"more than MaxMissed": at, "another epoch": {Offset: now.Offset, Epoch: "x"},
		"the future": {Offset: now.Offset + 100, Epoch: now.Epoch},
	} {
		say(1)
		c := h.dial()
		if _, err := hub.JoinSince(h.ctx, c.far, "room", nil, since); !errors.Is(
			err,
			cluster.ErrUnrecoverable,
		) {
			t.Errorf("%s: %v", what, err)
		}
		check(t, hub.Broadcast(h.ctx, "room", text("%s", what)))
		if s := c.said(); s.Text != what {
			t.Errorf("%s: got %v first", what, s)
		}
	}
	again, err := hub.JoinSince(h.ctx, c.far, "room", nil, at)
	check(t, err)
	for c.said().At != again {
	}
	check(t, hub.Broadcast(h.ctx, "room", text("again")))
	if s := c.said(); s.Text != "again" {
		t.Errorf("a member was sent %v again", s)
	}
	plain := h.hub(cluster.Config{})
	if _, err := plain.JoinSince(h.ctx, c.far, "room", nil, at); !errors.Is(
		err,
		cluster.ErrUnrecoverable,
	) {
		t.Error(err)
	}
	count(t, "room", 1, plain)
}

// The memory broker's history is as long as it is configured, and no longer.
func TestMemoryHistory(t *testing.T) {
	m := cluster.MemoryWith(cluster.MemoryHistory{Messages: 3, Bytes: 20})
	check(t, m.Start(t.Context(), nil))
	defer m.Close(t.Context())
	_, top, err := m.Since(t.Context(), "room.a", cluster.Position{}, 10)
	check(t, err)
	start := top
	since := func(at cluster.Position) string {
		stored, _, err := m.Since(t.Context(), "room.a", at, 10)
		if err != nil {
			return err.Error()
		}
		all := ""
		for _, s := range stored {
			all += string(s.Message)
		}
		return all
	}
	for i, want := range []string{"0", "01", "012", cluster.ErrUnrecoverable.Error()} {
		check(t, m.Publish("room.a", []byte(fmt.Sprint(i))))
		check(t, m.Publish("room.b", []byte("b")))
		check(t, m.Publish("user.a", []byte("not kept")))
		if got := since(start); got != want {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
	_, top, err = m.Since(t.Context(), "room.a", cluster.Position{}, 10)
	check(t, err)
	if got := since(top); got != "" {
		t.Errorf("got %q at the top", got)
	}
	check(t, m.Publish("room.a", make([]byte, 19)))
	check(t, m.Publish("room.a", make([]byte, 19)))
	if got := since(top); got != cluster.ErrUnrecoverable.Error() {
		t.Errorf("got %d bytes, of 20", len(got))
	}
}

// What a node said is recovered whatever has become of the node since.
func TestRecoversOfNodesThatAreGone(t *testing.T) {
	for name, then := range map[string]func(h *house, bus *cluster.MemoryBroker){
		"it has ended": func(*house, *cluster.MemoryBroker) {},
		"it has begun anew": func(h *house, bus *cluster.MemoryBroker) {
			h.hub(cluster.Config{Broker: bus.Peer(), Node: "goes"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, websocket.Options{})
			bus := cluster.MemoryWith(someHistory)
			broker := &faulty{Broker: bus.Peer()}
			var seen gaps
			b := h.hub(cluster.Config{
				Broker: faultyHistory{
					faulty: broker,
				}, Node: "b", NodeTimeout: 5 * beat, OnGap: seen.onGap,
			})
			goes := cluster.New(quick(cluster.Config{Broker: bus.Peer(), Node: "goes"}))
			check(t, goes.Start(h.ctx))
			acquainted(t, []*cluster.Hub{goes, b})
			c := h.dial()
			check(t, b.Join(c.far, "room", nil))
			leaktest.Until(
				t,
				"the room is listened to",
				func() bool { return b.Stats().Subscribed == 1 },
			)
			check(t, goes.Broadcast(h.ctx, "room", text("first")))
			c.want("first")
			cut := func(_ string, message []byte) bool { return saidBy("goes", message) != 0 }
			broker.loses.Store(&cut)
			leaktest.Until(t, "it isn't heard", func() bool { return b.Stats().Nodes == 1 })
			heartbeats(t, b, 20) // it is forgotten
			for n := range 3 {
				check(t, goes.Broadcast(h.ctx, "room", text("lost %d", n)))
			}
			check(t, goes.Close(h.ctx))
			broker.loses.Store(nil)
			then(h, bus)
			nodes := b.Stats().Nodes
			broker.Lost("", cluster.ErrReconnected)
			c.want("lost 0", "lost 1", "lost 2")
			heartbeats(t, b, 5)
			if s := b.Stats(); s.Gaps > 1 || s.Late > 0 || // it wasn't heard, which is told
				name == "it has ended" && s.Nodes != nodes {
				t.Errorf("%+v", s)
			}
		})
	}
}

// slowHistory is a History that keeps its answer back until it may give it.
type slowHistory struct {
	faultyHistory
	slow    atomic.Bool
	asked   chan struct{}
	release chan struct{}
}

func (s *slowHistory) Since(
	ctx context.Context, subject string, since cluster.Position, limit int,
) ([]cluster.Stored, cluster.Position, error) {
	stored, top, err := s.faultyHistory.Since(ctx, subject, since, limit)
	if s.slow.CompareAndSwap(true, false) {
		s.asked <- struct{}{}
		<-s.release
	}
	return stored, top, err
}

// What is lost while something else is recovered is recovered, too.
func TestRecoversWhatIsLostMeanwhile(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(someHistory)
	broker := &faulty{Broker: bus.Peer()}
	history := &slowHistory{
		faultyHistory: faultyHistory{
			faulty: broker,
		}, asked: make(chan struct{}), release: make(chan struct{}),
	}
	b := h.hub(cluster.Config{Broker: history, Node: "b"})
	a := h.hub(cluster.Config{Broker: bus, Node: "a"})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.dial()
	check(t, b.Join(c.far, "room", nil))
	heartbeats(t, b, 3)
	check(t, a.Broadcast(h.ctx, "room", text("first")))
	c.want("first")
	for range 3 {
		cut := func(_ string, message []byte) bool { return saidBy("a", message) != 0 }
		broker.loses.Store(&cut)
		check(t, a.Broadcast(h.ctx, "room", text("lost")))
		history.slow.Store(true)
		broker.Lost("room.room", cluster.ErrSlow)
		receive(t, history.asked)
		check(t, a.Broadcast(h.ctx, "room", text("lost meanwhile")))
		heartbeats(t, a, 8) // none of which b hears
		broker.loses.Store(nil)
		heartbeats(t, b, 8)
		history.release <- struct{}{}
		c.want("lost", "lost meanwhile")
	}
	if s := b.Stats(); s.Gaps > 3 || b.Holding() != 0 { // heartbeats were missing, which is told
		t.Errorf("%+v, %d bytes held", s, b.Holding())
	}
}

// A room in which nothing is said doesn't remember who has come to it.
func TestJoinSinceLeavesNothing(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{Broker: cluster.MemoryWith(someHistory), Encode: withPosition})
	witness := h.dial()
	check(t, hub.Join(witness.far, "room", nil))
	check(t, hub.Broadcast(h.ctx, "room", text("x")))
	at := witness.said().At
	at.Offset--
	for range 10 {
		c := h.dial()
		_, err := hub.JoinSince(h.ctx, c.far, "room", nil, at)
		check(t, err)
		c.said()
		c.near.Abort()
	}
	count(t, "room", 1, hub)
	if n := hub.Ahead("room"); n > 0 || hub.Holding() != 0 {
		t.Errorf("%d are remembered, %d bytes", n, hub.Holding())
	}
}

// What is on its way to a loop doesn't come twice to a connection there that was given it already.
func TestJoinSinceOfLines(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{
		Broker:    cluster.MemoryWith(someHistory),
		EncodeRaw: func(p cluster.Publication) []byte { return append(p.Message.Data, '\n') },
	})
	address, conns := h.lineServer()
	dial := func() (net.Conn, *server.Conn) {
		near, err := net.Dial("tcp", address)
		check(t, err)
		t.Cleanup(func() { near.Close() })
		return near, receive(t, conns)
	}
	_, first := dial()
	near, second := dial()
	for second.Socket().Loop() != first.Socket().Loop() {
		near, second = dial()
	}
	at, err := hub.JoinSince(h.ctx, first, "room", nil, cluster.Position{})
	check(t, err)
	entered, gate := make(chan struct{}), make(chan struct{})
	check(t, first.Socket().Loop().Post(func() { close(entered); <-gate }))
	receive(t, entered)
	check(t, hub.Broadcast(h.ctx, "room", text("once")))
	leaktest.Until(t, "it is on its way", func() bool { return hub.Stats().Delivered == 1 })
	_, err = hub.JoinSince(h.ctx, second, "room", nil, at)
	check(t, err)
	close(gate)
	check(t, hub.Broadcast(h.ctx, "room", text("end")))
	got := make([]byte, len("once\nend\n"))
	check(t, near.SetReadDeadline(time.Now().Add(leaktest.Patience)))
	if _, err := io.ReadFull(near, got); err != nil || string(got) != "once\nend\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// Who comes back to a node that has heard nothing of the room yet is told, too, of what is missing
// behind what the history has, and within.
func TestJoinSinceAndGaps(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(someHistory)
	broker := &faulty{Broker: bus.Peer()}
	a := h.hub(cluster.Config{Broker: faultyHistory{faulty: broker}, Node: "a"})
	var seen gaps
	b := h.hub(
		cluster.Config{
			Broker:      bus,
			Node:        "b",
			OnGap:       seen.onGap,
			Heartbeat:   10 * time.Second,
			NodeTimeout: time.Minute,
		},
	)
	acquainted(t, []*cluster.Hub{a, b})
	start, err := b.JoinSince(h.ctx, h.dial().far, "another", nil, cluster.Position{})
	check(t, err)
	say := func(what string, lost bool) {
		if lost {
			broker.drops.Store(next("room.room"))
		}
		check(t, a.Broadcast(h.ctx, "room", text("%s", what)))
		leaktest.Until(t, "it is out", func() bool { return a.Stats().Queued == 0 })
	}
	say("1", false)
	c := h.dial()
	if _, err := b.JoinSince(h.ctx, c.far, "room", nil, start); err != nil {
		t.Fatal(err)
	}
	c.want("1")
	say("2", true)
	say("3", false)
	c.want("3")
	seen.want(t, "room", "", cluster.ErrMissed)
	c = h.dial()
	if _, err := b.JoinSince(h.ctx, c.far, "room", nil, start); err != nil {
		t.Fatal(err)
	}
	c.want("1", "3")
	seen.want(t, "room", "", cluster.ErrMissed)
}

// A history that knows less than this node has heard is asked again.
func TestJoinSinceOfAStaleHistory(t *testing.T) {
	h := open(t, websocket.Options{})
	stale := new(atomic.Int32)
	broker := faultyHistory{&faulty{Broker: cluster.MemoryWith(someHistory)}, stale}
	hub := h.hub(cluster.Config{Broker: broker})
	c := h.dial()
	at, err := hub.JoinSince(h.ctx, c.far, "room", nil, cluster.Position{})
	check(t, err)
	for n := range 3 {
		check(t, hub.Broadcast(h.ctx, "room", text("%d", n)))
		c.want(fmt.Sprint(n))
	}
	stale.Store(3)
	c = h.dial()
	if _, err := hub.JoinSince(h.ctx, c.far, "room", nil, at); err != nil {
		t.Fatal(err)
	}
	c.want("0", "1", "2")
}

// With a history all that a member gets has its place there: what comes behind its successors, of
// whatever node, is too late, and told.
func TestPositionsGrow(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(someHistory)
	broker := &faulty{Broker: bus.Peer()}
	var seen gaps
	a := h.hub(cluster.Config{Broker: bus, Node: "a"})
	b := h.hub(cluster.Config{Broker: faultyHistory{faulty: broker}, Node: "b", OnGap: seen.onGap})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.dial()
	check(t, b.Join(c.far, "room", nil))
	leaktest.Until(t, "the room is listened to", func() bool { return b.Stats().Subscribed == 1 })
	say := func(hub *cluster.Hub, what string) { check(t, hub.Broadcast(h.ctx, "room", text("%s", what))) }
	say(a, "a1")
	say(b, "b1")
	for range 2 {
		_, err := c.near.Recv(h.inTime())
		check(t, err)
	}
	_, top, err := bus.Since(h.ctx, "room.room", cluster.Position{}, 0)
	check(t, err)
	broker.loses.Store(next("room.room"))
	say(a, "late")
	var lost []cluster.Stored
	leaktest.Until(t, "it is kept", func() bool {
		lost, _, err = bus.Since(h.ctx, "room.room", top, 10)
		check(t, err)
		return len(lost) == 1
	})
	say(b, "b2")
	c.want("b2")
	broker.Receive("room.room", lost[0].Message, lost[0].At)
	say(b, "b3")
	c.want("b3")
	seen.want(t, "room", "", cluster.ErrMissed)
}
