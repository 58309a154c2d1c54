//go:build unix

package metrics_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/metrics"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = leaktest.Patience

// start starts a runtime that ends with the test.
func start(t *testing.T) *runtime.Runtime {
	t.Helper()
	return runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2), runtime.WithName("test"))...)
}

// serve serves on a port for each network until the test ends, and returns the addresses.
func serve(t *testing.T, rt *runtime.Runtime, s *server.Server, networks ...string) []string {
	t.Helper()
	ctx := rt.Context()
	addrs := make([]string, len(networks))
	for i, network := range networks {
		l, err := s.Listen(ctx, network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = l.Addr().String()
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return addrs
}

// connect connects a client that closes with the test.
func connect(t *testing.T, rt *runtime.Runtime, network, addr string, config client.Config) *client.Client {
	t.Helper()
	config.ConnectTimeout, config.ReadTimeout, config.HandshakeTimeout = patience, patience, patience
	c := client.New(config)
	t.Cleanup(func() { c.Close() })
	if err := c.Connect(rt.Context(), network, addr); err != nil {
		t.Fatal(err)
	}
	return c
}

// exchange sends a line and receives the answer.
func exchange(t *testing.T, rt *runtime.Runtime, c *client.Client, line string) {
	t.Helper()
	if _, err := c.Send(rt.Context(), []byte(line)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Recv(rt.Context()); string(got) != line || err != nil {
		t.Fatalf("%q, %v; want %q", got, err, line)
	}
}

// gather returns the values of all metrics, by their names with labels as Prometheus writes them.
func gather(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := family.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() // it is one of them
		}
	}
	return values
}

// expect waits until the metrics have the values.
func expect(t *testing.T, from prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	var got map[string]float64
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got = maps.Clone(want)
		all := gather(t, from)
		for name := range want {
			value, ok := all[name]
			if !ok {
				value = -1
			}
			got[name] = value
		}
		if maps.Equal(got, want) {
			return
		}
	}
	t.Errorf("the metrics are\n%v, want\n%v", got, want)
}

// echo answers what comes.
func echo(ctx context.Context, c *server.Conn, pkt []byte) { c.Send(ctx, pkt) }

func certified(t *testing.T) (forServer, forClient *tls.Config) {
	t.Helper()
	ca, err := devca.New("Whorl metrics CA")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: ca.Pool()}
}

func TestFiguresOfAServer(t *testing.T) {
	rt := start(t)
	serverTLS, clientTLS := certified(t)
	welcome := func(ctx context.Context, c *server.Conn) { c.Send(ctx, []byte("welcome\n")) }
	s := server.New(server.Config{Port: server.Port{EOF: "\n", OnConnect: welcome, OnReceive: echo, TLS: serverTLS}, MaxConnections: 4})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewCollector(s, nil))
	expect(t, registry, map[string]float64{ // before there is a listener
		"whorl_server_connections": 0, "whorl_server_sent_bytes_total": 0, `whorl_server_handshakes_total{outcome="ok"}`: 0,
	})

	addrs := serve(t, rt, s, "tcp", "tls")
	plain := connect(t, rt, "tcp", addrs[0], client.Config{EOF: "\n"})
	secure := connect(t, rt, "tls", addrs[1], client.Config{EOF: "\n", TLS: clientTLS})
	for _, c := range []*client.Client{plain, secure} {
		if got, err := c.Recv(rt.Context()); string(got) != "welcome\n" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	exchange(t, rt, plain, "hello\n")
	exchange(t, rt, plain, "world\n")
	exchange(t, rt, secure, "hello over TLS\n")
	silent := connect(t, rt, "tcp", addrs[1], client.Config{})
	expect(t, registry, map[string]float64{
		"whorl_server_connections":                    3,
		"whorl_server_connections_opening":            1,
		"whorl_server_connections_accepted_total":     3,
		"whorl_server_connections_opened_total":       2,
		"whorl_server_connections_closed_total":       0,
		"whorl_server_connections_refused_total":      0,
		"whorl_server_received_packets_total":         3,
		"whorl_server_received_bytes_total":           27,
		"whorl_server_sent_packets_total":             5,
		"whorl_server_sent_bytes_total":               43,
		`whorl_server_handshakes_total{outcome="ok"}`: 1,
		"whorl_server_handshakes_running":             0,
		"whorl_server_handshakes_waiting":             0,
		"whorl_server_output_queues_full":             0,
		"whorl_server_received_datagrams_total":       0,
	})

	// One more is the fourth, a fifth is too many.
	connect(t, rt, "tcp", addrs[0], client.Config{})
	expect(t, registry, map[string]float64{"whorl_server_connections": 4})
	refused := connect(t, rt, "tcp", addrs[0], client.Config{})
	expect(t, registry, map[string]float64{"whorl_server_connections": 4, "whorl_server_connections_refused_total": 1})
	refused.Close()

	plain.Close()
	if _, err := silent.Send(rt.Context(), []byte("HELO\r\n")); err != nil {
		t.Fatal(err)
	}
	silent.Recv(rt.Context()) // the hint; what was sent leaves before the wait
	expect(t, registry, map[string]float64{
		"whorl_server_connections":                                  2,
		"whorl_server_connections_opening":                          0,
		"whorl_server_connections_closed_total":                     2,
		`whorl_server_handshakes_total{outcome="ok"}`:               1,
		`whorl_server_handshakes_total{outcome="plaintext client"}`: 1,
	})
}

