//go:build unix

package eventloop_test

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/turn"
)

const (
	readable      = eventloop.Readable
	writable      = eventloop.Writable
	peerClosed    = eventloop.PeerClosed
	edgeTriggered = eventloop.EdgeTriggered
)

// iterations runs the functions on the loop, each as the last of an iteration of its own, one
// iteration after the other.
func iterations(t testing.TB, l *eventloop.Loop, functions ...func()) {
	t.Helper()
	done := make(chan struct{})
	var next func()
	next = func() {
		if len(functions) == 0 {
			close(done)
			return
		}
		functions[0]()
		functions = functions[1:]
		l.Defer(next)
	}
	l.Post(func() { l.Defer(next) })
	await(t, done)
}

func write(t testing.TB, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Errorf("write to %d: %v", fd, err)
	}
}

func TestLevelTriggeredReportsAState(t *testing.T) {
	l := start(t)
	r, w := newPipe(t)
	var said trace
	register(t, l, r, readable, func(e eventloop.Events) { said.say("ready for %#x", uint32(e)) })
	step := func() { said.say("-") }
	iterations(t, l,
		func() { write(t, w) },
		step, step,
		func() { unix.Read(r, make([]byte, 8)) },
		step)
	said.mustBe(t, `
		ready for 0x1
		-
		ready for 0x1
		-
		ready for 0x1
		-`)
}

func TestEdgeTriggeredReportsChanges(t *testing.T) {
	l := start(t)
	r, w := newPipe(t)
	var said trace
	d := register(t, l, r, readable|edgeTriggered, func(e eventloop.Events) { said.say("ready for %#x", uint32(e)) })
	step := func() { said.say("-") }
	iterations(t, l,
		func() { write(t, w) },
		step, step,
		func() { said.say("more comes"); write(t, w) },
		step, step,
		func() {
			said.say("Modify")
			if err := d.Modify(readable | edgeTriggered); err != nil {
				t.Error(err)
			}
		},
		step, step)
	said.mustBe(t, `
		ready for 0x1
		-
		-
		more comes
		ready for 0x1
		-
		-
		Modify
		ready for 0x1
		-
		-`)
}

func TestModifyChangesWhatIsReported(t *testing.T) {
	l := start(t)
	a, b := newSocketPair(t)
	var said trace
	d := register(t, l, a, readable, func(e eventloop.Events) { said.say("ready for %#x", uint32(e)) })
	to := func(events eventloop.Events) func() {
		return func() {
			said.say("Modify to %#x", uint32(events))
			if err := d.Modify(events); err != nil {
				t.Error(err)
			}
		}
	}
	iterations(t, l,
		func() { write(t, b) },
		to(writable), to(readable|writable), to(0), to(readable),
		func() { d.Unregister() })
	said.mustBe(t, `
		ready for 0x1
		Modify to 0x4
		ready for 0x4
		Modify to 0x5
		ready for 0x5
		Modify to 0x0
		Modify to 0x1
		ready for 0x1`)
}

// The number of a closed descriptor is given to the next one that is opened, while an event for the
// former holder may wait in the batch.
func TestAnEventNeverReachesTheNextHolderOfANumber(t *testing.T) {
	for _, reuse := range []struct {
		name     string
		sameLoop bool
		ready    bool // the new holder is ready itself, and is to hear of that, in the next iteration
	}{
		{"on the same loop", true, false},
		{"on the same loop, being ready", true, true},
		{"on another loop", false, false},
	} {
		t.Run(reuse.name, func(t *testing.T) {
			l, next := start(t), start(t)
			if reuse.sameLoop {
				next = l
			}
			var said trace
			fds := [2]int{newFlag(t), newFlag(t)}
			var d [2]*eventloop.Descriptor
			successor := newFlag(t)
			handled := make(chan struct{})
			var newcomer eventloop.Descriptor
			// Whichever of the two is handled first takes the other's place away.
			handle := func(victim int) handlerFunc {
				return func(eventloop.Events) {
					said.say("the first of two handlers")
					if err := d[victim].Unregister(); err != nil {
						t.Error(err)
					}
					if reuse.ready {
						raise(t, successor)
					}
					if err := unix.Dup2(successor, fds[victim]); err != nil { // closes the old
						t.Error(err)
					}
					err := next.Register(&newcomer, fds[victim], readable|edgeTriggered, handlerFunc(func(eventloop.Events) {
						if reuse.sameLoop {
							said.say("the newcomer")
						}
						lower(successor)
						close(handled)
					}))
					if err != nil {
						t.Error(err)
					}
				}
			}
			for i := range fds {
				d[i] = register(t, l, fds[i], readable|edgeTriggered, handle(1-i))
			}
			step := func() { said.say("-") }
			iterations(t, l,
				func() { raise(t, fds[0]); raise(t, fds[1]) },
				step, step,
				func() {
					if !reuse.ready {
						raise(t, successor)
					}
				},
				step)
			await(t, handled)
			newcomer.Unregister()
			switch {
			case reuse.ready:
				said.mustBe(t, `
					the first of two handlers
					-
					the newcomer
					-
					-`)
			case reuse.sameLoop:
				said.mustBe(t, `
					the first of two handlers
					-
					-
					the newcomer
					-`)
			default:
				said.mustBe(t, `
					the first of two handlers
					-
					-
					-`)
			}
		})
	}
}

