//go:build unix

package eventloop_test

import (
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
)

// twoIterations has the loop run an iteration with several functions in each step, and one more
// with what those functions left for it. Each function calls say as the last thing it does. The
// channel is closed at the end of the second iteration.
func twoIterations(t *testing.T, l *eventloop.Loop, say func(iteration uint64, what string)) <-chan struct{} {
	t.Helper()
	end := make(chan struct{})
	var base uint64
	now := func() uint64 { return l.Stats().Iterations - base }
	saying := func(what string) func() { return func() { say(now(), what) } }

	fds := []int{newFlag(t), newFlag(t), newFlag(t)}
	edge := eventloop.Readable | eventloop.EdgeTriggered
	register(t, l, fds[0], edge, func(eventloop.Events) {
		l.Post(saying("posted by descriptor 0"))
		l.Defer(saying("deferred by descriptor 0"))
		say(now(), "descriptor 0")
	})
	register(t, l, fds[1], edge, func(eventloop.Events) { say(now(), "descriptor 1") })
	register(t, l, fds[2], edge, func(eventloop.Events) { say(now(), "descriptor 2") })

	on(t, l, func() {
		l.Defer(func() { // the last step of iteration 0, so that all of this is ready for iteration 1
			base = l.Stats().Iterations
			l.BeforePoll(func() { say(now(), "BeforePoll") })

			raise(t, fds[2])
			raise(t, fds[0])
			raise(t, fds[1])

			l.Post(func() {
				l.Post(saying("posted by posted 0"))
				l.AfterFunc(0, saying("timer set by posted 0"))
				say(now(), "posted 0")
			})
			l.Post(saying("posted 1"))
			l.Post(saying("posted 2"))

			instant := time.Now()
			l.AfterFunc(time.Hour, saying("timer 0")).ResetAt(instant)
			l.AfterFunc(time.Hour, func() {
				l.AfterFunc(0, saying("timer set by timer 1"))
				l.Defer(saying("deferred by timer 1"))
				say(now(), "timer 1")
			}).ResetAt(instant)
			l.AfterFunc(time.Hour, saying("timer 2")).ResetAt(instant)
			l.AfterFunc(time.Hour, saying("timer due earlier")).ResetAt(instant.Add(-time.Microsecond))

			l.Defer(func() {
				l.Defer(saying("deferred by deferred 0"))
				raise(t, fds[1])
				say(now(), "deferred 0")
			})
			l.Defer(saying("deferred 1"))
			l.Defer(saying("deferred 2"))

			l.AfterDefer(func() {
				n := now()
				if n == 2 {
					l.BeforePoll(nil)
					l.AfterDefer(nil)
					close(end)
				}
				say(n, "AfterDefer")
			})
		})
	})
	return end
}

// whatTwoIterationsSay is the order of an iteration, as the package comment gives it.
const whatTwoIterationsSay = `
	0 AfterDefer
	1 BeforePoll
	1 descriptor 2
	1 descriptor 0
	1 descriptor 1
	1 posted 0
	1 posted 1
	1 posted 2
	1 posted by descriptor 0
	1 timer due earlier
	1 timer 0
	1 timer 1
	1 timer 2
	1 timer set by posted 0
	1 deferred 0
	1 deferred 1
	1 deferred 2
	1 deferred by descriptor 0
	1 deferred by timer 1
	1 AfterDefer
	2 BeforePoll
	2 descriptor 1
	2 posted by posted 0
	2 timer set by timer 1
	2 deferred by deferred 0
	2 AfterDefer`

func TestAnIterationRunsItsStepsInOrder(t *testing.T) {
	l := start(t)
	var said trace
	await(t, twoIterations(t, l, func(iteration uint64, what string) { said.say("%d %s", iteration, what) }))
	on(t, l, func() {})
	said.mustBe(t, whatTwoIterationsSay)
}

func TestNestedDeferRunsOnePollLater(t *testing.T) {
	l := start(t)
	fd := newFlag(t)
	var said trace
	register(t, l, fd, eventloop.Readable|eventloop.EdgeTriggered, func(eventloop.Events) { said.say("descriptor") })
	done := make(chan struct{})
	on(t, l, func() {
		l.Defer(func() {
			before := l.Stats()
			said.say("deferred")
			l.Defer(func() {
				after := l.Stats()
				said.say("nested: %d poll later, %d of them may block", after.Iterations-before.Iterations, after.Sleeps-before.Sleeps)
				close(done)
			})
			raise(t, fd)
		})
	})
	await(t, done)
	said.mustBe(t, `
		deferred
		descriptor
		nested: 1 poll later, 0 of them may block`)
}