func TestAFullQueueIsAFigure(t *testing.T) {
	rt := start(t)
	s := server.New(server.Config{Port: server.Port{
		OnReceive: func(ctx context.Context, c *server.Conn, _ []byte) {
			for range 64 {
				c.Send(ctx, make([]byte, 1<<20)) // more than the kernel's buffers take
			}
		},
		MaxQueue: 128 << 20, HighWater: 1 << 20, LowWater: 1,
	}})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewCollector(s, nil))
	c := connect(t, rt, "tcp", serve(t, rt, s, "tcp")[0], client.Config{})
	if _, err := c.Send(rt.Context(), []byte("flood me")); err != nil {
		t.Fatal(err)
	}
	expect(t, registry, map[string]float64{"whorl_server_output_queues_full": 1, "whorl_server_sent_packets_total": 64})
	for n := 0; n < 64<<20; {
		p, err := c.Recv(rt.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(p)
	}
	expect(t, registry, map[string]float64{"whorl_server_output_queues_full": 0})
}

func TestDatagramsAreAFigure(t *testing.T) {
	rt := start(t)
	s := server.New(server.Config{Port: server.Port{OnPacket: func(context.Context, *server.Listener, []byte, net.Addr) {}}})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewCollector(s, nil))
	conn, err := net.Dial("udp", serve(t, rt, s, "udp")[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if _, err := conn.Write([]byte("datagram")); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, registry, map[string]float64{"whorl_server_received_datagrams_total": 3})
}

func TestSeveralServersInOneRegistry(t *testing.T) {
	rt := start(t)
	registry := prometheus.NewPedanticRegistry()
	for i, name := range []string{"first", "second"} {
		s := server.New(server.Config{Port: server.Port{EOF: "\n", OnReceive: echo}})
		if err := registry.Register(metrics.NewCollector(s, prometheus.Labels{"server": name})); err != nil {
			t.Fatal(err)
		}
		addr := serve(t, rt, s, "tcp")[0]
		for range i + 1 {
			exchange(t, rt, connect(t, rt, "tcp", addr, client.Config{EOF: "\n"}), "hello\n")
		}
	}
	if err := registry.Register(metrics.NewRuntimeCollector(rt, nil)); err != nil {
		t.Fatal(err)
	}
	expect(t, registry, map[string]float64{
		`whorl_server_connections{server="first"}`:           1,
		`whorl_server_connections{server="second"}`:          2,
		`whorl_server_received_bytes_total{server="second"}`: 12,
	})

	// Without labels to tell it apart, or with one that is taken, a server is refused.
	other := server.New(server.Config{})
	for _, labels := range []prometheus.Labels{{"server": "first"}, {"other": "first"}, {"server": "third", "outcome": "ok"}, {"server": "third", "0": "x"}, nil} {
		if err := registry.Register(metrics.NewCollector(other, labels)); err == nil {
			t.Errorf("registered with labels %v", labels)
		}
	}
	if err := registry.Register(metrics.NewRuntimeCollector(rt, prometheus.Labels{"loop": "0"})); err == nil {
		t.Error("a runtime was registered with a label that is taken")
	}
}

func TestFiguresOfARuntime(t *testing.T) {
	rt := start(t)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewRuntimeCollector(rt, prometheus.Labels{"process": "test"}))
	release := runtime.NewChannel[struct{}](1)
	for range 3 {
		if _, err := rt.Go(func(ctx context.Context) { release.Pop(ctx) }); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, registry, map[string]float64{
		`whorl_runtime_coroutines{process="test"}`:               3,
		`whorl_runtime_coroutines_started_total{process="test"}`: 3,
		`whorl_runtime_workers{process="test"}`:                  3,
		`whorl_runtime_await_goroutines{process="test"}`:         0,
		`whorl_tls_compact_connections{process="test"}`:          0,
		`whorl_tls_late_tickets_total{process="test"}`:           0,

		`whorl_tls_not_compact_total{process="test",reason="version"}`:    0,
		`whorl_tls_not_compact_total{process="test",reason="ech"}`:        0,
		`whorl_tls_not_compact_total{process="test",reason="key update"}`: 0,
		`whorl_tls_not_compact_total{process="test",reason="unclear"}`:    0,
	})
	release.Close()
	expect(t, registry, map[string]float64{`whorl_runtime_coroutines{process="test"}`: 0})

	loop := rt.Loops()[1]
	awake := make(chan uint64)
	if err := loop.Post(func() { awake <- loop.Stats().Sleeps }); err != nil {
		t.Fatal(err)
	}
	sleeps := <-awake
	for end := time.Now().Add(patience); loop.Stats().Sleeps == sleeps; time.Sleep(time.Millisecond) { // a loop that is awake isn't woken
		if time.Now().After(end) {
			t.Fatal("the loop doesn't go to sleep")
		}
	}
	before := gather(t, registry)
	if err := loop.Post(func() { panic("on purpose") }); err != nil {
		t.Fatal(err)
	}
	const second = `{loop="test-1",process="test"}`
	expect(t, registry, map[string]float64{"whorl_loop_panics_total" + second: 1, `whorl_loop_panics_total{loop="test-0",process="test"}`: 0})
	for _, name := range []string{"whorl_loop_iterations_total", "whorl_loop_sleeps_total", "whorl_loop_wakeups_total", "whorl_loop_posted_total"} {
		after := gather(t, registry)
		for end := time.Now().Add(patience); after[name+second] <= before[name+second] && time.Now().Before(end); after = gather(t, registry) {
			time.Sleep(time.Millisecond) // it has yet to go to sleep again
		}
		if after[name+second] <= before[name+second] {
			t.Errorf("%s has not grown: %v, %v", name, before[name+second], after[name+second])
		}
	}
}

