package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

var check = leaktest.Check

// A battle is a cluster in trouble, with its clients.
type battle struct {
	t       *testing.T
	history bool
	length  time.Duration
	rooms   int
	servers []*process
	nodes   []*process
	ways    [][]*proxy // by node
	urls    []string
	dialer  *websocket.Dialer
	work    sync.WaitGroup
	heard   atomic.Int64

	mu      sync.Mutex
	clients map[*websocket.Conn]*client
	gaps    map[[2]string][]time.Time // by user and room
	ends    map[string][]time.Time    // by user: of its connections
	losses  []loss
}

// TestChaos has clients join, leave and speak at random while nodes are killed, stopped and cut
// off, and servers are killed and stopped. Then: what one node has said in a room has come at most
// once and in order; whoever has missed something was told of a gap; when peace is back, each
// node's members are the truth, within the time-out; and when all have left, the memory is back.
func TestChaos(t *testing.T) {
	t.Run("without a history", func(t *testing.T) { chaos(t, false) })
	t.Run("with a history", func(t *testing.T) { chaos(t, true) })
}

func chaos(t *testing.T, history bool) {
	length, clients, rooms := 8*time.Second, 60, 10
	if d, err := time.ParseDuration(os.Getenv("WHORL_CHAOS")); err == nil {
		length = d
	}
	if n, err := strconv.Atoi(os.Getenv("WHORL_CHAOS_CLIENTS")); err == nil {
		clients, rooms = n, max(10, n/30)
	}
	leaktest.GuardFor(t, length+5*time.Minute)
	b := &battle{
		t: t, history: history, length: length, rooms: rooms, clients: map[*websocket.Conn]*client{},
		gaps: map[[2]string][]time.Time{}, ends: map[string][]time.Time{},
	}
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	var err error
	b.dialer, err = websocket.NewDialer(websocket.ClientConfig{Options: websocket.Options{
		OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
			b.hear(c, slices.Clone(m.Data))
		},
		PingInterval: time.Second, PongTimeout: 3 * time.Second, // of nodes that are stopped
	}})
	check(t, err)
	b.begin()
	before := b.report(0).Heap
	ctx, cancel := context.WithCancel(rt.Context())
	defer cancel()
	var all []*client
	for i := range clients {
		c := &client{b: b, user: fmt.Sprint("user", i), seats: map[string]*seat{}}
		all = append(all, c)
		c.connect(ctx)
	}
	fight, peace := context.WithTimeout(ctx, length)
	defer peace()
	var fighters sync.WaitGroup
	seldom := 4 * max(1, clients/500) // so that two processors are enough for all
	for worker := range 4 {
		fighters.Go(func() {
			for fight.Err() == nil {
				for i := worker; i < len(all) && fight.Err() == nil; i += 4 {
					if rand.IntN(seldom) == 0 {
						all[i].act(rooms)
					}
				}
				pause(fight, 100*time.Millisecond)
			}
		})
	}
	fighters.Go(func() { b.troubleNodes(fight) })
	fighters.Go(func() { b.troubleServers(fight) })
	fighters.Wait()
	b.settle(all)
	b.judge()
	cancel()
	for _, c := range all {
		c.conn.Abort()
	}
	b.work.Wait()
	for i := range b.nodes {
		leaktest.Until(t, "nothing is left at a node", func() bool {
			r := b.report(i)
			return r.Stats.Members == 0 && r.Stats.Rooms == 0 && r.Stats.Subscribed == 0 &&
				r.Heap < before+16<<20
		})
	}
}

// begin starts the servers and the nodes.
func (b *battle) begin() {
	const n = 3
	ports := make([]string, 2*n)
	for i := range ports {
		ports[i] = freePort(b.t)
	}
	for i := range n {
		dir := "-"
		if b.history {
			dir = filepath.Join(b.t.TempDir(), "store")
		}
		p := &process{t: b.t, role: fmt.Sprintf("nats %d %s %s", i, dir, strings.Join(ports, " "))}
		b.servers = append(b.servers, p)
	}
	b.together(b.servers)
	for i := range n {
		var ways []*proxy
		role := fmt.Sprintf(
			"node node%d %s %s",
			i,
			freePort(b.t),
			map[bool]string{true: "history", false: "none"}[b.history],
		)
		b.urls = append(b.urls, "ws://127.0.0.1:"+strings.Fields(role)[2])
		for k := range n {
			w := newProxy(b.t, "127.0.0.1:"+ports[(i+k)%n]) // its own server first
			ways = append(ways, w)
			role += " nats://" + w.listener.Addr().String()
		}
		b.ways = append(b.ways, ways)
		b.nodes = append(b.nodes, &process{t: b.t, role: role})
	}
	b.together(b.nodes)
	leaktest.Until(b.t, "the nodes know each other", func() bool {
		for i := range b.nodes {
			if b.report(i).Stats.Nodes != n {
				return false
			}
		}
		return true
	})
}

// together starts processes that wait for each other.
func (b *battle) together(all []*process) {
	var started sync.WaitGroup
	for _, p := range all {
		started.Go(p.start)
	}
	started.Wait()
	b.t.Cleanup(func() {
		for _, p := range all {
			p.kill()
		}
	})
}

