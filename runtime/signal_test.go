package runtime_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestWaitSignal(t *testing.T) {
	everywhere(t, func(t *testing.T, ctx context.Context) {
		others := make(chan os.Signal, 1)
		signal.Notify(others, syscall.SIGUSR1) // without which it is fatal while nobody waits
		defer signal.Stop(others)
		result := runtime.NewChannel[os.Signal](1)
		co := start(ctx, func(ctx context.Context) {
			s, err := runtime.WaitSignal(ctx, syscall.SIGUSR1, syscall.SIGUSR2)
			if err != nil {
				t.Error(err)
			}
			result.Push(ctx, s)
		})
		for !co.Ended() { // again and again, as there is no telling when the wait has begun
			runtime.Sleep(ctx, 2*time.Millisecond)
			syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
		}
		if s, err := result.Pop(ctx); s != syscall.SIGUSR1 || err != nil {
			t.Errorf("%v, %v", s, err)
		}
	})
}

func TestWaitSignalWithoutASignal(t *testing.T) {
	program(t, func(ctx context.Context) {
		if _, err := runtime.WaitSignal(ctx); err == nil {
			t.Error("no error")
		}
	})
}
