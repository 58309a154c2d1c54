package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// blocking is a Broker that doesn't return from Publish for a while.
type blocking struct {
	cluster.Broker
	gate atomic.Pointer[chan struct{}]
}

func (b *blocking) Publish(subject string, message []byte) error {
	if gate := b.gate.Load(); gate != nil {
		<-*gate
	}
	return b.Broker.Publish(subject, message)
}

// Close waits no longer than its context lasts, whatever the Broker does, and nobody else waits.
func TestCloseInTime(t *testing.T) {
	h := open(t, websocket.Options{})
	broker := &blocking{Broker: cluster.Memory()}
	hub := cluster.New(quick(cluster.Config{Broker: broker}))
	check(t, hub.Start(h.ctx))
	gate := make(chan struct{})
	broker.gate.Store(&gate)
	c := h.dial()
	check(t, hub.Join(c.far, "room", nil))
	check(t, hub.Broadcast(h.ctx, "room", text("x")))
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*beat)
		if err := hub.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	if err := hub.Broadcast(h.ctx, "room", text("x")); !errors.Is(err, cluster.ErrNotRunning) {
		t.Error(err)
	}
	close(gate)
	check(t, hub.Close(context.Background()))
}

// A Start that can't begin leaves the hub as it was.
func TestStartThatCannotBegin(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := cluster.New(quick(cluster.Config{}))
	started := make(chan error, 1)
	_, err := h.rt.Go(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		started <- hub.Start(ctx)
	})
	check(t, err)
	if err := receive(t, started); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check(t, hub.Start(h.ctx))
	if err := hub.Start(h.ctx); err == nil {
		t.Error("it was started twice")
	}
	check(t, hub.Close(context.Background()))
}

// A panic of Encode's is reported as those of other callbacks are, what it was to make is missing,
// and the program goes on.
func TestPanicInEncode(t *testing.T) {
	h := open(t, websocket.Options{})
	var seen gaps
	var once sync.Once
	hub := h.hub(cluster.Config{
		OnGap: seen.onGap,
		Encode: func(p cluster.Publication) websocket.Message {
			once.Do(func() { panic("no") })
			return p.Message
		},
	})
	c := h.dial()
	check(t, hub.Join(c.far, "room", nil))
	check(t, hub.Broadcast(h.ctx, "room", text("lost")))
	check(t, hub.Broadcast(h.ctx, "room", text("goes on")))
	c.want("goes on")
	seen.want(t, "room", "", nil)
}

// small is a Broker that carries little.
type small struct{ cluster.Broker }

func (small) MaxMessage() int { return 64 << 10 }

// Meta that the Broker can't carry isn't taken: others would never hear of the member.
func TestMetaThatIsTooMuchForTheBroker(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	a := h.hub(cluster.Config{Broker: small{bus}, Node: "a", MaxMeta: 1 << 20})
	b := h.hub(cluster.Config{Broker: small{bus.Peer()}, Node: "b", MaxMeta: 1 << 20})
	acquainted(t, []*cluster.Hub{a, b})
	c := h.dial()
	if err := a.Join(c.far, "room", make([]byte, 30_000)); !errors.Is(err, cluster.ErrTooBig) {
		t.Error(err)
	}
	check(t, a.Join(c.far, "room", make([]byte, 20_000)))
	count(t, "room", 1, a, b)
}

// A connection that is none is the caller's panic, and nobody else's.
func TestNilConn(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nil has joined")
			}
		}()
		hub.Join((*websocket.Conn)(nil), "room", nil) //nolint:errcheck // it panics
	}()
	check(t, hub.Join(h.dial().far, "room", nil))
	count(t, "room", 1, hub)
}

// A connection to the Broker that ends at once is no error of Start's, which could not be repeated:
// the node is heard of when it is there again.
func TestStartWithoutAHello(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	broker := &faulty{Broker: bus.Peer()}
	a := h.hub(cluster.Config{Broker: bus, Node: "a"})
	broker.silent.Store(true)
	b := h.hub(cluster.Config{Broker: broker, Node: "b"})
	broker.silent.Store(false)
	h.join(b, "ann", "room")
	count(t, "room", 1, a, b)
}

// counter is a Receiver that counts.
type counter struct{ received atomic.Int64 }

func (c *counter) Receive(string, []byte, cluster.Position) { c.received.Add(1) }
func (c *counter) Lost(string, error)                       {}

