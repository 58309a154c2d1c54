//go:build linux

package stress

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

var (
	length = flag.Duration("for", 3*time.Second, "how long the test runs")
	seed   = flag.Uint64("seed", 0, "what the random operations begin with; 0: something new")
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// How a round ends. Whichever way it is, nothing may be left.
const (
	inOrder  = iota // everybody comes to an end, and Run returns
	shutDown        // Shutdown in the middle of everything
	forced          // Shutdown that has no time
	endings
)

// A round is the life of one runtime.
type round struct {
	t  *testing.T
	rt *runtime.Runtime

	group   runtime.WaitGroup // whoever start has started
	stopped atomic.Bool       // everybody comes to an end
	cut     atomic.Bool       // Shutdown has begun: errors are no fault any more

	links    [8]atomic.Pointer[link]
	houses   []*house
	meetings meetings
	count    struct{ reads, writes, sessions, handshakes, meetings atomic.Int64 }
}

// What arrives is what was sent, in order and without gaps; every operation ends; no goroutine, no
// descriptor and nothing that keeps Run from returning is left.
func TestEverythingAtOnce(t *testing.T) {
	leaktest.GuardFor(t, *length+3*leaktest.Patience)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	file, packetFile = writeFiles(t)
	end := time.Now().Add(*length)
	for n := uint64(0); time.Now().Before(end) && !t.Failed(); n++ {
		rnd := rand.New(rand.NewPCG(*seed, n))
		(&round{t: t}).run(rnd, min(time.Until(end), time.Duration(300+rnd.IntN(2700))*time.Millisecond))
	}
}

func (r *round) run(rnd *rand.Rand, length time.Duration) {
	how := rnd.IntN(endings)
	loops := 1 + rnd.IntN(4)
	options := append(runtimetest.Quiet(r.t), runtime.WithLoops(loops), runtime.WithAwaitLimit(4),
		runtime.WithDeadlockError())
	err := runtime.Run(func(ctx context.Context) error {
		r.rt, _ = runtime.From(ctx)
		r.open(ctx)
		for i := range r.links {
			r.start(ctx, rnd, func(ctx context.Context, rnd *rand.Rand) { r.keepLink(ctx, rnd, i) })
		}
		for range 24 {
			r.start(ctx, rnd, r.useLinks)
			r.start(ctx, rnd, r.meet)
		}
		for range 12 {
			r.start(ctx, rnd, r.holdSessions)
		}
		runtime.Sleep(ctx, length)
		if r.stopped.Store(true); how != inOrder {
			return r.shutdown(how)
		}
		r.check("wait", r.group.Wait(ctx))
		r.close(ctx)
		return nil
	}, options...)
	if how != forced {
		r.check("Run", err)
	}
	r.check("wait for all", r.group.Wait(context.Background()))
	r.balance()
	c := &r.count
	r.t.Logf("%d loops, end %d, %v: %d reads, %d writes, %d sessions, %d handshakes, %d meetings",
		loops, how, length, c.reads.Load(), c.writes.Load(), c.sessions.Load(), c.handshakes.Load(),
		c.meetings.Load())
}

// shutdown begins the end of the runtime while everybody is busy.
func (r *round) shutdown(how int) error {
	r.stopped.Store(how == shutDown && r.stopped.Load()) // those who are forced out are in the middle
	r.cut.Store(true)
	limit := leaktest.Patience
	if how == forced {
		limit = time.Millisecond
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := r.rt.Shutdown(ctx); how != forced {
			r.check("Shutdown", err)
		}
	}()
	return nil
}

// over reports whether whoever repeats itself should come to an end.
func (r *round) over(ctx context.Context) bool { return r.stopped.Load() || ctx.Err() != nil }

// start runs fn in a coroutine of this loop or of another one, or on a plain goroutine.
func (r *round) start(ctx context.Context, rnd *rand.Rand, fn func(context.Context, *rand.Rand)) {
	own := fork(rnd)
	body := func(ctx context.Context) { fn(ctx, own) }
	var err error
	switch rnd.IntN(3) {
	case 0:
		err = r.group.Go(ctx, body)
	case 1:
		err = r.group.GoSpread(ctx, body)
	default:
		r.group.Add(1)
		go func() {
			defer r.group.Done()
			body(ctx)
		}()
	}
	r.checkUnless(ctx.Err() != nil, "start", err)
}

func fork(rnd *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64())) }

// check takes an error for a fault.
func (r *round) check(what string, err error) {
	if err != nil {
		r.t.Helper()
		r.t.Errorf("%s: %v", what, err)
	}
}

// checkUnless is check for an operation that others may have ended, or the context.
func (r *round) checkUnless(ended bool, what string, err error) {
	if ended || r.cut.Load() || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, runtime.ErrTimeout) ||
		errors.Is(err, runtime.ErrInterrupted) || errors.Is(err, socket.ErrWouldBlock) {
		return
	}
	r.t.Helper()
	r.check(what, err)
}

// pause waits up to limit.
func pause(ctx context.Context, rnd *rand.Rand, limit time.Duration) {
	runtime.Sleep(ctx, time.Duration(rnd.Int64N(int64(limit))))
}

// soon gives ctx little time, one time in six.
func soon(ctx context.Context, rnd *rand.Rand) (context.Context, context.CancelFunc) {
	if rnd.IntN(6) > 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
}
