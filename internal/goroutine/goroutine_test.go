package goroutine

import (
	"iter"
	"testing"
)

func TestIdentityIsTheGoroutinesOwn(t *testing.T) {
	mine := Current()
	if mine == 0 || mine != Current() {
		t.Fatalf("Current changed on one goroutine")
	}
	other := make(chan ID)
	go func() { other <- Current() }()
	if id := <-other; id == mine {
		t.Fatalf("two live goroutines share identity %x", id)
	}
}

func TestIdentityLastsOverCoroutineSwitches(t *testing.T) {
	next, stop := iter.Pull(func(yield func(ID) bool) {
		var grow func(n int) int
		grow = func(n int) int {
			var pad [256]byte
			if n == 0 {
				return int(pad[0])
			}
			return grow(n-1) + int(pad[n%256])
		}
		for i := 0; yield(Current()); i++ {
			grow(i % 100) // stacks move when they grow, the identity must not
		}
	})
	defer stop()
	first, _ := next()
	for range 1000 {
		if id, _ := next(); id != first || id == Current() {
			t.Fatalf("identity %x, want %x and not the caller's", id, first)
		}
	}
}

func BenchmarkCurrent(b *testing.B) {
	for b.Loop() {
		Current()
	}
}
