//go:build unix

package eventloop_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/eventloop"
)

// tick counts down on the loop and reports the end.
type tick struct {
	left int
	done chan struct{}
}

func (k *tick) Run() {
	if k.left--; k.left == 0 {
		k.done <- struct{}{}
	}
}

// From the first post to the run of the last.
func BenchmarkPostFromAnotherGoroutine(b *testing.B) {
	l := start(b)
	k := &tick{b.N, make(chan struct{})}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l.PostTask(k)
	}
	<-k.done
}

func BenchmarkPostRoundTrip(b *testing.B) {
	l := start(b)
	k := &tick{done: make(chan struct{})}
	b.ReportAllocs()
	for b.Loop() {
		k.left = 1
		l.PostTask(k)
		<-k.done
	}
}

func BenchmarkDefer(b *testing.B) {
	l := start(b)
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d per iteration", batch), func(b *testing.B) {
			k := &tick{b.N, make(chan struct{})}
			todo := b.N
			var refill func()
			refill = func() {
				for range min(batch, todo) {
					l.DeferTask(k)
					todo--
				}
				if todo > 0 {
					l.Defer(refill)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			l.Post(refill)
			<-k.done
		})
	}
}

func BenchmarkTimerRearmAmongAMillion(b *testing.B) {
	l := start(b)
	on(b, l, func() {
		const timers = 1 << 20
		task := new(tick)
		pending := make([]eventloop.Timer, timers)
		for i := range pending {
			l.InitTimer(&pending[i], task)
			pending[i].Reset(time.Hour + time.Duration(i)*time.Microsecond)
		}
		i := 0
		for _, way := range []struct {
			name  string
			rearm func(*eventloop.Timer)
		}{
			{"Stop and Reset", func(t *eventloop.Timer) { t.Stop(); t.Reset(time.Hour + time.Duration(i)*31*time.Microsecond) }},
			{"Reset to earlier", func(t *eventloop.Timer) { t.Reset(30*time.Minute - time.Duration(i)*time.Microsecond) }},
			{"Disarm and Reset", func(t *eventloop.Timer) { t.Disarm(); t.Reset(2 * time.Hour) }},
		} {
			b.Run(way.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					i = (i + 7919) % timers
					way.rearm(&pending[i])
				}
			})
		}
	})
}

func BenchmarkTimeOutRenewed(b *testing.B) {
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

// Made, set and fired, a thousand in each iteration.
func BenchmarkAfterFuncFires(b *testing.B) {
	l := start(b)
	k := &tick{b.N, make(chan struct{})}
	fire := k.Run
	todo := b.N
	var refill func()
	refill = func() {
		for range min(1000, todo) {
			l.AfterFunc(0, fire)
			todo--
		}
		if todo > 0 {
			l.Defer(refill)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	l.Post(refill)
	<-k.done
}

// Poll and dispatch of descriptors that are always ready; the handlers do nothing. An operation is
// one event.
func BenchmarkEvents(b *testing.B) {
	for _, ready := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("%d ready", ready), func(b *testing.B) {
			l := start(b)
			k := &tick{b.N, make(chan struct{}, 1)}
			handler := handlerFunc(func(eventloop.Events) { k.Run() })
			watched := make([]eventloop.Descriptor, ready)
			fds := make([]int, ready)
			for i := range fds {
				fds[i] = newFlag(b)
				raise(b, fds[i])
			}
			b.ReportAllocs()
			b.ResetTimer()
			on(b, l, func() {
				for i := range fds {
					if err := l.Register(&watched[i], fds[i], readable, handler); err != nil {
						b.Error(err)
					}
				}
				b.ResetTimer()
			})
			<-k.done
			b.StopTimer()
			on(b, l, func() {
				for i := range watched {
					watched[i].Unregister()
				}
			})
		})
	}
}

// A byte goes through as many pipes as are ready in each iteration: the handler reads it and writes
// it again. An operation is one event with its two system calls.
func BenchmarkPipes(b *testing.B) {
	for _, ready := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d ready", ready), func(b *testing.B) {
			l := start(b)
			k := &tick{b.N, make(chan struct{}, 1)}
			buf := make([]byte, 64)
			watched := make([]eventloop.Descriptor, ready)
			on(b, l, func() {
				for i := range watched {
					r, w := newPipe(b)
					handler := handlerFunc(func(eventloop.Events) {
						n, _ := unix.Read(r, buf)
						unix.Write(w, buf[:n])
						k.Run()
					})
					if err := l.Register(&watched[i], r, readable|edgeTriggered, handler); err != nil {
						b.Error(err)
					}
					unix.Write(w, buf[:1])
				}
				b.ResetTimer()
			})
			<-k.done
			b.StopTimer()
			on(b, l, func() {
				for i := range watched {
					watched[i].Unregister()
				}
			})
		})
	}
}
