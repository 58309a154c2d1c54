package bench

import (
	"math"
	"sync/atomic"
	"time"
)

// pacer says when operations begin. It knows no clock: points in time, on whatever clock, are given
// to it. It is set up before the workers run; take may then be called from anywhere.
type pacer struct {
	start time.Duration // the workers begin
	open  time.Duration // measuring begins: start and the warm-up
	limit int64         // operations that are measured; 0: no limit

	interval float64 // between two operations, in nanoseconds; 0: closed loop
	warm     int64   // operations of an open loop before open

	taken atomic.Int64
	close atomic.Int64 // when measuring ends, a time.Duration
}

// never is when a run without a duration ends.
const never = time.Duration(math.MaxInt64)

func newPacer(start, warmup, duration time.Duration, limit int64, rate float64) *pacer {
	p := &pacer{start: start, open: start + warmup, limit: limit}
	if rate > 0 {
		p.interval = 1e9 / rate
		p.warm = int64(math.Ceil(float64(warmup) / p.interval))
	}
	end := never
	if duration > 0 {
		end = p.open + duration
	}
	p.close.Store(int64(end))
	return p
}

// ticket is the permission to do one operation.
type ticket struct {
	intended time.Duration // when it is to begin
	measured bool          // not part of the warm-up
}

// take returns the next operation; ok is false if there is none. In a closed loop it is to begin
// now. In an open loop it may be to begin later, and whoever has taken it waits until then; or it
// was to begin already, while all workers were busy, and is begun late, even after the end: the
// latency of such an operation is what an open loop is for.
func (p *pacer) take(now time.Duration) (t ticket, ok bool) {
	end := time.Duration(p.close.Load())
	if p.interval == 0 {
		switch {
		case now >= end:
			return ticket{}, false
		case now < p.open:
			return ticket{intended: now}, true
		case p.limit > 0 && p.taken.Add(1) > p.limit:
			return ticket{}, false
		}
		return ticket{intended: now, measured: true}, true
	}
	i := p.taken.Add(1) - 1
	t = ticket{intended: p.intended(i), measured: i >= p.warm}
	if t.intended >= end || p.limit > 0 && i >= p.warm+p.limit {
		p.taken.Add(-1) // was not to be done
		return ticket{}, false
	}
	return t, true
}

func (p *pacer) intended(i int64) time.Duration {
	return p.start + time.Duration(float64(i)*p.interval)
}

// stop ends measuring now, if it hasn't ended before.
func (p *pacer) stop(now time.Duration) {
	for {
		end := p.close.Load()
		if end <= int64(now) || p.close.CompareAndSwap(end, int64(now)) {
			return
		}
	}
}

// end is when measuring ends, never if only the number of operations ends it.
func (p *pacer) end() time.Duration { return time.Duration(p.close.Load()) }

// exhausted reports whether as many operations were begun as there were to be.
func (p *pacer) exhausted() bool { return p.limit > 0 && p.taken.Load() >= p.warm+p.limit }

// missed tells each of the operations of an open loop that were to begin before the end and that
// nobody has taken: n of them at about a moment. The workers have ended.
func (p *pacer) missed(each func(intended time.Duration, n int64)) {
	end := p.end()
	if p.interval == 0 || end == never {
		return
	}
	first, after := max(p.taken.Load(), p.warm), int64(math.Ceil(float64(end-p.start)/p.interval))
	if p.limit > 0 {
		after = min(after, p.warm+p.limit)
	}
	const calls = 10_000 // at most about so many, however many operations there are
	step := max(1, (after-first)/calls)
	for i := first; i < after; i += step {
		each(p.intended(i), min(step, after-i))
	}
}
