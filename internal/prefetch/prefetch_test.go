package prefetch

import (
	"testing"
	"unsafe"
)

// Whatever is at an address, fetching it is harmless: addresses of what has moved or gone are
// prefetched all the time.
func TestAnyAddress(t *testing.T) {
	var here [4 * Line]byte
	for _, addr := range []uintptr{0, 1, uintptr(unsafe.Pointer(&here)), ^uintptr(0), ^uintptr(0) >> 1, ^uintptr(0) >> 17} {
		for _, n := range []int{-1, 0, 1, 4, 64} {
			Lines(addr, n)
		}
	}
}

func BenchmarkLines(b *testing.B) {
	var here [20 * Line]byte
	for b.Loop() {
		Lines(uintptr(unsafe.Pointer(&here)), 20)
	}
}
