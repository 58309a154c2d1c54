package proc

import (
	"runtime"
	"testing"
)

func TestMachineCPU(t *testing.T) {
	busy, all := parseStat("cpu  1 2 3 40 5 6 7 8 0 0\ncpu0 …")
	if busy != 27*tick || all != 72*tick {
		t.Errorf("busy %v of %v", busy, all)
	}
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8", "cpu 1 2 x 4 5 6 7 8"} {
		if busy, all := parseStat(bad); busy != 0 || all != 0 {
			t.Errorf("%q: busy %v of %v", bad, busy, all)
		}
	}
	if busy, all := MachineCPU(); runtime.GOOS == "linux" && (busy <= 0 || busy > all) {
		t.Errorf("this machine was busy for %v of %v", busy, all)
	}
}

func TestSlab(t *testing.T) {
	if got := parseSlab("MemTotal: 9 kB\nSlab:   120 kB\nSReclaimable: 5 kB\n"); got != 120<<10 {
		t.Errorf("%d bytes", got)
	}
	for _, bad := range []string{"", "Slab: x kB", "Slab:\n"} {
		if got := parseSlab(bad); got != 0 {
			t.Errorf("%q: %d bytes", bad, got)
		}
	}
	if Slab() <= 0 && runtime.GOOS == "linux" {
		t.Error("the kernel has nothing")
	}
}

func TestMemoryIsWhatGrows(t *testing.T) {
	const n, size = 1000, 10_000
	before := TakeMemory()
	held := make([][]byte, n)
	for i := range held {
		held[i] = make([]byte, size)
	}
	each := TakeMemory().Per(n, before)
	runtime.KeepAlive(held)
	if each.Heap < size || each.Heap > 2*size || each.RSS > each.Found+size/2 {
		t.Errorf("%+v for %d bytes", each, size)
	}
}
