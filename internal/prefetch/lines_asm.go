//go:build amd64 || arm64

package prefetch

// Lines begins to fetch n cache lines from the one with addr on. It is a hint, and harmless
// whatever is at the address, nothing included.
func Lines(addr uintptr, n int)
