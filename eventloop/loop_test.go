//go:build unix

package eventloop_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/eventloop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen before it calls it missing.
const patience = time.Minute

// start runs a loop until the test ends, one without a Config if none is given.
func start(t testing.TB, config ...eventloop.Config) *eventloop.Loop {
	t.Helper()
	l, err := eventloop.New(append(config, eventloop.Config{})[0])
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, l)
	t.Cleanup(func() {
		l.Close()
		if err := await(t, ended); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l
}

// run calls Run, waits until the loop runs, and gives back what Run returns in the end.
func run(t testing.TB, l *eventloop.Loop) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	on(t, l, func() {})
	return ended
}

// on runs fn on the loop and waits until it has returned.
func on(t testing.TB, l *eventloop.Loop, fn func()) {
	t.Helper()
	done := make(chan struct{})
	if err := l.Post(func() { defer close(done); fn() }); err != nil {
		t.Fatal(err)
	}
	await(t, done)
}

// await receives from c.
func await[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came within %v", patience)
		panic("unreachable")
	}
}

// awaitSleep waits until the loop sleeps in its poll. There is no event to wait on: whatever the
// loop could send, it would not be asleep. To be called when nothing is posted to the loop.
func awaitSleep(t testing.TB, l *eventloop.Loop) {
	t.Helper()
	var before uint64
	on(t, l, func() { before = l.Stats().Sleeps })
	for deadline := time.Now().Add(patience); l.Stats().Sleeps == before; time.Sleep(50 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loop doesn't go to sleep")
		}
	}
}

// trace is what the functions of a test say, line by line. They run on a loop, hence one at a time.
type trace struct{ lines []string }

func (tr *trace) say(format string, args ...any) {
	tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
}

// mustBe compares the trace with the lines of want, whose indentation doesn't count.
func (tr *trace) mustBe(t testing.TB, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	g, w := strings.Join(tr.lines, "\n"), strings.Join(lines, "\n")
	if g != w {
		t.Errorf("the functions said\n%s\n\nbut should have said\n%s", g, w)
	}
}

// handlerFunc is a Handler.
type handlerFunc func(eventloop.Events)

func (f handlerFunc) HandleEvents(e eventloop.Events) { f(e) }

// register watches fd until the test ends.
func register(t testing.TB, l *eventloop.Loop, fd int, events eventloop.Events, fn handlerFunc) *eventloop.Descriptor {
	t.Helper()
	d := new(eventloop.Descriptor)
	if err := l.Register(d, fd, events, fn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Unregister() })
	return d
}

func TestFunctionsRunOnTheLoop(t *testing.T) {
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

func TestNamesAreGivenOrNumbered(t *testing.T) {
	name := func(config eventloop.Config) string {
		l, err := eventloop.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Name()
	}
	if n := name(eventloop.Config{Name: "edge"}); n != "edge" {
		t.Errorf("name is %q", n)
	}
	if a, b := name(eventloop.Config{}), name(eventloop.Config{}); a == b || !strings.HasPrefix(a, "loop-") {
		t.Errorf("loops without a given name are called %q and %q", a, b)
	}
}
