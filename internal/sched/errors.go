package sched

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// The errors of package runtime.
var (
	ErrTimeout     net.Error = timeoutError{}
	ErrShutdown    error     = shutdownError{}
	ErrInterrupted error     = interruptedError{}
	ErrNoRuntime             = errors.New("runtime: no runtime: call this within runtime.Run, " +
		"or with a context from Runtime.Context")
	ErrOnLoop = errors.New(
		"runtime: call that waits made on the event loop, outside a coroutine",
	)
	ErrTooMany      = errors.New("runtime: limit on the number of coroutines reached")
	ErrNotSuspended = errors.New("runtime: coroutine is not suspended")
	ErrGoexit       = errors.New("runtime: ended by runtime.Goexit")
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
