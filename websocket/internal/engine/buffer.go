package engine

import (
	"math/bits"
	"sync"
)

// A buffer is borrowed memory that grows by doubling as bytes come. The nil buffer is empty.
type buffer struct {
	b []byte
}

// Buffers are kept by size: 512 bytes, 1 KiB, … 16 MiB. A larger one is left to the collector.
const (
	minBufferBits = 9
	maxBufferBits = 24
)

var bufferPools [maxBufferBits - minBufferBits + 1]sync.Pool

// borrow returns an empty buffer with room for size bytes.
func borrow(size int) *buffer {
	class := max(bits.Len(uint(max(size, 1)-1)), minBufferBits)
	if class > maxBufferBits {
		return &buffer{make([]byte, 0, size)}
	}
	if b, ok := bufferPools[class-minBufferBits].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, 1<<class)}
}

// free gives b back. Nothing may use it from then on.
func (b *buffer) free() {
	if b == nil {
		return
	}
	class := bits.Len(uint(cap(b.b))) - 1
	if class > maxBufferBits || cap(b.b) != 1<<class {
		return
	}
	b.b = b.b[:0]
	bufferPools[class-minBufferBits].Put(b)
}

// grow returns b, or a larger one in its place, with room for at least n more bytes.
func (b *buffer) grow(n int) *buffer {
	if b == nil {
		return borrow(n)
	}
	if cap(b.b)-len(b.b) >= n {
		return b
	}
	larger := borrow(max(2*cap(b.b), len(b.b)+n))
	larger.b = append(larger.b, b.b...)
	b.free()
	return larger
}

// add is append.
func (b *buffer) add(p []byte) *buffer {
	if len(p) == 0 {
		return b
	}
	b = b.grow(len(p))
	b.b = append(b.b, p...)
	return b
}

// slide is add that keeps the last size bytes only.
func (b *buffer) slide(p []byte, size int) *buffer {
	p = p[max(0, len(p)-size):]
	if excess := len(b.bytes()) + len(p) - size; excess > 0 {
		b.b = b.b[:copy(b.b, b.b[excess:])]
	}
	return b.add(p)
}

func (b *buffer) bytes() []byte {
	if b == nil {
		return nil
	}
	return b.b
}
