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

// A program that waits in a loop gets every signal that comes while it is busy with the one before.
func TestWaitSignalInALoopLosesNone(t *testing.T) {
	send := func(s syscall.Signal) {
		if err := syscall.Kill(syscall.Getpid(), s); err != nil {
			t.Error(err)
		}
	}
	everywhere(t, func(t *testing.T, ctx context.Context) {
		arrived := make(chan os.Signal, 10)
		signal.Notify(arrived, syscall.SIGUSR1, syscall.SIGUSR2)
		defer signal.Stop(arrived)
		wait := func() os.Signal {
			s, err := runtime.WaitSignal(ctx, syscall.SIGUSR1, syscall.SIGUSR2)
			if err != nil {
				t.Error(err)
			}
			return s
		}
		early, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		runtime.WaitSignal(early, syscall.SIGUSR1, syscall.SIGUSR2) // registers them
		for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGUSR1} {
			send(s)
			runtime.Await(ctx, func() (os.Signal, error) { return receive(t, arrived, "signal"), nil }) // it has come, and nobody waits
			if got := wait(); got != s {
				t.Errorf("got %v, want %v", got, s)
			}
		}
		send(syscall.SIGUSR1)
		send(syscall.SIGUSR2)
		if got := map[os.Signal]bool{wait(): true, wait(): true}; len(got) != 2 {
			t.Errorf("of two signals came %v", got)
		}
	})
}
