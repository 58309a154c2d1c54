package runtime

import (
	"context"
	"errors"
	"slices"
)

// Run makes a runtime, runs main as its first coroutine, and returns when all coroutines have
// ended, those that main has started included. When main fails, by an error, a panic or
// runtime.Goexit, the others are cancelled, as by Shutdown, and Run waits for them.
//
// It returns main's error: a *PanicError if main panicked, ErrGoexit. Joined to it are the first
// panic elsewhere that nothing took, which is to say that there is no panic handler and it wasn't
// returned to a caller as an error; what the end of the runtime had to cut, see Shutdown; and a
// *DeadlockError, if that was asked for by [WithDeadlockError].
func Run(main func(ctx context.Context) error, options ...Option) error {
	if s, _ := whereAmI(nil); s != nil {
		return errors.New("runtime: Run called on an event loop; use Go, or a plain goroutine")
	}
	rt, err := New(options...)
	if err != nil {
		return err
	}
	if err := rt.Start(); err != nil {
		return err
	}
	var mainErr error
	failed := make(chan struct{})
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
	deadlock := rt.waitIdle(failed)
	ctx := context.Background()
	if deadlock != nil { // ErrShutdown is lost on coroutines that ignore errors
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadlockGrace)
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
