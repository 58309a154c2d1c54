//go:build unix

package eventloop_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/eventloop"
)

var errBoom = errors.New("boom")

//go:noinline
func panics() { panic(errBoom) }

// faults are what a function can do instead of returning.
var faults = []struct {
	name    string
	fault   func()
	handler func(value any, stack []byte) // the panic handler
	panics  bool
	goexits bool
}{
	{"panics", panics, func(any, []byte) {}, true, false},
	{"panics, without a panic handler", panics, nil, true, false},
	{"panics with nil", func() { panic(nil) }, func(any, []byte) {}, true, false},
	{"panics, and so does the panic handler", panics, func(any, []byte) { panic("again") }, true, false},
	{"panics, and the panic handler calls Goexit", panics, func(any, []byte) { runtime.Goexit() }, true, true},
	{"calls Goexit", runtime.Goexit, func(any, []byte) {}, false, true},
}

// An iteration in which a function faults does the same as one in which it returns: each function
// is called in turn, and once.
func TestAFunctionThatFaultsDisturbsNoOther(t *testing.T) {
	var victims []string
	for line := range strings.Lines(whatTwoIterationsSay) {
		if line = strings.TrimSpace(line); line != "" {
			victims = append(victims, line)
		}
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			try := func(name string, hits func(line string) bool, want uint64) {
				t.Run(name, func(t *testing.T) {
					var said trace
					handled := 0
					var config eventloop.Config
					if f.handler != nil {
						config.OnPanic = func(value any, stack []byte) {
							handled++
							f.handler(value, stack)
						}
					}
					l := start(t, config)
					await(t, twoIterations(t, l, func(iteration uint64, what string) {
						line := fmt.Sprintf("%d %s", iteration, what)
						said.say("%s", line)
						if !l.OnLoop() {
							t.Errorf("%s: OnLoop reports false", line)
						}
						if hits(line) {
							f.fault()
						}
					}))
					on(t, l, func() {})
					said.mustBe(t, whatTwoIterationsSay)
					var panics, goexits, handlers uint64
					if f.panics {
						panics = want
						if f.handler != nil {
							handlers = want
						}
					}
					if f.goexits {
						goexits = want
					}
					if s := l.Stats(); s.Panics != panics || s.Goexits != goexits || uint64(handled) != handlers {
						t.Errorf("%d panics, %d handled, and %d calls of Goexit are counted, not %d, %d and %d",
							s.Panics, handled, s.Goexits, panics, handlers, goexits)
					}
				})
			}
			for _, victim := range victims {
				try(victim, func(line string) bool { return line == victim }, 1)
			}
			try("all", func(string) bool { return true }, uint64(len(victims)))
		})
	}
}

// Close promises that what was posted and deferred before is run, faults or not.
func TestAFaultInTheLastRoundLosesNothing(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			l, err := eventloop.New(eventloop.Config{OnPanic: f.handler})
			if err != nil {
				t.Fatal(err)
			}
			ended := run(t, l)
			var said trace
			faulty := func(what string, also ...func()) func() {
				return func() {
					for _, fn := range also {
						fn()
					}
					said.say("%s", what)
					f.fault()
				}
			}
			on(t, l, func() {
				for i := range 3 {
					l.Post(faulty(fmt.Sprint("posted ", i), func() {
						l.Defer(faulty(fmt.Sprint("deferred by posted ", i)))
					}))
					l.Defer(faulty(fmt.Sprint("deferred ", i), func() {
						l.Defer(faulty(fmt.Sprint("deferred by deferred ", i)))
					}))
				}
				l.Close()
			})
			if err := await(t, ended); err != nil {
				t.Error(err)
			}
			said.mustBe(t, `
				deferred 0
				deferred 1
				deferred 2
				posted 0
				posted 1
				posted 2
				deferred by deferred 0
				deferred by deferred 1
				deferred by deferred 2
				deferred by posted 0
				deferred by posted 1
				deferred by posted 2`)
		})
	}
}

