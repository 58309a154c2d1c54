package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

// joining is a server whose connections join the room that their path names.
func joining(options websocket.Options) (config websocket.Config, conns chan *websocket.Conn) {
	conns = make(chan *websocket.Conn, 1000)
	options.OnMessage = echo
	config = websocket.Config{Options: options}
	config.OnOpen = func(_ context.Context, c *websocket.Conn, r *http.Request) { conns <- c }
	return config, conns
}

// A broadcast reaches every member once, but for those excepted and those that have left, on all
// loops, compressed in whatever way each has agreed on.
func TestBroadcast(t *testing.T) {
	server := websocket.Options{Compression: websocket.Compression{Enabled: true, Takeover: true, MinSize: 1}}
	config, conns := joining(server)
	h := start(t, "tcp", config)
	kinds := []websocket.Compression{
		{}, {Enabled: true}, {Enabled: true, WindowBits: 9}, {Enabled: true, Takeover: true},
	}
	var clients, far []*websocket.Conn
	for i := range 20 {
		clients = append(clients, h.dial("/", websocket.ClientConfig{Options: websocket.Options{Compression: kinds[i%len(kinds)]}}))
		c := receive(t, conns)
		check(t, h.s.Join(c, "room"))
		check(t, h.s.Join(c, "room")) // which changes nothing
		far = append(far, c)
	}
	leaktest.Until(t, "all have joined", func() bool { return len(h.s.Members("room")) == 20 })
	h.s.Leave(far[0], "room")
	h.s.Leave(far[0], "never joined")
	leaktest.Until(t, "one has left", func() bool { return len(h.s.Members("room")) == 19 })
	for round := range 10 {
		text := fmt.Sprintf("hello hello hello hello hello %d", round)
		n, missed := h.s.Broadcast("room", []byte(text), websocket.Text, far[1])
		if n != 19 || missed > 0 {
			t.Errorf("%d members, %d missed", n, missed)
		}
		for _, c := range clients[2:] {
			h.want(c, websocket.Text, text)
		}
		if round%2 == 0 { // between broadcasts, with takeover
			for i, c := range far {
				push(t, c, text)
				h.want(clients[i], websocket.Text, text)
			}
		}
	}
	if n, _ := h.s.Broadcast("nowhere", nil, websocket.Text); n != 0 {
		t.Error("nobody is there")
	}
	for _, c := range clients[:10] {
		c.Abort()
	}
	leaktest.Until(t, "those who have gone have left", func() bool { return len(h.s.Members("room")) == 10 })
	for _, c := range h.s.Members("room") {
		if !slices.Contains(far[10:], c) {
			t.Error("somebody else is a member")
		}
		h.s.Leave(c, "room")
	}
	leaktest.Until(t, "the room is gone", func() bool { return h.s.Members("room") == nil })
}

// Join, Leave, broadcasts and ends from everywhere at once: whoever stays gets all, in order.
func TestRoomsUnderLoad(t *testing.T) {
	const rooms, stay, rounds = 4, 8, 100
	config, conns := joining(websocket.Options{})
	h := start(t, "tcp", config)
	var clients []*websocket.Conn
	for range stay {
		clients = append(clients, h.dial("/", websocket.ClientConfig{}))
		c := receive(t, conns)
		for room := range rooms {
			check(t, h.s.Join(c, fmt.Sprint(room)))
		}
	}
	leaktest.Until(t, "all have joined", func() bool { return len(h.s.Members("3")) == stay })
	var work sync.WaitGroup
	for worker := range 3 {
		work.Go(func() { // others come and go
			for i := range 30 {
				c, err := h.try("/", websocket.ClientConfig{})
				if err != nil {
					t.Error(err)
					return
				}
				h.s.Join(c, "clients") // which may join, too
				for far := range h.s.Connections() {
					if i%2 == 0 {
						h.s.Join(far, fmt.Sprint("extra ", worker))
					} else {
						h.s.Leave(far, fmt.Sprint("extra ", worker))
					}
				}
				c.Abort()
			}
		})
	}
	for room := range rooms {
		work.Go(func() {
			for i := range rounds {
				h.s.Broadcast(fmt.Sprint(room), fmt.Appendf(nil, "%d %d", room, i), websocket.Text)
			}
		})
	}
	for _, c := range clients {
		next := make([]int, rooms)
		for range rooms * rounds {
			m, err := c.Recv(h.inTime())
			check(t, err)
			var room, i int
			fmt.Sscanf(string(m.Data), "%d %d", &room, &i)
			if next[room] != i {
				t.Fatalf("room %d: got %d, want %d", room, i, next[room])
			}
			next[room]++
		}
	}
	work.Wait()
}

// OnSlow may do with rooms what it likes, for clients as for servers.
func TestRoomsInOnSlow(t *testing.T) {
	config, conns := joining(websocket.Options{OnMessage: echo})
	h := start(t, "tcp", config)
	rooms := websocket.NewRooms()
	slow := make(chan struct{})
	c := h.dial("/room", websocket.ClientConfig{Options: websocket.Options{
		OnMessage: echo, MaxQueue: 1000,
		OnSlow: func(c *websocket.Conn) bool {
			rooms.Members("room")
			rooms.Leave(c, "room")
			close(slow)
			return true
		},
	}})
	receive(t, conns)
	check(t, rooms.Join(c, "room"))
	rooms.Broadcast("room", make([]byte, 10_000), websocket.Binary)
	receive(t, slow)
	push(t, c, "after")
}

// Leave of a connection that doesn't stand yet is nothing, and Recv says so.
func TestConnectionThatIsNotYetOne(t *testing.T) {
	leaktest.Guard(t)
	ctx := runtimetest.Start(t, runtimetest.Quiet(t)...).Context()
	d, err := websocket.NewDialer(websocket.ClientConfig{})
	check(t, err)
	c, err := d.Open(ctx, "ws://192.0.2.1:9")
	check(t, err)
	defer c.Abort()
	websocket.NewRooms().Leave(c, "room")
	if _, err := c.Recv(ctx); !errors.Is(err, websocket.ErrNotEstablished) {
		t.Errorf("Recv: %v", err)
	}
}

// What Broadcast is given may be used again when it returns.
func TestBroadcastKeepsNothing(t *testing.T) {
	config, conns := joining(websocket.Options{OnMessage: echo})
	h := start(t, "tcp", config)
	var clients, far []*websocket.Conn
	for range 4 {
		clients = append(clients, h.dial("/room", websocket.ClientConfig{}))
		c := receive(t, conns)
		far = append(far, c)
		check(t, h.s.Join(c, "room"))
	}
	leaktest.Until(t, "all have joined", func() bool { return len(h.s.Members("room")) == 4 })
	for i := range 100 {
		except, data := []*websocket.Conn{far[i%4]}, []byte{byte(i)}
		h.s.Broadcast("room", data, websocket.Binary, except...)
		except[0], data[0] = nil, 255
	}
	for i, c := range clients {
		for n := range 100 {
			if n%4 != i {
				h.want(c, websocket.Binary, string([]byte{byte(n)}))
			}
		}
	}
}
