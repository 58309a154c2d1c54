//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/leaktest"
)

// generator makes a generator for the time of the test.
func generator(t *testing.T, address string, change func(*GeneratorOptions)) *Generator {
	t.Helper()
	o := GeneratorOptions{Options: options(PingPong, address), Most: 200}
	if change != nil {
		change(&o)
	}
	g, err := NewGenerator(t.Context(), o)
	check(t, err)
	t.Cleanup(func() { check(t, g.Close()) })
	return g
}

// reach waits until so many messages have come back.
func reach(t *testing.T, g *Generator, messages int64) {
	t.Helper()
	leaktest.Until(t, "messages come back", func() bool { return g.Messages() >= messages })
}

func TestAGeneratorWorksInTurns(t *testing.T) {
	for _, secure := range []bool{false, true} {
		config := farside.Config{Role: farside.Echo}
		if secure {
			config.TLS = &tls.Config{}
		}
		address, server := serving(t, config)
		var counted [2]atomic.Int64
		g := generator(t, address, func(o *GeneratorOptions) {
			if o.Spin = !secure; secure {
				o.TLS = trusting(t)
			}
			o.Counter = func(loop int) *atomic.Int64 { return &counted[loop] }
		})
		check(t, g.Open(3))
		for turn := range 3 {
			before := g.Messages()
			check(t, g.Start())
			reach(t, g, before+100)
			check(t, g.Stop())
			after := g.Messages()
			if counted[0].Load()+counted[1].Load() != after {
				t.Errorf("%d messages, and %d and %d are counted", after, counted[0].Load(),
					counted[1].Load())
			}
			if turn == 1 {
				check(t, g.Open(100)) // more than it opens at a time
			}
			if idle := g.Messages(); idle != after {
				t.Errorf("%d messages between two turns", idle-after)
			}
		}
		if n := server.Stats().Accepted; n != 104 { // with the trial
			t.Errorf("the server has %d connections", n)
		}
	}
}

func TestAGeneratorToldOfAServerThatCheatsOrFails(t *testing.T) {
	for want, serve := range map[string]func(net.Conn, []byte) error{
		"not the echo": func(conn net.Conn, p []byte) error {
			p[50]++
			_, err := conn.Write(p)
			return err
		},
		"closed":  func(net.Conn, []byte) error { return io.EOF },
		"timeout": func(net.Conn, []byte) error { return nil },
	} {
		address := scripted(t, func(_ int, conn net.Conn) {
			buf := make([]byte, 100)
			for n := 0; ; n++ {
				if _, err := io.ReadFull(conn, buf); err != nil {
					return
				}
				if n < 5 {
					conn.Write(buf)
				} else if serve(conn, buf) != nil {
					return
				}
			}
		})
		g := generator(t, address, func(o *GeneratorOptions) {
			if want == "timeout" {
				o.Timeout = 100 * ms
			}
		})
		check(t, g.Open(2))
		check(t, g.Start())
		reach(t, g, 8)
		leaktest.Until(t, "it notices", func() bool {
			n := int64(0)
			for _, l := range g.run.lanes {
				n += l.failed.Load()
			}
			return n > 0
		})
		if err := g.Stop(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAGeneratorWithoutAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	l.Close()
	o := GeneratorOptions{Options: options(PingPong, l.Addr().String()), Most: 1}
	if _, err := NewGenerator(context.Background(), o); err == nil ||
		classify(err) != "connect: connection refused" {
		t.Errorf("error: %v", err)
	}
	o.Most = 0
	if _, err := NewGenerator(context.Background(), o); err == nil {
		t.Error("a generator without connections")
	}
}
