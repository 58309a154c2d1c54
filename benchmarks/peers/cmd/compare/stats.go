//go:build linux

package main

// turn is when a server was measured.
type turn struct{ round, turn int }

// ratios divides one server's measurements by another's of the same turn: what disturbed the
// machine for longer than a turn is then in both.
func ratios(values, against map[turn]float64) (all []float64) {
	for when, value := range values {
		if other := against[when]; other > 0 {
			all = append(all, value/other)
		}
	}
	return all
}
