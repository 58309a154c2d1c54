package eventloop

import (
	"time"

	"go.uber.org/zap"
)

// DefaultWatchdog is how long a function may hold a loop before the watchdog reports it, unless
// WithWatchdog says otherwise.
const DefaultWatchdog = 100 * time.Millisecond

// An Option changes how New makes a loop.
type Option func(*Loop)

// WithName sets the loop's name for log and profiles; "loop-N" by default.
func WithName(name string) Option { return func(l *Loop) { l.name = name } }

// WithLogger sets where the loop reports panics and stalls; nowhere by default.
func WithLogger(log *zap.Logger) Option {
	return func(l *Loop) {
		if log != nil {
			l.log = log
		}
	}
}

// WithPanicHandler sets a function that gets each panic the loop has caught, after it was logged.
// It runs on the loop.
func WithPanicHandler(fn func(value any, stack []byte)) Option {
	return func(l *Loop) { l.onPanic = fn }
}

// WithWatchdog sets how long one function may hold the loop before that is reported; 0 switches the
// watchdog off.
func WithWatchdog(limit time.Duration) Option {
	return func(l *Loop) { l.limit = max(0, limit) }
}
