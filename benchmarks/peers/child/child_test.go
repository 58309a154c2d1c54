//go:build linux

package child_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/cc"
	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/internal/bench"
	"github.com/whorl-go/whorl/internal/bench/message"
)

// serve is the server's process.
func serve() error {
	return child.Serve(func(config []byte, c *child.Control) error {
		return echo.Serve(config, c.Listening)
	})
}

// The test's own program is that process, as compare is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// start starts the server that config asks for, for the time of the test.
func start(t *testing.T, config echo.Config) *child.Child {
	t.Helper()
	peer, err := echo.Find(config.Server)
	if err != nil {
		t.Fatal(err)
	}
	program, args := os.Args[0], []string{"serve"}
	if peer.Build != nil {
		args = nil
		if program, err = peer.Build(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	c, err := child.Start(child.Spec{Name: config.Server, Program: program, Args: args,
		Config: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// dial makes a generator with connections.
func dial(t *testing.T, addr string, conns, size int, config *tls.Config) *bench.Generator {
	t.Helper()
	g, err := bench.NewGenerator(t.Context(), bench.GeneratorOptions{
		Options: bench.Options{Target: addr, Timeout: time.Minute, Size: size,
			Framing: message.None, TLS: config},
		Most: int64(conns),
	})
	if err == nil {
		t.Cleanup(func() { g.Close() })
		err = g.Open(conns)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// exchange has messages echoed.
func exchange(t *testing.T, g *bench.Generator, messages int64) {
	t.Helper()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for ; g.Messages() < messages; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d messages came back, not %d", g.Messages(), messages)
			break
		}
	}
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
}

func TestEachServerEchoes(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range echo.Peers {
		if peer.Build != nil {
			if _, err := cc.Version(); errors.Is(err, cc.ErrNoCompiler) {
				continue
			}
		}
		for _, overTLS := range []bool{false, true} {
			if overTLS && !peer.TLS || !overTLS && !peer.Plain {
				continue
			}
			for _, size := range []int{64, 16 << 10, 100 << 10} {
				t.Run(fmt.Sprintf("%s/tls=%v/%d", peer.Name, overTLS, size), func(t *testing.T) {
					server := echo.Config{Server: peer.Name, TLS: overTLS, Cert: id.Chain,
						Key: id.Key, Buffer: 16 << 10}
					c := start(t, server)
					var config *tls.Config
					if overTLS {
						config = id.Client
					}
					g := dial(t, c.Addr, 8, size, config)
					before, err := c.Usage()
					if err != nil {
						t.Fatal(err)
					}
					exchange(t, g, 200)
					after, err := c.Usage()
					if err != nil {
						t.Fatal(err)
					}
					if used := after.Sub(before); used.CPU <= 0 {
						t.Errorf("200 messages took %v of CPU time", used.CPU)
					}
				})
			}
		}
	}
}

func TestMemoryIsThatOfTheConnections(t *testing.T) {
	const conns, buffer = 100, 64 << 10
	c := start(t, echo.Config{Server: "net", Buffer: buffer})
	before, err := c.Memory()
	if err != nil {
		t.Fatal(err)
	}
	dial(t, c.Addr, conns, 64, nil)
	after, err := c.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if grown := int64(after.Heap) - int64(before.Heap); grown < conns*buffer ||
		grown > 2*conns*buffer {
		t.Errorf("%d connections with a buffer of %d bytes each take %d bytes of heap", conns,
			buffer, grown)
	}
	if after.Stack == 0 || after.RSS < after.Stack {
		t.Errorf("%d bytes of stack, %d resident", after.Stack, after.RSS)
	}
}

func TestAServerThatDoesNotStartTellsWhy(t *testing.T) {
	for config, want := range map[echo.Config]string{
		{Server: "none"}: "no server is called",
		{Server: "net", TLS: true, Cert: "not a PEM"}: "PEM",
	} {
		c, err := child.Start(child.Spec{Name: config.Server, Program: os.Args[0],
			Args: []string{"serve"}, Config: config})
		if err == nil {
			c.Stop()
			t.Errorf("%v started", config)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", config, err)
		}
	}
	if _, err := child.Start(child.Spec{Name: "net", Program: "/nonexistent/program",
		Config: echo.Config{Server: "net"}}); err == nil {
		t.Error("a program that isn't there started")
	}
}

func TestSystemCallsAreCounted(t *testing.T) {
	c := start(t, echo.Config{Server: "net", Buffer: 4096})
	g := dial(t, c.Addr, 1, 64, nil)
	count, err := c.CountSyscalls()
	if errors.Is(err, child.ErrNoSyscallCount) {
		return // This kernel doesn't let us: that is an answer too.
	}
	if err != nil {
		t.Fatal(err)
	}
	defer count.Close()
	const messages = 1000
	exchange(t, g, messages)
	calls, err := count.Read()
	if err != nil {
		t.Fatal(err)
	}
	if calls < 2*messages {
		t.Errorf("%d system calls for %d messages, each of which is read and written", calls,
			messages)
	}
}
