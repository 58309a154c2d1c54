package socket

import "sync"

// bufferSize is the size of the buffers that connections borrow while they have something in them.
const bufferSize = 64 << 10

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// borrow returns a buffer of bufferSize bytes.
func borrow() []byte { return bufferPool.Get().(*[bufferSize]byte)[:] }

// giveBack takes a buffer back that borrow has given, or drops one that has grown.
func giveBack(p []byte) {
	if cap(p) == bufferSize {
		bufferPool.Put((*[bufferSize]byte)(p[:bufferSize]))
	}
}

// input is what has arrived and was not handed out yet. buf is borrowed, and nil when nothing is pending.
type input struct {
	buf        []byte
	start, end int  // buf[start:end] is unread
	eof        bool // the peer has closed its sending side
}

func (in *input) unread() []byte { return in.buf[in.start:in.end] }

// release gives the buffer back if nothing is in it.
func (in *input) release() {
	if in.start == in.end && in.buf != nil {
		giveBack(in.buf)
		in.buf, in.start, in.end = nil, 0, 0
	}
}

// room returns free space behind what is unread, with at least one byte; want is how many unread bytes the framer needs in all, 0 if it doesn't know.
func (in *input) room(want int) []byte {
	if in.buf == nil {
		in.buf = borrow()
	}
	if in.start == in.end {
		in.start, in.end = 0, 0
	}
	have := in.end - in.start
	if in.end == len(in.buf) || in.start+want > len(in.buf) {
		if size := max(have+1, want); size > len(in.buf) {
			grown := make([]byte, max(size, 2*len(in.buf)))
			copy(grown, in.unread())
			giveBack(in.buf)
			in.buf = grown
		} else {
			copy(in.buf, in.unread())
		}
		in.start, in.end = 0, have
	}
	return in.buf[in.end:]
}
