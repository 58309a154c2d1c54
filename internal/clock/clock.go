// Package clock is the clock that all event loops of the process go by: monotonic, from an
// arbitrary start. Points on it are durations since then.
package clock

import (
	"math"
	"time"
)

// Never is the last point on the clock. It is 292 years off.
const Never time.Duration = math.MaxInt64

// start is where the clock starts. Nanoseconds since then come from the monotonic clock.
var start = time.Now()

// Now reads the clock.
func Now() time.Duration { return time.Since(start) }

// At returns the point that t is, on the monotonic clock if t has its reading.
func At(t time.Time) time.Duration { return max(0, t.Sub(start)) }

// Add returns the point that lies d after at, or the last one before Never.
func Add(at, d time.Duration) time.Duration {
	if d > Never-1-at {
		return Never - 1
	}
	return at + d
}

// NextTick returns the first point after now that lies a whole number of periods after due, which
// must not lie after now. Ticks that have been missed are passed over.
func NextTick(due, period, now time.Duration) time.Duration {
	return Add(due, ((now-due)/period+1)*period)
}
