//go:build unix

package eventloop_test

import (
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/eventloop"
)

// logged is a logger whose entries can be waited for.
type logged struct {
	*zap.Logger
	entries *observer.ObservedLogs
	news    chan struct{} // one for each entry
}

func newLog() *logged {
	core, entries := observer.New(zapcore.DebugLevel)
	news := make(chan struct{}, 1000)
	return &logged{zap.New(core, zap.Hooks(func(zapcore.Entry) error { news <- struct{}{}; return nil })), entries, news}
}

// stallsOf returns the reports of the watchdog whose stack contains the function.
func (l *logged) stallsOf(function string) (reports []observer.LoggedEntry) {
	for _, e := range l.entries.FilterLevelExact(zap.WarnLevel).All() {
		if stack, _ := e.ContextMap()["stack"].(string); strings.Contains(stack, function) {
			reports = append(reports, e)
		}
	}
	return reports
}

// mustName waits for a report of the watchdog that names the function.
func (l *logged) mustName(t testing.TB, function string) observer.LoggedEntry {
	t.Helper()
	for deadline := time.After(patience); ; {
		if reports := l.stallsOf(function); len(reports) > 0 {
			return reports[0]
		}
		select {
		case <-l.news:
		case <-deadline:
			t.Errorf("the watchdog didn't report %s, but %v", function, l.entries.All())
			return observer.LoggedEntry{}
		}
	}
}

//go:noinline
func innocent(until <-chan struct{}) { <-until }

//go:noinline
func heldByWaiting(reported <-chan struct{}) { <-reported }

//go:noinline
func heldByComputing(reported <-chan struct{}) {
	for done := false; !done; {
		select {
		case <-reported:
			done = true
		default:
		}
	}
}

//go:noinline
func heldDeepDown(depth int, reported <-chan struct{}) int {
	if depth > 0 {
		return heldDeepDown(depth-1, reported) + 1
	}
	<-reported
	return 0
}

//go:noinline
func innocentToo(until <-chan struct{}) { <-until }

const limit = 20 * time.Millisecond

func TestTheWatchdogNamesTheFunctionThatHoldsTheLoop(t *testing.T) {
	type hold = func(reported <-chan struct{})
	holders := []struct {
		name     string
		function string
		hold     hold
	}{
		{"waiting", "heldByWaiting", heldByWaiting},
		{"computing", "heldByComputing", heldByComputing},
		{"deep down", "heldDeepDown", func(reported <-chan struct{}) { heldDeepDown(1000, reported) }},
		{"in a coroutine", "heldByWaiting", func(reported <-chan struct{}) {
			park := func(yield func(int) bool) {
				for yield(0) {
				}
			}
			for range 3 {
				next, stop := iter.Pull(park)
				defer stop()
				next()
			}
			_, stop := iter.Pull(park) // never switched to
			defer stop()
			next, stop := iter.Pull(func(yield func(int) bool) { heldByWaiting(reported) })
			defer stop()
			next()
		}},
		{"after it started goroutines", "heldByWaiting", func(reported <-chan struct{}) {
			go innocent(reported)
			go innocentToo(reported)
			for range 3 {
				go func() { innocent(reported) }()
			}
			heldByWaiting(reported)
		}},
	}
	kinds := []struct {
		name string
		run  func(l *eventloop.Loop, fn func())
	}{
		{"posted", func(l *eventloop.Loop, fn func()) { l.Post(fn) }},
		{"deferred", func(l *eventloop.Loop, fn func()) { l.Defer(fn) }},
		{"timer", func(l *eventloop.Loop, fn func()) { l.AfterFunc(0, fn) }},
		{"BeforePoll", func(l *eventloop.Loop, fn func()) { l.BeforePoll(func() { l.BeforePoll(nil); fn() }) }},
		{"AfterDefer", func(l *eventloop.Loop, fn func()) { l.AfterDefer(func() { l.AfterDefer(nil); fn() }) }},
	}
	for i, holder := range holders {
		t.Run(holder.name, func(t *testing.T) {
			log := newLog()
			name := `loop of "` + t.Name() + `"`
			l := start(t, eventloop.Config{Watchdog: limit, Log: log.Logger, Name: name})
			reported, let := make(chan struct{}), make(chan struct{})
			began := make(chan time.Time, 1)
			on(t, l, func() {
				kinds[i].run(l, func() {
					began <- time.Now()
					holder.hold(reported)
					close(let)
				})
			})
			report := log.mustName(t, holder.function)
			if stack, _ := report.ContextMap()["stack"].(string); strings.Contains(stack, "innocent") {
				t.Error("the report blames another goroutine")
			}
			at, _ := report.ContextMap()["at"].(string)
			if !strings.Contains(at, "."+holder.function+" ") || !strings.Contains(at, "watchdog_test.go:") {
				t.Errorf("the report gives the place as %q", at)
			}
			if first := report.Context[0].Key; first != "at" {
				t.Errorf("the report begins with %q", first)
			}
			if n := report.ContextMap()["loop"]; n != name {
				t.Errorf("the report gives the loop's name as %q", n)
			}
			if held := report.Time.Sub(<-began); held < limit {
				t.Errorf("the report came after %v", held)
			}
			close(reported)
			await(t, let)
			if l.Stats().Stalls == 0 {
				t.Error("Stats().Stalls is 0")
			}
		})
	}
}

