package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// Interrupt ends one wait of each kind, only schedules, and the context is as it was.
func TestInterruptEndsThePresentWaitOnly(t *testing.T) {
	for name, newSite := range sites {
		t.Run(name, func(t *testing.T) {
			program(t, func(ctx context.Context) {
				site := newSite(ctx)
				var errs []error
				co := start(ctx, func(ctx context.Context) {
					errs = append(errs, site.wait(ctx))
					errs = append(errs, runtime.Sleep(ctx, time.Microsecond))
				})
				if !co.Interrupt() {
					t.Error("Interrupt found no wait")
				}
				if co.Interrupt() {
					t.Error("a second Interrupt found another wait")
				}
				if len(errs) != 0 {
					t.Error("Interrupt has switched")
				}
				co.Join(ctx)
				if len(errs) != 2 || errs[0] != runtime.ErrInterrupted || errs[1] != nil {
					t.Errorf("the waits returned %v", errs)
				}
				wantError(t, "the wait", errs[0], context.Canceled)
				if fault := site.settle(ctx); fault != "" {
					t.Error(fault)
				}
				if co.Context().Err() != nil || co.Interrupt() {
					t.Error("the context is done, or there was a wait after the end")
				}
			}, runtime.WithLoops(1))
		})
	}
}

func TestInterruptOfACoroutineThatDoesNotWait(t *testing.T) {
	program(t, func(ctx context.Context) {
		if runtime.Current(ctx).Interrupt() {
			t.Error("it runs")
		}
		co := start(ctx, func(ctx context.Context) { runtime.Yield(ctx) })
		if co.Interrupt() {
			t.Error("it yields")
		}
		if err := runtime.Sleep(ctx, time.Microsecond); err != nil {
			t.Errorf("the next wait: %v", err)
		}
	}, runtime.WithLoops(1))
}

func TestInterruptFromElsewhere(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(2))
	result := make(chan error, 1)
	co, _ := rt.Go(func(ctx context.Context) { result <- runtime.Sleep(ctx, time.Hour) })
	parked(t, rt, 1, "sleep")
	if !co.Interrupt() {
		t.Error("Interrupt found no coroutine")
	}
	wantError(t, "Sleep", receive(t, result, "end of Sleep"), runtime.ErrInterrupted)
	co.Join(context.Background())
	if co.Interrupt() {
		t.Error("Interrupt found one that has ended")
	}
}

// What ends a wait a second time, before the coroutine has gone on, must not end its next one.
func TestInterruptAndCancelOfOneWait(t *testing.T) {
	program(t, func(ctx context.Context) {
		var errs []error
		co := start(ctx, func(ctx context.Context) {
			errs = append(errs, runtime.Sleep(ctx, time.Hour))
			errs = append(errs, runtime.Sleep(context.Background(), time.Millisecond))
		})
		co.Interrupt()
		co.Cancel()
		co.Join(ctx)
		if len(errs) != 2 || errs[0] != runtime.ErrInterrupted || errs[1] != nil {
			t.Errorf("the waits returned %v", errs)
		}
	}, runtime.WithLoops(1))
}
