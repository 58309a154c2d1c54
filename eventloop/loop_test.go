package eventloop_test

import (
	"testing"
	"time"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/eventloop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a loop for the test and gives back a function that runs fn on it and waits for it.
func start(t testing.TB, options ...eventloop.Option) *eventloop.Loop {
	t.Helper()
	l, err := eventloop.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l
}

// on runs fn on the loop and waits until it has returned.
func on(t testing.TB, l *eventloop.Loop, fn func()) {
	t.Helper()
	done := make(chan struct{})
	if err := l.Post(func() { defer close(done); fn() }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the loop didn't run what was posted")
	}
}

func TestPostWakesASleepingLoop(t *testing.T) {
	l := start(t)
	for range 100 {
		on(t, l, func() {
			if !l.OnLoop() {
				t.Error("posted function doesn't run on the loop")
			}
		})
	}
	if l.OnLoop() {
		t.Error("the test runs on the loop")
	}
}

func BenchmarkPostFromAnotherGoroutine(b *testing.B) {
	l := start(b)
	var n atomic.Int64
	fn := func() { n.Add(1) }
	b.ReportAllocs()
	for b.Loop() {
		l.Post(fn)
	}
	for n.Load() < int64(b.N) {
		runtime.Gosched()
	}
}

func BenchmarkPostRoundTrip(b *testing.B) {
	l := start(b)
	c := make(chan struct{})
	fn := func() { c <- struct{}{} }
	for b.Loop() {
		l.Post(fn)
		<-c
	}
}

func BenchmarkTimerRearmAmongAMillion(b *testing.B) {
	l := start(b)
	on(b, l, func() {
		timers := make([]*eventloop.Timer, 1<<20)
		for i := range timers {
			timers[i] = l.AfterFunc(time.Hour+time.Duration(i)*time.Microsecond, func() {})
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i + 7919) & (1<<20 - 1)
			timers[i].Stop()
			timers[i].Reset(time.Hour + time.Duration(i*31)*time.Microsecond)
		}
		b.StopTimer()
		for _, t := range timers {
			t.Stop()
		}
	})
}

func BenchmarkTimeoutRenewed(b *testing.B) {
	l := start(b)
	on(b, l, func() {
		timer := l.AfterFunc(time.Hour, func() {})
		b.ReportAllocs()
		for b.Loop() {
			timer.Disarm()
			timer.Reset(time.Hour)
		}
		timer.Stop()
	})
}

func BenchmarkDefer(b *testing.B) {
	l := start(b)
	done := make(chan struct{})
	n := 0
	var fn func()
	fn = func() {
		if n++; n >= b.N {
			close(done)
			return
		}
		l.Defer(fn)
	}
	b.ReportAllocs()
	l.Post(fn)
	<-done
}

var _ = unix.Close
