package childtest

import "runtime"

// MemoryInUse returns the bytes of heap and of stacks that this process uses once garbage is gone.
// What a garbage collection finds only clears the way for the next one: finalizers, pools.
func MemoryInUse() (heap, stack int64) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}
