//go:build linux

package benchmarks_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
)

const messageSize = 64

// trip is a message of a round trip. It has its length in front.
func trip() []byte {
	return append(binary.BigEndian.AppendUint32(nil, messageSize-4), make([]byte, messageSize-4)...)
}

// BenchmarkCrowd is round trips of 64 bytes on more and more connections, all of which are busy: an
// operation is one on each of them. Where the limit of open files doesn't allow so many there are
// fewer: the metric connections has their number.
func BenchmarkCrowd(b *testing.B) {
	sizes := []int{1_000, 10_000, 100_000}
	if testing.Short() {
		sizes = []int{100}
	}
	p := startPeer(b)
	for _, connections := range sizes {
		n := fit(b, connections)
		for _, style := range []struct {
			name  string
			start func(b *testing.B, p *peer, n int) (turn func(b *testing.B), stop func())
		}{{"whorl", whorlCrowd}, {"net", netCrowd}} {
			var turn func(b *testing.B)
			var stop func()
			b.Run(fmt.Sprintf("%s/connections=%d", style.name, connections), func(b *testing.B) {
				if turn == nil { // It is called several times.
					turn, stop = style.start(b, p, n)
					b.ResetTimer()
				}
				before := childtest.CPUTime()
				turn(b)
				b.ReportMetric(float64((childtest.CPUTime()-before).Nanoseconds())/float64(b.N*n),
					"cpu-ns/message")
				b.ReportMetric(float64(n), "connections")
			})
			if stop != nil {
				stop()
			}
		}
	}
}

// crowd is what the workers, each of which has a connection, have in common. A turn is b.N round
// trips of each.
type crowd struct {
	trips  int
	failed atomic.Pointer[error]
	ended  sync.WaitGroup
}

// work is a worker's turn.
func (c *crowd) work(trip func() error) {
	defer c.ended.Done()
	for range c.trips {
		if err := trip(); err != nil {
			c.failed.CompareAndSwap(nil, &err)
			return
		}
	}
}