// freePort returns a port that no connection takes while who listens on it is away.
func freePort(t testing.TB) string {
	for range 1000 {
		port := fmt.Sprint(10_000 + rand.IntN(20_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// aWhile is some part of twice the time-out of nodes.
func aWhile() time.Duration { return nodeTimeout/10 + rand.N(2*nodeTimeout) }

func (b *battle) troubleNodes(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		p, ways := b.nodes[i%len(b.nodes)], b.ways[i%len(b.nodes)]
		switch rand.IntN(4) {
		case 0:
			b.t.Logf("%s node%d is killed", time.Now().Format(clockTime), i%len(b.nodes))
			p.kill()
			pause(ctx, aWhile()/2)
			p.start()
		case 1:
			b.t.Logf("%s node%d is stopped", time.Now().Format(clockTime), i%len(b.nodes))
			p.signal(syscall.SIGSTOP)
			pause(ctx, aWhile())
			p.signal(syscall.SIGCONT)
		case 2:
			b.t.Logf("%s node%d is cut off", time.Now().Format(clockTime), i%len(b.nodes))
			for _, w := range ways {
				w.sever()
			}
			pause(ctx, aWhile())
			for _, w := range ways {
				w.mend()
			}
		case 3:
			b.t.Logf("%s node%d is disconnected", time.Now().Format(clockTime), i%len(b.nodes))
			for _, w := range ways {
				w.reset()
			}
		}
		pause(ctx, rand.N(2*time.Second))
	}
}

func (b *battle) troubleServers(ctx context.Context) {
	pause(ctx, time.Second)
	for i := 0; ctx.Err() == nil; i++ {
		p := b.servers[i%len(b.servers)]
		if rand.IntN(2) == 0 {
			b.t.Logf("%s server %d is killed", time.Now().Format(clockTime), i%len(b.servers))
			p.kill()
			pause(ctx, rand.N(3*time.Second))
			p.start()
		} else {
			b.t.Logf("%s server %d is stopped", time.Now().Format(clockTime), i%len(b.servers))
			p.signal(syscall.SIGSTOP)
			pause(ctx, aWhile())
			p.signal(syscall.SIGCONT)
		}
		pause(ctx, 2*time.Second+rand.N(3*time.Second))
	}
}

// hear hands a message to the client whose it is.
func (b *battle) hear(conn *websocket.Conn, data []byte) {
	b.mu.Lock()
	c := b.clients[conn]
	b.mu.Unlock()
	c.hear(conn, data)
}

func (b *battle) noteGap(user, room string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gaps[[2]string{user, room}] = append(b.gaps[[2]string{user, room}], at)
	b.gaps[[2]string{"", room}] = append(b.gaps[[2]string{"", room}], at)
}

func (b *battle) noteEnd(user string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends[user] = append(b.ends[user], at)
}

func (b *battle) noteLoss(l loss) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.losses = append(b.losses, l)
}

// settle waits until all clients are where they want to be, and all nodes know.
func (b *battle) settle(all []*client) {
	want := map[string][]string{}
	for _, c := range all {
		c.settled()
		for room := range c.seats {
			want[room] = append(want[room], c.user)
		}
	}
	for i := range b.nodes {
		for n := range b.rooms {
			room := fmt.Sprint("room", n)
			slices.Sort(want[room])
			b.knows(i, room, want[room])
		}
	}
}

// settled waits until a client is connected, and in its rooms.
func (c *client) settled() {
	for end := time.Now().Add(2 * leaktest.Patience); ; pause(context.Background(), 10*time.Millisecond) {
		var missing []string
		c.mu.Lock()
		for room, s := range c.seats {
			if !s.joined {
				missing = append(missing, room+" "+s.why)
			}
		}
		connected := c.conn.Established()
		c.mu.Unlock()
		switch {
		case connected && missing == nil:
			return
		case time.Now().After(end):
			for _, p := range c.b.nodes {
				p.signal(syscall.SIGQUIT) // they say what they do
			}
			pause(context.Background(), time.Second)
			c.b.t.Fatalf("%s is connected: %v, but not in %v", c.user, connected, missing)
		}
	}
}

// knows waits until a node has the members of a room.
func (b *battle) knows(node int, room string, want []string) {
	var got []string
	var err error
	for end := time.Now().Add(leaktest.Patience); !slices.Equal(got, want); pause(context.Background(), 50*time.Millisecond) {
		if time.Now().After(end) {
			b.nodes[node].signal(syscall.SIGQUIT) // it says what it does
			pause(context.Background(), time.Second)
			b.t.Fatalf("node %d has %d in %s, %v, not %d; %v", node, len(got), room, got, len(want), err)
		}
		got = nil
		err = b.get(node, "/members?room="+room, &got)
	}
}

// judge says which losses nobody was told of.
func (b *battle) judge() {
	pause(context.Background(), 4*heartbeat) // gaps of what was said last are told by then
	b.mu.Lock()
	defer b.mu.Unlock()
	silent := 0
	for _, l := range b.losses {
		user := l.user
		if l.moved {
			user = "" // somebody was told, if nobody who was there at the time was this one
		}
		inTime := func(at time.Time) bool {
			return at.After(l.since.Add(-time.Second)) && at.Before(l.until.Add(2*nodeTimeout))
		}
		told := slices.ContainsFunc(b.gaps[[2]string{user, l.room}], inTime)
		if !told && !slices.ContainsFunc(b.ends[l.user], inTime) { // a node that dies tells nobody
			if silent++; silent <= 10 {
				b.t.Error(l)
			}
		}
	}
	told := 0
	for key, at := range b.gaps {
		if key[0] != "" {
			told += len(at)
		}
	}
	b.t.Logf("%d messages have come, %d gaps were told, %d losses were seen, %d of them silent",
		b.heard.Load(), told, len(b.losses), silent)
	for i := range b.nodes {
		b.t.Logf("node %d: %+v", i, b.report(i))
	}
}

func (b *battle) report(node int) (r report) {
	b.get(node, "/report", &r)
	return r
}

func (b *battle) get(node int, path string, v any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	url := "http" + strings.TrimPrefix(b.urls[node], "ws") + path
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	check(b.t, err)
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err // it is asked again
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}
