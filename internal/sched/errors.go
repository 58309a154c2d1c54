package sched

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

var (
	// ErrTimeout is returned when an operation's own time-out has passed. It is also
	// os.ErrDeadlineExceeded (by errors.Is) and a net.Error whose Timeout is true. When the
	// deadline of a context has passed, the error is context.DeadlineExceeded instead.
	ErrTimeout net.Error = timeoutError{}

	// ErrShutdown is returned by what a coroutine waits for when its runtime shuts down. It is also
	// context.Canceled.
	ErrShutdown error = shutdownError{}

	// ErrInterrupted is returned by what a coroutine waited for when [Coroutine.Interrupt] ended
	// that. It is also context.Canceled.
	ErrInterrupted error = interruptedError{}

	// ErrNoRuntime is returned when a call needs a runtime, its context carries none, and there is
	// not exactly one running in the process.
	ErrNoRuntime = errors.New("runtime: no runtime: call this within runtime.Run, " +
		"or with a context from Runtime.Context")

	// ErrOnLoop is returned when a call would have to wait but was made by a function that the
	// event loop runs itself, not in a coroutine.
	ErrOnLoop = errors.New("runtime: call that waits made on the event loop, outside a coroutine")

	// ErrTooMany is returned by Go when the runtime has as many coroutines as it may have.
	ErrTooMany = errors.New("runtime: limit on the number of coroutines reached")

	// ErrNotSuspended is returned by Resume for a coroutine that doesn't wait in Suspend.
	ErrNotSuspended = errors.New("runtime: coroutine is not suspended")

	// ErrGoexit is returned by Run when runtime.Goexit (t.FailNow, for one) ended the main
	// coroutine, and by Await when it ended fn.
	ErrGoexit = errors.New("runtime: ended by runtime.Goexit")
)

type timeoutError struct{}

func (timeoutError) Error() string        { return "timeout" }
func (timeoutError) Timeout() bool        { return true }
func (timeoutError) Temporary() bool      { return true }
func (timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

type shutdownError struct{}

func (shutdownError) Error() string        { return "runtime: shutting down" }
func (shutdownError) Is(target error) bool { return target == context.Canceled }

type interruptedError struct{}

func (interruptedError) Error() string        { return "runtime: wait interrupted" }
func (interruptedError) Is(target error) bool { return target == context.Canceled }

// PanicError is a panic that was caught in a coroutine, or in a function run by Await, with the
// stack of the place where it happened.
type PanicError struct {
	Value any
	Stack []byte

	reported atomic.Bool // it was logged and handed to the panic handler
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.Value, e.Stack) }

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
