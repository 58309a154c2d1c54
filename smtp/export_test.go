package smtp

import (
	"testing"
	"time"
)

// SetRefusalPause sets for how long a Pool doesn't ask a server that has refused a session.
func SetRefusalPause(t testing.TB, d time.Duration) {
	before := refusalPause
	refusalPause = d
	t.Cleanup(func() { refusalPause = before })
}
