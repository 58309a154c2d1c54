package sched_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Each loop has one, whoever asks for it first, and it is forgotten when the runtime shuts down.
func TestByLoop(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2))...)
	type part struct{ at sched.Home }
	ended := make(chan *part, 10)
	parts := sched.NewByLoop(
		func(at sched.Home) *part { return &part{at} },
		func(p *part) { ended <- p },
	)
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 100 {
				at, err := sched.HomeInTurn(rt.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if p := parts.Of(at); p != parts.Of(at) || p.at != at {
					t.Error("it isn't that of the loop, or not always the same")
				}
			}
		})
	}
	asking.Wait()
	all := slices.Collect(parts.All())
	if len(all) != 2 {
		t.Errorf("there are %d", len(all))
	}
	runtimetest.Shutdown(t, rt)
	for range all {
		if p := <-ended; !slices.Contains(all, p) {
			t.Error("another one has ended")
		}
	}
	if left := slices.Collect(parts.All()); len(left) > 0 {
		t.Errorf("%d are left", len(left))
	}
}
