// Package leaktest is what the tests of several packages have in common: no test leaves goroutines
// or descriptors behind, or hangs without saying where, and what has to happen is waited for and
// not slept for.
package leaktest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Patience is how long a test waits for what has to happen: far longer than a busy machine needs.
const Patience = 30 * time.Second

// Main is for TestMain: it runs the package's tests and looks for goroutines that they leave
// behind.
func Main(m *testing.M) {
	// Package net keeps a descriptor for its poller from the first use on; it is no leak of a
	// test's.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	goleak.VerifyTestMain(m)
}

// Guard ends the test process, with all stacks, if the test hangs, and looks for what the test
// leaves behind when all its other cleaning up is done. What was there when it is called may stay:
// a server, say, that several tests use.
func Guard(t testing.TB) { GuardFor(t, 3*Patience) }

// GuardFor is [Guard] for a test that may take longer.
func GuardFor(t testing.TB, limit time.Duration) {
	timer := time.AfterFunc(limit, func() {
		stacks := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s hangs\n\n%s", t.Name(), stacks[:runtime.Stack(stacks, true)]))
	})
	others, before := goleak.IgnoreCurrent(), Descriptors(t)
	t.Cleanup(func() {
		timer.Stop()
		leaked := goleak.Find(others)
		// Some goroutines only tidy up.
		for deadline := time.Now().Add(Patience); leaked != nil && time.Now().Before(deadline); {
			leaked = goleak.Find(others) // which itself waits a while
		}
		Check(t, leaked)
		Until(
			t,
			fmt.Sprintf("%d descriptors are open, as before the test", before),
			func() bool { return Descriptors(t) <= before },
		)
	})
}

// Descriptors returns how many descriptors the process has.
func Descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	Check(t, err)
	return len(entries)
}

// Until waits, on a plain goroutine, for a condition that something else brings about.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", Patience, what)
		}
	}
}

// Check ends the test if there is an error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantError fails the test, and lets it go on, unless the error of what was tried is, or wraps, the
// one that is wanted.
func WantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}
