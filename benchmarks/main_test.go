//go:build linux

package benchmarks_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) {
	childtest.Main(servePeer)
	os.Exit(m.Run())
}

// peer says where the other side of the benchmarks is. It is in a process of its own, so that what
// is measured is the client's alone.
type peer struct {
	Echo    string // sends back what comes; further connections go elsewhere, see the method echo
	TLSEcho string
	Length  string // sends packets of lengthSize bytes that begin with the length of the rest
	Source  string // sends over TLS
	Sink    string // reads over TLS
	CA      []byte // PEM; has issued the certificate of all, for serverName
}

const (
	serverName     = "server.test"
	lengthSize     = 4 << 10
	room           = 64 << 10 // what is read at a time, in bytes
	maxConnections = 1_000_000
)

func startPeer(b *testing.B) *peer {
	b.Helper()
	p := new(peer)
	childtest.Peer(b, p)
	return p
}

// config is for clients that shall trust the peer. They don't resume.
func (p *peer) config() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA)
	return &tls.Config{RootCAs: roots, ServerName: serverName}
}

// servePeer starts the servers, in that process.
func servePeer() (where any, err error) {
	ca, err := devca.New("Whorl benchmark CA")
	if err != nil {
		return nil, err
	}
	certificate, err := ca.Issue(serverName)
	if err != nil {
		return nil, err
	}
	rt, err := runtime.New(runtime.WithMaxCoroutines(maxConnections), runtime.WithWatchdog(0))
	if err == nil {
		err = rt.Start()
	}
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{Certificates: []tls.Certificate{certificate}}
	start := func(config farside.Config) (address string) {
		if err != nil {
			return ""
		}
		config.Listen, config.Timeout = "127.0.0.1:0", time.Minute
		var s *farside.Server
		if s, err = farside.Start(rt, config); err != nil {
			return ""
		}
		return s.Addr()
	}
	p := peer{
		Echo:    start(farside.Config{Role: farside.Echo, Spread: true}),
		TLSEcho: start(farside.Config{Role: farside.Echo, TLS: secure}),
		Length:  start(farside.Config{Role: farside.Source, Size: lengthSize, Framing: message.Length}),
		Source:  start(farside.Config{Role: farside.Source, Size: record, TLS: secure}),
		Sink:    start(farside.Config{Role: farside.Sink, TLS: secure}),
		CA:      ca.PEM(),
	}
	return p, err
}

// echo is where the nth connection goes.
func (p *peer) echo(b *testing.B, n int) string {
	address, err := farside.Address(p.Echo, n)
	check(b, err)
	return address
}

var check = leaktest.Check

// likeNet is what net.Dial sets without being asked: both sides of a comparison have the same.
var likeNet = socket.KeepAlive{Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}

// measure resets the benchmark and returns a function that reports the CPU time used until then,
// divided by b.N.
func measure(b *testing.B) (done func()) {
	b.ReportAllocs()
	b.ResetTimer()
	before := childtest.CPUTime()
	return func() {
		used := childtest.CPUTime() - before
		b.StopTimer()
		b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
	}
}

// program runs a coroutine that must succeed.
func program(b *testing.B, main func(ctx context.Context) error) {
	b.Helper()
	check(b, runtime.Run(main))
}

// share is the nth worker's part of b.N.
func share(b *testing.B, n, workers int) int { return (n+1)*b.N/workers - n*b.N/workers }

// coroutines runs fn n times at once, spread over the loops, and waits. It returns the first error.
func coroutines(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	rt, err := runtime.From(ctx)
	if err != nil {
		return err
	}
	var group runtime.WaitGroup
	errs := make([]error, n)
	for i := range n {
		group.Add(1)
		_, err := rt.Go(func(ctx context.Context) {
			defer group.Done()
			errs[i] = fn(ctx, i)
		})
		if err != nil {
			return err
		}
	}
	return cmp.Or(group.Wait(ctx), cmp.Or(errs...))
}

// goroutines does the same with goroutines.
func goroutines(b *testing.B, n int, fn func(i int) error) {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = fn(i) })
	}
	group.Wait()
	check(b, cmp.Or(errs...))
}

// atATime is how many connections are opened at a time where there are many of them: fewer than a
// listener's queue holds.
const atATime = 64

// inWaves calls open for n connections, a few at a time.
func inWaves(n int, open func(n int)) {
	for ; n > 0; n -= atATime {
		open(min(n, atATime))
	}
}

// fit returns how many of so many connections may be open, having raised the limit of open files as
// far as this process may. Their other ends are elsewhere.
func fit(b *testing.B, connections int) int {
	const others = 256
	need := uint64(connections + others)
	var limit unix.Rlimit
	check(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur >= need {
		return connections
	}
	for _, raised := range []unix.Rlimit{{Cur: need, Max: max(limit.Max, need)},
		{Cur: limit.Max, Max: limit.Max}} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			return min(connections, int(raised.Cur)-others)
		}
	}
	return min(connections, int(limit.Cur)-others)
}
