package sched

import (
	"context"
	"errors"
	"slices"
)

// Run makes a runtime and runs main as its first coroutine, see runtime.Run.
func Run(config Config, main func(ctx context.Context) error) error {
	if s, _ := whereAmI(nil); s != nil {
		return errors.New("runtime: Run called on an event loop; use Go, or a plain goroutine")
	}
	rt, err := New(config)
	if err != nil {
		return err
	}
	if err := rt.Start(); err != nil {
		return err
	}
	var mainErr error
	failed := make(chan struct{})
	rt.mu.Lock()
	idle := rt.nextIdle() // before main, so that its end is the end at once, if it is the last
	rt.mu.Unlock()
	co, err := rt.schedulers[0].launch(&rt.root, func(ctx context.Context) {
		fine := false
		defer func() {
			if !fine {
				close(failed)
			}
		}()
		mainErr = main(ctx)
		fine = mainErr == nil
	})
	if err != nil {
		return errors.Join(err, rt.Shutdown(context.Background()))
	}
	deadlock := rt.waitIdle(idle, failed)
	ctx := context.Background()
	if deadlock != nil { // ErrShutdown is lost on coroutines that ignore errors
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DeadlockGrace)
		defer cancel()
	}
	shutdownErr := rt.Shutdown(ctx)
	if deadlock != nil {
		return joined(deadlock, shutdownErr)
	}
	if !co.Ended() { // a Shutdown has given up on it
		return shutdownErr
	}
	panicked := rt.panic.Load()
	switch {
	case co.rare != nil && co.rare.panicked != nil:
		mainErr = co.rare.panicked
		if panicked == co.rare.panicked {
			panicked = nil
		}
	case co.rare != nil && co.rare.goexit && mainErr == nil:
		mainErr = ErrGoexit
	}
	if panicked != nil {
		return joined(mainErr, panicked, shutdownErr)
	}
	return joined(mainErr, shutdownErr)
}

// joined is errors.Join, but leaves a single error as it is.
func joined(all ...error) error {
	all = slices.DeleteFunc(all, func(err error) bool { return err == nil })
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}
