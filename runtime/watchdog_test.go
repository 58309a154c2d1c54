package runtime_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/whorl-go/whorl/runtime"
)

// blocksTheLoop is what the watchdog has to name. It holds the loop until that has happened.
//
//go:noinline
func blocksTheLoop(reported <-chan string) string {
	select {
	case stack := <-reported:
		return stack
	case <-time.After(patience):
		return "nothing was reported"
	}
}

func TestWatchdogNamesTheCoroutineThatHoldsTheLoop(t *testing.T) {
	const limit = 30 * time.Millisecond
	for name, others := range map[string]int{"alone": 0, "among parked coroutines": 20} {
		log, _ := newLog()
		reported := make(chan string, 100)
		log = log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return stacks{core, reported} }))
		program(t, func(ctx context.Context) {
			begin := time.Now()
			var all []*runtime.Coroutine
			for range others {
				all = append(all, start(ctx, func(ctx context.Context) { runtime.Sleep(ctx, time.Hour) }))
			}
			stack := blocksTheLoop(reported)
			if held := time.Since(begin); held < limit {
				t.Errorf("%s: reported after %v", name, held)
			}
			if !strings.Contains(stack, "runtime_test.blocksTheLoop") || strings.Contains(stack, "runtime.Sleep+") {
				t.Errorf("%s: the stack is not that of the function that holds the loop:\n%s", name, stack)
			}
			for _, co := range all {
				co.Cancel()
			}
		}, runtime.WithLoops(2), runtime.WithLogger(log), runtime.WithWatchdog(limit))
	}
}

// stacks is a core that hands on the stacks of warnings.
type stacks struct {
	zapcore.Core
	to chan<- string
}

func (c stacks) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, c)
}

func (c stacks) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for _, f := range fields {
		if f.Key == "stack" && e.Level == zapcore.WarnLevel {
			c.to <- f.String
		}
	}
	return nil
}
