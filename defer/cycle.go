package event

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/sched"
)

var errNoCycle = errors.New("no function is set")

// Cycle sets the function that is called in each iteration of the caller's loop, at its beginning
// (before) or at its end, after the deferred functions. It replaces the one that was set before;
// nil removes it, and is an error if none is set. From a plain goroutine, use the context of a
// coroutine, which says what loop is meant.
//
// Cycle doesn't keep runtime.Run from returning, nor the loop from sleeping: an iteration takes
// place when there is something to do. So fn should not wait, as its going on is something to do;
// if it does, the next iteration calls it once more meanwhile. When ctx is done, when the runtime
// shuts down or nothing else is left that keeps runtime.Run from returning, fn is called no more.
//
// Cycle uses the loop's BeforePoll and AfterDefer functions. It fails when ctx is done already,
// with runtime.ErrNoRuntime, and with runtime.ErrShutdown when the runtime shuts down.
func Cycle(ctx context.Context, fn func(ctx context.Context), before bool) error {
	if err := setCycle(ctx, fn, before); err != nil {
		return fmt.Errorf("event: cycle: %w", err)
	}
	return nil
}

func setCycle(ctx context.Context, fn func(context.Context), before bool) error {
	home, err := sched.HomeFor(ctx)
	if err != nil {
		return err
	}
	reg, err := registryOf(home.Runtime())
	if err != nil {
		return err
	}
	slot := reg.cycleSlot(cycleKey{home.Loop(), before})
	if fn == nil {
		if slot.current.Swap(nil) == nil {
			return errNoCycle
		}
		return run(home, slot.sync)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	slot.current.Store(&cycle{ctx, fn})
	return run(home, slot.sync)
}

type cycleKey struct {
	loop   *eventloop.Loop
	before bool
}

// cycleSlot is the place of one cycle function of one loop.
type cycleSlot struct {
	cycleKey
	reg     *registry
	current atomic.Pointer[cycle] // nil = none
}

type cycle struct {
	ctx context.Context
	fn  func(context.Context)
}

func (r *registry) cycleSlot(key cycleKey) *cycleSlot {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := r.cycles[key]
	if slot == nil {
		slot = &cycleSlot{cycleKey: key, reg: r}
		r.cycles[key] = slot
	}
	return slot
}

// sync gives the loop what it has to call: run, or nothing. It goes by what is set when it is
// called, so it doesn't matter in what order the calls of several goroutines get here. On the loop.
func (s *cycleSlot) sync() {
	var run func()
	if s.current.Load() != nil {
		run = s.run
	}
	if s.before {
		s.loop.BeforePoll(run)
	} else {
		s.loop.AfterDefer(run)
	}
}

// run is what the loop calls in each iteration.
func (s *cycleSlot) run() {
	c := s.current.Load()
	if c == nil {
		return
	}
	if c.ctx.Err() != nil {
		s.current.CompareAndSwap(c, nil)
		s.sync()
		return
	}
	start(c.ctx, s.reg.quiet, c.fn)
}
