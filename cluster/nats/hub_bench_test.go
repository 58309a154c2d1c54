package nats_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// site is a WebSocket server whose connections benchmarks have join rooms.
type site struct {
	b        *testing.B
	ctx      context.Context
	url      string
	accepted chan *websocket.Conn
	dialer   *websocket.Dialer
	got      atomic.Int64
	last     atomic.Int64 // when the last message came, in nanoseconds
	began    time.Time
}

func openSite(b *testing.B) *site {
	b.Helper()
	rt := runtimetest.Start(b, append(runtimetest.Quiet(b), runtime.WithLoops(2))...)
	s := &site{
		b:        b,
		ctx:      rt.Context(),
		accepted: make(chan *websocket.Conn, 100),
		began:    time.Now(),
	}
	server := websocket.NewServer(websocket.Config{
		Options: websocket.Options{
			OnMessage: func(context.Context, *websocket.Conn, websocket.Message) {},
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, _ *http.Request) { s.accepted <- c },
	})
	l, err := server.Listen(s.ctx, "tcp", "127.0.0.1:0")
	check(b, err)
	s.url = "ws://" + l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.ctx) }()
	b.Cleanup(func() { server.Close(); <-served })
	s.dialer, err = websocket.NewDialer(websocket.ClientConfig{Options: websocket.Options{
		OnMessage: func(context.Context, *websocket.Conn, websocket.Message) {
			s.got.Add(1)
			s.last.Store(int64(time.Since(s.began)))
		},
	}})
	check(b, err)
	return s
}

func (s *site) dial() *websocket.Conn {
	c, err := s.dialer.Dial(s.ctx, s.url)
	check(s.b, err)
	s.b.Cleanup(c.Abort)
	return <-s.accepted
}

// hubs starts nodes over an embedded server that listens on loopback.
func (s *site) hubs(n int) []*cluster.Hub {
	server, err := nats.Embedded(nats.EmbeddedConfig{Listen: true})
	check(s.b, err)
	s.b.Cleanup(func() { check(s.b, server.Close(context.Background())) })
	var all []*cluster.Hub
	for range n {
		all = append(all, s.hub(server.URL()))
	}
	leaktest.Until(s.b, "all know each other", func() bool {
		return !slices.ContainsFunc(
			all,
			func(hub *cluster.Hub) bool { return hub.Stats().Nodes != n },
		)
	})
	return all
}

func (s *site) hub(url string) *cluster.Hub {
	broker, err := nats.Connect(url, nats.Config{})
	check(s.b, err)
	hub := cluster.New(cluster.Config{Broker: broker, MaxRooms: 1000})
	check(s.b, hub.Start(s.ctx))
	s.b.Cleanup(func() { check(s.b, hub.Close(context.Background())) })
	return hub
}

// until waits until so many messages have come.
func (s *site) until(n int) {
	for s.got.Load() < int64(n) {
		time.Sleep(50 * time.Microsecond)
	}
}

// BenchmarkBroadcast sends 64 bytes to 9,000 WebSockets in all, by the room of one server and by
// three nodes over NATS with 3,000 each, in turn. What is reported is all CPU time for each
// delivery, that of the clients and of the NATS server included, by how much that over NATS is
// more, as the median of the pairs, and how long it is from a Broadcast to its last delivery.
func BenchmarkBroadcast(b *testing.B) {
	members := 9000
	if testing.Short() {
		members = 90
	}
	s := openSite(b)
	hubs, rooms := s.hubs(3), websocket.NewRooms()
	for i := range members {
		c := s.dial()
		check(b, rooms.Join(c, "room"))
		check(b, hubs[i%3].Join(c, "room", nil))
	}
	leaktest.Until(b, "all have joined", func() bool {
		return len(rooms.Members("room")) == members &&
			!slices.ContainsFunc(
				hubs,
				func(hub *cluster.Hub) bool { return hub.Count("room") != members },
			)
	})
	m := websocket.Message{Opcode: websocket.Binary, Data: make([]byte, 64)}
	var delays []time.Duration
	measure := func(send func(i int)) float64 {
		const times = 10
		s.got.Store(0)
		began := cpuTime()
		for i := range times {
			at := time.Since(s.began)
			send(i)
			s.until((i + 1) * members)
			delays = append(delays, time.Duration(s.last.Load())-at)
		}
		return float64(cpuTime()-began) / float64(times*members)
	}
	byRooms := func(int) { rooms.Broadcast("room", m.Data, m.Opcode) }
	byHubs := func(i int) { check(b, hubs[i%3].Broadcast(s.ctx, "room", m)) }
	measure(byRooms)
	measure(byHubs)
	var ratios, costs []float64
	var far []time.Duration
	for b.Loop() {
		first := measure(byRooms)
		delays = nil
		second := measure(byHubs)
		far = append(far, delays...)
		ratios, costs = append(ratios, second/first), append(costs, second)
	}
	slices.Sort(ratios)
	slices.Sort(costs)
	slices.Sort(far)
	b.ReportMetric(costs[len(costs)/2], "cpu-ns/delivery")
	b.ReportMetric(ratios[len(ratios)/2], "nats/room")
	b.ReportMetric(float64(far[len(far)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(far[len(far)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkPublish reports how long it is from a Broadcast to its delivery to one member on each of
// three nodes.
func BenchmarkPublish(b *testing.B) {
	s := openSite(b)
	hubs := s.hubs(3)
	for _, hub := range hubs {
		check(b, hub.Join(s.dial(), "room", nil))
	}
	leaktest.Until(b, "all listen", func() bool {
		return !slices.ContainsFunc(hubs, func(hub *cluster.Hub) bool {
			return hub.Count("room") != 3 || hub.Stats().Subscribed != 1
		})
	})
	m := websocket.Message{Opcode: websocket.Binary, Data: make([]byte, 64)}
	var delays []time.Duration
	for i := 0; b.Loop(); i++ {
		s.got.Store(0)
		at := time.Since(s.began)
		check(b, hubs[i%3].Broadcast(s.ctx, "room", m))
		s.until(3)
		delays = append(delays, time.Duration(s.last.Load())-at)
	}
	slices.Sort(delays)
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkRooms has 100,000 rooms with one member each, over a NATS server in a process of its
// own. What is reported is the memory of a room on the node of its member, without that of the
// connection, and on another node, that of nats.go included in both.
func BenchmarkRooms(b *testing.B) {
	const conns, each = 100, 1000
	s := openSite(b)
	var all []*websocket.Conn
	for range conns {
		all = append(all, s.dial())
	}
	for b.Loop() {
		url := spawn(b, 0, "").url
		here := s.hub(url)
		before := heap()
		for i, c := range all {
			for n := range each {
				check(b, here.Join(c, fmt.Sprintf("room%d.%d", i, n), nil))
			}
		}
		leaktest.Until(
			b,
			"all are listened to",
			func() bool { return here.Stats().Subscribed == conns*each },
		)
		after := heap()
		b.ReportMetric(float64(after-before)/(conns*each), "B/room-here")
		elsewhere := s.hub(url)
		leaktest.Until(
			b,
			"the other node knows all",
			func() bool { return elsewhere.Stats().Rooms == conns*each },
		)
		b.ReportMetric(float64(heap()-after)/(conns*each), "B/room-elsewhere")
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
