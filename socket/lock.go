package socket

import (
	"net"
	goruntime "runtime"
	"sync/atomic"

	"github.com/whorl-go/whorl/runtime"
)

// lock says who uses a descriptor. It is one word, changed by atomic operations only, in the
// manner of internal/poll's fdMutex:
//
//	bit 0   closed: nobody else may begin
//	bit 1   orphaned: closed because its loop has ended
//	bit 2   somebody reads
//	bit 3   somebody writes
//	bit 4   somebody looks at what was read ahead, for an instant
//	bit 5   who writes only adds to the queue, for an instant
//	bit 6…  how many use it, all of the above included
//
// The last user after closed was set closes the descriptor, so its number can't be used again
// while somebody may still make a system call with it.
type lock struct{ word atomic.Uint32 }

const (
	lockClosed   uint32 = 1 << 0
	lockOrphaned uint32 = 1 << 1
	lockReading  uint32 = 1 << 2
	lockWriting  uint32 = 1 << 3
	lockLooking  uint32 = 1 << 4
	lockQueueing uint32 = 1 << 5
	lockUser     uint32 = 1 << 6

	// The kinds of use. Two that share a bit of reading or writing exclude each other.
	using    = lockUser
	reading  = lockUser | lockReading
	writing  = lockUser | lockWriting
	both     = lockUser | lockReading | lockWriting
	looking  = lockUser | lockLooking
	queueing = lockUser | lockWriting | lockQueueing
)

// acquire begins a use. It returns net.ErrClosed, runtime.ErrShutdown if the loop has ended, or
// ErrBusy if another use excludes it. What takes an instant is waited for: a look, which doesn't
// begin while somebody reads, and queueing, which doesn't while somebody writes.
func (l *lock) acquire(kind uint32) error {
	exclusive := kind & (lockReading | lockWriting)
	if kind&lockLooking != 0 {
		exclusive = lockReading
	}
	for {
		old := l.word.Load()
		switch {
		case old&lockClosed != 0:
			return l.closedBy(old)
		case old&exclusive&lockReading != 0, old&exclusive != 0 && old&lockQueueing == 0:
			return ErrBusy
		case old&exclusive != 0,
			old&lockLooking != 0 && kind&(lockReading|lockLooking) != 0:
			goruntime.Gosched()
			continue
		}
		if l.word.CompareAndSwap(old, old+kind) {
			return nil
		}
	}
}

// release ends a use, and reports whether it was the last one of a closed descriptor.
func (l *lock) release(kind uint32) (last bool) {
	word := l.word.Add(-kind)
	return word&lockClosed != 0 && word < lockUser
}

// close marks the descriptor as closed, with lockClosed, and lockOrphaned if its loop has ended. It
// reports whether it was open until then, and if so whether nobody uses it.
func (l *lock) close(how uint32) (first, last bool) {
	for {
		old := l.word.Load()
		if old&lockClosed != 0 {
			return false, false
		}
		if l.word.CompareAndSwap(old, old|how) {
			return true, old < lockUser
		}
	}
}

func (l *lock) closed() bool { return l.word.Load()&lockClosed != 0 }

// cause returns why nobody may begin any more; nil while the descriptor is open.
func (l *lock) cause() error {
	if word := l.word.Load(); word&lockClosed != 0 {
		return l.closedBy(word)
	}
	return nil
}

func (l *lock) closedBy(word uint32) error {
	if word&lockOrphaned != 0 {
		return runtime.ErrShutdown
	}
	return net.ErrClosed
}

// in reports whether somebody is in an operation of the kind, or of one of several.
func (l *lock) in(kind uint32) bool {
	return l.word.Load()&kind&(lockReading|lockWriting|lockLooking) != 0
}
