package nats_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

// prompt fails the test if a call takes long, which must not wait for a server.
func prompt(t *testing.T, what string, call func()) {
	t.Helper()
	begin := time.Now()
	call()
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("%s takes %v", what, took)
	}
}

// lost returns the events that say that messages were lost.
func lost(events []brokertest.Event) (of []brokertest.Event) {
	for _, e := range events {
		if e.Lost != nil {
			of = append(of, e)
		}
	}
	return of
}

func isReconnected(e brokertest.Event) bool {
	return e.Subject == "" && errors.Is(e.Lost, cluster.ErrReconnected)
}

// reconnected waits until a node was told that it was reconnected, once.
func reconnected(t *testing.T, n *brokertest.Node) {
	t.Helper()
	got := lost(n.Wait("Lost", func(e []brokertest.Event) bool { return len(lost(e)) > 0 }))
	if len(got) != 1 || !isReconnected(got[0]) {
		t.Errorf("lost: %v", got)
	}
}

func TestAServerThatIsKilledAndComesBackIsAGap(t *testing.T) {
	p := spawn(t, 0, "")
	n, b := connect(t, p.url, impatient(nats.Config{}))
	other, _ := connect(t, p.url, impatient(nats.Config{}))
	brokertest.Join(other, "room.a", n, other)
	for round := range 3 {
		p.kill()
		until(t, "the end is noticed", func() bool { return !b.Stats().Connected })
		prompt(t, "Publish", func() {
			if err := n.Publish("room.a", nil); !errors.Is(err, cluster.ErrDisconnected) {
				t.Errorf("Publish without a server: %v", err)
			}
		})
		late := fmt.Sprint("room.late.", round)
		prompt(t, "Subscribe", func() { check(t, n.Subscribe(late)) })
		prompt(t, "Unsubscribe", func() { check(t, n.Unsubscribe("room.a")) })
		prompt(t, "Subscribe", func() { check(t, n.Subscribe("room.a")) })
		if n.MaxMessage() != 1<<20 {
			t.Errorf("MaxMessage is %d", n.MaxMessage())
		}
		p.start()
		reconnected(t, n)
		reconnected(t, other)
		n.Forget()
		other.Forget()
		other.Say("room.a", "1")
		n.Say(late, "2")
		other.Say("room.a", "3")
		got := n.WaitFor(3)
		if len(lost(got)) > 0 || len(got) != 3 {
			t.Errorf("got %v", got)
		}
		if s := b.Stats(); s.Reconnects != uint64(round+1) || !s.Connected {
			t.Errorf("stats are %+v", s)
		}
		other.WaitFor(2)
		n.Forget()
		other.Forget()
	}
}

func TestAServerThatEndsInOrderIsAGap(t *testing.T) {
	first := embed(t, nats.EmbeddedConfig{Listen: true})
	token, address, _ := strings.Cut(strings.TrimPrefix(first.URL(), "nats://"), "@")
	var port int
	_, err := fmt.Sscanf(address, "127.0.0.1:%d", &port)
	check(t, err)
	n, _ := connect(t, first.URL(), impatient(nats.Config{}))
	brokertest.Join(n, "room.a", n)
	stop(t, first)
	embed(t, nats.EmbeddedConfig{Listen: true, Port: port, Token: token})
	reconnected(t, n)
	n.Forget()
	n.Say("room.a", "again")
	if got := n.WaitFor(1); got[0].Message != "again" {
		t.Errorf("got %v", got)
	}
}

func TestWhatIsReceivedBeforeAGapComesBeforeItAndWhatComesLaterBehind(t *testing.T) {
	p := spawn(t, 0, "")
	n, _ := connect(t, p.url, impatient(nats.Config{}))
	brokertest.Join(n, "room.a", n)
	const count = 1000
	for i := range count {
		n.Say("room.a", fmt.Sprint("before ", i))
	}
	n.WaitFor(count)
	p.kill()
	p.start()
	reconnected(t, n)
	for i := range count {
		n.Say("room.a", fmt.Sprint("behind ", i))
	}
	for i, e := range n.WaitFor(2*count + 1) {
		want := fmt.Sprint("before ", i)
		if i > count {
			want = fmt.Sprint("behind ", i-count-1)
		}
		if i == count && !isReconnected(e) || i != count && e.Message != want {
			t.Fatalf("event %d is %v", i, e)
		}
	}
}

func TestAServerThatStandsStillHoldsNobodyUp(t *testing.T) {
	p := spawn(t, 0, "")
	config := impatient(nats.Config{MaxPending: 4 << 20, PingInterval: time.Hour,
		WriteTimeout: time.Hour})
	n, b := connect(t, p.url, config)
	brokertest.Join(n, "room.a", n)
	p.signal(syscall.SIGSTOP)
	message := make([]byte, 64<<10)
	sent, refused := 0, 0
	for begin := time.Now(); refused < 100; {
		if time.Since(begin) > patience {
			t.Fatalf("%d messages are taken", sent)
		}
		prompt(t, "Publish", func() {
			switch err := n.Publish("room.a", message); {
			case err == nil:
				sent++
			case errors.Is(err, cluster.ErrDisconnected):
				refused++
			default:
				t.Fatal(err)
			}
		})
	}
	if s := b.Stats(); s.Pending > 5<<20 || !s.Connected {
		t.Errorf("stats are %+v", s)
	}
	prompt(t, "1,000 times Subscribe", func() {
		for i := range 1000 {
			check(t, n.Subscribe(fmt.Sprint("room.", i)))
		}
	})
	p.signal(syscall.SIGCONT)
	n.WaitFor(sent)
	until(t, "nothing is pending", func() bool { return b.Stats().Pending == 0 })
	n.Say("room.999", "1")
	if got := n.WaitFor(sent + 1); len(lost(got)) > 0 || got[sent].Subject != "room.999" {
		t.Errorf("got %v", got[sent:])
	}
}

