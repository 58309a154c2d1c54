package event

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/runtime"
)

// Whatever the loop is late by, each tick is due a whole number of intervals after the first.
func TestBeatsDoNotDrift(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		const every = 700 * time.Microsecond
		var tick *Timer
		var last time.Duration
		tick, err := Tick(ctx, every, func(context.Context) {
			if step := tick.due - last; step < every || step%every != 0 {
				t.Errorf("ticks %v apart", step)
			}
			last = tick.due
			for start := clock.Now(); clock.Now()-start < time.Duration(tick.runs)*every/2; {
			}
			if tick.runs == 6 {
				tick.Clear()
			}
		})
		last = tick.due
		return err
	}, runtime.WithLoops(1))
	if err != nil {
		t.Error(err)
	}
}

func TestMissedBeatsAreSkipped(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		const every = time.Millisecond
		var tick *Timer
		var first time.Duration
		tick, err := Tick(ctx, every, func(context.Context) {
			switch late := clock.Now() - first; tick.runs {
			case 1:
				for clock.Now() < first+9*every { // hold the loop
				}
			case 3: // the second call is that of the first tick that was missed
				if late < 10*every {
					t.Errorf("third call %v after the first was due: a missed tick was made up for", late)
				}
				tick.Clear()
			}
		})
		first = tick.due
		return err
	}, runtime.WithLoops(1), runtime.WithWatchdog(0))
	if err != nil {
		t.Error(err)
	}
}
