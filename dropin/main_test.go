//go:build linux

package dropin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/dropin/internal/cut"
	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
)

func TestMain(m *testing.M) {
	// Package net keeps a descriptor for its poller from the first use on; it is no leak of a test's.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what has to happen: far longer than a busy machine needs.
const patience = 30 * time.Second

// stall is how long a loop may be held before the watchdog reports it. It is more than the default, since a busy machine can stop a loop for a while, too, and
// much less than the waits that the tests have.
const stall = 2 * time.Second

// both runs a test in a coroutine and again on a plain goroutine. It must leave neither goroutines nor descriptors behind, nor hold a loop.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	t.Run("coroutine", func(t *testing.T) {
		guard(t)
		err := runtime.Run(func(ctx context.Context) error { test(ctx, t); return nil }, watched(t, stall)...)
		if err != nil && err != runtime.ErrGoexit { // that is how t.Fatal ends
			t.Fatal(err)
		}
	})
	t.Run("goroutine", func(t *testing.T) {
		guard(t)
		test(start(t, watched(t, stall)...), t)
	})
}

// start starts a runtime for the length of a test, and returns its context.
func start(t testing.TB, options ...runtime.Option) context.Context {
	t.Helper()
	rt, err := runtime.New(options...)
	check(t, err)
	check(t, rt.Start())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		check(t, rt.Shutdown(ctx))
	})
	return rt.Context()
}

// watched returns the options of a runtime with two loops, of which everything that it logs is an error of the test.
func watched(t testing.TB, limit time.Duration) []runtime.Option {
	core, logs := observer.New(zap.WarnLevel)
	t.Cleanup(func() {
		for _, entry := range logs.All() {
			t.Errorf("logged: %s %v", entry.Message, entry.ContextMap())
		}
	})
	return []runtime.Option{runtime.WithLoops(2), runtime.WithLogger(zap.New(core)), runtime.WithWatchdog(limit)}
}

// guard ends the test process, with all stacks, if the test hangs, and looks for what it leaves behind.
func guard(t testing.TB) { guardFor(t, 2*patience) }

func guardFor(t testing.TB, limit time.Duration) {
	timer := time.AfterFunc(limit, func() {
		stacks := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s hangs\n\n%s", t.Name(), stacks[:goruntime.Stack(stacks, true)]))
	})
	others := goleak.IgnoreCurrent() // those of servers that several tests use
	before := descriptors(t)
	t.Cleanup(func() { // after all other cleaning up
		timer.Stop()
		var leaked error
		for end := time.Now().Add(patience); ; { // libraries tidy up in goroutines of their own
			if leaked = goleak.Find(others); leaked == nil || time.Now().After(end) {
				break
			}
		}
		check(t, leaked)
		until(t, fmt.Sprintf("%d descriptors are open, as before the test", before), func() bool { return descriptors(t) <= before })
	})
}

// descriptors returns how many descriptors the process has.
func descriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

// until waits, on a plain goroutine, for a condition that something else brings about.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
	}
}

// await is how a coroutine calls what blocks; on a plain goroutine it simply calls it. fn must not write to what the caller reads: if ctx is done first, await
// doesn't wait for it. What has a result goes by runtime.Await itself.
func await(ctx context.Context, fn func() error) error {
	_, err := runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// beside runs fn beside the caller: in a coroutine if the caller is one, else on a plain goroutine. The function that it returns waits for fn and returns its error.
func beside(ctx context.Context, t testing.TB, fn func(ctx context.Context) error) (wait func() error) {
	t.Helper()
	if runtime.Current(ctx) == nil {
		ended := make(chan error, 1)
		go func() { ended <- fn(ctx) }()
		return func() error { return <-ended }
	}
	var result error
	co, err := runtime.Go(ctx, func(ctx context.Context) { result = fn(ctx) })
	check(t, err)
	return func() error {
		t.Helper()
		check(t, co.Join(ctx))
		return result
	}
}

// many calls fn n times at once, in coroutines if the caller is one, else on plain goroutines, and returns all errors.
func many(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	if runtime.Current(ctx) != nil {
		return runtime.Parallel(ctx, n, fn)
	}
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = fn(ctx, i) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// proxy puts a proxy that can cut before a server.
func proxy(t testing.TB, target string) *cut.Proxy {
	t.Helper()
	p, err := cut.New(target)
	check(t, err)
	t.Cleanup(p.Close)
	return p
}

func listen(ctx context.Context, t testing.TB) net.Listener {
	t.Helper()
	l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	return l
}

// identity is what both sides of TLS need. Making keys takes time, so it is made once.
var identity = sync.OnceValues(func() (client, server *tls.Config) {
	ca, err := tlsconfig.NewCA("Whorl drop-in CA")
	if err != nil {
		panic(err)
	}
	certificate, err := ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		panic(err)
	}
	return &tls.Config{RootCAs: ca.Pool()}, &tls.Config{Certificates: []tls.Certificate{certificate}}
})

// configs returns copies of the identity for one test.
func configs() (client, server *tls.Config) {
	client, server = identity()
	return client.Clone(), server.Clone()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

func wantText(t testing.TB, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s: %q lacks %q", what, got, want)
	}
}
