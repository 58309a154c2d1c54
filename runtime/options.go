package runtime

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/whorl-go/whorl/eventloop"
)

// An Option changes how New and Run make a runtime.
type Option func(*config)

type config struct {
	name          string
	loops         int
	log           *zap.Logger
	watchdog      time.Duration
	maxCoroutines int64
	awaitLimit    int
	onPanic       func(co *Coroutine, err *PanicError)
	deadlock      int
}

// Defaults, for those options that are not given.
const (
	DefaultMaxCoroutines = 1_000_000
	DefaultAwaitLimit    = 256
)

func defaults() config {
	return config{
		name:          "whorl",
		loops:         defaultLoops(),
		log:           stderrLogger(),
		watchdog:      eventloop.DefaultWatchdog,
		maxCoroutines: DefaultMaxCoroutines,
		awaitLimit:    DefaultAwaitLimit,
		deadlock:      deadlockIsLogged,
	}
}

func (c *config) check() error {
	switch {
	case c.loops < 1:
		return fmt.Errorf("runtime: WithLoops(%d): at least one loop is needed", c.loops)
	case c.maxCoroutines < 1:
		return fmt.Errorf("runtime: WithMaxCoroutines(%d): at least one is needed", c.maxCoroutines)
	case c.awaitLimit < 1:
		return fmt.Errorf("runtime: WithAwaitLimit(%d): at least one is needed", c.awaitLimit)
	}
	return nil
}

// stderrLogger makes sure that panics and stalls are seen when nobody has said where to.
func stderrLogger() *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.WarnLevel))
}

// WithLoops sets the number of event loops, each on a goroutine of its own; GOMAXPROCS by default.
func WithLoops(n int) Option { return func(c *config) { c.loops = n } }

// WithName sets the runtime's name for logs and profiles; "whorl" by default.
func WithName(name string) Option { return func(c *config) { c.name = name } }

// WithLogger sets where panics and stalls are reported; standard error by default. zap.NewNop()
// silences them.
func WithLogger(log *zap.Logger) Option {
	return func(c *config) {
		if log != nil {
			c.log = log
		}
	}
}

// WithWatchdog sets how long a coroutine, or a function of the loop, may hold its loop before that
// is reported with its stack; 100 ms by default, 0 switches it off.
func WithWatchdog(limit time.Duration) Option { return func(c *config) { c.watchdog = limit } }

// WithMaxCoroutines limits the number of coroutines that exist at a time; beyond it, Go fails with
// ErrTooMany.
func WithMaxCoroutines(n int) Option { return func(c *config) { c.maxCoroutines = int64(n) } }

// WithAwaitLimit limits the goroutines on which Await runs functions at a time; further ones wait
// for their turn.
func WithAwaitLimit(n int) Option { return func(c *config) { c.awaitLimit = n } }

// WithPanicHandler sets a function that gets each panic that was caught, after it was logged: with
// the coroutine, or with nil for a function that the loop ran itself. It runs on the loop and must
// not wait.
func WithPanicHandler(fn func(co *Coroutine, err *PanicError)) Option {
	return func(c *config) { c.onPanic = fn }
}

// WithDeadlockCheck switches the check for deadlocks that Run makes on or off; it is on by default.
// When all coroutines wait for each other, and neither a timer nor a descriptor nor a goroutine of
// the process could wake one, that is logged as a warning, with the place where each of them waits,
// once as long as they stay there. The program goes on: what the check can't see is a function that
// time.AfterFunc or context.AfterFunc will call, and a callback from C.
func WithDeadlockCheck(on bool) Option {
	return func(c *config) {
		c.deadlock = deadlockIgnored
		if on {
			c.deadlock = deadlockIsLogged
		}
	}
}

// WithDeadlockError has Run shut down on what the check for deadlocks finds, and return it as a
// *[DeadlockError] instead of logging it. It is for tests.
func WithDeadlockError() Option { return func(c *config) { c.deadlock = deadlockIsError } }

// What Run does about a deadlock.
const (
	deadlockIgnored = iota
	deadlockIsLogged
	deadlockIsError
)