// turn begins one with begin, and waits for its end.
func (c *crowd) turn(b *testing.B, workers int, begin func()) {
	c.trips = b.N
	c.ended.Add(workers)
	begin()
	c.ended.Wait()
	if err := c.failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

func whorlCrowd(b *testing.B, p *peer, n int) (turn func(b *testing.B), stop func()) {
	rt, stop := started(b)
	out, all := trip(), new(crowd)
	gate := new(runtime.WaitGroup) // opens when the next turn begins
	gate.Add(1)
	worker := func(ctx context.Context, address string, opened chan<- error) {
		c := client.New(client.Config{KeepAlive: likeNet, Length: packet.LengthField{Type: 'N',
			BodyOffset: 4}})
		err := c.Connect(ctx, "tcp", address)
		defer c.Abort()
		mine := gate
		opened <- err
		for err == nil && mine.Wait(ctx) == nil {
			// The next one is there before this one opens, and the one after that once this turn
			// has ended.
			mine = gate
			all.work(func() error {
				if _, err := c.Send(ctx, out); err != nil {
					return err
				}
				answer, err := c.Recv(ctx)
				if err == nil && len(answer) != len(out) {
					err = fmt.Errorf("%d bytes", len(answer))
				}
				return err
			})
		}
	}
	dialled := 0
	inWaves(n, func(n int) {
		opened := make(chan error, n)
		for range n {
			address := p.echo(b, dialled)
			dialled++
			_, err := rt.Go(func(ctx context.Context) { worker(ctx, address, opened) })
			check(b, err)
		}
		await(b, n, opened)
	})
	return func(b *testing.B) {
		all.turn(b, n, func() {
			open := gate
			gate = new(runtime.WaitGroup)
			gate.Add(1)
			open.Done()
		})
	}, stop
}

func netCrowd(b *testing.B, p *peer, n int) (turn func(b *testing.B), stop func()) {
	out, all := trip(), new(crowd)
	gates, conns := make([]chan struct{}, n), make([]net.Conn, n)
	for i := range conns {
		conn, err := net.Dial("tcp", p.echo(b, i))
		check(b, err)
		gate := make(chan struct{})
		conns[i], gates[i] = conn, gate
		go func() {
			answer := make([]byte, len(out))
			for range gate {
				all.work(func() error {
					if _, err := conn.Write(out); err != nil {
						return err
					}
					_, err := io.ReadFull(conn, answer)
					return err
				})
			}
		}()
	}
	return func(b *testing.B) {
			all.turn(b, n, func() {
				for _, gate := range gates {
					gate <- struct{}{}
				}
			})
		}, func() {
			for i, conn := range conns {
				close(gates[i])
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		}
}

// BenchmarkIdleClients opens connections, has one message come back on each, and reports what each
// costs while it waits for more: bytes of heap and of stack. Go uses the descriptors of goroutines
// that have ended again, some 450 bytes each, so what comes later in the same run is told up to
// that much too small: run each on its own.
func BenchmarkIdleClients(b *testing.B) {
	n := fit(b, 20_000+atATime) - atATime
	if testing.Short() {
		n = 200
	}
	p := startPeer(b)
	for _, secure := range []bool{false, true} {
		var config *tls.Config
		name, address := "plain", p.Echo
		if secure {
			config, name, address = p.config(), "tls", p.TLSEcho
		}
		for _, style := range []struct {
			name  string
			start func(b *testing.B) (open func(n int), stop func())
		}{
			{"coroutine", func(b *testing.B) (func(int), func()) {
				return idleCoroutines(b, config, address, runtime.Detour)
			}},
			{"coroutine-without-detour", func(b *testing.B) (func(int), func()) {
				return idleCoroutines(b, config, address, noDetour)
			}},
			{"callback", func(b *testing.B) (func(int), func()) {
				return idleCallbacks(b, config, address)
			}},
			{"net", func(b *testing.B) (func(int), func()) { return idleNet(b, config, address) }},
		} {
			b.Run(name+"/"+style.name, func(b *testing.B) {
				for range b.N {
					open, stop := style.start(b)
					stop = sync.OnceFunc(stop)
					b.Cleanup(stop) // also if a connection doesn't stand
					open(atATime)   // What the first ones leave in pools is no connection's.
					heap, stack := childtest.MemoryInUse()
					inWaves(n, open)
					heapAfter, stackAfter := childtest.MemoryInUse()
					stop()
					b.ReportMetric(float64(heapAfter-heap)/float64(n), "heap-B/conn")
					b.ReportMetric(float64(stackAfter-stack)/float64(n), "stack-B/conn")
					b.ReportMetric(float64(n), "connections")
					b.ReportMetric(0, "ns/op")
				}
			})
		}
	}
}

func network(config *tls.Config) string {
	if config != nil {
		return "tls"
	}
	return "tcp"
}

// started is a runtime for the connections of a benchmark.
func started(b *testing.B) (rt *runtime.Runtime, stop func()) {
	rt, err := runtime.New(runtime.WithWatchdog(0)) // Closing them all at once takes long.
	check(b, err)
	check(b, rt.Start())
	return rt, func() { rt.Shutdown(context.Background()) }
}

// await gets an answer from each of n connections.
func await(b *testing.B, n int, opened <-chan error) {
	for range n {
		check(b, <-opened)
	}
}

// idleCoroutines has a message come back before each coroutine waits, on the stack that detour
// gives it for that.
func idleCoroutines(
	b *testing.B, config *tls.Config, address string,
	detour func(context.Context, func(context.Context)) error,
) (open func(n int), stop func()) {
	rt, stop := started(b)
	out := trip()
	dialer, err := client.NewDialer(client.Config{TLS: config, KeepAlive: likeNet})
	check(b, err)
	exchange := func(ctx context.Context, c *client.Client) error {
		err := c.Connect(ctx, network(config), address)
		if err == nil {
			_, err = c.Send(ctx, out)
		}
		if err == nil {
			_, err = c.Recv(ctx)
		}
		return err
	}
	return func(n int) {
		opened := make(chan error, n)
		for range n {
			_, err := rt.Go(func(ctx context.Context) {
				c := dialer.New()
				detour(ctx, func(ctx context.Context) { opened <- exchange(ctx, c) })
				for {
					if _, err := c.Recv(ctx); !errors.Is(err, runtime.ErrTimeout) {
						break
					}
				}
				c.Abort()
			})
			check(b, err)
		}
		await(b, n, opened)
	}, stop
}

func noDetour(ctx context.Context, fn func(context.Context)) error {
	fn(ctx)
	return nil
}

func idleCallbacks(b *testing.B, config *tls.Config, address string) (open func(n int),
	stop func()) {
	rt, stop := started(b)
	out := trip()
	var opened chan error
	dialer, err := client.NewAsyncDialer(client.AsyncConfig{
		Config: client.Config{TLS: config, KeepAlive: likeNet},
		OnConnect: func(_ context.Context, a *client.Async) {
			if err := a.Send(out); err != nil {
				opened <- err
			}
		},
		OnReceive: func(context.Context, *client.Async, []byte) { opened <- nil },
		OnError:   func(_ context.Context, _ *client.Async, err error) { opened <- err },
	})
	check(b, err)
	return func(n int) {
		opened = make(chan error, n)
		for range n {
			_, err := dialer.Dial(rt.Context(), network(config), address)
			check(b, err)
		}
		await(b, n, opened)
	}, stop
}

func idleNet(b *testing.B, config *tls.Config, address string) (open func(n int), stop func()) {
	out := trip()
	var conns []net.Conn
	exchange := func(conn net.Conn) error {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, len(out)))
		return err
	}
	return func(n int) {
			opened := make(chan error, n)
			for range n {
				raw, err := net.Dial("tcp", address)
				check(b, err)
				conns = append(conns, raw)
				conn := raw
				if config != nil {
					conn = tls.Client(raw, config)
				}
				go func() {
					opened <- exchange(conn)
					conn.Read(make([]byte, 512))
				}()
			}
			await(b, n, opened)
		}, func() {
			for _, conn := range conns {
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		}
}