// The step 5 that a fault has cut short is over when the next begins, even if the timer was the
// last one.
func TestATimerSetAfterAFaultFiresInItsFirstStep(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			l := start(t, eventloop.Config{OnPanic: f.handler})
			var said trace
			done := make(chan struct{})
			on(t, l, func() {
				l.AfterFunc(0, func() {
					l.Post(func() {
						l.AfterFunc(0, func() { said.say("timer") })
						l.Defer(func() { said.say("deferred"); close(done) })
					})
					f.fault()
				})
			})
			await(t, done)
			said.mustBe(t, `
				timer
				deferred`)
		})
	}
}

func TestAPanicIsLoggedAndHandedOver(t *testing.T) {
	log := newLog()
	type panicked struct {
		value any
		stack string
	}
	var l *eventloop.Loop
	handled := make(chan panicked, 1)
	l = start(t, eventloop.Config{Name: "edge", Log: log.Logger, OnPanic: func(value any, stack []byte) {
		if !l.OnLoop() {
			t.Error("the panic handler doesn't run on the loop")
		}
		handled <- panicked{value, string(stack)}
	}})
	l.Post(panics)
	p := await(t, handled)
	if p.value != errBoom {
		t.Errorf("the handler gets %v", p.value)
	}
	if !strings.Contains(p.stack, "eventloop_test.panics") {
		t.Errorf("the handler's stack doesn't name the function that panicked:\n%s", p.stack)
	}
	entries := log.entries.FilterLevelExact(zap.ErrorLevel).All()
	if len(entries) != 1 {
		t.Fatalf("%d entries in the log: %v", len(entries), entries)
	}
	fields := entries[0].ContextMap()
	stack, _ := fields["stack"].(string)
	if entries[0].Message != "panic" || fields["loop"] != "edge" || fields["value"] != "boom" || stack != p.stack {
		t.Errorf("logged is %q %v", entries[0].Message, fields)
	}
}

func TestAPanicOfThePanicHandlerIsLogged(t *testing.T) {
	log := newLog()
	l := start(t, eventloop.Config{Log: log.Logger, OnPanic: func(any, []byte) { panic("again") }})
	l.Post(panics)
	on(t, l, func() {})
	entries := log.entries.All()
	if len(entries) != 2 || entries[1].Message != "panic in the panic handler" || entries[1].ContextMap()["value"] != "again" {
		t.Errorf("logged is %v", entries)
	}
}

func TestGoexitIsLoggedAndRunsTheDefersOfItsGoroutine(t *testing.T) {
	log := newLog()
	l := start(t, eventloop.Config{Name: "edge", Log: log.Logger})
	var said trace
	l.Post(func() {
		defer said.say("defer of the function that called Goexit")
		runtime.Goexit()
	})
	l.Post(func() { said.say("next function") })
	on(t, l, func() {})
	said.mustBe(t, `
		defer of the function that called Goexit
		next function`)
	entries := log.entries.FilterLevelExact(zap.ErrorLevel).All()
	if len(entries) != 1 || !strings.Contains(entries[0].Message, "Goexit") || entries[0].ContextMap()["loop"] != "edge" {
		t.Errorf("logged is %v", entries)
	}
}

func TestReportPanicTreatsAPanicAsTheLoopsOwn(t *testing.T) {
	log := newLog()
	var got any
	l := start(t, eventloop.Config{Log: log.Logger, OnPanic: func(value any, stack []byte) {
		got = fmt.Sprint(value, " ", string(stack))
	}})
	on(t, l, func() { l.ReportPanic("caught above", []byte("stack")) })
	if got != "caught above stack" || l.Stats().Panics != 1 || log.entries.Len() != 1 {
		t.Errorf("the handler got %v, %d panics are counted, %d logged", got, l.Stats().Panics, log.entries.Len())
	}
}
