package program

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// oneSignal is how soon after a signal another one means the same: timeout(1), a terminal's Ctrl-C
// and those who supervise processes send it to the process and to its group.
const oneSignal = 500 * time.Millisecond

// Interrupted returns a context that is done when the process is told to end by SIGINT or SIGTERM.
// A second one after that ends the process at once.
func Interrupted(ctx context.Context) (told context.Context, stop context.CancelFunc) {
	return interrupted(ctx, oneSignal)
}

func interrupted(
	ctx context.Context, oneSignal time.Duration,
) (told context.Context, stop context.CancelFunc) {
	told, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(told, func() {
		time.AfterFunc(oneSignal, stop) // gives signals their effect back
	})
	return told, stop
}
