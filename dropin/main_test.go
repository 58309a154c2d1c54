//go:build linux

package dropin

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/dropin/internal/cut"
	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = leaktest.Patience

// What other packages' tests have, too.
var (
	guard     = leaktest.Guard
	check     = leaktest.Check
	wantError = leaktest.WantError
)

// stall is how long a loop may be held before the watchdog reports it. It is more than the default,
// since a busy machine can stop a loop for a while, too, and much less than the waits that the
// tests have.
const stall = 2 * time.Second

// both runs a test in a coroutine and again on a plain goroutine. It must leave neither goroutines
// nor descriptors behind, nor hold a loop.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Both(t, func(t testing.TB) []runtime.Option { return watched(t, stall) }, test)
}

// watched returns the options of a runtime with two loops, of which everything that it logs is an
// error of the test.
func watched(t testing.TB, limit time.Duration) []runtime.Option {
	core, logs := observer.New(zap.WarnLevel)
	t.Cleanup(func() {
		for _, entry := range logs.All() {
			t.Errorf("logged: %s %v", entry.Message, entry.ContextMap())
		}
	})
	return []runtime.Option{runtime.WithLoops(2), runtime.WithLogger(zap.New(core)), runtime.WithWatchdog(limit)}
}

// await is how a coroutine calls what blocks; on a plain goroutine it simply calls it. fn must not
// write to what the caller reads: if ctx is done first, await doesn't wait for it. What has a
// result goes by runtime.Await itself.
func await(ctx context.Context, fn func() error) error {
	_, err := runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// beside runs fn beside the caller: in a coroutine if the caller is one, else on a plain goroutine.
// The function that it returns waits for fn and returns its error.
func beside(ctx context.Context, t testing.TB, fn func(ctx context.Context) error) (wait func() error) {
	t.Helper()
	if runtime.Current(ctx) == nil {
		ended := make(chan error, 1)
		go func() { ended <- fn(ctx) }()
		return func() error { return <-ended }
	}
	return runtimetest.Beside(ctx, t, fn)
}

// many calls fn n times at once, in coroutines if the caller is one, else on plain goroutines, and
// returns all errors.
func many(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	if runtime.Current(ctx) != nil {
		return runtime.ForEach(ctx, n, fn)
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
	ca, err := devca.New("Whorl drop-in CA")
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

func wantText(t testing.TB, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s: %q lacks %q", what, got, want)
	}
}
