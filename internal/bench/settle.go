package bench

import (
	"context"
	"errors"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/runtime"
)

// unfinished is the class of operations that had not ended when the run's grace was over.
const unfinished = "unfinished: no end within the grace after the run"

// neverBegun is the class of operations of an open loop that no worker had come to by then.
const neverBegun = "unfinished: never begun, as all connections were busy to the end of the grace"

var (
	errUnfinished = errors.New("its time up to then counts among the latencies")
	errNeverBegun = errors.New("the time that it had waited by then counts among the latencies")
)

// settle notes how an operation went. One that began within the run's time and ends after it counts
// in a closed loop, whose time then lasts to the end of the last one: see elapsed. In an open loop
// the rate is that of the schedule, and what ends later is among the latencies only.
func (r *run) settle(l *lane, t *trial, err error) {
	if !t.measured {
		return
	}
	now := clock.Now()
	if t.ended > 0 {
		now = t.ended
	}
	open, end := r.options.Rate > 0, r.pace.end()
	switch {
	case errors.Is(err, runtime.ErrShutdown):
		if r.interrupted { // written before the shutdown
			l.dropped++
			return
		}
		// To leave it out would hide the longest of all.
		l.waited(now - t.intended)
		l.fail(unfinished, errUnfinished)
		return
	case err != nil:
		if open && timedOut(err) {
			l.waited(now - t.intended)
		}
		l.fail(classify(err), err)
		l.last = max(l.last, min(now, end))
		if now <= end {
			l.series.at(now-r.pace.open).errors++
		}
		return
	}
	l.notePhases(t)
	record(&l.latency, now-t.intended)
	if open && now > end {
		return
	}
	l.operations.Add(1)
	l.last = max(l.last, now)
	c := l.series.at(now - r.pace.open)
	c.operations++
	c.bytes += t.bytes
	c.record(now - t.intended)
}

// timedOut reports whether an operation has failed since it took too long: then it would have taken
// longer still.
func timedOut(err error) bool {
	return errors.Is(err, runtime.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// waited notes among the latencies an operation that has not ended: it takes at least so long.
func (l *lane) waited(d time.Duration) {
	record(&l.latency, d)
	l.cut.note(d, 1)
}

// cut is of latencies that were cut off: they are at least what is noted.
type cut struct {
	count int64
	least time.Duration // the shortest of them
}

func (c *cut) note(d time.Duration, n int64) {
	if c.count == 0 || d < c.least {
		c.least = d
	}
	c.count += n
}

// join adds what another lane has.
func (c *cut) join(other cut) {
	if other.count > 0 {
		c.note(other.least, other.count)
	}
}
