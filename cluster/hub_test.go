package cluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket"
)

// A broadcast reaches the members on all nodes once, in order, but for those excepted.
func TestBroadcast(t *testing.T) {
	h := open(t, websocket.Options{})
	hubs := h.hubs(3, nil)
	var clients []*client
	for i := range 6 {
		c := h.dial()
		clients = append(clients, c)
		check(t, hubs[i%3].Join(c.far, "room", nil))
		check(t, hubs[i%3].Join(c.far, "room", nil)) // which changes nothing
	}
	stranger := h.dial()
	check(t, hubs[0].Join(stranger.far, "other", nil))
	count(t, "room", 6, hubs...)
	for n := range 20 {
		check(
			t,
			hubs[n%3].Broadcast(h.ctx, "room", text("to all %d", n), id(t, hubs[0], clients[0].far),
				id(t, hubs[1], clients[1].far)),
		)
		for _, c := range clients[2:] {
			c.want(fmt.Sprintf("to all %d", n))
		}
	}
	check(t, hubs[2].Broadcast(h.ctx, "room", text("the end")))
	check(t, hubs[2].Broadcast(h.ctx, "other", text("the only one")))
	clients[0].want("the end")
	clients[1].want("the end")
	stranger.want("the only one")
}

// What one node sends to a room comes in that order, at every member.
func TestOrder(t *testing.T) {
	const senders, each = 3, 200
	h := open(t, websocket.Options{})
	hubs := h.hubs(senders, nil)
	var clients []*client
	for i := range 4 {
		c := h.dial()
		clients = append(clients, c)
		check(t, hubs[i%senders].Join(c.far, "room", nil))
	}
	var work sync.WaitGroup
	for _, hub := range hubs {
		work.Go(func() {
			for n := range each {
				check(t, hub.Broadcast(h.ctx, "room", text("%s %d", hub.Node(), n)))
			}
		})
	}
	for _, c := range clients {
		var got [senders]int
		for range senders * each {
			m, err := c.near.Recv(h.inTime())
			check(t, err)
			var sender, n int
			fmt.Sscan(string(m.Data), &sender, &n)
			if got[sender] != n {
				t.Fatalf("sender %d: got %d, want %d", sender, n, got[sender])
			}
			got[sender]++
		}
	}
	work.Wait()
}

// A connection of package server can join, too, and gets what EncodeRaw makes.
func TestRawMembers(t *testing.T) {
	h := open(t, websocket.Options{})
	hubs := h.hubs(2, func(_ int, c *cluster.Config) {
		c.EncodeRaw = func(p cluster.Publication) []byte {
			return fmt.Appendf(nil, "%s from %s: %s\n", p.Room+p.User, p.Node, p.Message.Data)
		}
	})
	address, conns := h.lineServer()
	var lines []*bufio.Reader
	var ids []cluster.ID
	for i := range 4 {
		conn, err := net.Dial("tcp", address)
		check(t, err)
		defer conn.Close()
		lines = append(lines, bufio.NewReader(conn))
		c := receive(t, conns)
		check(t, hubs[i%2].Bind(c, fmt.Sprintf("user%d", i)))
		check(t, hubs[i%2].Join(c, "room", nil))
		ids = append(ids, id(t, hubs[i%2], c))
	}
	c := h.dial()
	check(t, hubs[0].Join(c.far, "room", nil))
	check(t, hubs[0].Broadcast(h.ctx, "room", text("hello"), ids[0]))
	check(t, hubs[0].ToUser(h.ctx, "user0", text("only you")))
	c.want("hello")
	for i, r := range lines {
		want := "room from 0: hello\n"
		if i == 0 {
			want = "user0 from 0: only you\n"
		}
		if line, err := r.ReadString('\n'); line != want {
			t.Errorf("member %d got %q, %v", i, line, err)
		}
	}
	check(t, hubs[1].Disconnect(h.ctx, "user0", 4000, "enough"))
	if _, err := lines[0].ReadString('\n'); err == nil {
		t.Error("not disconnected")
	}
	count(t, "room", 4, hubs...)
}

