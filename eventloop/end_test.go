//go:build unix

package eventloop_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/eventloop"
)

// listener is an EndListener.
type listener struct {
	descriptor eventloop.Descriptor
	ended      func()
	count      atomic.Int32
}

func (l *listener) HandleEvents(eventloop.Events) {}

func (l *listener) LoopEnded() {
	l.count.Add(1)
	l.ended()
}

func (l *listener) register(t testing.TB, loop *eventloop.Loop) {
	t.Helper()
	if err := loop.Register(&l.descriptor, newFlag(t), eventloop.Readable, l); err != nil {
		t.Fatal(err)
	}
}

func TestWhoeverIsRegisteredHearsOfTheEnd(t *testing.T) {
	l := newLoop(t)
	ran := run(t, l)
	var said trace
	for _, name := range []string{"a", "b"} {
		h := new(listener)
		h.ended = func() {
			if !l.OnLoop() {
				t.Error("told on another goroutine")
			}
			if err := l.Post(func() {}); !errors.Is(err, eventloop.ErrClosed) {
				t.Errorf("Post returns %v", err)
			}
			err := l.Register(new(eventloop.Descriptor), newFlag(t), eventloop.Readable, h)
			if !errors.Is(err, eventloop.ErrClosed) {
				t.Errorf("Register returns %v", err)
			}
			if err := h.descriptor.Unregister(); !errors.Is(err, eventloop.ErrNotRegistered) {
				t.Errorf("Unregister returns %v", err)
			}
			said.say("%s", name)
		}
		h.register(t, l)
	}
	gone := &listener{ended: func() { t.Error("one that has left was told") }}
	gone.register(t, l)
	gone.descriptor.Unregister()
	register(t, l, newFlag(t), eventloop.Readable, func(eventloop.Events) {})
	l.Post(func() { l.Defer(func() { said.say("task") }) })
	l.Post(func() { l.Close() })
	await(t, ran)
	if n := l.Stats().Descriptors; n != 0 {
		t.Errorf("%d descriptors are registered", n)
	}
	if got := said.lines; len(got) != 3 || got[0] != "task" {
		t.Errorf("order: %q", got)
	}
}

func TestEndOfALoopThatHasNeverRun(t *testing.T) {
	l := newLoop(t)
	h := &listener{ended: func() {}}
	h.register(t, l)
	l.Close()
	if h.count.Load() != 1 {
		t.Errorf("told %d times", h.count.Load())
	}
}

func TestPanicAndGoexitInLoopEnded(t *testing.T) {
	l := newLoop(t)
	ran := run(t, l)
	var all []*listener
	for _, end := range []func(){panics, runtime.Goexit, func() {}, panics} {
		h := &listener{ended: end}
		h.register(t, l)
		all = append(all, h)
	}
	l.Close()
	await(t, ran)
	for i, h := range all {
		if h.count.Load() != 1 {
			t.Errorf("%d was told %d times", i, h.count.Load())
		}
	}
	if st := l.Stats(); st.Panics != 2 || st.Goexits != 1 {
		t.Errorf("%d panics, %d Goexits", st.Panics, st.Goexits)
	}
}

// What is registered while the loop ends is refused or told, never forgotten.
func TestRegisterWhileTheLoopEnds(t *testing.T) {
	for range 200 {
		l, ended := newLoop(t), make(chan struct{})
		ran := run(t, l)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				h := &listener{ended: func() {}}
				err := l.Register(&h.descriptor, newFlag(t), eventloop.Readable, h)
				<-ended
				if told := h.count.Load() == 1; told == (err != nil) {
					t.Errorf("Register returned %v, told: %v", err, told)
				}
			})
		}
		l.Close()
		await(t, ran) // ErrClosed if Close was first; then Close has done it all
		close(ended)
		wg.Wait()
	}
}
