//go:build linux

package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
)

// Each benchmark stands next to its peer, the same work done with net and goroutines, in the same
// run. Their servers are in another process; what is reported as cpu-… is this process's user and
// system time.

// measure resets the benchmark and returns a function that reports the CPU time used until then,
// divided by b.N.
func measure(b *testing.B, metric string, unit time.Duration) (done func()) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	before := childtest.CPUTime()
	return func() {
		used := childtest.CPUTime() - before
		b.StopTimer()
		b.ReportMetric(float64(used)/float64(b.N)/float64(unit), metric)
	}
}

// program runs a coroutine that must succeed.
func program(b *testing.B, main func(ctx context.Context) error) {
	b.Helper()
	check(b, runtime.Run(main))
}

// shares divides n among the workers.
func shares(n, workers int) []int {
	each := make([]int, workers)
	for i := range each {
		each[i] = (i+1)*n/workers - i*n/workers
	}
	return each
}

const roundTrip = 64

// A message of 64 bytes, its length in front, goes to the server and comes back.
func BenchmarkRoundTrip(b *testing.B) {
	p := startPeer(b)
	message := binary.BigEndian.AppendUint32(nil, roundTrip-4)
	message = append(message, make([]byte, roundTrip-4)...)
	for _, connections := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("whorl/connections=%d", connections), func(b *testing.B) {
			program(b, func(ctx context.Context) error { return whorlRoundTrips(ctx, b, p.Echo, message, connections) })
		})
		b.Run(fmt.Sprintf("net/connections=%d", connections), func(b *testing.B) { netRoundTrips(b, p.Echo, message, connections) })
	}
}

func whorlRoundTrips(ctx context.Context, b *testing.B, address string, message []byte, connections int) error {
	work := shares(b.N, connections)
	connected, begin := new(runtime.WaitGroup), new(runtime.WaitGroup)
	connected.Add(connections)
	begin.Add(1)
	var done func()
	_, err := runtime.Go(ctx, func(ctx context.Context) {
		connected.Wait(ctx)
		done = measure(b, "cpu-ns/op", 1)
		begin.Done()
	})
	if err != nil {
		return err
	}
	err = spread(ctx, connections, func(ctx context.Context, i int) error {
		c := client.New(client.Config{Length: packet.LengthField{Type: 'N', BodyOffset: 4}})
		defer c.Close()
		err := c.Connect(ctx, "tcp", address)
		connected.Done()
		if err == nil {
			err = begin.Wait(ctx)
		}
		for ; err == nil && work[i] > 0; work[i]-- {
			if _, err = c.Send(ctx, message); err != nil {
				break
			}
			var p []byte
			if p, err = c.Recv(ctx); err == nil && len(p) != len(message) {
				err = fmt.Errorf("%d bytes", len(p))
			}
		}
		return err
	})
	done()
	return err
}

// spread runs fn n times at once, as coroutines on all loops, and waits for them. What a coroutine
// connects lives on its own loop.
func spread(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	rt, err := runtime.From(ctx)
	if err != nil {
		return err
	}
	var group runtime.WaitGroup
	var failed atomic.Pointer[error]
	for i := range n {
		group.Add(1)
		_, err := rt.Go(func(ctx context.Context) {
			defer group.Done()
			if err := fn(ctx, i); err != nil {
				failed.Store(&err)
			}
		})
		if err != nil {
			return err
		}
	}
	if err := group.Wait(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func netRoundTrips(b *testing.B, address string, message []byte, connections int) {
	conns := make([]net.Conn, connections)
	for i := range conns {
		conn, err := net.Dial("tcp", address)
		check(b, err)
		defer conn.Close()
		conns[i] = conn
	}
	work := shares(b.N, connections)
	done := measure(b, "cpu-ns/op", 1)
	goroutines(b, connections, func(i int) error {
		answer := make([]byte, len(message))
		for range work[i] {
			if _, err := conns[i].Write(message); err != nil {
				return err
			}
			if _, err := io.ReadFull(conns[i], answer); err != nil {
				return err
			}
		}
		return nil
	})
	done()
}

// goroutines runs fn n times at once, and waits.
func goroutines(b *testing.B, n int, fn func(i int) error) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if err := fn(i); err != nil {
				b.Error(err)
			}
		})
	}
	group.Wait()
}

// Packets of 100 bytes with CR LF at the end, from one connection on which there is always more.
func BenchmarkEOFPackets(b *testing.B) {
	p := startPeer(b)
	b.Run("packets", func(b *testing.B) {
		program(b, func(ctx context.Context) error {
			c := client.New(client.Config{EOF: "\r\n"})
			defer c.Abort()
			if err := c.Connect(ctx, "tcp", p.Flood); err != nil {
				return err
			}
			b.SetBytes(100)
			defer measure(b, "cpu-ns/packet", 1)()
			n := 0
			for p, err := range c.Packets(ctx) {
				if err != nil || len(p) != 100 {
					return fmt.Errorf("%d bytes, %w", len(p), err)
				}
				if n++; n == b.N {
					break
				}
			}
			return nil
		})
	})
	b.Run("recv", func(b *testing.B) {
		program(b, func(ctx context.Context) error {
			c := client.New(client.Config{EOF: "\r\n"})
			defer c.Abort()
			if err := c.Connect(ctx, "tcp", p.Flood); err != nil {
				return err
			}
			b.SetBytes(100)
			defer measure(b, "cpu-ns/packet", 1)()
			for range b.N {
				if p, err := c.Recv(ctx); err != nil || len(p) != 100 {
					return fmt.Errorf("%d bytes, %w", len(p), err)
				}
			}
			return nil
		})
	})
	b.Run("net", func(b *testing.B) {
		conn, err := net.Dial("tcp", p.Flood)
		check(b, err)
		defer conn.Close()
		r := bufio.NewReaderSize(conn, 64<<10)
		b.SetBytes(100)
		defer measure(b, "cpu-ns/packet", 1)()
		for range b.N {
			if p, err := r.ReadSlice('\n'); err != nil || len(p) != 100 {
				b.Fatal(len(p), err)
			}
		}
	})
}