func TestFiguresOfACluster(t *testing.T) {
	rt := start(t)
	hub := cluster.New(cluster.Config{})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewClusterCollector(hub, prometheus.Labels{"process": "test"}))
	expect(t, registry, map[string]float64{`whorl_cluster_nodes{process="test"}`: 0})
	if err := hub.Start(rt.Context()); err != nil {
		t.Fatal(err)
	}
	m := websocket.Message{Opcode: websocket.Text, Data: []byte("hello")}
	for range 3 {
		if err := hub.Broadcast(rt.Context(), "nobody", m); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, registry, map[string]float64{
		`whorl_cluster_nodes{process="test"}`:           1,
		`whorl_cluster_published_total{process="test"}`: 3,
		`whorl_cluster_gaps_total{process="test"}`:      0,
	})
	if err := hub.Close(rt.Context()); err != nil {
		t.Fatal(err)
	}
}

// Everything that any collector can tell, checked as Prometheus wants it, and against the list in
// the package comment.
func TestTheListOfMetrics(t *testing.T) {
	rt := start(t)
	s := server.New(server.Config{Port: server.Port{EOF: "\n", OnReceive: echo}})
	serverTLS, clientTLS := certified(t)
	port := server.Port{EOF: "\n", OnReceive: echo, TLS: serverTLS}
	l, err := s.ListenPort(rt.Context(), "tls", "127.0.0.1:0", port)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, rt, s)
	exchange(t, rt, connect(t, rt, "tls", l.Addr().String(), client.Config{EOF: "\n", TLS: clientTLS}), "hello\n")
	registry := prometheus.NewPedanticRegistry()
	hub := cluster.New(cluster.Config{})
	registry.MustRegister(metrics.NewCollector(s, nil), metrics.NewRuntimeCollector(rt, nil),
		metrics.NewClusterCollector(hub, nil))

	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		line := family.GetName()
		if labels := family.GetMetric()[0].GetLabel(); len(labels) > 0 {
			line += "{" + labels[0].GetName() + "}"
		}
		got = append(got, line+" "+strings.ToLower(family.GetType().String()))
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(whorl_\S+) +(gauge|counter)\b`).FindAllSubmatch(doc, -1) {
		want = append(want, string(m[1])+" "+string(m[2]))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there are\n%s\nthe package comment lists\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestScrapesAtTheSameTimeUnderLoad(t *testing.T) {
	rt := start(t)
	s := server.New(server.Config{Port: server.Port{EOF: "\n", OnReceive: echo}})
	registry := prometheus.NewPedanticRegistry()
	hub := cluster.New(cluster.Config{})
	registry.MustRegister(metrics.NewCollector(s, nil), metrics.NewRuntimeCollector(rt, nil),
		metrics.NewClusterCollector(hub, nil))
	addr := serve(t, rt, s, "tcp")[0]
	var scrapers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		scrapers.Go(func() {
			last := -1.0
			for {
				select {
				case <-done:
					return
				default:
				}
				families, err := registry.Gather()
				if err != nil {
					t.Error(err)
					return
				}
				for _, family := range families {
					if family.GetName() == "whorl_server_received_packets_total" {
						now := family.GetMetric()[0].GetCounter().GetValue()
						if now < last {
							t.Errorf("a counter went from %v to %v", last, now)
						}
						last = now
					}
				}
			}
		})
	}
	for range 10 {
		c := connect(t, rt, "tcp", addr, client.Config{EOF: "\n"})
		for range 20 {
			exchange(t, rt, c, "hello\n")
		}
		c.Close()
	}
	close(done)
	scrapers.Wait()
	expect(t, registry, map[string]float64{
		"whorl_server_connections":              0,
		"whorl_server_connections_closed_total": 10,
		"whorl_server_received_packets_total":   200,
		"whorl_server_sent_bytes_total":         1200,
	})
}
