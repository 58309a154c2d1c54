package eventloop

import (
	"time"

	"github.com/whorl-go/whorl/internal/clock"
)

// ResetAt is ResetClock with a point in time.
func (t *Timer) ResetAt(at time.Time) bool { return t.ResetClock(clock.At(at)) }
