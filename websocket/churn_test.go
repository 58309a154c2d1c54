package websocket_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

var (
	churnTime  = flag.Duration("churn", 2*time.Second, "how long TestChurn goes on")
	churnConns = flag.Int("connections", 500, "how many connections TestChurn has")
)

// There are as many rooms as make this the number of their members.
const churnMembers = 100

// Connections come and go, one of a hundred each second, in order and not, while messages are
// broadcast to rooms and to all. Nothing comes twice, out of order or to somebody else, nobody
// misses anything in the middle, and nothing is left at the end, at either side. The server is a
// process of its own, for the sake of descriptors.
func TestChurn(t *testing.T) {
	leaktest.GuardFor(t, *churnTime+10*leaktest.Patience)
	if childtest.Is(t) {
		serveChurn(t)
		return
	}
	server := childtest.Command(t)
	server.Args = append(server.Args, "-test.timeout=0", fmt.Sprint("-churn=", *churnTime),
		fmt.Sprint("-connections=", *churnConns))
	in, err := server.StdinPipe()
	check(t, err)
	out, err := server.StdoutPipe()
	check(t, err)
	server.Stderr = os.Stderr
	check(t, server.Start())
	said := bufio.NewReader(out)
	address, err := said.ReadString('\n')
	check(t, err)
	c := &churn{t: t, url: "ws://" + strings.TrimSpace(address)}
	c.run()
	in.Close()
	rest := new(strings.Builder)
	said.WriteTo(rest)
	if err := server.Wait(); err != nil {
		t.Errorf("the server: %v\n%s", err, rest)
	}
	t.Logf("%d opened, %d closed in order, %d not, %d messages\n%s",
		c.opened.Load(), c.clean.Load(), c.cut.Load(), c.messages.Load(), rest)
}

// churn is the clients.
type churn struct {
	t   *testing.T
	url string

	opened, clean, cut, messages atomic.Int64
}

// A churner is one of them: what has come last of each of its rooms, for its callbacks.
type churner struct {
	name      string // of the room that isn't "all", once something has come
	all, room uint64
}

func (c *churn) run() {
	rt := runtimetest.Start(c.t, append(runtimetest.Quiet(c.t), runtime.WithLoops(2))...)
	var ended sync.WaitGroup
	dialer, err := websocket.NewDialer(websocket.ClientConfig{
		Options: websocket.Options{
			OnMessage: c.received,
			OnClose: func(_ context.Context, _ *websocket.Conn, code int, _ string, clean bool) {
				if clean {
					c.clean.Add(1)
				} else if c.cut.Add(1); code != websocket.StatusAbnormal {
					c.t.Errorf("closed with %d", code)
				}
				ended.Done()
			},
		},
	})
	check(c.t, err)
	open := func(i int) *websocket.Conn {
		ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
		defer cancel()
		ended.Add(1)
		w, err := dialer.Dial(ctx, fmt.Sprintf("%s/%d", c.url, i%churnRooms()))
		check(c.t, err)
		c.opened.Add(1)
		return w
	}
	conns := make([]*websocket.Conn, *churnConns)
	for i := range conns {
		conns[i] = open(i)
	}
	end := time.Now().Add(*churnTime)
	turn := time.NewTicker(100 * time.Second / time.Duration(len(conns)))
	defer turn.Stop()
	for now := range turn.C {
		if now.After(end) {
			break
		}
		i := rand.IntN(len(conns))
		if rand.IntN(2) == 0 {
			check(c.t, conns[i].Close(websocket.StatusNormal, ""))
		} else {
			conns[i].Abort()
		}
		conns[i] = open(i)
	}
	for _, w := range conns {
		check(c.t, w.Close(websocket.StatusNormal, ""))
	}
	ended.Wait()
}

// received looks at what has come: numbers, of a room and within it.
func (c *churn) received(_ context.Context, w *websocket.Conn, m websocket.Message) {
	c.messages.Add(1)
	state, _ := w.Value().(*churner)
	if state == nil {
		state = new(churner)
		w.SetValue(state)
	}
	n := binary.BigEndian.Uint64(m.Data)
	last, name := &state.room, string(m.Data[8:])
	if name == "all" {
		last = &state.all
	} else if state.name = cmp.Or(state.name, name); name != state.name {
		c.t.Errorf("a message of room %s, in %s", name, state.name)
	}
	if *last != 0 && n != *last+1 {
		c.t.Errorf("%d of %s follows %d", n, name, *last)
	}
	*last = n
}

func churnRooms() int { return max(1, *churnConns/churnMembers) }

// serveChurn serves until its input ends.
func serveChurn(t *testing.T) {
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2))...)
	var s *websocket.Server
	var closed atomic.Int64
	s = websocket.NewServer(websocket.Config{
		Options: websocket.Options{
			OnMessage: echo,
			OnClose:   func(context.Context, *websocket.Conn, int, string, bool) { closed.Add(1) },
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, r *http.Request) {
			check(t, s.Join(c, "all"))
			check(t, s.Join(c, r.URL.Path))
		},
	})
	l, err := s.Listen(rt.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(rt.Context()) }()
	over := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() { broadcast(s, over) })
	fmt.Println(l.Addr())

	before, _ := childtest.MemoryInUse()
	bufio.NewReader(os.Stdin).ReadByte() // the end
	close(over)
	sending.Wait()
	leaktest.Until(t, "all connections have ended", func() bool {
		for range s.Connections() {
			return false
		}
		return s.Members("all") == nil && s.Stats().Connections == 0
	})
	accepted := int64(s.Stats().Accepted)
	leaktest.Until(t, "OnClose was called for each", func() bool { return closed.Load() == accepted })
	after, _ := childtest.MemoryInUse()
	fmt.Printf("the server: %d accepted, %d bytes of heap at the beginning, %d at the end\n",
		accepted, before, after)
	if after-before > 8<<20 {
		t.Error("memory is left")
	}
	check(t, s.Shutdown(context.Background()))
	if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// broadcast sends to each room once a second, and to all every two seconds.
func broadcast(s *websocket.Server, over chan struct{}) {
	numbers := make([]uint64, churnRooms()+1)
	send := func(room int, name string) {
		numbers[room]++
		data := binary.BigEndian.AppendUint64(nil, numbers[room])
		s.Broadcast(name, append(data, name...), websocket.Binary)
	}
	turn := time.NewTicker(time.Second / time.Duration(churnRooms()))
	defer turn.Stop()
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		case <-turn.C:
		}
		to, name := i%churnRooms(), fmt.Sprint("/", i%churnRooms())
		send(to, name)
		if i%(2*churnRooms()) == 0 {
			send(churnRooms(), "all")
		}
	}
}
