package sched

import (
	"testing"
	"unsafe"
)

func TestSizeOfCoroutine(t *testing.T) {
	if n := unsafe.Sizeof(Coroutine{}); n > 256 {
		t.Errorf("a Coroutine takes %d bytes: the next size class is 32 bytes more for each", n)
	}
	if n := unsafe.Sizeof(worker{}); n > 64 {
		t.Errorf("a worker takes %d bytes", n)
	}
}
