package event_test

import (
	"context"
	"errors"
	"os"
	goruntime "runtime"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

// drain lets enough iterations pass for a level-triggered report to show itself as a storm.
const drain = 50

func TestReadUntilTheEnd(t *testing.T) {
	var s transcript
	r, w := pipe(t)
	run(t, func(ctx context.Context) error {
		err := event.Add(ctx, r.fd, func(ctx context.Context) {
			got := r.read()
			s.say(got)
			if got == "EOF" {
				event.Del(ctx, r.fd)
				r.close()
			}
		}, nil)
		for _, what := range []string{"one", "two"} {
			w.write(what)
			turns(ctx, 2)
		}
		w.close() // a hang-up without readability
		return err
	})
	s.want(t, `
		one
		two
		EOF`)
}

func TestLevelTriggered(t *testing.T) {
	calls := 0
	r, w := pipe(t)
	run(t, func(ctx context.Context) error {
		w.write("x")
		return event.Add(ctx, r.fd, func(ctx context.Context) {
			if calls++; calls == 3 { // the byte is still there
				event.Del(ctx, r.fd)
			}
		}, nil)
	})
	if calls != 3 {
		t.Error(calls)
	}
}

func TestReadIsCalledBeforeWrite(t *testing.T) {
	var s transcript
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		b.write("x")
		return event.Add(ctx, a.fd,
			func(ctx context.Context) { s.say("read " + a.read()) },
			func(ctx context.Context) {
				s.say("write")
				event.Del(ctx, a.fd)
			})
	})
	s.want(t, `
		read x
		write`)
}

func TestNoWriteAfterDelInRead(t *testing.T) {
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		b.write("x")
		return event.Add(ctx, a.fd,
			func(ctx context.Context) { event.Del(ctx, a.fd) },
			func(ctx context.Context) { t.Error("called") })
	})
}

// A function that waits before it has read is not called again meanwhile, and the loop is not kept
// busy either, also if the peer hangs up. When it has ended, what is there then is reported.
func TestACallThatWaitsIsTheOnlyOne(t *testing.T) {
	for _, hangUp := range []bool{false, true} {
		var s transcript
		a, b := socketpair(t)
		run(t, func(ctx context.Context) error {
			gate := runtime.NewChannel[int](1)
			b.write("x")
			event.Add(ctx, a.fd, func(ctx context.Context) {
				s.say("called")
				gate.Pop(ctx)
				got := a.read()
				s.say(got)
				if got != "x" {
					event.Del(ctx, a.fd)
				}
			}, nil)
			turns(ctx, 2)
			if hangUp {
				b.close()
				turns(ctx, 2)
			}
			before := runtime.Current(ctx).Loop().Stats().Events
			turns(ctx, drain)
			if n := runtime.Current(ctx).Loop().Stats().Events - before; n > 0 {
				t.Errorf("%d events while the function waits", n)
			}
			gate.Close()
			turns(ctx, 2)
			if !hangUp {
				b.write("y")
			}
			return nil
		})
		if hangUp {
			s.want(t, "called\nx\ncalled\nEOF")
		} else {
			s.want(t, "called\nx\ncalled\ny")
		}
	}
}

// While one direction waits the other one goes on, and is still level-triggered.
func TestDirectionsAreIndependent(t *testing.T) {
	var s transcript
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		gate := runtime.NewChannel[int](1)
		b.write("x")
		return event.Add(ctx, a.fd, func(ctx context.Context) {
			s.say("read waits")
			gate.Pop(ctx)
			s.say("read " + a.read())
			event.Del(ctx, a.fd)
		}, func(ctx context.Context) {
			s.say("write")
			if len(s) == 4 {
				gate.Close()
			}
		})
	})
	s.want(t, `
		read waits
		write
		write
		write
		read x`)
}

func TestSet(t *testing.T) {
	var s transcript
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		never := func(context.Context) { t.Error("called") }
		if err := event.Set(ctx, a.fd, never, nil); !errors.Is(err, eventloop.ErrNotRegistered) {
			t.Error(err)
		}
		event.Add(ctx, a.fd, nil, never)
		isset := func(wantRead, wantWrite bool) {
			t.Helper()
			if r, w := event.Isset(ctx, a.fd); r != wantRead || w != wantWrite {
				t.Errorf("Isset %v, %v; want %v, %v", r, w, wantRead, wantWrite)
			}
		}
		isset(false, true)
		event.Set(ctx, a.fd, never, nil)
		isset(true, false)
		if err := event.Set(ctx, a.fd, nil, nil); err == nil {
			t.Error("no function")
		}
		event.Set(ctx, a.fd, func(ctx context.Context) {
			s.say(a.read())
			event.Set(ctx, a.fd, nil, func(ctx context.Context) {
				s.say("writable")
				event.Del(ctx, a.fd)
			})
		}, nil)
		turns(ctx, 2)
		b.write("x")
		turns(ctx, 4)
		isset(false, false)
		return nil
	})
	s.want(t, `
		x
		writable`)
}

