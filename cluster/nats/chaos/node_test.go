package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

const (
	heartbeat   = 500 * time.Millisecond
	nodeTimeout = 5 * time.Second
)

// A command is what a client asks of its node.
type command struct {
	Do    string            `json:"do"` // "user", "join", "leave", "say"
	User  string            `json:"user,omitempty"`
	Room  string            `json:"room,omitempty"`
	Since *cluster.Position `json:"since,omitempty"`
}

// A word is what a client is told: a message, a gap, or that it has joined.
type word struct {
	Room string            `json:"room"`
	From string            `json:"from,omitempty"` // of a message: the node, in one of its lives
	N    int               `json:"n,omitempty"`    // of a message: how many came before
	At   *cluster.Position `json:"at,omitempty"`
	Is   string            `json:"is"` // "message", "gap", "joined", "left"
	Why  string            `json:"why,omitempty"`
}

// A node is a process with clients.
type node struct {
	hub  *cluster.Hub
	life string // its name, and when it began

	mu   sync.Mutex
	said map[string]int                          // by room
	here map[string]map[*websocket.Conn]struct{} // by room: who is to be told of gaps
}

// runNode is a node: its name, its port, whether there is a history, and the servers.
func runNode(args []string) {
	n := &node{
		life: fmt.Sprintf("%s.%d", args[0], time.Now().UnixNano()),
		said: map[string]int{}, here: map[string]map[*websocket.Conn]struct{}{},
	}
	config := nats.Config{
		PingInterval: time.Second, ReconnectWait: 200 * time.Millisecond,
		ConnectTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		Options: []natsgo.Option{natsgo.IgnoreDiscoveredServers()},
	}
	if args[2] == "history" {
		config.History = &nats.History{
			MaxMessages: 1000,
			MaxAge:      time.Minute,
			MaxBytes:    64 << 20,
			Replicas:    3,
		}
	}
	broker, err := nats.Connect(strings.Join(args[3:], ","), config)
	fatal(err)
	n.hub = cluster.New(cluster.Config{
		Broker: broker, Node: args[0], Heartbeat: heartbeat, NodeTimeout: nodeTimeout,
		Encode: n.encode, OnGap: n.onGap, Logger: zap.NewNop(),
	})
	err = runtime.Run(func(ctx context.Context) error {
		begun := time.Now()
		for err := n.hub.Start(ctx); err != nil; err = n.hub.Start(ctx) {
			if time.Since(
				begun,
			) > leaktest.Patience { // servers that elect a leader take a few seconds
				return err
			}
			runtime.Sleep(ctx, heartbeat)
		}
		s := websocket.NewServer(websocket.Config{
			Options:   websocket.Options{OnMessage: n.onMessage, OnClose: n.onClose},
			OnRequest: http.HandlerFunc(n.onRequest),
		})
		if _, err := s.Listen(ctx, "tcp", "127.0.0.1:"+args[1]); err != nil {
			return err
		}
		fmt.Println("ready")
		go func() {
			untilInputEnds()
			s.Close()
		}()
		return s.Serve(ctx)
	}, runtime.WithLoops(2), runtime.WithLogger(zap.NewNop()))
	fatal(err)
}

func (n *node) encode(p cluster.Publication) websocket.Message {
	var w word
	json.Unmarshal(p.Message.Data, &w)
	w.Room, w.Is = p.Room, "message"
	if p.At.Epoch != "" {
		w.At = &p.At
	}
	return websocket.Message{Opcode: websocket.Text, Data: encode(w)}
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func (n *node) onGap(_ context.Context, g cluster.Gap) {
	if g.Room == "" {
		return
	}
	data := encode(word{Room: g.Room, Is: "gap", Why: g.Err.Error()})
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.here[g.Room] {
		c.Push(data, websocket.Text)
	}
}

func (n *node) onMessage(ctx context.Context, c *websocket.Conn, m websocket.Message) {
	var do command
	if err := json.Unmarshal(m.Data, &do); err != nil {
		c.Close(websocket.StatusInvalidData, "")
		return
	}
	switch do.Do {
	case "user":
		n.hub.Bind(c, do.User)
	case "join":
		n.attend(c, do.Room, true)
		if do.Since == nil {
			n.joined(c, do.Room, cluster.Position{}, n.hub.Join(c, do.Room, nil))
			return
		}
		runtime.Go(ctx, func(ctx context.Context) {
			at, err := n.hub.JoinSince(ctx, c, do.Room, nil, *do.Since)
			n.joined(c, do.Room, at, err)
		})
	case "leave":
		n.attend(c, do.Room, false)
		n.hub.Leave(c, do.Room)
		c.Push(encode(word{Room: do.Room, Is: "left"}), websocket.Text)
	case "say":
		n.mu.Lock()
		w := word{From: n.life, N: n.said[do.Room] + 1}
		message := websocket.Message{Opcode: websocket.Text, Data: encode(w)}
		if n.hub.Broadcast(ctx, do.Room, message) == nil {
			n.said[do.Room]++
		}
		n.mu.Unlock()
	}
}

func (n *node) joined(c *websocket.Conn, room string, at cluster.Position, err error) {
	w := word{Room: room, Is: "joined"}
	if err != nil {
		w.Why = err.Error()
	}
	if at.Epoch != "" {
		w.At = &at
	}
	c.Push(encode(w), websocket.Text)
}

// attend notes who is to be told of a room's gaps.
func (n *node) attend(c *websocket.Conn, room string, there bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !there {
		delete(n.here[room], c)
		return
	}
	if n.here[room] == nil {
		n.here[room] = map[*websocket.Conn]struct{}{}
	}
	n.here[room][c] = struct{}{}
}

func (n *node) onClose(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conns := range n.here {
		delete(conns, c)
	}
}

// report is what a node says of itself.
type report struct {
	Stats cluster.Stats
	Heap  uint64
}

func (n *node) onRequest(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/members":
		members, _ := n.hub.Members(r.Context(), r.URL.Query().Get("room"))
		users := make([]string, len(members))
		for i, m := range members {
			users[i] = m.User
		}
		slices.Sort(users)
		json.NewEncoder(w).Encode(users)
	case "/report":
		var m goruntime.MemStats
		goruntime.GC()
		goruntime.ReadMemStats(&m)
		json.NewEncoder(w).Encode(report{n.hub.Stats(), m.HeapAlloc})
	}
}