func TestAnUnregisteredDescriptorHearsNothingOfTheSameBatch(t *testing.T) {
	l := start(t)
	fds := [2]int{newFlag(t), newFlag(t)}
	var d [2]*eventloop.Descriptor
	calls := 0
	for i := range fds {
		d[i] = register(t, l, fds[i], readable, func(eventloop.Events) {
			calls++
			d[0].Unregister()
			d[1].Unregister()
		})
	}
	iterations(t, l, func() { raise(t, fds[0]); raise(t, fds[1]) }, func() {}, func() {})
	if calls != 1 {
		t.Errorf("%d calls of two handlers, the first of which unregistered both", calls)
	}
}

func TestADescriptorHasOneWatcher(t *testing.T) {
	l, other := start(t), start(t)
	fd := newFlag(t)
	got := make(chan struct{}, 1)
	h := handlerFunc(func(eventloop.Events) { lower(fd); got <- struct{}{} })
	intruder := handlerFunc(func(eventloop.Events) { t.Error("the second handler is called") })
	d := register(t, l, fd, readable, h)
	var second eventloop.Descriptor
	for _, attempt := range []struct {
		name string
		err  error
	}{
		{"another Descriptor", l.Register(&second, fd, readable, intruder)},
		{"another loop", other.Register(&second, fd, readable, intruder)},
		{"the same Descriptor", l.Register(d, fd, readable, intruder)},
		{"the same Descriptor for another number", l.Register(d, newFlag(t), readable, intruder)},
	} {
		if !errors.Is(attempt.err, eventloop.ErrRegistered) {
			t.Errorf("%s: %v", attempt.name, attempt.err)
		}
	}
	raise(t, fd)
	await(t, got)
	if n, m := l.Stats().Descriptors, other.Stats().Descriptors; n != 1 || m != 0 {
		t.Errorf("%d and %d descriptors are registered", n, m)
	}

	if err := d.Unregister(); err != nil {
		t.Error(err)
	}
	if err := other.Register(&second, fd, readable, h); err != nil {
		t.Errorf("another loop, after Unregister: %v", err)
	}
	raise(t, fd)
	await(t, got)
	if n, m := l.Stats().Descriptors, other.Stats().Descriptors; n != 0 || m != 1 {
		t.Errorf("%d and %d descriptors are registered", n, m)
	}
	second.Unregister()
}

func TestDescriptorsThatCannotBeWatched(t *testing.T) {
	l := start(t)
	h := handlerFunc(func(eventloop.Events) {})
	for _, fd := range []int{-1, -1 << 31, 1 << 22, 1<<31 - 1, math.MaxInt, math.MaxInt &^ math.MaxInt32} {
		if err := l.Register(new(eventloop.Descriptor), fd, readable, h); err == nil || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("%d: %v", fd, err)
		}
	}

	// Those for which the kernel says no leave their number free.
	file, err := os.Open("descriptor_test.go")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd := newFlag(t)
	unix.Close(fd)
	if err := l.Register(new(eventloop.Descriptor), fd, readable, h); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed descriptor: %v", err)
	}
	if err := unix.Dup2(int(file.Fd()), fd); err != nil {
		t.Fatal(err)
	}
	if err := l.Register(new(eventloop.Descriptor), fd, readable, h); !errors.Is(err, unix.EPERM) {
		t.Errorf("regular file: %v", err)
	}
	if n := l.Stats().Descriptors; n != 0 {
		t.Errorf("%d descriptors are registered", n)
	}
	r, _ := newPipe(t)
	if err := unix.Dup2(r, fd); err != nil {
		t.Fatal(err)
	}
	register(t, l, fd, readable, h)
}

func TestADescriptorThatIsNotRegistered(t *testing.T) {
	l := start(t)
	var d eventloop.Descriptor
	check := func(when string) {
		t.Helper()
		if err := d.Unregister(); !errors.Is(err, eventloop.ErrNotRegistered) {
			t.Errorf("%s: Unregister: %v", when, err)
		}
		if err := d.Modify(readable); !errors.Is(err, eventloop.ErrNotRegistered) {
			t.Errorf("%s: Modify: %v", when, err)
		}
	}
	check("never registered")
	fd := newFlag(t)
	if err := l.Register(&d, fd, readable, handlerFunc(func(eventloop.Events) {})); err != nil {
		t.Fatal(err)
	}
	if err := d.Unregister(); err != nil {
		t.Error(err)
	}
	check("unregistered")
}

