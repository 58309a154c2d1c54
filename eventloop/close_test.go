//go:build unix

package eventloop_test

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/eventloop"
)

func newLoop(t testing.TB) *eventloop.Loop {
	t.Helper()
	l, err := eventloop.New(eventloop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCloseEndsRun(t *testing.T) {
	for _, from := range []struct {
		name  string
		close func(t *testing.T, l *eventloop.Loop)
	}{
		{"from elsewhere", func(t *testing.T, l *eventloop.Loop) { l.Close() }},
		{"from elsewhere, while the loop sleeps", func(t *testing.T, l *eventloop.Loop) { awaitSleep(t, l); l.Close() }},
		{"from elsewhere, while a timer is pending", func(t *testing.T, l *eventloop.Loop) {
			on(t, l, func() { l.AfterFunc(time.Hour, func() { t.Error("the timer fired") }) })
			awaitSleep(t, l)
			l.Close()
		}},
		{"from elsewhere, while the loop never sleeps", func(t *testing.T, l *eventloop.Loop) {
			var again func()
			again = func() { l.Defer(again) }
			on(t, l, again)
			l.Close()
		}},
		{"twice", func(t *testing.T, l *eventloop.Loop) { l.Close(); l.Close() }},
		{"from many goroutines", func(t *testing.T, l *eventloop.Loop) {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { l.Close() })
			}
			wg.Wait()
		}},
		{"from a posted function", func(t *testing.T, l *eventloop.Loop) { l.Post(func() { l.Close() }) }},
		{"from a timer", func(t *testing.T, l *eventloop.Loop) {
			l.Post(func() { l.AfterFunc(0, func() { l.Close() }) })
		}},
		{"from a deferred function", func(t *testing.T, l *eventloop.Loop) {
			l.Post(func() { l.Defer(func() { l.Close() }) })
		}},
		{"from AfterDefer", func(t *testing.T, l *eventloop.Loop) {
			l.Post(func() { l.AfterDefer(func() { l.Close() }) })
		}},
		{"from BeforePoll", func(t *testing.T, l *eventloop.Loop) {
			l.Post(func() { l.BeforePoll(func() { l.Close() }) })
		}},
		{"from an event's handler", func(t *testing.T, l *eventloop.Loop) {
			fd := newFlag(t)
			raise(t, fd)
			register(t, l, fd, readable, func(eventloop.Events) { l.Close() })
		}},
		{"from a function that panics", func(t *testing.T, l *eventloop.Loop) {
			l.Post(func() { l.Close(); panics() })
		}},
		{"from a function that calls Goexit", func(t *testing.T, l *eventloop.Loop) {
			l.Post(func() { l.Close(); runtime.Goexit() })
		}},
	} {
		t.Run(from.name, func(t *testing.T) {
			l := newLoop(t)
			ended := run(t, l)
			from.close(t, l)
			if err := await(t, ended); err != nil {
				t.Errorf("Run: %v", err)
			}
			if !l.Closed() || l.OnLoop() {
				t.Errorf("Closed reports %v, OnLoop %v", l.Closed(), l.OnLoop())
			}
			if err := l.Run(); !errors.Is(err, eventloop.ErrClosed) {
				t.Errorf("Run again: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
		})
	}
}

func TestRunOfALoopThatRuns(t *testing.T) {
	l := start(t)
	if err := l.Run(); !errors.Is(err, eventloop.ErrRunning) {
		t.Errorf("Run from elsewhere: %v", err)
	}
	on(t, l, func() {
		if err := l.Run(); !errors.Is(err, eventloop.ErrRunning) {
			t.Errorf("Run on the loop: %v", err)
		}
		if l.Closed() {
			t.Error("Closed reports true")
		}
	})
}

func TestCloseBeforeRun(t *testing.T) {
	l := newLoop(t)
	ran := func() { t.Error("a function ran on a loop that never ran") }
	l.Post(ran)
	l.Defer(ran)
	l.AfterFunc(0, ran)
	l.Close()
	if err := l.Run(); !errors.Is(err, eventloop.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if err := l.Post(ran); !errors.Is(err, eventloop.ErrClosed) {
		t.Errorf("Post: %v", err)
	}
}

func TestCloseRunsWhatCameBeforeItAndNoMore(t *testing.T) {
	l := newLoop(t)
	ended := run(t, l)
	var said trace
	saying := func(what string) func() { return func() { said.say("%s", what) } }
	on(t, l, func() {
		l.Post(func() {
			said.say("posted")
			if err := l.Post(saying("posted while closing")); !errors.Is(err, eventloop.ErrClosed) {
				t.Errorf("Post while the loop closes: %v", err)
			}
			l.Defer(saying("deferred while closing"))
			l.AfterFunc(0, saying("timer set while closing"))
		})
		l.AfterFunc(0, saying("timer due in this iteration"))
		l.AfterFunc(time.Hour, saying("timer due later"))
		l.Defer(saying("deferred"))
		l.BeforePoll(saying("BeforePoll"))
		l.AfterDefer(saying("AfterDefer"))
		l.Close()
	})
	if err := await(t, ended); err != nil {
		t.Error(err)
	}
	said.mustBe(t, `
		timer due in this iteration
		deferred
		AfterDefer
		posted
		deferred while closing`)
}

// openDescriptors returns the numbers of the process's open descriptors.
func openDescriptors(t testing.TB) []string {
	t.Helper()
	dir, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	numbers := make([]string, len(dir))
	for i, entry := range dir {
		numbers[i] = entry.Name()
	}
	return numbers
}

func TestALoopGivesItsDescriptorsBack(t *testing.T) {
	before := openDescriptors(t)
	for i := range 100 {
		l := newLoop(t)
		if i%10 == 0 {
			l.Close() // before Run
			continue
		}
		ended := run(t, l)
		l.Close()
		if err := await(t, ended); err != nil {
			t.Error(err)
		}
	}
	if after := openDescriptors(t); !slices.Equal(before, after) {
		t.Errorf("before: %v; after: %v", before, after)
	}
}

// assign sets a number that is signed on FreeBSD only.
func assign[T int64 | uint64](to *T, n int) { *to = T(n) }

func TestNewFailsWithoutDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	before := openDescriptors(t)
	// Room for one descriptor, which is fewer than a loop needs.
	first, err := unix.Dup(0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(first)
	tight := was
	assign(&tight.Cur, first+1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	l, err := eventloop.New(eventloop.Config{})
	unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	if l != nil || !errors.Is(err, unix.EMFILE) {
		t.Errorf("New returns %v, %v", l, err)
	}
	if after := openDescriptors(t); !slices.Equal(before, after) {
		t.Errorf("before: %v; after: %v", before, after)
	}
}
