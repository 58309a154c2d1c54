package bench

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// simulate has workers do a pacer's operations on a clock of its own. serve says when an operation
// that begins at a moment ends. It returns the latencies that are measured, and how late the
// operations began.
func simulate(p *pacer, workers int,
	serve func(begin time.Duration) (end time.Duration)) (latencies, late []time.Duration) {
	free := make([]time.Duration, workers) // when each worker is free
	for {
		next := slices.Index(free, slices.Min(free))
		now := free[next]
		if now == never {
			return latencies, late
		}
		t, ok := p.take(now)
		if !ok {
			free[next] = never
			continue
		}
		begin := max(now, t.intended)
		end := serve(begin)
		free[next] = end
		if t.measured {
			latencies = append(latencies, end-t.intended)
			late = append(late, begin-t.intended)
		}
	}
}

// stalling is a server that takes a millisecond for each operation, but stands still once for a
// second.
func stalling(begin time.Duration) time.Duration {
	const stall, over = 1000 * ms, 2000 * ms
	if begin >= stall && begin < over {
		return over + ms
	}
	return begin + ms
}

func percentile(all []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func TestAnOpenLoopSeesAStallThatAClosedLoopHides(t *testing.T) {
	const workers = 10
	// A tenth of the ten seconds: as many operations as were to begin then are late, by half a
	// second on average.
	open, late := simulate(newPacer(0, 0, 10*time.Second, 0, 500), workers, stalling)
	if len(open) != 5000 {
		t.Errorf("%d operations, want 5000", len(open))
	}
	if p99 := percentile(open, 0.99); p99 < 800*ms || p99 > 1001*ms {
		t.Errorf("open loop: p99 is %v", p99)
	}
	waited := 0
	for _, d := range late {
		if d > ms {
			waited++
		}
	}
	if waited < 400 || waited > 600 {
		t.Errorf("open loop: %d operations began late", waited)
	}
	closed, _ := simulate(newPacer(0, 0, 10*time.Second, 0, 0), workers, stalling)
	if p99 := percentile(closed, 0.99); p99 != ms {
		t.Errorf("closed loop: p99 is %v: has it learnt to see stalls?", p99)
	}
}

func TestOperationsBeginOnSchedule(t *testing.T) {
	p := newPacer(100*ms, 0, time.Second, 0, 1000)
	for i := range 1000 {
		next, ok := p.take(100 * ms)
		if want := 100*ms + time.Duration(i)*ms; !ok || next.intended != want || !next.measured {
			t.Fatalf("operation %d: %v at %v, %v", i, next, ok, want)
		}
	}
	if next, ok := p.take(100 * ms); ok {
		t.Errorf("an operation after the end: %v", next)
	}
}

func TestOperationsThatWereToBeginAreBegunAfterTheEnd(t *testing.T) {
	p := newPacer(0, 0, time.Second, 0, 10)
	for range 4 {
		if _, ok := p.take(0); !ok {
			t.Fatal("none left")
		}
	}
	if next, ok := p.take(3 * time.Second); !ok || next.intended != 400*ms {
		t.Errorf("%v, %v: want the fifth", next, ok)
	}
	var missed []time.Duration
	p.missed(func(at time.Duration, n int64) {
		if n != 1 {
			t.Errorf("%d operations at %v", n, at)
		}
		missed = append(missed, at)
	})
	if want := []time.Duration{500 * ms, 600 * ms, 700 * ms, 800 * ms,
		900 * ms}; !slices.Equal(missed, want) {
		t.Errorf("nobody began %v, want %v", missed, want)
	}
}

func TestVeryManyMissedOperationsAreToldTogether(t *testing.T) {
	p := newPacer(0, 0, time.Hour, 0, 1e8)
	calls, total := 0, int64(0)
	p.missed(func(_ time.Duration, n int64) { calls, total = calls+1, total+n })
	if total != 360_000_000_000 || calls > 10_001 {
		t.Errorf("%d operations in %d calls", total, calls)
	}
	newPacer(0, 0, 0, 1e9, 1000).missed(func(time.Duration, int64) {
		t.Error("what isn't bounded by time is missed")
	})
}

func TestWarmUpIsNotMeasured(t *testing.T) {
	for _, rate := range []float64{0, 100} {
		p := newPacer(0, time.Second, 0, 50, rate)
		latencies, _ := simulate(p, 3, func(begin time.Duration) time.Duration {
			return begin + 5*ms
		})
		if len(latencies) != 50 || rate > 0 && !p.exhausted() {
			t.Errorf("rate %v: %d operations, want 50", rate, len(latencies))
		}
	}
	p := newPacer(0, time.Second, time.Second, 0, 0)
	if next, ok := p.take(time.Second - 1); !ok || next.measured {
		t.Errorf("before the end of the warm-up: %v, %v", next, ok)
	}
	if next, ok := p.take(time.Second); !ok || !next.measured {
		t.Errorf("at the end of the warm-up: %v, %v", next, ok)
	}
	if next, ok := p.take(2 * time.Second); ok {
		t.Errorf("at the end: %v", next)
	}
}

func TestStop(t *testing.T) {
	for _, rate := range []float64{0, 10} {
		p := newPacer(0, 0, time.Minute, 0, rate)
		p.take(0)
		p.stop(50 * ms)
		p.stop(time.Hour) // changes nothing
		if _, ok := p.take(60 * ms); ok || p.end() != 50*ms {
			t.Errorf("rate %v: goes on after the stop, end %v", rate, p.end())
		}
		p.missed(func(at time.Duration, _ int64) {
			t.Errorf("rate %v: %v counts as missed", rate, at)
		})
	}
}

func TestResumedShare(t *testing.T) {
	for _, share := range []float64{0, 0.1, 0.5, 0.9, 1} {
		n := 0
		for i := range int64(1000) {
			if resumes(i, share) {
				n++
			}
			if want := share * float64(i+1); float64(n) > want+1 || float64(n) < want-1 {
				t.Fatalf("share %v: %d of %d", share, n, i+1)
			}
		}
	}
}
