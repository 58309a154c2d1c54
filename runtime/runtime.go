package runtime

import (
	"context"

	"github.com/whorl-go/whorl/internal/sched"
)

// Runtime is a set of event loops and the coroutines on them. Programs that are coroutines from
// beginning to end use [Run]; those with a life of their own use New, Start and Shutdown. Several
// runtimes in one process don't disturb each other. All methods may be called from any goroutine.
type Runtime sched.Runtime

// Run makes a runtime, runs main as its first coroutine, and returns when all coroutines have
// ended, those that main has started included, and nothing is left that may yet call the program:
// timers and watches of package event, connections by callback, WebSockets. When main fails, by an
// error, a panic or runtime.Goexit, the others are cancelled, as by Shutdown, and Run waits for
// them.
//
// It returns main's error: a *PanicError if main panicked, ErrGoexit. Joined to it are the first
// panic elsewhere that nothing took, which is to say that there is no panic handler and it wasn't
// returned to a caller as an error; what the end of the runtime had to cut, see Shutdown; and a
// *DeadlockError, if that was asked for by [WithDeadlockError].
func Run(main func(ctx context.Context) error, options ...Option) error {
	return sched.Run(configure(options), main)
}

// New makes a runtime. It fails when the kernel has no descriptors to give, and with
// errors.ErrUnsupported on systems that have neither epoll nor kqueue.
func New(options ...Option) (*Runtime, error) {
	rt, err := sched.New(configure(options))
	return (*Runtime)(rt), err
}

// From returns the runtime that ctx carries: that of the coroutine or of the Runtime.Context it
// comes from. If ctx carries none it is the runtime of the coroutine that the caller runs in, or
// the only one that runs in the process; else the error is ErrNoRuntime.
func From(ctx context.Context) (*Runtime, error) {
	rt, err := sched.From(ctx)
	return (*Runtime)(rt), err
}

func (rt *Runtime) inner() *sched.Runtime { return (*sched.Runtime)(rt) }

// Start starts the loops. It returns an error if the runtime was started before.
func (rt *Runtime) Start() error { return rt.inner().Start() }

// Shutdown ends the runtime. It cancels all coroutines: whatever they wait for returns ErrShutdown,
// once if it doesn't go by the coroutine's context, and for good if it does. What was sent is still
// delivered. It returns nil when all have ended. When ctx is done before that, it ends those that
// wait as by runtime.Goexit and gives them a second to run their deferred calls. Its error says how
// many didn't end, and what was cut: connections that had something to deliver yet. Further calls
// wait for the first and return its result.
//
// Called in a coroutine of the runtime, which can't end while it waits here, or in a function of a
// loop, Shutdown only begins, and returns ErrOnLoop.
func (rt *Runtime) Shutdown(ctx context.Context) error { return rt.inner().Shutdown(ctx) }

// Context returns a context that carries the runtime, for plain goroutines that use it. It is
// cancelled when Shutdown begins.
func (rt *Runtime) Context() context.Context { return rt.inner().Context() }

// Go starts a coroutine on one of the loops, each in turn, and doesn't wait for it. Its context
// comes from [Runtime.Context].
func (rt *Runtime) Go(fn func(ctx context.Context)) (*Coroutine, error) {
	co, err := rt.inner().Go(fn)
	return (*Coroutine)(co), err
}

// Loops returns the runtime's loops.
func (rt *Runtime) Loops() []Loop {
	own := rt.inner().Loops()
	loops := make([]Loop, len(own))
	for i, loop := range own {
		loops[i] = loop
	}
	return loops
}

// Info describes a coroutine at a moment: its ID, that of its Parent (-1 = none), the name of its
// Loop, and its State: "running", or what it waits for, such as "sleep", "channel pop", "socket
// recv".
type Info = sched.Info

// List returns all coroutines that have not ended, in the order of creation for each loop. It may
// be called from anywhere and doesn't wait, not even for a loop that is held; the descriptions are
// of slightly different moments.
func (rt *Runtime) List() []Info { return rt.inner().List() }

// Stats are a runtime's figures: Coroutines that have not ended; how many were Created so far;
// Workers, which are the goroutines that coroutines run on, and those Awaiting, which run the
// functions of Await, idle ones included in both.
type Stats = sched.Stats

// Stats returns the runtime's figures. The figures are of slightly different moments.
func (rt *Runtime) Stats() Stats { return rt.inner().Stats() }