func TestDeferInAfterDeferAndBeforePollKeepsTheLoopFromSleeping(t *testing.T) {
	l := start(t)
	done := make(chan struct{})
	var said trace
	on(t, l, func() {
		before := l.Stats()
		l.AfterDefer(func() {
			l.AfterDefer(nil)
			said.say("AfterDefer")
			l.Defer(func() {
				said.say("deferred by AfterDefer: %d poll later", l.Stats().Iterations-before.Iterations)
				l.BeforePoll(func() {
					l.BeforePoll(nil)
					said.say("BeforePoll")
					l.Defer(func() {
						said.say("deferred by BeforePoll: %d polls later, %d of them may block",
							l.Stats().Iterations-before.Iterations, l.Stats().Sleeps-before.Sleeps)
						close(done)
					})
				})
				l.Defer(func() {}) // or the loop would sleep before it comes to BeforePoll
			})
		})
	})
	await(t, done)
	said.mustBe(t, `
		AfterDefer
		deferred by AfterDefer: 1 poll later
		BeforePoll
		deferred by BeforePoll: 2 polls later, 0 of them may block`)
}

func TestTimerSetInATimerWaitsForTheNextIteration(t *testing.T) {
	for _, set := range []struct {
		name string
		set  func(*eventloop.Timer)
	}{
		{"Reset(0)", func(timer *eventloop.Timer) { timer.Reset(0) }},
		{"Reset(-1)", func(timer *eventloop.Timer) { timer.Reset(-1) }},
		{"ResetAt(now)", func(timer *eventloop.Timer) { timer.ResetAt(time.Now()) }},
		{"ResetAt(long past)", func(timer *eventloop.Timer) { timer.ResetAt(time.Now().Add(-time.Hour)) }},
		{"ResetAt(year 1)", func(timer *eventloop.Timer) { timer.ResetAt(time.Time{}) }},
		{"ResetClock(0)", func(timer *eventloop.Timer) { timer.ResetClock(0) }},
		{"ResetAt of a disarmed timer", func(timer *eventloop.Timer) {
			timer.ResetAt(time.Now().Add(-time.Hour))
			timer.Disarm()
			timer.ResetAt(time.Now().Add(-time.Hour))
		}},
	} {
		t.Run(set.name, func(t *testing.T) {
			l := start(t)
			fd := newFlag(t)
			var said trace
			register(t, l, fd, eventloop.Readable|eventloop.EdgeTriggered, func(eventloop.Events) { said.say("descriptor") })
			done := make(chan struct{})
			on(t, l, func() {
				instant := time.Now()
				l.AfterFunc(time.Hour, func() {
					before := l.Stats()
					inner := l.AfterFunc(time.Hour, func() {
						after := l.Stats()
						said.say("inner timer: %d poll later, %d of them may block", after.Iterations-before.Iterations, after.Sleeps-before.Sleeps)
						close(done)
					})
					set.set(inner)
					raise(t, fd)
					said.say("outer timer")
				}).ResetAt(instant)
				l.AfterFunc(time.Hour, func() { said.say("timer due at the same instant") }).ResetAt(instant)
			})
			await(t, done)
			said.mustBe(t, `
				outer timer
				timer due at the same instant
				descriptor
				inner timer: 1 poll later, 0 of them may block`)
		})
	}
}

// A function that comes back in each iteration keeps its loop from sleeping, but holds up nothing
// else.
func TestFunctionsThatComeBackStarveNobody(t *testing.T) {
	for _, kind := range []struct {
		name  string
		start func(l *eventloop.Loop, again func() bool)
	}{
		{"posts itself", func(l *eventloop.Loop, again func() bool) {
			var fn func()
			fn = func() {
				if again() {
					l.Post(fn)
				}
			}
			l.Post(fn)
		}},
		{"defers itself", func(l *eventloop.Loop, again func() bool) {
			var fn func()
			fn = func() {
				if again() {
					l.Defer(fn)
				}
			}
			l.Defer(fn)
		}},
		{"timer resets itself to 0", func(l *eventloop.Loop, again func() bool) {
			var timer *eventloop.Timer
			timer = l.AfterFunc(0, func() {
				if again() {
					timer.Reset(0)
				}
			})
		}},
		{"timer resets itself to the past", func(l *eventloop.Loop, again func() bool) {
			past := time.Now().Add(-time.Minute)
			var timer *eventloop.Timer
			timer = l.AfterFunc(0, func() {
				if again() {
					timer.ResetAt(past)
				}
			})
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			l := start(t)
			fd := newFlag(t)
			var raised uint64 // the iteration in which fd became readable
			missing := map[string]bool{"descriptor": true, "posted": true, "deferred": true, "timer": true}
			done := make(chan struct{})
			seen := func(what string) {
				if delete(missing, what); len(missing) == 0 {
					close(done)
				}
			}
			register(t, l, fd, eventloop.Readable|eventloop.EdgeTriggered, func(eventloop.Events) {
				if n := l.Stats().Iterations - raised; n != 1 {
					t.Errorf("the descriptor had to wait %d iterations", n)
				}
				seen("descriptor")
			})
			turns := 0
			var sleeps uint64
			on(t, l, func() {
				sleeps = l.Stats().Sleeps
				kind.start(l, func() bool {
					if turns++; turns == 100 {
						if n := l.Stats().Sleeps - sleeps; n != 0 {
							t.Errorf("the loop slept %d times", n)
						}
						raised = l.Stats().Iterations
						raise(t, fd)
						l.Post(func() { seen("posted") })
						l.Defer(func() { seen("deferred") })
						l.AfterFunc(time.Millisecond, func() { seen("timer") })
					}
					return len(missing) > 0
				})
			})
			await(t, done)
		})
	}
}
