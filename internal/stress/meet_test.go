//go:build linux

package stress

import (
	"context"
	"math/rand/v2"
	goruntime "runtime"
	"sync/atomic"
	"time"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// meetings are where coroutines and goroutines wait for each other.
type meetings struct {
	channel        atomic.Pointer[runtime.Channel[int]]
	pushed, popped atomic.Int64
	mutex          runtime.Mutex
	inside         atomic.Int64
	deferred, run  atomic.Int64
	victims        [8]atomic.Pointer[runtime.Coroutine]
}

func (r *round) meet(ctx context.Context, rnd *rand.Rand) {
	m := &r.meetings
	m.channel.CompareAndSwap(nil, runtime.NewChannel[int](3))
	for !r.over(ctx) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(1+rnd.IntN(2000))*time.Microsecond)
		switch rnd.IntN(9) {
		case 0, 1:
			if m.channel.Load().Push(ctx, 1) == nil {
				m.pushed.Add(1)
			}
		case 2, 3:
			if _, err := m.channel.Load().Pop(ctx); err == nil {
				m.popped.Add(1)
			}
		case 4:
			r.exclude(ctx, rnd)
		case 5:
			runtime.Await(ctx, func() (int, error) {
				time.Sleep(rand.N(500 * time.Microsecond))
				return 0, nil
			})
		case 6:
			r.bear(ctx, rnd)
		case 7:
			if event.Defer(ctx, func(context.Context) { m.run.Add(1) }) == nil {
				m.deferred.Add(1)
			}
			event.Tick(ctx, 100*time.Microsecond, func(ctx context.Context) {
				runtime.Sleep(ctx, time.Millisecond)
			})
		case 8:
			if co := m.victims[rnd.IntN(len(m.victims))].Load(); co != nil {
				[]func(){co.Cancel, func() { co.Interrupt() }, func() { co.Resume() }}[rnd.IntN(3)]()
			}
			r.rt.List()
		}
		cancel()
		r.count.meetings.Add(1)
	}
}

// exclude holds the mutex for a while.
func (r *round) exclude(ctx context.Context, rnd *rand.Rand) {
	m := &r.meetings
	if m.mutex.Lock(ctx) != nil {
		return
	}
	defer m.mutex.Unlock()
	if m.inside.Add(1) != 1 {
		r.t.Error("two hold the mutex")
	}
	defer m.inside.Add(-1)
	pause(ctx, rnd, 100*time.Microsecond)
}

// bear starts a coroutine that others may do something to, and waits for it.
func (r *round) bear(ctx context.Context, rnd *rand.Rand) {
	own, how := fork(rnd), rnd.IntN(5)
	co, err := runtime.Go(ctx, func(ctx context.Context) {
		switch how {
		case 0:
			runtime.Suspend(ctx)
		case 1:
			goruntime.Goexit()
		case 2:
			runtime.ForEach(ctx, 3, func(ctx context.Context, i int) error { return runtime.Yield(ctx) })
		default:
			pause(ctx, own, time.Millisecond)
			runtime.Yield(ctx)
		}
	})
	if err != nil {
		return
	}
	r.meetings.victims[rnd.IntN(len(r.meetings.victims))].Store(co)
	if rnd.IntN(3) == 0 {
		co.Cancel()
	}
	r.checkUnless(false, "Join", co.Join(ctx))
	co.Cancel()
}

// balance looks at what is left when all has ended.
func (r *round) balance() {
	m := &r.meetings
	if ch := m.channel.Load(); ch != nil {
		producers, consumers := ch.Waiting()
		pushed, popped, held := m.pushed.Load(), m.popped.Load(), int64(ch.Len())
		if producers+consumers != 0 || pushed != popped+held {
			r.t.Errorf("channel: %d pushed, %d popped, %d held; %d and %d wait",
				pushed, popped, held, producers, consumers)
		}
	}
	if !m.mutex.TryLock() {
		r.t.Error("the mutex is held")
	}
	if m.deferred.Load() != m.run.Load() {
		r.t.Errorf("%d functions were deferred, %d called", m.deferred.Load(), m.run.Load())
	}
	for _, h := range r.houses {
		// The end of the runtime may come before OnConnect, which is then only due.
		if o, c := h.opened.Load(), h.closed.Load(); o > c || o < c && !r.cut.Load() {
			r.t.Errorf("%d connections have begun, %d ended", o, c)
		}
	}
	if n := socket.Lingering(); n != 0 {
		r.t.Errorf("%d closed sockets still deliver", n)
	}
	if st := r.rt.Stats(); st.Coroutines != 0 || st.Workers != 0 {
		r.t.Errorf("%+v", st)
	}
}
