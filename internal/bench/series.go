package bench

import (
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/whorl-go/whorl/internal/bench/report"
)

// A series notes what happened in each interval of a run. It has at most maxCells intervals: a run
// that becomes longer has them joined two by two.
type series struct {
	width time.Duration
	cells []cell
}

type cell struct {
	operations, errors, bytes int64
	latency                   *hdr.PackedHistogram // in microseconds; nil: none
}

const (
	firstWidth = 100 * time.Millisecond
	maxCells   = 240

	seriesHighest = int64(time.Hour / time.Microsecond)
	seriesDigits  = 2
)

// at returns the interval of a moment, counted from the beginning.
func (s *series) at(moment time.Duration) *cell {
	if s.width == 0 {
		s.width = firstWidth
	}
	moment = max(0, moment)
	for moment/s.width >= maxCells {
		s.widen()
	}
	i := int(moment / s.width)
	for len(s.cells) <= i {
		s.cells = append(s.cells, cell{})
	}
	return &s.cells[i]
}

// widen doubles the intervals.
func (s *series) widen() {
	half := (len(s.cells) + 1) / 2
	for i := range half {
		joined := s.cells[2*i]
		if 2*i+1 < len(s.cells) {
			joined.add(&s.cells[2*i+1])
		}
		s.cells[i] = joined
	}
	clear(s.cells[half:])
	s.cells = s.cells[:half]
	s.width *= 2
}

func (c *cell) record(latency time.Duration) {
	if c.latency == nil {
		c.latency = hdr.NewPacked(1, seriesHighest, seriesDigits)
	}
	c.latency.RecordValue(min(max(1, latency.Microseconds()), seriesHighest))
}

func (c *cell) add(other *cell) {
	c.operations += other.operations
	c.errors += other.errors
	c.bytes += other.bytes
	switch {
	case other.latency == nil:
	case c.latency == nil:
		c.latency = other.latency
	default:
		c.latency.Merge(other.latency)
	}
}

// join puts the series of several lanes together. They are used up.
func join(all []*series) series {
	joined := series{width: firstWidth}
	for _, s := range all {
		joined.width = max(joined.width, s.width)
	}
	for _, s := range all {
		for s.width > 0 && s.width < joined.width {
			s.widen()
		}
		for i := range s.cells {
			joined.at(time.Duration(i) * joined.width).add(&s.cells[i])
		}
	}
	return joined
}

// intervals returns the series for the report. The last interval ends with the run.
func (s *series) intervals(length time.Duration) []report.Interval {
	intervals := make([]report.Interval, 0, len(s.cells))
	for i := range s.cells {
		c := &s.cells[i]
		start := time.Duration(i) * s.width
		out := report.Interval{
			Start:      start.Seconds(),
			Seconds:    min(s.width, max(time.Millisecond, length-start)).Seconds(),
			Operations: c.operations, Errors: c.errors, Bytes: c.bytes,
		}
		if c.latency != nil {
			ns := func(us int64) float64 { return float64(us) * 1e3 }
			out.P50, out.P99 = ns(c.latency.ValueAtPercentile(50)),
				ns(c.latency.ValueAtPercentile(99))
			out.Max = ns(c.latency.Max())
		}
		intervals = append(intervals, out)
	}
	return intervals
}
