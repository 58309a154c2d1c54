package report

import (
	"fmt"
	"math"
)

// Grouped writes a count with commas.
func Grouped(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Significant writes a number with three digits that mean something.
func Significant(x float64) string {
	switch {
	case x >= 100:
		return Grouped(int64(x + 0.5))
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 1:
		return fmt.Sprintf("%.2f", x)
	case x >= 0.1 || x <= 0:
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// Duration writes a time that is given in nanoseconds.
func Duration(ns float64) string {
	switch {
	case ns < 1e3:
		return Significant(ns) + "ns"
	case ns < 1e6:
		return Significant(ns/1e3) + "µs"
	case ns < 1e9:
		return Significant(ns/1e6) + "ms"
	default:
		return Significant(ns/1e9) + "s"
	}
}

// Size writes a number of bytes.
func Size(bytes float64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	for len(units) > 1 && (bytes >= 1024 || bytes <= -1024) {
		bytes /= 1024
		units = units[1:]
	}
	if units[0] == "B" || bytes >= 100 || bytes <= -100 || bytes == math.Trunc(bytes) {
		return fmt.Sprintf("%.0f %s", bytes, units[0])
	}
	return fmt.Sprintf("%.1f %s", bytes, units[0])
}

// Plural writes a count of things.
func Plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Grouped(n) + " " + what + "s"
}
