package report

import (
	"fmt"
	"math"
	"slices"
)

// Spread is the middle of some measurements, and the bounds of the middle half of them.
type Spread struct {
	Median, Lower, Upper float64 // a quarter lies below Lower, a quarter above Upper
}

// String is for a ratio.
func (s Spread) String() string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Lower,
		s.Upper)
}

// Inverse is the spread of the inverse ratios.
func (s Spread) Inverse() Spread {
	if s.Lower <= 0 {
		return Spread{}
	}
	return Spread{Median: 1 / s.Median, Lower: 1 / s.Upper, Upper: 1 / s.Lower}
}

// SpreadOf sorts the values, of which there may be none.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	// at returns the value at a share of the way through them, in proportion between two if it
	// falls there.
	at := func(share float64) float64 {
		whole, rest := math.Modf(share * float64(len(sorted)-1))
		low := sorted[int(whole)]
		return low + rest*(sorted[min(int(whole)+1, len(sorted)-1)]-low)
	}
	return Spread{Median: at(0.5), Lower: at(0.25), Upper: at(0.75)}
}
