//go:build amd64 || arm64

package goroutine

// Current returns the identity of the calling goroutine.
func Current() ID