// BroadcastHere and ToUserHere reach those on this node, of both kinds, with the message as it is.
func TestBroadcastHere(t *testing.T) {
	h := open(t, websocket.Options{})
	hubs := h.hubs(2, func(_ int, c *cluster.Config) {
		c.Encode = func(p cluster.Publication) websocket.Message { return text("<%s>", p.Message.Data) }
	})
	near, spared, far := h.dial(), h.dial(), h.dial()
	check(t, hubs[0].Join(near.far, "room", nil))
	check(t, hubs[0].Join(spared.far, "room", nil))
	check(t, hubs[1].Join(far.far, "room", nil))
	address, conns := h.lineServer()
	conn, err := net.Dial("tcp", address)
	check(t, err)
	defer conn.Close()
	check(t, hubs[0].Join(receive(t, conns), "room", nil))
	count(t, "room", 4, hubs...)
	check(t, hubs[0].BroadcastHere(h.ctx, "room", text("one\n"), id(t, hubs[0], spared.far)))
	check(t, hubs[0].BroadcastHere(h.ctx, "another", text("two")))
	near.want("one\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "one\n" {
		t.Errorf("%q, %v", line, err)
	}
	ann := []*client{h.dial(), h.dial()}
	for i, c := range ann {
		check(t, hubs[i].Bind(c.far, "ann"))
		check(t, hubs[i].ToUserHere(h.ctx, "ann", text("you on %d", i)))
		c.want(fmt.Sprint("you on ", i))
	}
	check(t, hubs[0].Broadcast(h.ctx, "room", text("all")))
	for _, c := range []*client{near, spared, far} {
		c.want("<all>")
	}
	if err := hubs[0].BroadcastHere(h.ctx, "room", websocket.Message{}); err == nil {
		t.Error("no message was sent")
	}
	before := cluster.New(cluster.Config{})
	err = before.BroadcastHere(h.ctx, "room", text("early"), id(t, hubs[0], near.far))
	leaktest.WantError(t, "before Start", err, cluster.ErrNotRunning)
}

// What OnPresence broadcasts reaches whoever it is told of, also of the loop that it runs on, which
// may not have come to the Join yet.
func TestBroadcastHereFromOnPresence(t *testing.T) {
	h := open(t, websocket.Options{})
	var clients []*client
	for range 20 {
		clients = append(clients, h.dial())
	}
	var hub *cluster.Hub
	hub = h.hub(cluster.Config{
		OnPresence: func(ctx context.Context, room string, joined, _ []cluster.Member) {
			if room == "first" && len(joined) > 0 {
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i, c := range clients {
						check(t, hub.Join(c.far, fmt.Sprint("room", i), nil))
					}
				}()
				<-done // the loop does nothing else meanwhile
			}
			if len(joined) > 0 {
				check(t, hub.BroadcastHere(ctx, room, text("welcome to %s", room)))
			}
		},
	})
	first := h.dial()
	check(t, hub.Join(first.far, "first", nil))
	first.want("welcome to first")
	for i, c := range clients {
		c.want(fmt.Sprint("welcome to room", i))
	}
}

// A connection has its ID before it is in a room, and is found by it on its node until it ends.
func TestID(t *testing.T) {
	h := open(t, websocket.Options{})
	hubs := h.hubs(2, nil)
	c, other := h.dial(), h.dial()
	early := id(t, hubs[0], c.far)
	check(t, hubs[0].Bind(c.far, "ann"))
	check(t, hubs[0].Join(c.far, "room", nil))
	check(t, hubs[1].Join(other.far, "room", nil))
	count(t, "room", 2, hubs...)
	if late := id(t, hubs[0], c.far); late != early {
		t.Errorf("%v became %v", early, late)
	}
	if found := hubs[0].Conn(early); found != cluster.Conn(c.far) {
		t.Errorf("found %v", found)
	}
	if found := hubs[1].Conn(early); found != nil {
		t.Errorf("found %v on another node", found)
	}
	check(t, hubs[1].Broadcast(h.ctx, "room", text("without ann"), early))
	other.want("without ann")
	check(t, hubs[1].Broadcast(h.ctx, "room", text("with ann")))
	c.want("with ann")
	c.near.Abort()
	leaktest.Until(t, "it has ended", func() bool { return hubs[0].Conn(early) == nil })
	if n := hubs[0].Stats().Members; n != 0 {
		t.Errorf("%d members", n)
	}
	if _, ok := cluster.New(cluster.Config{}).ID(other.far); ok {
		t.Error("an ID before Start")
	}
}

