//go:build race

package engine

// With the race detector a sync.Pool forgets some of what it is given, so that allocations can't be
// counted.
func init() { raceDetector = true }
