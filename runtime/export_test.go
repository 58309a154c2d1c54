package runtime

import (
	"time"

	"github.com/whorl-go/whorl/internal/sched"
)

// HurryDeadlock shortens the times of the check for deadlocks. Call what it returns to restore
// them.
func HurryDeadlock(firstCheck, grace time.Duration) (restore func()) {
	wasFirst, wasGrace := sched.FirstDeadlockCheck, sched.DeadlockGrace
	sched.FirstDeadlockCheck, sched.DeadlockGrace = firstCheck, grace
	return func() { sched.FirstDeadlockCheck, sched.DeadlockGrace = wasFirst, wasGrace }
}

// HurryForcedEnd shortens the time that coroutines have when a Shutdown ends them by force. Call
// what it returns to restore it.
func HurryForcedEnd(grace time.Duration) (restore func()) {
	was := sched.ForcedGrace
	sched.ForcedGrace = grace
	return func() { sched.ForcedGrace = was }
}