// Who asks for all members again and again is told them no more than twice in a heartbeat.
func TestGreedyNode(t *testing.T) {
	const slow = 50 * beat
	h := open(t, websocket.Options{})
	bus := cluster.Memory()
	hub := h.hub(cluster.Config{Broker: bus, Node: "a", Heartbeat: slow})
	h.join(hub, "ann", "room")
	var told counter
	greedy := bus.Peer()
	check(t, greedy.Start(h.ctx, &told))
	defer greedy.Close(h.ctx)
	check(t, greedy.Subscribe("node.x"))
	began := time.Now()
	const kindAsk = 7
	for range 1000 {
		check(t, greedy.Publish("node.a", []byte{1, kindAsk, 1, 'x', 1, 0, 0}))
		goruntime.Gosched()
	}
	heartbeats(t, hub, 1)
	if n, most := told.received.Load(), int64(2+4*time.Since(began)/slow); n > most {
		t.Errorf("told %d times, of %d", n, most)
	}
}

// A reason is cut off between characters, so that the code arrives with it.
func TestDisconnectWithALongReason(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{})
	c := h.dial()
	check(t, hub.Bind(c.far, "ann"))
	leaktest.Until(t, "it is listened to", func() bool { return hub.Stats().Subscribed == 1 })
	heartbeats(t, hub, 2)
	check(t, hub.Disconnect(h.ctx, "ann", 4001, strings.Repeat("é", 100)))
	_, err := c.near.Recv(h.inTime())
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 4001 || closed.Reason != strings.Repeat("é", 61) {
		t.Error(err)
	}
}

// A client that can't be given what it has missed is told so.
func TestJoinSinceOfABusyConnection(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{Broker: cluster.MemoryWith(someHistory), Encode: withPosition})
	witness, c := h.dial(), h.dial()
	check(t, hub.Join(witness.far, "room", nil))
	check(t, hub.Broadcast(h.ctx, "room", text("x")))
	at := witness.said().At
	at.Offset--
	w, err := c.far.Writer(h.ctx, websocket.Text)
	check(t, err)
	if _, err := hub.JoinSince(h.ctx, c.far, "room", nil, at); !errors.Is(
		err,
		cluster.ErrUnrecoverable,
	) {
		t.Error(err)
	}
	check(t, w.Close())
	count(t, "room", 2, hub)
}

// Nothing is left of rooms and users, whatever has come and gone.
func TestNothingIsLeft(t *testing.T) {
	h := open(t, websocket.Options{})
	bus := cluster.MemoryWith(someHistory)
	var hubs []*cluster.Hub
	for i := range 2 {
		hubs = append(hubs, h.hub(cluster.Config{
			Broker: bus.Peer(), Node: fmt.Sprint(i), LeaveGrace: time.Duration(2*i-1) * beat,
			OnPresence: func(context.Context, string, []cluster.Member, []cluster.Member) {},
		}))
	}
	acquainted(t, hubs)
	var wg sync.WaitGroup
	for i := range 20 {
		c, hub := h.dial(), hubs[i%2]
		wg.Go(func() {
			check(t, hub.Bind(c.far, fmt.Sprint("user", i%7)))
			for n := range 50 {
				room := fmt.Sprint("room", (i*n)%13)
				at, err := hub.JoinSince(h.ctx, c.far, room, nil, cluster.Position{})
				check(t, err)
				check(t, hub.Broadcast(h.ctx, room, text("x")))
				hub.Leave(c.far, room)
				if _, err = hub.JoinSince(h.ctx, c.far, room, nil, at); err != nil {
					t.Error(err)
				}
				if n%3 > 0 {
					hub.Leave(c.far, room)
				}
			}
			c.near.Abort()
		})
	}
	wg.Wait()
	for _, hub := range hubs {
		leaktest.Until(t, "nothing is left", func() bool {
			s := hub.Stats()
			return hub.Topics() == 0 && s.Rooms == 0 && s.Members == 0 && s.Subscribed == 0 &&
				s.Queued == 0 && hub.Holding() == 0
		})
	}
}

// Callbacks of a connection to which a broadcast is too much may use the hub.
func TestCallbacksOfASlowConnection(t *testing.T) {
	h := open(t, websocket.Options{})
	hub := h.hub(cluster.Config{})
	conns, full := make(chan *server.Conn, 1), make(chan struct{}, 100)
	s := server.New(server.Config{
		Port: server.Port{
			HighWater: 1000, LowWater: 100,
			OnConnect: func(_ context.Context, c *server.Conn) { conns <- c },
			OnReceive: func(context.Context, *server.Conn, []byte) {},
			OnBufferFull: func(ctx context.Context, c *server.Conn) {
				hub.Leave(c, "room")
				check(t, hub.Broadcast(ctx, "room", text("it is full")))
				full <- struct{}{}
			},
		},
	})
	l, err := s.Listen(h.ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(h.ctx) }()
	defer func() { s.Close(); <-served }()
	near, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	defer near.Close()
	check(t, hub.Join(receive(t, conns), "room", nil))
	for hub.Count("room") > 0 {
		check(t, hub.Broadcast(h.ctx, "room", websocket.Message{
			Opcode: websocket.Binary, Data: make([]byte, 100_000),
		}))
		heartbeats(t, hub, 2)
	}
	receive(t, full)
}
