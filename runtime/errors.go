package runtime

import (
	"net"

	"github.com/whorl-go/whorl/internal/sched"
)

var (
	// ErrTimeout is returned when an operation's own time-out has passed. It is also
	// os.ErrDeadlineExceeded (by errors.Is) and a net.Error whose Timeout is true. When the
	// deadline of a context has passed, the error is context.DeadlineExceeded instead.
	ErrTimeout net.Error = sched.ErrTimeout

	// ErrShutdown is returned by what a coroutine waits for when its runtime shuts down. It is also
	// context.Canceled.
	ErrShutdown = sched.ErrShutdown

	// ErrInterrupted is returned by what a coroutine waited for when [Coroutine.Interrupt] ended
	// that. It is also context.Canceled.
	ErrInterrupted = sched.ErrInterrupted

	// ErrNoRuntime is returned when a call needs a runtime, its context carries none, and there is
	// not exactly one running in the process.
	ErrNoRuntime = sched.ErrNoRuntime

	// ErrOnLoop is returned when a call would have to wait but was made by a function that the
	// event loop runs itself, not in a coroutine.
	ErrOnLoop = sched.ErrOnLoop

	// ErrTooMany is returned by Go when the runtime has as many coroutines as it may have.
	ErrTooMany = sched.ErrTooMany

	// ErrNotSuspended is returned by Resume for a coroutine that doesn't wait in Suspend.
	ErrNotSuspended = sched.ErrNotSuspended

	// ErrGoexit is returned by Run when runtime.Goexit (t.FailNow, for one) ended the main
	// coroutine, and by Await when it ended fn.
	ErrGoexit = sched.ErrGoexit
)

// PanicError is a panic that was caught in a coroutine, or in a function run by Await. Its Value is
// what panic was given, which errors.Is and errors.As look into if it is an error; its Stack is
// that of the place where it happened, as debug.Stack has it.
type PanicError = sched.PanicError

// DeadlockError says that all coroutines wait for each other, and that nothing was seen that could
// wake one. Its Coroutines are in the order in which they were created, for each loop: each with
// its ID, what it is Waiting for, such as "channel pop", and Where: the file:line of the call,
// outside Whorl.
type DeadlockError = sched.DeadlockError