func TestTheWatchdogReportsEachStallOnce(t *testing.T) {
	log := newLog()
	l := start(t, eventloop.Config{Watchdog: limit, Log: log.Logger})
	release := make(chan struct{})
	hold := func() { heldByWaiting(release) }
	on(t, l, func() { l.Defer(hold); l.Defer(hold) })

	log.mustName(t, "heldByWaiting")
	<-time.After(10 * limit) // the stall goes on for that long
	if n := len(log.stallsOf("heldByWaiting")); n != 1 {
		t.Errorf("%d reports of one stall", n)
	}
	release <- struct{}{} // the second function begins, and it is a stall of its own
	for len(log.stallsOf("heldByWaiting")) < 2 {
		await(t, log.news)
	}
	release <- struct{}{}
	on(t, l, func() {})
	if n := len(log.stallsOf("heldByWaiting")); n != 2 {
		t.Errorf("%d reports of two stalls", n)
	}
}

func TestTheWatchdogOutlivesAGoexit(t *testing.T) {
	log := newLog()
	l := start(t, eventloop.Config{Watchdog: limit, Log: log.Logger})
	release := make(chan struct{})
	on(t, l, func() {
		l.Defer(runtime.Goexit)
		l.Defer(func() { heldByWaiting(release) })
	})
	log.mustName(t, "heldByWaiting")
	close(release)
}

// While one loop is held for long enough to be reported three times over, its neighbours, one
// asleep and one whose watchdog is off, are not.
func TestTheWatchdogLeavesTheOthersAlone(t *testing.T) {
	log := newLog()
	asleep := start(t, eventloop.Config{Watchdog: limit, Log: log.Logger, Name: "asleep"})
	off := start(t, eventloop.Config{Watchdog: 0, Log: log.Logger, Name: "off"})
	negative := start(t, eventloop.Config{Watchdog: -1, Log: log.Logger, Name: "negative"})
	held := start(t, eventloop.Config{Watchdog: limit, Log: log.Logger, Name: "held"})
	on(t, asleep, func() { asleep.AfterFunc(time.Hour, func() {}) })
	awaitSleep(t, asleep)
	release := make(chan struct{})
	off.Post(func() { <-release })
	negative.Post(func() { <-release })

	for range 3 {
		let := make(chan struct{})
		before := held.Stats().Stalls
		held.Post(func() { <-let })
		for held.Stats().Stalls == before {
			await(t, log.news)
		}
		close(let)
	}
	close(release)
	for _, l := range []*eventloop.Loop{asleep, off, negative} {
		if n := l.Stats().Stalls; n != 0 {
			t.Errorf("%d stalls of the loop %q", n, l.Name())
		}
	}
}
