package hooks

import (
	"context"
	"testing"
	"time"
)

// A timer that has fired just when the deadline was moved ends nothing: it isn't time.
func TestTimerOfADeadlineThatWasMoved(t *testing.T) {
	l := &limit{values: context.Background()}
	if err := l.set(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	defer l.timer.Stop()
	l.expire()
	if err := l.period().Err(); err != nil {
		t.Errorf("the period is over: %v", err)
	}
}
