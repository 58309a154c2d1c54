package runtime_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestChannelKeepsTheOrderOfValues(t *testing.T) {
	program(t, func(ctx context.Context) {
		for _, capacity := range []int{1, 2, 7, 8, 9, 100} {
			ch := runtime.NewChannel[int](capacity)
			pushed, popped := 0, 0
			for round := range 50 {
				for range min(capacity-ch.Len(), round%(capacity+1)) {
					ch.Push(ctx, pushed)
					pushed++
				}
				for range min(ch.Len(), (round*7)%(capacity+1)) {
					if v, _ := ch.Pop(ctx); v != popped {
						t.Fatalf("capacity %d: popped %d, want %d", capacity, v, popped)
					}
					popped++
				}
				if ch.Len() != pushed-popped {
					t.Fatalf("capacity %d: Len is %d, want %d", capacity, ch.Len(), pushed-popped)
				}
			}
		}
	})
}

func TestCapacityOfAChannel(t *testing.T) {
	for capacity, want := range map[int]int{-1: 1, 0: 1, 1: 1, 2: 2, math.MaxInt: math.MaxInt} {
		ch := runtime.NewChannel[int](capacity)
		if ch.Cap() != want {
			t.Errorf("NewChannel(%d).Cap is %d", capacity, ch.Cap())
		}
		ch.Push(context.Background(), 7) // doesn't make room for all of them
		if v, _ := ch.Pop(context.Background()); v != 7 {
			t.Errorf("popped %d", v)
		}
	}
}

func TestChannelTellsWhatWaits(t *testing.T) {
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](2)
		check := func(producers, consumers, length int) {
			t.Helper()
			if p, c := ch.Waiting(); p != producers || c != consumers || ch.Len() != length {
				t.Errorf("%d producers, %d consumers, %d values; want %d, %d, %d", p, c, ch.Len(), producers, consumers, length)
			}
		}
		check(0, 0, 0)
		for range 3 {
			start(ctx, func(ctx context.Context) { ch.Pop(ctx) })
		}
		check(0, 3, 0)
		for i := range 3 {
			ch.Push(ctx, i)
		}
		check(0, 0, 0)
		for i := range 4 {
			start(ctx, func(ctx context.Context) { ch.Push(ctx, i) })
		}
		check(2, 0, 2)
		ch.Close()
		check(0, 0, 2)
	}, runtime.WithLoops(1))
}

func TestChannelTimeouts(t *testing.T) {
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		begin := time.Now()
		_, err := ch.PopTimeout(ctx, 5*time.Millisecond)
		if !errors.Is(err, runtime.ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("PopTimeout: %v", err)
		}
		if d := time.Since(begin); d < 5*time.Millisecond {
			t.Errorf("PopTimeout returned after %v", d)
		}
		ch.Push(ctx, 1)
		wantError(t, "PushTimeout", ch.PushTimeout(ctx, 2, time.Millisecond), runtime.ErrTimeout)
		if v, err := ch.PopTimeout(ctx, time.Nanosecond); v != 1 || err != nil {
			t.Errorf("PopTimeout of what is there: %v, %v", v, err)
		}
		if producers, consumers := ch.Waiting(); producers+consumers+ch.Len() != 0 {
			t.Errorf("left behind: %d producers, %d consumers, %d values", producers, consumers, ch.Len())
		}
		// 0 and less is without end, as it is in Swoole.
		for _, d := range []time.Duration{0, -1} {
			start(ctx, func(ctx context.Context) { runtime.Sleep(ctx, 2*time.Millisecond); ch.Push(ctx, 3) })
			if v, err := ch.PopTimeout(ctx, d); v != 3 || err != nil {
				t.Errorf("PopTimeout(%v): %v, %v", d, v, err)
			}
		}
	})
}

