package socket

import (
	"bytes"
	"sync"
)

// Buffers come in two sizes. A connection borrows one while it has something in it: a small one,
// unless what came last was more than that. So a hundred thousand connections that have a short
// message each hold a few KiB each, and the few that are busy read 64 KiB at a time.
const (
	bufferSize      = 64 << 10
	smallBufferSize = 4 << 10
)

var (
	bufferPool      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	smallBufferPool sync.Pool
)

// borrow returns a buffer of bufferSize bytes.
func borrow() []byte { return bufferPool.Get().(*[bufferSize]byte)[:] }

// borrowFor returns a buffer for n bytes: a small one if they fit, else one of bufferSize.
func borrowFor(n int) []byte {
	if n > smallBufferSize {
		return borrow()
	}
	if small := smallAtHand(); small != nil {
		return small
	}
	return new([smallBufferSize]byte)[:]
}

// smallAtHand returns a small buffer, or nil if one would have to be made.
func smallAtHand() []byte {
	if small, ok := smallBufferPool.Get().(*[smallBufferSize]byte); ok {
		return small[:]
	}
	return nil
}

// giveBack takes a buffer back that was borrowed, or drops one that has grown.
func giveBack(p []byte) {
	switch cap(p) {
	case bufferSize:
		bufferPool.Put((*[bufferSize]byte)(p[:bufferSize]))
	case smallBufferSize:
		smallBufferPool.Put((*[smallBufferSize]byte)(p[:smallBufferSize]))
	}
}

// input is what has arrived and was not handed out yet. buf is borrowed, and nil when nothing is
// pending.
type input struct {
	buf        []byte
	start, end int  // buf[start:end] is unread
	eof        bool // the peer has closed its sending side
	large      bool // what came last would fill a good part of a small buffer
	filled     bool // what came last has filled the buffer: what comes next belongs to it
	message    bool // a whole message of a datagram socket is unread; it may be empty
	index      *index
}

// index tells where packets end that were found before they are asked for. It is borrowed, as the
// buffer is, which doesn't change as long as there is one.
type index struct {
	base       int // of ends, in the buffer
	next, size int // ends[next:size] are still to be handed out
	ends       [124]uint32
}

var indexPool = sync.Pool{New: func() any { return new(index) }}

// indexFrom is how much must be unread before it is searched for packets as a whole.
const indexFrom = 512

// indexed hands out the next packet of the index.
func (in *input) indexed() []byte {
	x := in.index
	start, end := in.start, x.base+int(x.ends[x.next])
	in.start = end
	if x.next++; x.next == x.size {
		in.giveIndex()
	}
	return in.buf[start:end:end]
}

// due reports whether it is time to count the packets that were handed out of the index since the
// last time; without one there are few.
func (in *input) due() bool { return in.index == nil || in.index.next%spendEvery == 0 }

// giveIndex gives the index back.
func (in *input) giveIndex() {
	indexPool.Put(in.index)
	in.index = nil
}

// find fills the index, and reports whether it has found something.
func (in *input) find(f indexer) bool {
	x := indexPool.Get().(*index)
	x.base, x.next = in.start, 0
	if x.size = f.Index(in.unread(), x.ends[:]); x.size == 0 {
		indexPool.Put(x)
		return false
	}
	in.index = x
	return true
}

// indexer is packet.Indexer.
type indexer interface {
	Index(data []byte, ends []uint32) int
}

func (in *input) unread() []byte { return in.buf[in.start:in.end] }

// release gives the buffer back if nothing is in it.
func (in *input) release() {
	if in.start == in.end && in.buf != nil {
		giveBack(in.buf)
		in.buf, in.start, in.end = nil, 0, 0
	}
}

// shrink keeps what is unread in no more than it takes: nothing may come for long.
func (in *input) shrink() {
	if rest := in.unread(); len(rest) > 0 && len(rest) < len(in.buf)/2 {
		rest = bytes.Clone(rest)
		giveBack(in.buf)
		in.buf, in.start, in.end = rest, 0, len(rest)
	}
	in.release()
}

// detach leaves an empty buffer to whoever has the last packet from it.
func (in *input) detach() {
	if in.start == in.end {
		in.buf, in.start, in.end = nil, 0, 0
	}
}

// received notes that n bytes have come into what room has returned.
func (in *input) received(n int) {
	in.end += n
	in.large = in.filled || n > smallBufferSize/2
	in.filled = in.end == len(in.buf)
}

// room returns free space behind what is unread, at least one byte. want is how many unread bytes
// the framer needs in all, 0 if it doesn't know. That may be what the peer has declared, so the
// buffer grows with what has arrived: to four times as much at most.
func (in *input) room(want int) []byte {
	have := in.end - in.start
	return in.roomFor(max(have+1, min(want, max(smallBufferSize, 4*have))))
}

// roomFor is room for size unread bytes in all, which have arrived.
func (in *input) roomFor(size int) []byte {
	have := in.end - in.start
	if have == 0 {
		in.start, in.end = 0, 0
	}
	if in.large {
		size = max(size, bufferSize)
	}
	switch {
	case in.buf == nil && size <= bufferSize:
		in.buf = borrowFor(size)
	case size > len(in.buf):
		in.move(size)
	case in.end == len(in.buf) || in.start+size > len(in.buf):
		copy(in.buf, in.unread())
		in.start, in.end = 0, have
	}
	return in.buf[in.end:]
}

// move puts what is unread into a buffer of at least size bytes.
func (in *input) move(size int) {
	var grown []byte
	if size <= bufferSize {
		grown = borrow()
	} else {
		grown = make([]byte, max(size, 2*len(in.buf)))
	}
	n := copy(grown, in.unread())
	giveBack(in.buf)
	in.buf, in.start, in.end = grown, 0, n
}
