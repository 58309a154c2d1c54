//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// BenchmarkAsyncIdle opens connections on which nothing happens and reports what each costs the
// client: bytes of heap and of stack. net is the same with a goroutine for each, which waits in
// Read. The servers are in another process. Run it with -benchtime 1x.
func BenchmarkAsyncIdle(b *testing.B) {
	const connections = 8000
	p := startPeer(b)
	for _, network := range []string{"tcp", "tls"} {
		address := map[string]string{"tcp": p.Echo, "tls": p.TLS}[network]
		for _, style := range []struct {
			name string
			open func(n int, network, address string, config *tls.Config) (closeAll func(),
				err error)
		}{{"whorl", openAsyncs(0)}, {"whorl compact", openAsyncs(time.Second)}, {"net", openGoroutines}} {
			if network == "tcp" && style.name == "whorl compact" {
				continue
			}
			b.Run(network+"/"+style.name, func(b *testing.B) {
				for range b.N {
					config := p.config(tls.NewLRUClientSessionCache(0))
					// Twice: what the first connections leave in pools is not theirs.
					closeAll, err := style.open(500, network, address, config)
					check(b, err)
					closeAll()
					heap, stack := childtest.MemoryInUse()
					closeAll, err = style.open(connections, network, address, config)
					check(b, err)
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

// openAsyncs opens n connections by callback and returns when all stand, and on "tls" have received
// the byte that the server says. With an error none is left.
// With compact, they are so, too.
func openAsyncs(compact time.Duration) func(
	n int, network, address string, config *tls.Config,
) (closeAll func(), err error) {
	return func(n int, network, address string, config *tls.Config) (closeAll func(), err error) {
		before, _ := socket.Compact()
		closeAll, err = openAsyncsWith(socket.CompactTLS{After: compact}, n, network, address, config)
		for now, _ := socket.Compact(); err == nil && compact > 0 && now < before+int64(n); now, _ = socket.Compact() {
			time.Sleep(10 * time.Millisecond)
		}
		return closeAll, err
	}
}

func openAsyncsWith(
	compact socket.CompactTLS, n int, network, address string, config *tls.Config,
) (closeAll func(), err error) {
	rt, err := runtime.New()
	if err == nil {
		err = rt.Start()
	}
	if err != nil {
		return nil, err
	}
	all := make([]*client.Async, 0, n)
	closeAll = func() {
		for _, a := range all {
			a.Abort()
		}
		rt.Shutdown(context.Background())
	}
	awaited := int64(n)
	if network == "tls" {
		awaited *= 2
	}
	var events atomic.Int64
	stand := make(chan error, 2) // all, or the first one that doesn't
	event := func() {
		if events.Add(1) == awaited {
			stand <- nil
		}
	}
	var failed sync.Once
	d, err := client.NewAsyncDialer(client.AsyncConfig{
		Config:    client.Config{TLS: config, CompactTLS: compact},
		OnConnect: func(context.Context, *client.Async) { event() },
		OnReceive: func(context.Context, *client.Async, []byte) { event() },
		OnError: func(_ context.Context, _ *client.Async, err error) {
			failed.Do(func() { stand <- err })
		},
		MaxConnecting: 64,
	})
	if err != nil {
		closeAll()
		return nil, err
	}
	for range n {
		a, err := d.Dial(rt.Context(), network, address)
		if err != nil {
			closeAll()
			return nil, err
		}
		all = append(all, a)
	}
	if err := <-stand; err != nil {
		closeAll()
		return nil, err
	}
	return closeAll, nil
}

// openGoroutines does the same with net.
func openGoroutines(
	n int, network, address string, config *tls.Config,
) (closeAll func(), err error) {
	var reading sync.WaitGroup
	all, opened := make([]net.Conn, n), make(chan error, n)
	limit := make(chan struct{}, 64)
	for i := range all {
		reading.Go(func() {
			limit <- struct{}{}
			conn, err := net.Dial("tcp", address)
			one, stream := make([]byte, 1), conn
			if err == nil {
				all[i] = conn
			}
			if err == nil && network == "tls" {
				stream = tls.Client(conn, config)
				_, err = io.ReadFull(stream, one)
			}
			<-limit
			opened <- err
			if err == nil {
				stream.Read(one)
			}
		})
	}
	for range all {
		err = errors.Join(err, <-opened)
	}
	closeAll = func() {
		for _, conn := range all {
			if conn != nil {
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		}
		reading.Wait()
	}
	if err != nil {
		closeAll()
		return nil, err
	}
	return closeAll, nil
}

// A benchmark that fails says why, and leaves nothing that would be taken for the reason.
func TestIdleConnectionsThatDoNotStandLeaveNothing(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	refusing.Close()
	config := &tls.Config{ServerName: "peer.test"}
	for name, open := range map[string]func(int, string, string, *tls.Config) (func(), error){
		"whorl": openAsyncs(0), "net": openGoroutines,
	} {
		t.Run(name, func(t *testing.T) {
			leaktest.Guard(t)
			if _, err := open(5, "tcp", refusing.Addr().String(), nil); !errors.Is(err,
				syscall.ECONNREFUSED) {
				t.Errorf("nobody there: %v", err)
			}
			if _, err := open(1, "tls", refusing.Addr().String(), config); err == nil {
				t.Error("nobody there, and no error")
			}
			if _, err := open(1, "tcp", "256.0.0.1:1", nil); err == nil {
				t.Error("no address, and no error")
			}
		})
	}
}
