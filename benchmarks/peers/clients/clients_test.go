//go:build linux

package clients_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/cc"
	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/internal/bench/farside"
)

// The test's own program is the processes of the clients and of their other side, as compare is.
func TestMain(m *testing.M) {
	programs := map[string]func([]byte, *child.Control) error{
		"client": clients.Serve,
		"far":    otherside.ServeFar,
	}
	if len(os.Args) == 2 && programs[os.Args[1]] != nil {
		if err := child.Serve(programs[os.Args[1]]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func newIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// start starts the other side, and the client with its connections, for the time of the test.
func start(t *testing.T, peer clients.Peer, config clients.Config,
	id *identity.Identity) (*child.Child, error) {
	t.Helper()
	side := otherside.Far{TLS: config.TLS, Size: config.Size, Cert: id.Chain, Key: id.Key,
		Bare: farside.BareEcho{Spin: true}}
	side.Does, side.Framing = config.Work.Far()
	far, err := child.Start(child.Spec{Name: "far", Program: os.Args[0], Args: []string{"far"},
		Config: side})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Stop() })
	config.Client, config.Addr, config.CA = peer.Name, far.Addr, id.CA
	spec := child.Spec{Name: peer.Name, Program: os.Args[0], Args: []string{"client"},
		Config: config, Counted: true}
	if peer.Build != nil {
		if spec.Program, err = peer.Build(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		spec.Args = peer.Arguments(&config)
	}
	c, err := child.Start(spec)
	if err == nil {
		t.Cleanup(func() { c.Stop() })
	}
	return c, err
}

// reach waits until a client has counted that much.
func reach(t *testing.T, c *child.Child, count int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); c.Count() < count; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d were counted, not %d", c.Count(), count)
		}
	}
}

// Each client does each of its works in two turns, and counts in them.
func TestEachClientDoesItsWork(t *testing.T) {
	id := newIdentity(t)
	sizes := map[clients.Work]int{clients.EOF: 100, clients.Length: 4096, clients.Send: 16 << 10,
		clients.Receive: 16 << 10}
	for _, peer := range clients.Peers {
		if _, err := cc.Version(); peer.Build != nil && errors.Is(err, cc.ErrNoCompiler) {
			continue
		}
		for _, tls := range []bool{false, true} {
			works := peer.Plain
			if tls {
				works = peer.TLS
			}
			for _, work := range works {
				t.Run(fmt.Sprintf("%s/tls=%v/%s", peer.Name, tls, work), func(t *testing.T) {
					size := sizes[work]
					if size == 0 {
						size = 64
					}
					c, err := start(t, peer, clients.Config{Work: work, TLS: tls, Conns: 5,
						Size: size, ServerName: identity.Server}, id)
					if err != nil {
						t.Fatal(err)
					}
					if work == clients.Idle {
						testIdle(t, c)
						return
					}
					testTurns(t, c)
				})
			}
		}
	}
}

func testTurns(t *testing.T, c *child.Child) {
	for range 2 {
		before := c.Count()
		if err := c.StartTurn(); err != nil {
			t.Fatal(err)
		}
		reach(t, c, before+20)
		if err := c.StopTurn(); err != nil {
			t.Fatal(err)
		}
		if stopped := c.Count(); stopped < before+20 {
			t.Errorf("%d were counted, and then %d", before+20, stopped)
		}
	}
	if u, err := c.Usage(); err != nil || u.CPU <= 0 {
		t.Errorf("%v of CPU time, %v", u.CPU, err)
	}
}

func testIdle(t *testing.T, c *child.Child) {
	before, err := c.Memory()
	if err != nil {
		t.Fatal(err)
	}
	const more = 100 // more than are opened at a time
	if err := c.OpenMore(more); err != nil {
		t.Fatal(err)
	}
	after, err := c.Memory()
	if err != nil {
		t.Fatal(err)
	}
	// The least is the state of a connection, whatever the library.
	if grown := int64(after.Heap) - int64(before.Heap); grown < more*100 || grown > more*100_000 {
		t.Errorf("%d connections take %d bytes of heap", more, grown)
	}
}

func TestAClientThatCannotTellsWhy(t *testing.T) {
	id := newIdentity(t)
	for _, c := range []struct {
		peer   string
		config clients.Config
		want   string
	}{
		{"net", clients.Config{Work: "fly"}, "can't do fly"},
		{"gnet", clients.Config{Work: clients.Full, TLS: true}, "can't do full"},
		{"net", clients.Config{Work: clients.Full, TLS: true, Conns: 1, ServerName: "other.test"},
			"other.test"},
		{"whorl", clients.Config{Work: clients.Full, TLS: true, Conns: 1, ServerName: "other.test"},
			"other.test"},
		{"whorl-async", clients.Config{Work: clients.Full, TLS: true, Conns: 1,
			ServerName: "other.test"}, "other.test"},
	} {
		peer, err := clients.Find(c.peer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := start(t, peer, c.config, id); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %+v: %v", c.peer, c.config, err)
		}
	}
}

// A client whose server goes away says so: nothing is measured then.
func TestALostConnectionIsAnError(t *testing.T) {
	for _, name := range []string{"net", "whorl", "whorl-async", "gnet"} {
		t.Run(name, func(t *testing.T) {
			far, err := child.Start(child.Spec{Name: "far", Program: os.Args[0],
				Args: []string{"far"}, Config: otherside.Far{Does: farside.Echo}})
			if err != nil {
				t.Fatal(err)
			}
			config := clients.Config{Client: name, Work: clients.RoundTrip, Addr: far.Addr,
				Conns: 3, Size: 64}
			c, err := child.Start(child.Spec{Name: name, Program: os.Args[0],
				Args: []string{"client"}, Config: config, Counted: true})
			if err != nil {
				far.Stop()
				t.Fatal(err)
			}
			defer c.Stop()
			err = c.StartTurn()
			reach(t, c, 10)
			far.Stop()
			if errStop := c.StopTurn(); err != nil || errStop == nil {
				t.Errorf("start: %v, stop: %v", err, errStop)
			}
		})
	}
}

func TestPeersAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range clients.Peers {
		if seen[p.Name] || p.About == "" || len(p.Plain)+len(p.TLS) == 0 ||
			(p.New == nil) == (p.Build == nil) || (p.Build == nil) != (p.Arguments == nil) {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if found, err := clients.Find(p.Name); err != nil || found.About != p.About {
			t.Errorf("%s isn't found: %v", p.Name, err)
		}
	}
	if _, err := clients.Find("none"); err == nil {
		t.Error("none is found")
	}
}
