package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	goruntime "runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// BenchmarkBroadcast sends 64 bytes to as many WebSockets as there are descriptors for, by the room
// of a server and by a hub over Memory, in turn. What is reported is all CPU time for each
// delivery, the clients' included, and by how much the hub's is more, as the median of the pairs.
func BenchmarkBroadcast(b *testing.B) {
	members := 9000
	if testing.Short() {
		members = 100
	}
	rt := runtimetest.Start(b, append(runtimetest.Quiet(b), runtime.WithLoops(2))...)
	ctx := rt.Context()
	var got atomic.Int64
	accepted := make(chan *websocket.Conn, members)
	s := websocket.NewServer(websocket.Config{
		Options: websocket.Options{
			OnMessage: func(context.Context, *websocket.Conn, websocket.Message) {},
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, _ *http.Request) { accepted <- c },
	})
	l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
	check(b, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	defer func() { s.Close(); <-served }()
	hub := cluster.New(cluster.Config{})
	check(b, hub.Start(ctx))
	defer hub.Close(ctx)
	d, err := websocket.NewDialer(websocket.ClientConfig{Options: websocket.Options{
		OnMessage: func(context.Context, *websocket.Conn, websocket.Message) { got.Add(1) },
	}})
	check(b, err)
	rooms := websocket.NewRooms()
	for range members {
		c, err := d.Dial(ctx, "ws://"+l.Addr().String())
		check(b, err)
		defer c.Abort()
		far := receive(b, accepted)
		check(b, rooms.Join(far, "room"))
		check(b, hub.Join(far, "room", nil))
	}
	leaktest.Until(
		b,
		"all have joined",
		func() bool { return len(rooms.Members("room")) == members },
	)
	m := websocket.Message{Opcode: websocket.Binary, Data: make([]byte, 64)}
	measure := func(send func()) float64 {
		const times = 10
		got.Store(0)
		began := cpuTime()
		for range times {
			send()
		}
		for got.Load() < int64(times*members) {
			time.Sleep(100 * time.Microsecond)
		}
		return float64(cpuTime()-began) / float64(times*members)
	}
	byRooms := func() { rooms.Broadcast("room", m.Data, m.Opcode) }
	byHub := func() { check(b, hub.Broadcast(ctx, "room", m)) }
	measure(byRooms)
	measure(byHub)
	var ratios, costs []float64
	for i := 0; b.Loop(); i++ {
		first, second := measure(byRooms), measure(byHub)
		if i%2 == 1 {
			second, first = measure(byHub), measure(byRooms)
		}
		ratios, costs = append(ratios, second/first), append(costs, second)
	}
	slices.Sort(ratios)
	slices.Sort(costs)
	b.ReportMetric(costs[len(costs)/2], "cpu-ns/delivery")
	b.ReportMetric(ratios[len(ratios)/2], "hub/room")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRooms has rooms with one member each: what is reported is the memory of a room, over
// Memory, without that of the connection.
func BenchmarkRooms(b *testing.B) {
	const conns, each = 100, 1000
	h := open(b, websocket.Options{})
	var all []*client
	for range conns {
		all = append(all, h.dial())
	}
	for b.Loop() {
		hub := cluster.New(cluster.Config{MaxRooms: each})
		check(b, hub.Start(h.ctx))
		before := heap()
		for i, c := range all {
			for n := range each {
				check(b, hub.Join(c.far, fmt.Sprintf("room%d.%d", i, n), nil))
			}
		}
		leaktest.Until(
			b,
			"all are listened to",
			func() bool { return hub.Stats().Subscribed == conns*each },
		)
		b.ReportMetric(float64(heap()-before)/(conns*each), "B/room")
		for _, c := range all {
			for _, room := range hub.Rooms(c.far) {
				hub.Leave(c.far, room)
			}
		}
		check(b, hub.Close(h.ctx))
	}
}

func heap() int64 {
	var m goruntime.MemStats
	for range 3 {
		goruntime.GC()
	}
	goruntime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
