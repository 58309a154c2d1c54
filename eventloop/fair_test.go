//go:build unix

package eventloop_test

import (
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/clock"
)

// hold takes some time on the loop.
func hold(d time.Duration) {
	for until := clock.Now() + d; clock.Now() < until; {
	}
}

// However many functions there are at once, the loop polls after some of them. The others keep
// their order, and come before those that were added since.
func TestManyFunctionsDontKeepTheLoopFromPolling(t *testing.T) {
	const all = 2000
	for name, add := range map[string]func(*eventloop.Loop, func()){
		"posted":   func(l *eventloop.Loop, fn func()) { l.Post(fn) },
		"deferred": (*eventloop.Loop).Defer,
		"timers":   func(l *eventloop.Loop, fn func()) { l.AfterFunc(time.Nanosecond, fn) },
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t)
			done := make(chan struct{})
			next, most, inOne, iteration := 0, 0, 0, uint64(0)
			on(t, l, func() {
				for i := range all {
					add(l, func() {
						hold(100 * time.Microsecond)
						if i != next {
							t.Errorf("%d comes where %d belongs", i, next)
						}
						next++
						if now := l.Stats().Iterations; now != iteration {
							iteration, inOne = now, 0
						}
						inOne++
						most = max(most, inOne)
						if i == 0 {
							add(l, func() {
								if next != all {
									t.Errorf("what was added by the first one came after %d of %d", next, all)
								}
								close(done)
							})
						}
					})
				}
			})
			await(t, done)
			if most > 100 {
				t.Errorf("%d functions of 100 µs each ran between two polls", most)
			}
		})
	}
}

// A descriptor that is ready and a timer that is due come before the last of very many functions.
func TestManyFunctionsDontKeepDescriptorsAndTimersWaiting(t *testing.T) {
	const all = 2000
	l := start(t)
	fd := newFlag(t)
	ran, atEvent, atTimer := 0, all, all
	done := make(chan struct{})
	on(t, l, func() {
		register(t, l, fd, readable|edgeTriggered, func(eventloop.Events) { atEvent = min(atEvent, ran) })
		l.Defer(func() {
			l.Defer(func() {
				raise(t, fd)
				l.AfterFunc(time.Nanosecond, func() { atTimer = ran })
			})
			for range all {
				l.Defer(func() { hold(20 * time.Microsecond); ran++ })
			}
			l.Defer(func() { close(done) })
		})
	})
	await(t, done)
	if atEvent > 500 || atTimer > 500 {
		t.Errorf("the descriptor was served after %d of %d functions, the timer after %d", atEvent, all, atTimer)
	}
}

// Descriptors that are ready at once, and whose handlers take long, don't keep a timer waiting for
// all of them. Each is handled once.
func TestManyEventsDontKeepTimersWaiting(t *testing.T) {
	const all = 100
	l := start(t)
	handled, atTimer := 0, all
	done := make(chan struct{})
	fds := make([]int, all)
	for i := range fds {
		fds[i] = newFlag(t)
		register(t, l, fds[i], readable|edgeTriggered, func(eventloop.Events) {
			if handled == 0 {
				l.AfterFunc(time.Nanosecond, func() { atTimer = handled })
			}
			hold(100 * time.Microsecond)
			if handled++; handled == all {
				close(done)
			}
		})
	}
	on(t, l, func() {
		for _, fd := range fds {
			raise(t, fd)
		}
	})
	await(t, done)
	on(t, l, func() {})
	if handled != all || atTimer > 40 {
		t.Errorf("%d of %d descriptors were handled, the timer came after %d", handled, all, atTimer)
	}
}

// A loop that closes runs all that was posted and deferred before, however long that takes.
func TestTheLastStepsRunEverything(t *testing.T) {
	l := start(t)
	ran := make(chan int, 1)
	n := 0
	on(t, l, func() {
		for range 1000 {
			for _, add := range []func(func()){func(fn func()) { l.Post(fn) }, l.Defer} {
				add(func() {
					hold(10 * time.Microsecond)
					if n++; n == 2000 {
						ran <- n
					}
				})
			}
		}
		l.Close()
	})
	await(t, ran)
}