// One large packet that arrives in many pieces. Twice the size in twice the pieces should take
// twice the time; reads/op says that they really came in pieces.
func BenchmarkPieces(b *testing.B) {
	p := startPeer(b)
	for _, bm := range []struct{ size, pieces int }{{1 << 20, 750}, {2 << 20, 1500}} {
		request := binary.BigEndian.AppendUint32(nil, uint32(bm.size))
		request = binary.BigEndian.AppendUint32(request, uint32(bm.pieces))
		name := fmt.Sprintf("size=%dMiB,pieces=%d", bm.size>>20, bm.pieces)
		b.Run("whorl/"+name, func(b *testing.B) {
			program(b, func(ctx context.Context) error {
				c := client.New(client.Config{EOF: "\r\n"})
				defer c.Abort()
				if err := c.Connect(ctx, "unix", p.Pieces); err != nil {
					return err
				}
				b.SetBytes(int64(bm.size))
				defer measureReads(b)()
				for range b.N {
					if _, err := c.Send(ctx, request); err != nil {
						return err
					}
					if p, err := c.Recv(ctx); err != nil || len(p) != bm.size {
						return fmt.Errorf("%d bytes, %w", len(p), err)
					}
				}
				return nil
			})
		})
		b.Run("net/"+name, func(b *testing.B) {
			conn, err := net.Dial("unix", p.Pieces)
			check(b, err)
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 64<<10)
			b.SetBytes(int64(bm.size))
			defer measureReads(b)()
			for range b.N {
				_, err := conn.Write(request)
				check(b, err)
				if p, err := r.ReadBytes('\n'); err != nil || len(p) != bm.size {
					b.Fatal(len(p), err)
				}
			}
		})
	}
}

// measureReads is measure that also reports the number of read(2) calls.
func measureReads(b *testing.B) (done func()) {
	cpu := measure(b, "cpu-ns/op", 1)
	before := readCalls(b)
	return func() {
		calls := readCalls(b) - before
		cpu()
		b.ReportMetric(float64(calls)/float64(b.N), "reads/op")
	}
}

func readCalls(b *testing.B) int {
	figures, err := os.ReadFile("/proc/self/io")
	check(b, err)
	for line := range bytes.Lines(figures) {
		if calls, ok := bytes.CutPrefix(line, []byte("syscr: ")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(calls)))
			check(b, err)
			return n
		}
	}
	b.Fatal("/proc/self/io has no syscr")
	return 0
}

// forgetful is a session cache that never stores: every handshake is a full one.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

// Connections with a TLS 1.3 handshake, 50 at a time, on each of which the server says one byte;
// that is where a client gets its session.
func BenchmarkHandshake(b *testing.B) {
	const concurrency = 50
	p := startPeer(b)
	for _, kind := range []string{"full", "resumed"} {
		newCache := func() tls.ClientSessionCache {
			if kind == "full" {
				return forgetful{}
			}
			return tls.NewLRUClientSessionCache(0)
		}
		b.Run("whorl/"+kind, func(b *testing.B) {
			program(b, func(ctx context.Context) error {
				work := shares(b.N, concurrency)
				clients := make([]*client.Client, concurrency)
				for i := range clients {
					clients[i] = client.New(client.Config{TLS: p.config(newCache())})
					if err := whorlHandshake(ctx, clients[i], p.TLS); err != nil {
						return err
					}
				}
				defer measure(b, "cpu-us/op", time.Microsecond)()
				return spread(ctx, concurrency, func(ctx context.Context, i int) error {
					for range work[i] {
						if err := whorlHandshake(ctx, clients[i], p.TLS); err != nil {
							return err
						}
					}
					return nil
				})
			})
		})
		b.Run("net/"+kind, func(b *testing.B) {
			work := shares(b.N, concurrency)
			configs := make([]*tls.Config, concurrency)
			for i := range configs {
				configs[i] = p.config(newCache())
				check(b, netHandshake(configs[i], p.TLS))
			}
			defer measure(b, "cpu-us/op", time.Microsecond)()
			goroutines(b, concurrency, func(i int) error {
				for range work[i] {
					if err := netHandshake(configs[i], p.TLS); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// Both reset the connection, so that the machine doesn't run out of ports.

func whorlHandshake(ctx context.Context, c *client.Client, address string) error {
	if err := c.Connect(ctx, "tls", address); err != nil {
		return err
	}
	defer c.Abort()
	_, err := c.Recv(ctx)
	return err
}

func netHandshake(config *tls.Config, address string) error {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	conn.NetConn().(*net.TCPConn).SetLinger(0)
	defer conn.NetConn().Close()
	_, err = conn.Read(make([]byte, 1))
	return err
}
