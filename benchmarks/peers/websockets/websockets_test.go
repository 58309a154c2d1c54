//go:build linux

package websockets_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/benchmarks/peers/websockets"
)

// The test's own program is the processes, as compare is.
func TestMain(m *testing.M) {
	programs := map[string]func([]byte, *child.Control) error{
		"serve": func(config []byte, c *child.Control) error {
			return websockets.Serve(config, c.Listening)
		},
		"load": otherside.ServeWebSocket,
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

func start(t *testing.T, name string, config any) *child.Child {
	t.Helper()
	c, err := child.Start(child.Spec{Name: name, Program: os.Args[0], Args: []string{name},
		Config: config, Counted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	return c
}

// Each server does what it is said to, in turns, on connections of which some come later.
func TestEachPeerDoesItsWork(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range websockets.Peers {
		for _, load := range []otherside.WebSocket{
			{Does: otherside.Trips, Size: 64},
			{Does: otherside.Trips, Size: 4096},
			{Does: otherside.Trips, Size: 1024, Deflate: true},
			{Does: otherside.Trips, Size: 64, TLS: true},
			{Does: otherside.Broadcasts, Size: 64, Burst: 1},
			{Does: otherside.Broadcasts, Size: 64, Burst: 32},
			{Does: otherside.Upgrades, Size: 64},
		} {
			if !p.Can(load.Does == otherside.Broadcasts, load.Deflate, load.TLS) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s/%d/%v/%v/%d", p.Name, load.Does, load.Size, load.Deflate,
				load.TLS, load.Burst), func(t *testing.T) { work(t, p, load, id) })
		}
	}
}

func work(t *testing.T, p websockets.Peer, load otherside.WebSocket, id *identity.Identity) {
	server := start(t, "serve", websockets.Config{Server: p.Name, Deflate: load.Deflate,
		Broadcast: load.Does == otherside.Broadcasts, TLS: load.TLS, Cert: id.Chain, Key: id.Key})
	load.Addr, load.Conns, load.CA, load.ServerName = server.Addr, 5, id.CA, identity.Server
	c := start(t, "load", load)
	conns := int64(load.Conns)
	for range 2 {
		before := c.Count()
		if err := c.StartTurn(); err != nil {
			t.Fatal(err)
		}
		wanted := 3 * conns
		if load.TLS {
			wanted = conns // it does no more
		}
		for late := time.Now().Add(time.Minute); c.Count() < before+wanted; {
			if time.Now().After(late) {
				t.Fatalf("%d of %d", c.Count()-before, wanted)
			}
			time.Sleep(time.Millisecond)
		}
		if err := c.StopTurn(); err != nil {
			t.Fatal(err)
		}
		if err := c.OpenMore(3); err != nil {
			t.Fatal(err)
		}
		conns += 3
	}
	if length, err := otherside.AnswerLength(c); err != nil ||
		load.Deflate && (length < 100 || length > 800) {
		t.Errorf("answers of %v bytes: %v", length, err)
	}
}

func TestPeersAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range websockets.Peers {
		if seen[p.Name] || p.About == "" || p.Serve == nil || p.Goroutines > 1 {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if found, err := websockets.Find(p.Name); err != nil || found.About != p.About {
			t.Errorf("%s isn't found: %v", p.Name, err)
		}
	}
	if _, err := websockets.Find("apache"); err == nil {
		t.Error("there is no such server")
	}
}
