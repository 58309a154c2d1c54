package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// inCoroutine runs a benchmark in a coroutine.
func inCoroutine(b *testing.B, fn func(ctx context.Context)) {
	b.ReportAllocs()
	err := runtime.Run(func(ctx context.Context) error { fn(ctx); return nil }, silent([]runtime.Option{runtime.WithLoops(1)})...)
	if err != nil {
		b.Fatal(err)
	}
}

// seat is where one coroutine waits to be switched to, over and over.
type seat struct{ waiter *sched.Waiter }

func (s *seat) Remove(*sched.Waiter) bool {
	taken := s.waiter != nil
	s.waiter = nil
	return taken
}

// occupy waits until ctx is done.
func (s *seat) occupy(ctx context.Context) {
	w, err := sched.Enter(ctx)
	for err == nil {
		s.waiter = w
		err = w.Wait(ctx, reasonTest, 0, s)
	}
}

// switchTo switches to the coroutine, and returns when that waits again.
func (s *seat) switchTo() {
	w := s.waiter
	s.waiter = nil
	w.WakeNow()
}

// BenchmarkSwitchPair is there and back: a switch to a coroutine, which waits again.
func BenchmarkSwitchPair(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		place := new(seat)
		co := start(ctx, func(ctx context.Context) { place.occupy(ctx) })
		for b.Loop() {
			place.switchTo()
		}
		co.Cancel()
	})
}

// BenchmarkGo is a coroutine that ends at once.
func BenchmarkGo(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			runtime.Go(ctx, func(context.Context) {})
		}
	})
}

// BenchmarkGoWithATimeout is a coroutine that ends at once, and from whose context another was
// derived.
func BenchmarkGoWithATimeout(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			runtime.Go(ctx, func(ctx context.Context) {
				_, cancel := context.WithTimeout(ctx, time.Hour)
				cancel()
			})
		}
	})
}

// BenchmarkGoAndJoin is a coroutine that waits once, and is joined.
func BenchmarkGoAndJoin(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			start(ctx, func(ctx context.Context) { runtime.Yield(ctx) }).Join(ctx)
		}
	})
}

// BenchmarkYield includes an iteration of the loop, with its poll.
func BenchmarkYield(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			runtime.Yield(ctx)
		}
	})
}

// BenchmarkYieldOfMany is one Yield when a thousand coroutines do it in turn, so that they share
// the poll.
func BenchmarkYieldOfMany(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		left := b.N
		var group runtime.WaitGroup
		b.ResetTimer()
		for range 1000 {
			group.Go(ctx, func(ctx context.Context) {
				for ; left > 0; left-- {
					runtime.Yield(ctx)
				}
			})
		}
		group.Wait(ctx)
	})
}

// BenchmarkSleep arms a timer that is due at once, and includes an iteration of the loop, in which
// it fires.
func BenchmarkSleep(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			runtime.Sleep(ctx, 1)
		}
	})
}

// BenchmarkTimeoutThatDoesNotFire is a Pop that has to wait, and is given a value: a pair of
// switches, with a timer armed and disarmed.
func BenchmarkTimeoutThatDoesNotFire(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		consumer := start(ctx, func(ctx context.Context) {
			for {
				if _, err := ch.PopTimeout(ctx, time.Hour); err != nil {
					return
				}
			}
		})
		for b.Loop() {
			ch.Push(ctx, 1)
		}
		consumer.Cancel()
	})
}

// BenchmarkChannelRoundTrip is a value that goes to another one and comes back, between coroutines
// of one loop and, for comparison, between goroutines over Go's channels.
func BenchmarkChannelRoundTrip(b *testing.B) {
	b.Run("coroutines", func(b *testing.B) {
		inCoroutine(b, func(ctx context.Context) {
			ping, pong := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
			start(ctx, func(ctx context.Context) {
				for {
					v, err := ping.Pop(ctx)
					if err != nil {
						return
					}
					pong.Push(ctx, v)
				}
			})
			for b.Loop() {
				ping.Push(ctx, 1)
				pong.Pop(ctx)
			}
			ping.Close()
		})
	})
	b.Run("goroutines", func(b *testing.B) {
		b.ReportAllocs()
		ping, pong := make(chan int), make(chan int)
		go func() {
			defer close(pong)
			for v := range ping {
				pong <- v
			}
		}()
		for b.Loop() {
			ping <- 1
			<-pong
		}
		close(ping)
		<-pong
	})
}

// BenchmarkChannelHandOver is a value that goes one way, to somebody who waits for it.
func BenchmarkChannelHandOver(b *testing.B) {
	b.Run("coroutines", func(b *testing.B) {
		inCoroutine(b, func(ctx context.Context) {
			ch := runtime.NewChannel[int](1)
			start(ctx, func(ctx context.Context) {
				for {
					if _, err := ch.Pop(ctx); err != nil {
						return
					}
				}
			})
			for b.Loop() {
				ch.Push(ctx, 1)
			}
			ch.Close()
		})
	})
	b.Run("goroutines", func(b *testing.B) {
		b.ReportAllocs()
		ch, ended := make(chan int), make(chan bool)
		go func() {
			defer close(ended)
			for range ch {
			}
		}()
		for b.Loop() {
			ch <- 1
		}
		close(ch)
		<-ended
	})
}

// BenchmarkDerivedContext is a wait with a context that is not the coroutine's own, the same each
// time.
func BenchmarkDerivedContext(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		derived, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		place := new(seat)
		co := start(derived, func(context.Context) { place.occupy(derived) })
		for b.Loop() {
			place.switchTo()
		}
		co.Cancel()
	})
}

// BenchmarkAwait goes to another goroutine and comes back.
func BenchmarkAwait(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			runtime.Await(ctx, func() (int, error) { return 0, nil })
		}
	})
}

// BenchmarkSpend is what counting adds to each operation.
func BenchmarkSpend(b *testing.B) {
	inCoroutine(b, func(ctx context.Context) {
		for b.Loop() {
			sched.Spend(ctx, 100)
		}
	})
}
