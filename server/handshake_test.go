//go:build linux

package server

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// brief is one that waits for a slot, works for some time, and gives the slot back at once.
type brief struct {
	worker *worker
	began  func()
}

func (b *brief) begin() bool {
	for end := clock.Now() + 100*time.Microsecond; clock.Now() < end; {
	}
	b.began()
	b.worker.freeSlot()
	return true
}

// Very many who wait for a slot, and don't need it for long, don't keep the loop from polling when one is free.
func TestFreedSlotsLetTheLoopPoll(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		const all = 500
		co := sched.Current(ctx)
		loop := co.Loop()
		w := newWorker(nil, co.Runtime(), loop, 0, 1)
		w.slots = 0
		began, inOne, most, last := 0, 0, 0, uint64(0)
		for range all {
			w.queueForSlot(&brief{w, func() {
				began++
				if now := loop.Stats().Iterations; now != last {
					last, inOne = now, 0
				}
				inOne++
				most = max(most, inOne)
			}})
		}
		w.counters.handshaking.Add(1)
		loop.Defer(w.freeSlot)
		for began < all {
			if err := runtime.Yield(ctx); err != nil {
				return err
			}
		}
		if most > 10 {
			t.Errorf("%d of %d began between two polls", most, all)
		}
		return nil
	}, runtime.WithLoops(1))
	if err != nil {
		t.Error(err)
	}
}