func TestAServerThatStandsStillForTooLongIsLeft(t *testing.T) {
	p := spawn(t, 0, "")
	config := impatient(nats.Config{PingInterval: 30 * time.Millisecond,
		ConnectTimeout: 200 * time.Millisecond})
	n, b := connect(t, p.url, config)
	brokertest.Join(n, "room.a", n)
	p.signal(syscall.SIGSTOP)
	until(t, "it is noticed", func() bool { return !b.Stats().Connected })
	for begin := time.Now(); time.Since(begin) < time.Second; { // it dials, and nobody answers
		prompt(t, "Publish", func() {
			if err := n.Publish("room.a", nil); !errors.Is(err, cluster.ErrDisconnected) {
				t.Errorf("Publish without a server: %v", err)
			}
		})
		prompt(t, "Subscribe", func() { check(t, n.Subscribe("room.b")) })
		prompt(t, "Stats", func() { b.Stats() })
		time.Sleep(time.Millisecond)
	}
	p.signal(syscall.SIGCONT)
	reconnected(t, n)
	n.Forget()
	n.Say("room.b", "1")
	n.WaitFor(1)
}

func TestAServerThatTakesNothingForTooLongIsLeft(t *testing.T) {
	p := spawn(t, 0, "")
	n, b := connect(t, p.url, impatient(nats.Config{PingInterval: time.Hour,
		WriteTimeout: 100 * time.Millisecond, MaxPending: 64 << 20}))
	brokertest.Join(n, "room.a", n)
	p.signal(syscall.SIGSTOP)
	message := make([]byte, 1<<20)
	until(t, "it is noticed", func() bool {
		n.Publish("room.a", message) //nolint:errcheck // it is to fail in the end
		return !b.Stats().Connected
	})
	p.signal(syscall.SIGCONT)
	n.Wait("reconnected", func(e []brokertest.Event) bool { return len(lost(e)) > 0 })
}

func TestALameDuckIsLeftForAnotherServer(t *testing.T) {
	servers := cluster3(t, false)
	n, b := connect(t, urls(servers[:1]), impatient(nats.Config{}))
	other, _ := connect(t, urls(servers[1:2]), impatient(nats.Config{}))
	brokertest.Join(other, "room.a", n)
	done := make(chan struct{})
	go func() { defer close(done); servers[0].LameDuckShutdown() }()
	reconnected(t, n)
	<-done
	if s := b.Stats(); !s.Connected || strings.Contains(s.Server, servers[0].Name()) {
		t.Errorf("it is connected to %q", s.Server)
	}
	n.Forget()
	other.Say("room.a", "1")
	n.WaitFor(1)
}

func TestPublishersKeepOrderAcrossServers(t *testing.T) {
	servers := cluster3(t, false)
	nodes := make([]*brokertest.Node, 3)
	for i := range nodes {
		nodes[i], _ = connect(t, urls(servers[i:i+1]), nats.Config{})
	}
	subjects := []string{"room.a", "room.b", "node.c"}
	for _, n := range nodes {
		for _, s := range subjects {
			brokertest.Join(n, s, nodes...)
		}
	}
	const each = 5000
	var wg sync.WaitGroup
	for p, n := range nodes {
		wg.Go(func() {
			for i := range each {
				if err := n.Publish(subjects[i%3], fmt.Append(nil, p, " ", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, n := range nodes {
		var next [3]int
		for _, e := range n.WaitFor(3 * each) {
			var p, i int
			_, err := fmt.Sscan(e.Message, &p, &i)
			if err != nil || next[p] != i {
				t.Fatalf("%v, want message %d", e, next[p])
			}
			next[p]++
		}
	}
}

// cluster3 starts three servers that know each other.
func cluster3(t *testing.T, jetStream bool) []*server.Server {
	t.Helper()
	var servers []*server.Server
	ports := freePorts(t, 3)
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://route:test@127.0.0.1:%d", port))
	}
	for i, port := range ports {
		o := &server.Options{ServerName: fmt.Sprint("server-", i), Host: "127.0.0.1", Port: -1,
			Authorization: "test", NoSigs: true, NoLog: true, LameDuckGracePeriod: -1,
			LameDuckDuration: 10 * time.Millisecond,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port,
				Username: "route", Password: "test"},
			Routes: server.RoutesFromStr(strings.Join(routes, ",")),
		}
		if jetStream {
			o.JetStream, o.StoreDir = true, t.TempDir()
			o.JetStreamMaxStore, o.JetStreamMaxMemory = 1<<30, 64<<20
		}
		s, err := server.NewServer(o)
		check(t, err)
		servers = append(servers, s)
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		go s.Start()
	}
	for _, s := range servers {
		until(t, "the server listens", func() bool { return s.Addr() != nil })
	}
	until(t, "all know all", func() bool {
		for _, s := range servers {
			if r, err := s.Routez(nil); err != nil || distinct(r) < 2 {
				return false
			}
		}
		return true
	})
	return servers
}

// distinct returns how many other servers there are routes to.
func distinct(r *server.Routez) int {
	ids := map[string]bool{}
	for _, route := range r.Routes {
		ids[route.RemoteID] = true
	}
	return len(ids)
}

func urls(servers []*server.Server) string {
	var all []string
	for _, s := range servers {
		all = append(all, fmt.Sprintf("nats://test@%v", s.Addr()))
	}
	return strings.Join(all, ",")
}

// freePorts returns ports that nobody listens on.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
