package clock

import (
	"testing"
	"time"
)

func TestAddEndsBeforeNever(t *testing.T) {
	for _, c := range []struct{ at, d, want time.Duration }{
		{1, 2, 3},
		{5, Never - 6, Never - 1},
		{5, Never - 5, Never - 1},
		{5, Never, Never - 1},
		{Never - 1, Never, Never - 1},
		{5, 0, 5},
	} {
		if got := Add(c.at, c.d); got != c.want {
			t.Errorf("Add(%d, %d) = %d, want %d", c.at, c.d, got, c.want)
		}
	}
}

func TestBeatPassesOverWhatWasMissed(t *testing.T) {
	for _, c := range []struct{ due, now, want time.Duration }{
		{100, 100, 110},
		{100, 109, 110},
		{100, 110, 120},
		{100, 137, 140},
	} {
		if got := NextTick(c.due, 10, c.now); got != c.want {
			t.Errorf("due %d, now %d: the next tick is %d, want %d", c.due, c.now, got, c.want)
		}
	}
}