// ToUser reaches all connections of a user, Disconnect closes them.
func TestUsers(t *testing.T) {
	h := open(t, websocket.Options{})
	hubs := h.hubs(2, nil)
	var ann []*client
	for i := range 4 {
		c := h.dial()
		ann = append(ann, c)
		check(t, hubs[i%2].Bind(c.far, "ann"))
		check(t, hubs[i%2].Bind(c.far, "ann"))
	}
	bob := h.dial()
	check(t, hubs[0].Bind(bob.far, "bob"))
	if err := hubs[0].Bind(bob.far, "ann"); !errors.Is(err, cluster.ErrBound) {
		t.Errorf("bound twice: %v", err)
	}
	check(t, hubs[1].Join(bob.far, "room", nil)) // another hub's member, which knows no bob
	if err := hubs[1].Bind(bob.far, "bob"); !errors.Is(err, cluster.ErrBound) {
		t.Errorf("bound in a room: %v", err)
	}
	for _, hub := range hubs {
		check(t, hub.ToUser(h.ctx, "ann", text("from %s", hub.Node())))
		for _, c := range ann {
			c.want("from " + hub.Node())
		}
	}
	check(t, hubs[1].ToUser(h.ctx, "nobody", text("who?")))
	check(t, hubs[1].Disconnect(h.ctx, "ann", 4001, "another device"))
	for _, c := range ann {
		_, err := c.near.Recv(h.inTime())
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != 4001 || closed.Reason != "another device" {
			t.Error(err)
		}
	}
	check(t, hubs[1].ToUser(h.ctx, "bob", text("still here")))
	bob.want("still here")
}

// Members are what was joined, on all nodes, until they leave or end.
func TestMembers(t *testing.T) {
	h := open(t, websocket.Options{})
	hubs := h.hubs(3, nil)
	var clients []*client
	for i := range 6 {
		c := h.dial()
		clients = append(clients, c)
		check(t, hubs[i%3].Bind(c.far, fmt.Sprint("user", i)))
		check(t, hubs[i%3].Join(c.far, "room", fmt.Append(nil, "meta", i)))
	}
	count(t, "room", 6, hubs...)
	for _, hub := range hubs {
		members, err := hub.Members(h.ctx, "room")
		check(t, err)
		for i, c := range clients {
			want := cluster.Member{
				ID: id(
					t,
					hubs[i%3],
					c.far,
				), User: fmt.Sprint("user", i), Meta: fmt.Append(nil, "meta", i),
			}
			if !slices.ContainsFunc(
				members,
				func(m cluster.Member) bool { return reflect.DeepEqual(m, want) },
			) {
				t.Errorf("node %s: %v isn't among %v", hub.Node(), want, members)
			}
		}
		if rooms := hub.Rooms(clients[0].far); hub == hubs[0] != (len(rooms) == 1) {
			t.Errorf("rooms: %v", rooms)
		}
	}
	hubs[0].Leave(clients[0].far, "room")
	hubs[0].Leave(clients[0].far, "room")
	hubs[1].Leave(clients[2].far, "room") // which isn't its member
	count(t, "room", 5, hubs...)
	clients[1].near.Abort()
	clients[2].far.Close(websocket.StatusNormal, "")
	count(t, "room", 3, hubs...)
	for _, c := range clients[3:] {
		c.near.Abort()
	}
	count(t, "room", 0, hubs...)
	if members, err := hubs[0].Members(h.ctx, "room"); len(members) > 0 || err != nil {
		t.Error(members, err)
	}
}

// A connection that has ended can't join, and doesn't become a member for ever when it ends in
// between.
func TestJoinOfTheEnded(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{})
	for range 50 {
		c := h.dial()
		done := make(chan struct{})
		go func() { c.near.Abort(); close(done) }()
		hub.Join(c.far, "room", nil)
		hub.Bind(c.far, "ann")
		<-done
	}
	count(t, "room", 0, hub)
	leaktest.Until(t, "nothing is left", func() bool { return hub.Stats().Members == 0 })
	if err := hub.Join(new(websocket.Conn), "room", nil); !errors.Is(
		err,
		websocket.ErrNotEstablished,
	) {
		t.Error(err)
	}
	if err := hub.Join(nil, "room", nil); err == nil {
		t.Error("nil has joined")
	}
}

