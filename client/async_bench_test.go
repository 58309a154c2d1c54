//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
)

// BenchmarkAsyncIdle opens connections on which nothing happens and reports what each costs the client: bytes of heap and of stack. net is the same with a
// goroutine for each, which waits in Read. The servers are in another process. Run it with -benchtime 1x.
func BenchmarkAsyncIdle(b *testing.B) {
	const connections = 8000
	p := startPeer(b)
	for _, network := range []string{"tcp", "tls"} {
		address := map[string]string{"tcp": p.Echo, "tls": p.TLS}[network]
		for _, style := range []struct {
			name string
			open func(b *testing.B, n int, network, address string, config *tls.Config) (closeAll func())
		}{{"whorl", openAsyncs}, {"net", openGoroutines}} {
			b.Run(network+"/"+style.name, func(b *testing.B) {
				for range b.N {
					config := p.config(tls.NewLRUClientSessionCache(0))
					// Twice: what the first connections leave in pools is not theirs.
					style.open(b, 500, network, address, config)()
					heap, stack := childtest.MemoryInUse()
					closeAll := style.open(b, connections, network, address, config)
					heapAfter, stackAfter := childtest.MemoryInUse()
					b.ReportMetric(float64(heapAfter-heap)/connections, "heap-B/conn")
					b.ReportMetric(float64(stackAfter-stack)/connections, "stack-B/conn")
					b.ReportMetric(0, "ns/op")
					closeAll()
				}
			})
		}
	}
}

// openAsyncs opens n connections by callback and returns when all stand, and on "tls" have received the byte that the server says.
func openAsyncs(b *testing.B, n int, network, address string, config *tls.Config) (closeAll func()) {
	rt, err := runtime.New()
	check(b, err)
	check(b, rt.Start())
	var open atomic.Int64
	d, err := client.NewAsyncDialer(client.AsyncConfig{
		Config:        client.Config{TLS: config},
		OnConnect:     func(context.Context, *client.Async) { open.Add(1) },
		OnReceive:     func(context.Context, *client.Async, []byte) { open.Add(1) },
		OnError:       func(_ context.Context, _ *client.Async, err error) { b.Error(err) },
		MaxConnecting: 64,
	})
	check(b, err)
	all := make([]*client.Async, n)
	for i := range all {
		all[i], err = d.Dial(rt.Context(), network, address)
		check(b, err)
	}
	events := int64(n)
	if network == "tls" {
		events *= 2
	}
	until(b, "all connections stand", func() bool { return open.Load() == events || b.Failed() })
	return func() {
		for _, a := range all {
			a.Abort()
		}
		check(b, rt.Shutdown(context.Background()))
	}
}

// openGoroutines does the same with net.
func openGoroutines(b *testing.B, n int, network, address string, config *tls.Config) (closeAll func()) {
	var reading, standing sync.WaitGroup
	all := make([]net.Conn, n)
	limit := make(chan struct{}, 64)
	for i := range all {
		standing.Add(1)
		reading.Go(func() {
			limit <- struct{}{}
			var err error
			one := make([]byte, 1)
			if network == "tls" {
				var conn *tls.Conn
				if conn, err = tls.Dial("tcp", address, config); err == nil {
					all[i] = conn
					_, err = io.ReadFull(conn, one)
				}
			} else {
				all[i], err = net.Dial("tcp", address)
			}
			<-limit
			standing.Done()
			if err != nil {
				b.Error(err)
				return
			}
			all[i].Read(one)
		})
	}
	standing.Wait()
	return func() {
		for _, conn := range all {
			if secure, ok := conn.(*tls.Conn); ok {
				conn = secure.NetConn()
			}
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		reading.Wait()
	}
}
