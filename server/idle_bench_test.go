//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

var idleProfile = flag.String("idle.profile", "", "BenchmarkIdle writes a heap profile of the open connections to this file; use -memprofilerate 1")

// BenchmarkIdle opens connections, has a message come on each, and reports what each costs the server
// while nothing happens: bytes of heap and of stack. Next to each other: Whorl's two styles, and net with a goroutine for
// each. The clients' ends of the plain ones are bare descriptors; those of the TLS ones say their
// part and drop all but the descriptor.
func BenchmarkIdle(b *testing.B) {
	connections := min(20_000, (raiseFileLimit(b)-1000)/2) // both ends are here
	if testing.Short() {
		connections = 500
	}
	config := developmentTLS(b)
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[secure]
		for style, start := range map[string]func(b *testing.B, config *tls.Config) (addr net.Addr, opened func() int, stop func()){
			"callback": startIdleWhorl(false, 0), "coroutine": startIdleWhorl(true, 0), "net": startIdleNet,
			"compact callback": startIdleWhorl(false, time.Second), "compact coroutine": startIdleWhorl(true, time.Second),
		} {
			compact := strings.HasPrefix(style, "compact")
			if compact && !secure {
				continue
			}
			b.Run(name+"/"+style, func(b *testing.B) {
				for range b.N {
					use := config
					if !secure {
						use = nil
					}
					addr, opened, stop := start(b, use)
					before, _ := socket.Compact()
					open := func(n int) (closeAll func()) {
						closeAll = openIdle(b, addr, use, opened, n)
						before += int64(n)
						for now := int64(0); compact && now < before && !b.Failed(); {
							time.Sleep(10 * time.Millisecond)
							now, _ = socket.Compact()
						}
						return closeAll
					}
					// What there is once, for the first ones, is no connection's. They stay, so that
					// nothing of them goes meanwhile.
					closeFirst := open(200)
					heap, stack := childtest.MemoryInUse()
					closeAll := open(connections)
					heapAfter, stackAfter := childtest.MemoryInUse()
					writeHeapProfile(b)
					b.ReportMetric(float64(heapAfter-heap)/float64(connections), "heap-B/conn")
					b.ReportMetric(float64(stackAfter-stack)/float64(connections), "stack-B/conn")
					b.ReportMetric(0, "ns/op")
					closeAll()
					closeFirst()
					stop()
				}
			})
		}
	}
}

func writeHeapProfile(b *testing.B) {
	if *idleProfile == "" {
		return
	}
	f, err := os.Create(*idleProfile)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := pprof.Lookup("heap").WriteTo(f, 0); err != nil {
		b.Fatal(err)
	}
}

// raiseFileLimit raises the limit of descriptors as far as the process may, and returns it.
func raiseFileLimit(b *testing.B) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	const enough = 1 << 20
	if limit.Cur < enough {
		for _, raised := range []unix.Rlimit{{Cur: enough, Max: max(limit.Max, enough)}, {Cur: limit.Max, Max: limit.Max}} {
			if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
				limit = raised
				break
			}
		}
	}
	return int(min(limit.Cur, enough))
}

func developmentTLS(b *testing.B) *tls.Config {
	ca, err := devca.New("development")
	if err != nil {
		b.Fatal(err)
	}
	certificate, err := ca.Issue("localhost")
	if err != nil {
		b.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: ca.Pool()}
}

func startIdleWhorl(coroutines bool, compact time.Duration) func(b *testing.B, config *tls.Config) (net.Addr, func() int, func()) {
	return func(b *testing.B, config *tls.Config) (net.Addr, func() int, func()) {
		port := server.Port{TLS: config, CompactTLS: socket.CompactTLS{After: compact}}
		if coroutines {
			port.Handle = func(ctx context.Context, c *server.Conn) {
				var err error
				for err == nil || errors.Is(err, runtime.ErrTimeout) { // the default one
					_, err = c.Recv(ctx)
				}
			}
		} else {
			port.OnReceive = func(context.Context, *server.Conn, []byte) {}
		}
		network := "tcp"
		if config != nil {
			network = "tls"
		}
		s := server.New(server.Config{Port: port, MaxConnections: 1 << 20})
		rt, err := runtime.New(runtime.WithWatchdog(0)) // closing them all at once takes long
		if err != nil {
			b.Fatal(err)
		}
		rt.Start()
		l, err := s.Listen(rt.Context(), network, "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() { s.Serve(rt.Context()) })
		return l.Addr(), func() int { return int(s.Stats().PacketsIn) }, func() {
			s.Close()
			serving.Wait()
			rt.Shutdown(context.Background())
		}
	}
}

func startIdleNet(b *testing.B, config *tls.Config) (net.Addr, func() int, func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	var serving sync.WaitGroup
	var opened atomic.Int64
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				buf := make([]byte, 512)
				if _, err := c.Read(buf); err != nil {
					return
				}
				opened.Add(1)
				c.Read(buf)
			})
		}
	})
	return l.Addr(), func() int { return int(opened.Load()) }, func() {
		l.Close()
		serving.Wait()
	}
}

// openIdle opens connections from as many addresses as it takes, and waits until the server has had
// a message on each. The function that it returns closes them.
func openIdle(b *testing.B, addr net.Addr, config *tls.Config, opened func() int, n int) func() {
	to := addr.(*net.TCPAddr)
	fds := make([]int, n)
	before := opened()
	var opening sync.WaitGroup
	next := make(chan int)
	for range 16 {
		opening.Go(func() {
			for i := range next {
				fd, err := dialBare(fmt.Sprintf("127.0.1.%d", 1+i/20_000), to.Port, config)
				if err != nil {
					b.Error(err)
				}
				fds[i] = fd
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	opening.Wait()
	for opened() < before+n && !b.Failed() {
		time.Sleep(time.Millisecond)
	}
	return func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// dialBare returns the descriptor of a connection.
func dialBare(from string, port int, config *tls.Config) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	local := &unix.SockaddrInet4{}
	copy(local.Addr[:], net.ParseIP(from).To4())
	if err := unix.Bind(fd, local); err != nil {
		return fd, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fd, err
	}
	message := []byte("hello")
	if config == nil {
		_, err := unix.Write(fd, message)
		return fd, err
	}
	c := tls.Client(bare{fd: fd}, &tls.Config{RootCAs: config.RootCAs, ServerName: "localhost"})
	_, err = c.Write(message)
	return fd, err
}

// bare is a descriptor as far as a client's handshake needs a net.Conn.
type bare struct {
	net.Conn
	fd int
}

func (c bare) Read(p []byte) (int, error) {
	n, err := unix.Read(c.fd, p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (c bare) Write(p []byte) (int, error) { return unix.Write(c.fd, p) }
