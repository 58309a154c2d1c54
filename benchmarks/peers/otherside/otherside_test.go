//go:build linux

package otherside_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/internal/bench/farside"
)

// The test's own program is the processes, as compare is.
func TestMain(m *testing.M) {
	programs := map[string]func([]byte, *child.Control) error{
		"far": otherside.ServeFar, "generator": otherside.ServeGenerator,
		"websocket": otherside.ServeWebSocket,
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

func start(t *testing.T, name string, config any) (*child.Child, error) {
	t.Helper()
	c, err := child.Start(child.Spec{Name: name, Program: os.Args[0], Args: []string{name},
		Config: config, Counted: true})
	if err == nil {
		t.Cleanup(func() { c.Stop() })
	}
	return c, err
}

// The generator has messages come back from the far side, in turns.
func TestGeneratorAndFarSide(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		far, err := start(t, "far", otherside.Far{Does: farside.Echo, TLS: secure, Cert: id.Chain,
			Key: id.Key})
		if err != nil {
			t.Fatal(err)
		}
		g, err := start(t, "generator", otherside.Generator{
			Addr: far.Addr, Conns: 3, Most: 103, Size: 64, TLS: secure, CA: id.CA,
			ServerName: identity.Server,
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			before := g.Count()
			if err := g.StartTurn(); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(time.Minute)
			for ; g.Count() < before+100; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d messages came back", g.Count()-before)
				}
			}
			if err := g.StopTurn(); err != nil {
				t.Error(err)
			}
			if err := g.OpenMore(50); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestWhatCannotBeIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		process string
		config  any
		want    string
	}{
		"a role":        {"far", otherside.Far{Does: "dance"}, "dance"},
		"a certificate": {"far", otherside.Far{Does: farside.Sink, TLS: true}, "PEM"},
		"no object":     {"far", 1, "configuration"},
		"no address":    {"generator", otherside.Generator{Conns: 1, Size: 64}, "host:port"},
		"no server": {"generator", otherside.Generator{Addr: "127.0.0.1:1", Conns: 1, Size: 64},
			"refused"},
		"no text": {"generator", "", "configuration"},
	} {
		if _, err := start(t, c.process, c.config); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
