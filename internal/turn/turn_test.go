package turn

import (
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
)

// spend counts operations that take so long each, until the turn is over or there were most.
func spend(bytes, most int, each time.Duration) int {
	var b Budget
	b.Renew()
	for n := 1; n < most; n++ {
		for until := clock.Now() + each; clock.Now() < until; {
		}
		if b.Count(bytes); b.Spent(Coroutine) {
			return n
		}
	}
	return most
}

func TestTurnOfLongOperationsEndsAtTheSecondLook(t *testing.T) {
	if n := spend(0, 1000, Coroutine); n != 2*Look {
		t.Errorf("the turn was over after %d operations, want %d", n, 2*Look)
	}
}

func TestBytesCount(t *testing.T) {
	if n := spend((Look-1)*Unit, 1000, 2*Coroutine); n != 2 {
		t.Errorf("the turn was over after %d operations, want 2", n)
	}
}

func TestTurnOfShortOperationsEndsInTime(t *testing.T) {
	const most = 100_000_000
	if n := spend(0, most, 0); n < 2*Look || n == most {
		t.Errorf("the turn was over after %d operations", n)
	}
}

func TestSpentTurnStaysSpent(t *testing.T) {
	b := Budget{end: 1}
	for range 3 {
		if b.Count(0); !b.Spent(Coroutine) {
			t.Fatal("the turn goes on")
		}
	}
	if b.Renew(); b.Spent(Coroutine) {
		t.Error("a renewed turn is over")
	}
}

func BenchmarkCount(b *testing.B) {
	var budget Budget
	for b.Loop() {
		if budget.Count(100); budget.Spent(Coroutine) {
			budget.Renew()
		}
	}
}
