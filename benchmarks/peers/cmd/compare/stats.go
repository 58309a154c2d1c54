//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
)

// spread is the middle of some measurements, and the bounds of the middle half of them.
type spread struct {
	median, lower, upper float64
}

// String is for a ratio.
func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.lower, s.upper) }

// inverse is the spread of the inverse ratios.
func (s spread) inverse() spread {
	if s.lower <= 0 {
		return spread{}
	}
	return spread{median: 1 / s.median, lower: 1 / s.upper, upper: 1 / s.lower}
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	// at returns the value at a share of the way through them, in proportion between two if it falls there.
	at := func(share float64) float64 {
		whole, rest := math.Modf(share * float64(len(sorted)-1))
		low := sorted[int(whole)]
		return low + rest*(sorted[min(int(whole)+1, len(sorted)-1)]-low)
	}
	return spread{median: at(0.5), lower: at(0.25), upper: at(0.75)}
}

// turn is when a server was measured.
type turn struct{ round, turn int }

// ratios divides one server's measurements by another's of the same turn: what disturbed the machine for longer than a turn is then in both.
func ratios(values, against map[turn]float64) (all []float64) {
	for when, value := range values {
		if other := against[when]; other > 0 {
			all = append(all, value/other)
		}
	}
	return all
}