// A value that is ready wins over a time-out that has passed while the coroutine could not run.
func TestReadyValueWinsOverATimeoutThatHasPassed(t *testing.T) {
	program(t, func(ctx context.Context) {
		ch := runtime.NewChannel[int](1)
		consumer := start(ctx, func(ctx context.Context) {
			if v, err := ch.PopTimeout(ctx, time.Millisecond); v != 7 || err != nil {
				t.Errorf("PopTimeout: %v, %v", v, err)
			}
		})
		time.Sleep(5 * time.Millisecond) // holds the loop, so that the timer is due but can't fire
		ch.Push(ctx, 7)
		if !consumer.Ended() {
			t.Error("Push did not switch to the consumer")
		}
	}, runtime.WithLoops(1))
}

// Producers and consumers on four loops and on goroutines give up at random moments. Every value
// that Push took is popped or left, once.
func TestNoValueIsLostOrDoubled(t *testing.T) {
	const producers, consumers, each = 12, 12, 250
	rt := startRuntime(t, runtime.WithLoops(4))
	ch := runtime.NewChannel[int](3)
	var mu sync.Mutex
	pushed, popped := make(map[int]int), make(map[int]int)
	count := func(m map[int]int, v int) {
		mu.Lock()
		defer mu.Unlock()
		m[v]++
	}
	// impatient calls op with a context that may end at any moment, in one of several ways.
	impatient := func(ctx context.Context, op func(ctx context.Context, d time.Duration) error) error {
		d := time.Duration(1+rand.IntN(300)) * time.Microsecond
		switch rand.IntN(5) {
		case 0:
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return op(ctx, 0)
		case 1:
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(d, cancel)
			return op(ctx, 0)
		case 2:
			return op(ctx, d)
		case 3:
			return op(ctx, time.Millisecond)
		}
		result := runtime.NewChannel[error](1)
		co, err := runtime.Go(ctx, func(ctx context.Context) { result.Push(context.Background(), op(ctx, time.Hour)) })
		if err != nil {
			return err
		}
		time.AfterFunc(d, co.Cancel)
		err, _ = result.Pop(context.Background())
		return err
	}
	produce := func(ctx context.Context, from int) {
		for v := from; v < from+each; v++ {
			err := impatient(ctx, func(ctx context.Context, d time.Duration) error { return ch.PushTimeout(ctx, v, d) })
			if err == nil {
				count(pushed, v)
			}
		}
	}
	consume := func(ctx context.Context) {
		for range each {
			impatient(ctx, func(ctx context.Context, d time.Duration) error {
				v, err := ch.PopTimeout(ctx, d)
				if err == nil {
					count(popped, v)
				} else if v != 0 {
					t.Errorf("Pop returned the value %d with the error %v", v, err)
				}
				return err
			})
		}
	}
	var ended sync.WaitGroup
	for i := range producers + consumers {
		ended.Add(1)
		work := func(ctx context.Context) {
			defer ended.Done()
			if i%2 == 0 {
				produce(ctx, 1+i/2*each)
			} else {
				consume(ctx)
			}
		}
		if i%6 < 2 {
			go work(rt.Context())
		} else {
			rt.Go(work)
		}
	}
	ended.Wait()
	if producers, consumers := ch.Waiting(); producers+consumers != 0 {
		t.Errorf("still in a queue: %d producers, %d consumers", producers, consumers)
	}
	for ch.Len() > 0 {
		v, _ := ch.Pop(context.Background())
		count(popped, v)
	}
	for v, n := range popped {
		if n != 1 || pushed[v] != 1 {
			t.Errorf("%d was pushed %d times and popped %d times", v, pushed[v], n)
		}
	}
	if len(pushed) != len(popped) {
		t.Errorf("%d values were pushed, %d came out", len(pushed), len(popped))
	}
	if len(pushed) == 0 || len(pushed) == producers*each {
		t.Errorf("%d of %d values were pushed: this test shows nothing", len(pushed), producers*each)
	}
}
