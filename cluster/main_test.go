package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var check = leaktest.Check

// house is a runtime with a WebSocket server on it, whose connections tests have join hubs.
type house struct {
	t        testing.TB
	rt       *runtime.Runtime
	ctx      context.Context
	url      string
	accepted chan *websocket.Conn
}

func open(t testing.TB, options websocket.Options) *house {
	t.Helper()
	leaktest.Guard(t)
	rt := runtimetest.Start(t, append(runtimetest.QuietPanics(t), runtime.WithLoops(2))...)
	h := &house{t: t, rt: rt, ctx: rt.Context(), accepted: make(chan *websocket.Conn, 20_000)}
	options.OnMessage = func(context.Context, *websocket.Conn, websocket.Message) {}
	s := websocket.NewServer(websocket.Config{
		Options: options,
		OnOpen:  func(_ context.Context, c *websocket.Conn, _ *http.Request) { h.accepted <- c },
	})
	l, err := s.Listen(h.ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	h.url = "ws://" + l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(h.ctx) }()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return h
}

// client is both ends of a connection.
type client struct {
	h    *house
	near *websocket.Conn // the client's
	far  *websocket.Conn // the server's, which joins
}

func (h *house) dial() *client {
	h.t.Helper()
	near, err := websocket.Dial(h.inTime(), h.url, websocket.ClientConfig{})
	check(h.t, err)
	h.t.Cleanup(func() { near.Abort() })
	return &client{h, near, receive(h.t, h.accepted)}
}

func (h *house) inTime() context.Context {
	ctx, cancel := context.WithTimeout(h.ctx, leaktest.Patience)
	h.t.Cleanup(cancel)
	return ctx
}

func (c *client) want(texts ...string) {
	c.h.t.Helper()
	for _, text := range texts {
		m, err := c.near.Recv(c.h.inTime())
		if err != nil || string(m.Data) != text {
			c.h.t.Fatalf("received %.100q, %v; want %q", m.Data, err, text)
		}
	}
}

// hub starts a hub with short times, for the length of the test.
func (h *house) hub(config cluster.Config) *cluster.Hub {
	h.t.Helper()
	hub := cluster.New(quick(config))
	check(h.t, hub.Start(h.ctx))
	h.t.Cleanup(func() { check(h.t, hub.Close(context.Background())) })
	return hub
}

const beat = 20 * time.Millisecond

func quick(config cluster.Config) cluster.Config {
	if config.Heartbeat == 0 {
		config.Heartbeat = beat
	}
	if config.NodeTimeout == 0 {
		config.NodeTimeout = leaktest.Patience
	}
	return config
}

// hubs starts nodes with names "0", "1" and so on, which know each other. configure is optional.
func (h *house) hubs(n int, configure func(i int, c *cluster.Config)) []*cluster.Hub {
	h.t.Helper()
	bus := cluster.Memory()
	var all []*cluster.Hub
	for i := range n {
		config := cluster.Config{Broker: bus.Peer(), Node: fmt.Sprint(i)}
		if configure != nil {
			configure(i, &config)
		}
		all = append(all, h.hub(config))
	}
	acquainted(h.t, all)
	return all
}

func acquainted(t testing.TB, all []*cluster.Hub) {
	t.Helper()
	leaktest.Until(t, "all know each other", func() bool {
		return !slices.ContainsFunc(all, func(hub *cluster.Hub) bool {
			return hub.Stats().Nodes != len(all)
		})
	})
}

func text(format string, values ...any) websocket.Message {
	return websocket.Message{Opcode: websocket.Text, Data: fmt.Appendf(nil, format, values...)}
}

// count waits until a room has n members at all hubs.
func count(t testing.TB, room string, n int, hubs ...*cluster.Hub) {
	t.Helper()
	for _, hub := range hubs {
		leaktest.Until(t, fmt.Sprintf("%s has %d members at node %s", room, n, hub.Node()),
			func() bool { return hub.Count(room) == n })
	}
}

func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(leaktest.Patience):
		t.Fatal("nothing has come")
	}
	return v
}

// id is that of a member.
func id(t testing.TB, hub *cluster.Hub, c cluster.Conn) cluster.ID {
	t.Helper()
	id, ok := hub.ID(c)
	if !ok {
		t.Fatal("no member")
	}
	return id
}

// faulty is a Broker that does to messages what its functions say.
type faulty struct {
	cluster.Broker
	receiver cluster.Receiver
	// drops says what is lost on its way to the broker, loses what is lost behind it. silent has
	// the broker refuse all, and deliver nothing.
	drops, loses atomic.Pointer[func(subject string, message []byte) bool]
	silent       atomic.Bool
	mu           sync.Mutex // for one call of the receiver at a time
}

// faultyHistory is one that is a History.
type faultyHistory struct {
	*faulty
	stale *atomic.Int32 // so many more answers are those of a server that knows nothing new; optional
}

func (f faultyHistory) Since(
	ctx context.Context, subject string, since cluster.Position, limit int,
) ([]cluster.Stored, cluster.Position, error) {
	if f.stale != nil && f.stale.Add(-1) >= 0 {
		return nil, since, nil
	}
	return f.Broker.(cluster.History).Since(ctx, subject, since, limit)
}

func (f *faulty) Start(ctx context.Context, r cluster.Receiver) error {
	f.receiver = r
	return f.Broker.Start(ctx, f)
}

func (f *faulty) Publish(subject string, message []byte) error {
	if f.silent.Load() {
		return cluster.ErrDisconnected
	}
	if drops := f.drops.Load(); drops != nil && (*drops)(subject, message) {
		return nil
	}
	return f.Broker.Publish(subject, message)
}

func (f *faulty) Receive(subject string, message []byte, at cluster.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	loses := f.loses.Load()
	if f.silent.Load() || loses != nil && (*loses)(subject, message) {
		return
	}
	f.receiver.Receive(subject, message, at)
}

func (f *faulty) Lost(subject string, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.receiver.Lost(subject, why)
}

// next returns a function that is true for the next message with a subject, once.
func next(subject string) *func(string, []byte) bool {
	var done atomic.Bool
	f := func(s string, _ []byte) bool { return s == subject && !done.Swap(true) }
	return &f
}

// lineServer is a server of lines, whose connections join as they are.
func (h *house) lineServer() (address string, conns chan *server.Conn) {
	h.t.Helper()
	conns = make(chan *server.Conn, 100)
	s := server.New(server.Config{Port: server.Port{
		OnConnect: func(_ context.Context, c *server.Conn) { conns <- c },
		OnReceive: func(context.Context, *server.Conn, []byte) {},
	}})
	l, err := s.Listen(h.ctx, "tcp", "127.0.0.1:0")
	check(h.t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(h.ctx) }()
	h.t.Cleanup(func() {
		s.Close()
		<-served
	})
	return l.Addr().String(), conns
}

// saidBy returns the kind of what a node has said, 0 if another one has. Kinds are those of
// wire.go.
func saidBy(node string, message []byte) (kind byte) {
	if n := len(node); len(message) > 3+n && int(message[2]) == n &&
		string(message[3:3+n]) == node {
		kind = message[1]
	}
	return kind
}

const kindMessage, kindBye, kindState = 1, 6, 8
