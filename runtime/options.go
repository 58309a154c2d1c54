package runtime

import (
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/sched"
)

// An Option changes how New and Run make a runtime.
type Option func(*sched.Config)

func configure(options []Option) sched.Config {
	config := sched.Defaults()
	for _, option := range options {
		option(&config)
	}
	return config
}

// WithLoops sets the number of event loops, each on a goroutine of its own; GOMAXPROCS by default.
func WithLoops(n int) Option { return func(c *sched.Config) { c.Loops = n } }

// WithName sets the runtime's name for logs and profiles; "whorl" by default.
func WithName(name string) Option { return func(c *sched.Config) { c.Name = name } }

// WithLogger sets where panics and stalls are reported; standard error by default. zap.NewNop()
// silences them.
func WithLogger(log *zap.Logger) Option {
	return func(c *sched.Config) {
		if log != nil {
			c.Log = log
		}
	}
}

// WithWatchdog sets how long a coroutine, or a function of the loop, may hold its loop before that
// is reported with its stack; 100 ms by default, 0 switches it off.
func WithWatchdog(limit time.Duration) Option {
	return func(c *sched.Config) { c.Watchdog = limit }
}

// WithMaxCoroutines limits the number of coroutines that exist at a time; beyond it, Go fails with
// ErrTooMany; 1,000,000 by default.
func WithMaxCoroutines(n int) Option { return func(c *sched.Config) { c.MaxCoroutines = int64(n) } }

// WithAwaitLimit limits the goroutines on which Await runs functions at a time; further ones wait
// for their turn; 256 by default.
func WithAwaitLimit(n int) Option { return func(c *sched.Config) { c.AwaitLimit = n } }

// WithPanicHandler sets a function that gets each panic that was caught, after it was logged: with
// the coroutine, or with nil for a function that the loop ran itself. It runs on the loop and must
// not wait.
func WithPanicHandler(fn func(co *Coroutine, err *PanicError)) Option {
	return func(c *sched.Config) {
		c.OnPanic = nil
		if fn != nil {
			c.OnPanic = func(co *sched.Coroutine, err *PanicError) { fn((*Coroutine)(co), err) }
		}
	}
}

// WithDeadlockCheck switches the check for deadlocks that Run makes on or off; it is on by default.
// When all coroutines wait for each other, and neither a timer nor a descriptor nor a goroutine of
// the process could wake one, that is logged as a warning, with the place where each of them waits,
// once as long as they stay there. The program goes on: what the check can't see is a function that
// time.AfterFunc or context.AfterFunc will call, and a callback from C.
func WithDeadlockCheck(on bool) Option {
	return func(c *sched.Config) {
		c.Deadlock = sched.DeadlockIgnored
		if on {
			c.Deadlock = sched.DeadlockIsLogged
		}
	}
}

// WithDeadlockError has Run shut down on what the check for deadlocks finds, and return it as a
// *[DeadlockError] instead of logging it. It is for tests.
func WithDeadlockError() Option {
	return func(c *sched.Config) { c.Deadlock = sched.DeadlockIsError }
}
