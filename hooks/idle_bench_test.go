//go:build linux

package hooks_test

import (
	"context"
	"io"
	"net"
	goruntime "runtime"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// What an idle connection takes, by which nobody waits: both ends of it are hooked, have said
// something, and have had a deadline. heap-B/conn is for each end; off-heap-B/conn is what Go's
// garbage collector keeps beside it.
func BenchmarkIdleConn(b *testing.B) {
	b.Run("coroutines", func(b *testing.B) {
		check(b, runtime.Run(func(ctx context.Context) error { idleConns(ctx, b); return nil }, append(quiet[:2:2], runtime.WithLoops(1))...))
	})
	b.Run("goroutines", func(b *testing.B) { idleConns(start(b), b) })
}

func idleConns(ctx context.Context, b *testing.B) {
	const pairs = 4000
	l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
	check(b, err)
	defer l.Close()
	conns := make([]net.Conn, 0, 2*pairs)
	exchange := func(from, to net.Conn) {
		_, err := from.Write([]byte("x"))
		check(b, err)
		_, err = io.ReadFull(to, make([]byte, 1))
		check(b, err)
	}
	connect := func() {
		c1, err := new(hooks.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		check(b, err)
		c2, err := l.Accept()
		check(b, err)
		exchange(c1, c2)
		exchange(c2, c1)
		conns = append(conns, c1, c2)
	}
	connect()
	var before, after goruntime.MemStats
	for b.Loop() {
		for _, c := range conns {
			c.Close()
		}
		clear(conns)
		conns = conns[:0]
		readMemory(&before)
		for range pairs {
			connect()
		}
		readMemory(&after)
	}
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(2*pairs), "heap-B/conn")
	b.ReportMetric(float64(int64(after.HeapObjects)-int64(before.HeapObjects))/(2*pairs), "objects/conn")
	b.ReportMetric(float64(int64(after.OtherSys)-int64(before.OtherSys))/(2*pairs), "off-heap-B/conn")
	for _, c := range conns {
		c.Close()
	}
}

func readMemory(m *goruntime.MemStats) {
	goruntime.GC()
	goruntime.GC()
	goruntime.ReadMemStats(m)
}