// What is wrong is refused, and says what it is.
func TestRefused(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{MaxMeta: 10, MaxRooms: 2, MaxMessage: 100})
	c := h.dial()
	for _, name := range []string{
		"", "a b", "a\tb", ".a", "a.", "a..b", "a*", ">", "\x00", "\xff", "a\u202e", strings.Repeat("x", 201),
	} {
		for what, err := range map[string]error{
			"Join":       hub.Join(c.far, name, nil),
			"Bind":       hub.Bind(c.far, name),
			"Broadcast":  hub.Broadcast(h.ctx, name, text("x")),
			"ToUser":     hub.ToUser(h.ctx, name, text("x")),
			"Disconnect": hub.Disconnect(h.ctx, name, 4000, ""),
			"except":     hub.Broadcast(h.ctx, "room", text("x"), cluster.ID{Node: name}),
			"CheckName":  cluster.CheckName(name),
		} {
			if !errors.Is(err, cluster.ErrName) {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	check(t, hub.Join(c.far, "ein.Raum-mit/ü&Zeichen", nil))
	check(t, hub.Join(c.far, "2", []byte("0123456789")))
	canceled, cancel := context.WithCancel(h.ctx)
	cancel()
	for what, pair := range map[string][2]error{
		"a third room": {hub.Join(c.far, "3", nil), cluster.ErrTooMany},
		"long meta":    {hub.Join(c.far, "2", make([]byte, 11)), cluster.ErrTooBig},
		"long message": {hub.Broadcast(h.ctx, "2", text("%101s", "")), cluster.ErrTooBig},
		"many excepted": {
			hub.Broadcast(h.ctx, "2", text("x"), make([]cluster.ID, 101)...), cluster.ErrTooBig,
		},
		"canceled": {hub.Broadcast(canceled, "2", text("x")), context.Canceled},
	} {
		if !errors.Is(pair[0], pair[1]) {
			t.Errorf("%s: %v", what, pair[0])
		}
	}
	if hub.Broadcast(h.ctx, "2", websocket.Message{Opcode: websocket.Ping}) == nil {
		t.Error("a ping was broadcast")
	}
	if hub.Disconnect(h.ctx, "ann", 999, "") == nil {
		t.Error("a code was taken that is none")
	}
	idle := cluster.New(cluster.Config{})
	if err := idle.Join(c.far, "room", nil); !errors.Is(err, cluster.ErrNotRunning) {
		t.Error(err)
	}
	check(t, idle.Close(h.ctx))
	for _, config := range []cluster.Config{
		{Node: "a b"}, {MaxRooms: -1}, {Heartbeat: time.Second, NodeTimeout: 2 * time.Second},
	} {
		if err := cluster.New(config).Start(h.ctx); err == nil {
			t.Errorf("%+v was taken", config)
		}
	}
	if err := hub.Start(h.ctx); err == nil {
		t.Error("started twice")
	}
}

// stuck is a Broker that takes its time.
type stuck struct {
	cluster.Broker
	goOn chan struct{}
}

func (s stuck) Publish(subject string, message []byte) error {
	if strings.HasPrefix(subject, "room.") {
		<-s.goOn
	}
	return s.Broker.Publish(subject, message)
}

// What waits for the broker has a bound, nobody but the hub waits, and all that was taken comes.
func TestQueueHasABound(t *testing.T) {
	h := open(t, websocket.Options{})
	goOn := make(chan struct{})
	hub := h.hub(cluster.Config{
		Broker: stuck{cluster.Memory(), goOn}, MaxQueue: 10_000,
	})
	c := h.dial()
	check(t, hub.Join(c.far, "room", nil))
	taken := 0
	for ; ; taken++ {
		if err := hub.Broadcast(h.ctx, "room", text("%d%1000s", taken, "")); err != nil {
			if !errors.Is(err, socket.ErrQueueFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if s := hub.Stats(); taken > 9 || taken < 8 || s.Refused != 1 || s.Queued < 8000 {
		t.Errorf("%d were taken, %+v", taken, s)
	}
	close(goOn)
	for n := range taken {
		c.want(fmt.Sprintf("%d%1000s", n, ""))
	}
	leaktest.Until(t, "the queue is empty", func() bool { return hub.Stats().Queued == 0 })
}

// A room without members is listened to for a while, and then not any more.
func TestLeaveGrace(t *testing.T) {
	h := open(t, websocket.Options{})
	for name, grace := range map[string]time.Duration{"some": 3 * beat, "none": -1} {
		hub := h.hub(cluster.Config{LeaveGrace: grace})
		c := h.dial()
		subscribed := func(n int) {
			t.Helper()
			leaktest.Until(t, fmt.Sprintf("%s: %d are subscribed", name, n), func() bool {
				return hub.Stats().Subscribed == n
			})
		}
		check(t, hub.Bind(c.far, "ann"))
		for range 3 {
			check(t, hub.Join(c.far, "room", nil))
			subscribed(2)
			hub.Leave(c.far, "room")
			subscribed(1)
		}
		for range 100 { // nothing is lost when it is taken up again at once
			check(t, hub.Join(c.far, "room", nil))
			check(t, hub.Broadcast(h.ctx, "room", text("hi")))
			c.want("hi")
			hub.Leave(c.far, "room")
		}
		subscribed(1)
		c.near.Abort()
		subscribed(0)
	}
}

// A hub's end takes its members with it; what was broadcast before still goes out.
func TestClose(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	stays := h.hub(cluster.Config{Broker: bus, Node: "stays"})
	goes := cluster.New(quick(cluster.Config{Broker: bus.Peer(), Node: "goes"}))
	check(t, goes.Start(h.ctx))
	a, b := h.dial(), h.dial()
	check(t, stays.Join(a.far, "room", nil))
	check(t, goes.Join(b.far, "room", nil))
	count(t, "room", 2, stays, goes)
	for n := range 100 {
		check(t, goes.Broadcast(h.ctx, "room", text("%d", n)))
	}
	check(t, goes.Close(h.ctx))
	check(t, goes.Close(h.ctx))
	for n := range 100 {
		a.want(fmt.Sprint(n))
	}
	count(t, "room", 1, stays)
	if err := goes.Broadcast(h.ctx, "room", text("x")); !errors.Is(err, cluster.ErrNotRunning) {
		t.Error(err)
	}
	if n := stays.Stats(); n.Nodes != 1 || n.Gaps != 0 {
		t.Errorf("%+v", n)
	}
	b.near.Abort()
}

// absent is a Broker that can't be reached, for a while.
type absent struct {
	*cluster.MemoryBroker
	away int
}

func (a *absent) Start(ctx context.Context, r cluster.Receiver) error {
	if a.away--; a.away >= 0 {
		return cluster.ErrDisconnected
	}
	return a.MemoryBroker.Start(ctx, r)
}

// A Start that has failed may be tried again, and Close doesn't wait for one that never succeeds.
func TestStartAgain(t *testing.T) {
	h := open(t, websocket.Options{})
	broker := &absent{cluster.Memory(), 2}
	hub := cluster.New(quick(cluster.Config{Broker: broker}))
	for range 2 {
		if err := hub.Start(h.ctx); !errors.Is(err, cluster.ErrDisconnected) {
			t.Error(err)
		}
		if err := hub.Broadcast(h.ctx, "room", text("x")); !errors.Is(err, cluster.ErrNotRunning) {
			t.Error(err)
		}
	}
	check(t, hub.Start(h.ctx))
	c := h.dial()
	check(t, hub.Join(c.far, "room", nil))
	check(t, hub.Broadcast(h.ctx, "room", text("x")))
	c.want("x")
	check(t, hub.Close(h.ctx))
	never := cluster.New(quick(cluster.Config{Broker: &absent{cluster.Memory(), 9}}))
	if never.Start(h.ctx) == nil {
		t.Error("started")
	}
	check(t, never.Close(h.ctx))
	if never.Start(h.ctx) == nil {
		t.Error("started after Close")
	}
}

// The end of the runtime is the end of a hub that nobody has closed: others see its members go.
func TestEndOfTheRuntime(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	stays := h.hub(cluster.Config{Broker: bus})
	check(t, runtime.Run(func(ctx context.Context) error {
		goes := cluster.New(quick(cluster.Config{Broker: bus.Peer()}))
		if err := goes.Start(ctx); err != nil {
			return err
		}
		acquainted(t, []*cluster.Hub{stays, goes})
		return nil
	}))
	leaktest.Until(t, "one is alone", func() bool { return stays.Stats().Nodes == 1 })
}
