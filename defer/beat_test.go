package event

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/runtime"
)

// Whatever the loop is late by, each beat is due a whole number of intervals after the first.
func TestBeatsDoNotDrift(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		const every = 700 * time.Microsecond
		var tick *Timer
		var last time.Duration
		tick, err := Tick(ctx, every, func(context.Context) {
			if step := tick.due - last; step < every || step%every != 0 {
				t.Errorf("beats %v apart", step)
			}
			if last = tick.due; last <= eventloop.Clock()-every {
				t.Error("the next beat is one that was missed")
			}
			for start := eventloop.Clock(); eventloop.Clock()-start < time.Duration(tick.runs)*every/2; {
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

func TestRegistryIsForgottenAtShutdown(t *testing.T) {
	var rt *runtime.Runtime
	err := runtime.Run(func(ctx context.Context) error {
		rt, _ = runtime.From(ctx)
		_, err := After(ctx, time.Nanosecond, func(context.Context) {})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for range 1000 { // it is done by a goroutine
		if _, there := registries.Load(rt); !there {
			return
		}
		runtime.Sleep(context.Background(), time.Millisecond)
	}
	t.Error("still there")
}
