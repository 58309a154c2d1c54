//go:build linux

package hooks_test

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) {
	childtest.Main(serveEchoes)
	leaktest.Main(m)
}

const patience = leaktest.Patience

// What other packages' tests have, too.
var (
	guard     = leaktest.Guard
	check     = leaktest.Check
	wantError = leaktest.WantError
	shutdown  = runtimetest.Shutdown
	beside    = runtimetest.Beside
)

var quiet = runtimetest.Quiet(nil)

// both runs a test in a coroutine and again on a plain goroutine. It must leave neither goroutines
// nor descriptors behind.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Both(t, runtimetest.Quiet, test)
}

// start starts a runtime for the length of a test, and returns its context.
func start(t testing.TB, options ...runtime.Option) context.Context {
	t.Helper()
	if _, ok := t.(*testing.T); ok {
		guard(t)
	}
	return startBare(t, options...)
}

// startSuite is start for a suite of dozens of tests, each of which ends when it hangs. On a busy
// machine they take minutes together.
func startSuite(t *testing.T, options ...runtime.Option) context.Context {
	leaktest.GuardFor(t, 10*leaktest.Patience)
	return startBare(t, options...)
}

func startBare(t testing.TB, options ...runtime.Option) context.Context {
	t.Helper()
	return runtimetest.Start(t, append(quiet[:len(quiet):len(quiet)], options...)...).Context()
}

var pastTime = time.Unix(1, 0)
