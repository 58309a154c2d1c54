package socket

import (
	"net"
	"sync/atomic"
)

// lock says who uses a descriptor. It is one word:
//
//	bit 0   closed: nobody else may begin
//	bit 1   somebody reads
//	bit 2   somebody writes
//	bit 3…  how many use it, readers and writers included
//
// The descriptor is closed by the last user after closed was set, so its number can't be used again while somebody may still make a system
// call with it.
type lock struct{ state atomic.Uint64 }

const (
	lockClosed  uint64 = 1 << 0
	lockReading uint64 = 1 << 1
	lockWriting uint64 = 1 << 2
	lockUser    uint64 = 1 << 3

	// The kinds of use. Two kinds that share a bit exclude each other.
	using   = lockUser
	reading = lockUser | lockReading
	writing = lockUser | lockWriting
	both    = lockUser | lockReading | lockWriting
)

// acquire begins a use. It returns net.ErrClosed, or ErrBusy if another one excludes it.
func (l *lock) acquire(kind uint64) error {
	exclusive := kind & (lockReading | lockWriting)
	for {
		old := l.state.Load()
		switch {
		case old&lockClosed != 0:
			return net.ErrClosed
		case old&exclusive != 0:
			return ErrBusy
		}
		if l.state.CompareAndSwap(old, old+kind) {
			return nil
		}
	}
}

// release ends a use, and reports whether it was the last one of a closed descriptor.
func (l *lock) release(kind uint64) (last bool) {
	return l.state.Add(-kind) == lockClosed
}

// close marks the descriptor as closed. ok is false if it was; last is whether nobody uses it.
func (l *lock) close() (last, ok bool) {
	for {
		old := l.state.Load()
		if old&lockClosed != 0 {
			return false, false
		}
		if l.state.CompareAndSwap(old, old|lockClosed) {
			return old == 0, true
		}
	}
}

func (l *lock) closed() bool { return l.state.Load()&lockClosed != 0 }

// busy reports whether somebody reads or writes.
func (l *lock) busy() bool { return l.state.Load()&(lockReading|lockWriting) != 0 }
