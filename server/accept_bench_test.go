//go:build linux

package server_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// BenchmarkAccept opens connections, has each answered with a byte and closes them: CPU of the
// whole process, the bare clients' part included, for each, with one listener that hands
// connections to the loops in turn and with one on each loop (SO_REUSEPORT). skew says by how much
// the loop with the most connections has more than its share, when 1,000 are open.
func BenchmarkAccept(b *testing.B) {
	for name, reuse := range map[string]bool{"handed-out": false, "reuseport": true} {
		b.Run(name, func(b *testing.B) {
			addr, srv, stop := startAccepting(b, reuse)
			defer stop()
			uneven := skew(b, srv, addr)
			before := childtest.CPUTime()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					for left.Add(-1) >= 0 {
						fd, err := dialBare("127.0.1.1", addr.Port, nil)
						if err != nil {
							b.Error(err)
							return
						}
						unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
						unix.Read(fd, make([]byte, 1))
						unix.Close(fd)
					}
				})
			}
			clients.Wait()
			b.ReportMetric(float64(childtest.CPUTime()-before)/float64(b.N), "cpu-ns/conn")
			b.ReportMetric(uneven, "skew")
		})
	}
}

func startAccepting(b *testing.B, reuse bool) (*net.TCPAddr, *server.Server, func()) {
	rt, err := runtime.New(runtime.WithWatchdog(0))
	if err != nil {
		b.Fatal(err)
	}
	rt.Start()
	s := server.New(server.Config{Port: server.Port{
		ReusePort: reuse,
		OnConnect: func(ctx context.Context, c *server.Conn) { c.Send(ctx, []byte("!")) },
		OnReceive: func(context.Context, *server.Conn, []byte) {},
	}})
	l, err := s.Listen(rt.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(rt.Context()) })
	return l.Addr().(*net.TCPAddr), s, func() {
		s.Close()
		serving.Wait()
		rt.Shutdown(context.Background())
	}
}

// skew opens connections and returns how unevenly the loops have them.
func skew(b *testing.B, s *server.Server, addr *net.TCPAddr) float64 {
	const n = 1000
	fds := make([]int, n)
	for i := range fds {
		var err error
		if fds[i], err = dialBare("127.0.1.1", addr.Port, nil); err != nil {
			b.Fatal(err)
		}
		unix.Read(fds[i], make([]byte, 1))
	}
	loops := map[int]int{}
	most := 0
	for c := range s.Connections() {
		loop := c.Info().Loop
		loops[loop]++
		most = max(most, loops[loop])
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return float64(most) * float64(len(loops)) / n
}