func TestDescriptorsOutliveTheirLoop(t *testing.T) {
	l, err := eventloop.New(eventloop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, l)
	var d, later eventloop.Descriptor
	h := handlerFunc(func(eventloop.Events) {})
	fd := newFlag(t)
	if err := l.Register(&d, fd, readable, h); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := await(t, ended); err != nil {
		t.Error(err)
	}
	if err := d.Modify(writable); !errors.Is(err, eventloop.ErrNotRegistered) {
		t.Errorf("Modify: %v", err)
	}
	if err := l.Register(&later, newFlag(t), readable, h); !errors.Is(err, eventloop.ErrClosed) {
		t.Errorf("Register: %v", err)
	}
	// The number is free for another loop, and what is left of the former watch doesn't touch the
	// new one.
	other := start(t)
	got := make(chan struct{}, 1)
	register(t, other, fd, readable|edgeTriggered, func(eventloop.Events) { got <- struct{}{} })
	if err := d.Unregister(); !errors.Is(err, eventloop.ErrNotRegistered) {
		t.Errorf("Unregister: %v", err)
	}
	if n := l.Stats().Descriptors; n != 0 {
		t.Errorf("%d descriptors are registered with the loop that has closed", n)
	}
	if err := other.Register(&later, fd, readable, h); !errors.Is(err, eventloop.ErrRegistered) {
		t.Errorf("Register with the second loop once more: %v", err)
	}
	raise(t, fd)
	await(t, got)
}

// A poll reports 128 descriptors at most. The others are not lost, and none is left out for good.
func TestMoreDescriptorsAreReadyThanAPollReports(t *testing.T) {
	const many = 300
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if want := was; want.Cur < 3*many {
		want.Cur = min(3*many, want.Max)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
			t.Fatal(err)
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	}
	l := start(t)
	var handled [many]int
	var d [many]*eventloop.Descriptor
	var fds [many]int
	for i := range fds {
		fds[i] = newFlag(t)
		d[i] = register(t, l, fds[i], readable, func(eventloop.Events) { handled[i]++ })
	}
	// On a busy machine the time of a step may be over after two looks at the clock.
	const polls = 1 + many/(2*turn.Look-1)
	steps := []func(){func() {
		for _, fd := range fds {
			raise(t, fd)
		}
	}}
	for len(steps) < polls {
		steps = append(steps, func() {})
	}
	iterations(t, l, append(steps, func() {
		for _, d := range d {
			d.Unregister()
		}
	})...)
	total := 0
	for _, n := range handled {
		total += n
	}
	least, most := slices.Min(handled[:]), slices.Max(handled[:])
	if least < 1 || most > least+1 || total > polls*128 {
		t.Errorf("in %d polls, %d descriptors were handled %d times in all, each between %d and %d times",
			polls, many, total, least, most)
	}
}

func TestDescriptorsComeAndGoFromAllSides(t *testing.T) {
	l := start(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if err != nil {
					t.Error(err)
					return
				}
				var d eventloop.Descriptor
				called := make(chan struct{}, 1)
				err = l.Register(&d, pair[0], readable|edgeTriggered, handlerFunc(func(eventloop.Events) {
					called <- struct{}{}
				}))
				if err != nil {
					t.Error(err)
					return
				}
				write(t, pair[1])
				<-called
				if err := d.Modify(readable | edgeTriggered); err != nil { // still readable: reports again
					t.Error(err)
				}
				<-called
				if err := d.Unregister(); err != nil {
					t.Error(err)
				}
				unix.Close(pair[0])
				unix.Close(pair[1])
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	await(t, done)
	if n := l.Stats().Descriptors; n != 0 {
		t.Errorf("%d descriptors are registered", n)
	}
}

// The first event may be handled before Register has returned, and the handler may end the watch at
// once.
func TestAHandlerMayUnregisterBeforeRegisterReturns(t *testing.T) {
	l := start(t)
	fd := newFlag(t)
	raise(t, fd)
	for range 2000 {
		var d eventloop.Descriptor
		called := make(chan error, 1)
		if err := l.Register(&d, fd, readable, handlerFunc(func(eventloop.Events) { called <- d.Unregister() })); err != nil {
			t.Fatal(err)
		}
		if err := await(t, called); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Stats().Descriptors; n != 0 {
		t.Errorf("%d descriptors are registered", n)
	}
}