func TestWhatAddRefuses(t *testing.T) {
	none := func(context.Context) {}
	a, b := socketpair(t)
	if err := event.Add(context.Background(), a.fd, none, nil); !errors.Is(err, runtime.ErrNoRuntime) {
		t.Error(err)
	}
	if err := event.Del(context.Background(), a.fd); !errors.Is(err, eventloop.ErrNotRegistered) {
		t.Error(err)
	}
	run(t, func(ctx context.Context) error {
		if err := event.Add(ctx, a.fd, nil, nil); err == nil {
			t.Error("no function")
		}
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			return err
		}
		defer file.Close()
		if err := event.Add(ctx, int(file.Fd()), none, nil); !errors.Is(err, syscall.EPERM) {
			t.Error(err)
		}
		if err := event.Add(ctx, -1, none, nil); err == nil {
			t.Error("-1")
		}
		b.close()
		if err := event.Add(ctx, b.fd, none, nil); !errors.Is(err, syscall.EBADF) {
			t.Error(err)
		}
		over, cancel := context.WithCancel(ctx)
		cancel()
		if err := event.Add(over, a.fd, none, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := event.Add(ctx, a.fd, none, nil); err != nil {
			t.Error(err)
		}
		if err := event.Add(ctx, a.fd, none, nil); !errors.Is(err, eventloop.ErrRegistered) {
			t.Error(err)
		}
		if err := event.Del(ctx, a.fd); err != nil {
			t.Error(err)
		}
		if err := event.Del(ctx, a.fd); !errors.Is(err, eventloop.ErrNotRegistered) {
			t.Error(err)
		}
		if err := event.Add(ctx, a.fd, none, nil); err != nil {
			t.Error("added again:", err)
		}
		return event.Del(ctx, a.fd)
	})
}

func TestAddedByAnotherRuntime(t *testing.T) {
	other := started(t)
	a, _ := socketpair(t)
	none := func(context.Context) {}
	if err := event.Add(other.Context(), a.fd, none, nil); err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error {
		if err := event.Add(ctx, a.fd, none, nil); !errors.Is(err, eventloop.ErrRegistered) {
			t.Error(err)
		}
		if r, w := event.Isset(ctx, a.fd); r || w {
			t.Error("found in the wrong runtime")
		}
		return nil
	})
	if err := event.Del(other.Context(), a.fd); err != nil {
		t.Error(err)
	}
}

func TestACancelledContextEndsTheWatch(t *testing.T) {
	for _, data := range []string{"x", ""} {
		a, b := socketpair(t)
		run(t, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			b.write(data)
			err := event.Add(ctx, a.fd, func(context.Context) { t.Error("called") }, nil)
			cancel()
			return err
		})
		if got := a.read(); data != "" && got != data {
			t.Error("the descriptor must stay open:", got)
		}
	}
}

func TestPanicAndGoexitEndOneCallOnly(t *testing.T) {
	var s transcript
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		b.write("x")
		return event.Add(ctx, a.fd, func(ctx context.Context) {
			switch s.say(a.read()); len(s) {
			case 1:
				b.write("y")
				panic("first")
			case 2:
				b.close()
				runtime.Yield(ctx)
				goruntime.Goexit()
			}
			event.Del(ctx, a.fd)
		}, nil)
	}, runtimetest.PanicsTaken())
	s.want(t, `
		x
		y
		EOF`)
}

// A descriptor that is closed before Del must not hang Run if that can be noticed.
func TestClosedBeforeDel(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		b.write("x")
		return event.Add(ctx, a.fd, func(ctx context.Context) {
			a.close()
			runtime.Yield(ctx)
		}, nil)
	}, runtime.WithLogger(zap.New(core)))
	if n := logs.FilterMessage("event: descriptor was closed before Del").Len(); n != 1 {
		t.Error(logs.All())
	}
}

// When no coroutine can be started, the level stays, and the call is made up for later.
func TestNoCoroutineToBeHad(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	var s transcript
	a, b := socketpair(t)
	run(t, func(ctx context.Context) error {
		b.write("x")
		event.Add(ctx, a.fd, func(ctx context.Context) {
			s.say(a.read())
			event.Del(ctx, a.fd)
		}, nil)
		other, err := runtime.Go(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
		turns(ctx, drain)
		s.say("room")
		other.Resume()
		return err
	}, runtime.WithMaxCoroutines(4), runtime.WithLogger(zap.New(core))) // main, other, and what the watch retains while it calls
	s.want(t, `
		room
		x`)
	if n := logs.FilterMessage("event: function not called").Len(); n != 1 {
		t.Errorf("%d entries; want 1, not one per iteration", n)
	}
}

func TestWatchFromAPlainGoroutine(t *testing.T) {
	rt := started(t)
	r, w := pipe(t)
	got := make(chan string)
	err := event.Add(rt.Context(), r.fd, func(ctx context.Context) {
		what := r.read()
		runtime.Await(ctx, func() (int, error) { got <- what; return 0, nil })
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"a", "b", "c"} {
		w.write(what)
		if answer := <-got; answer != what {
			t.Errorf("%q, want %q", answer, what)
		}
	}
	if err := event.Del(rt.Context(), r.fd); err != nil {
		t.Error(err)
	}
	w.write("nobody reads this")
}
