//go:build !amd64 && !arm64

package prefetch

// Lines begins to fetch n cache lines from the one with addr on: not without assembly for this
// architecture.
func Lines(addr uintptr, n int) {}
