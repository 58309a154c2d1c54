package socket

import (
	"net"
	"sync/atomic"

	"github.com/whorl-go/whorl/runtime"
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
//
// # Private and shared
//
// Nearly all sockets are only ever used on their own loop, where one coroutine runs at a time. For these the word is changed by plain loads and
// stores: two atomic operations for each packet would cost as much as finding the packet. The first user from elsewhere (a plain goroutine, a coroutine of
// another loop) makes the descriptor shared, by a function that the loop runs, so that nobody on the loop is in the middle of something; from then on all changes
// are atomic. A descriptor that is made elsewhere is shared from the beginning. What is true of the word holds for the mutex of the output, too.
type lock struct {
	home   runtime.Home
	word   uint32
	shared atomic.Bool
	ending atomic.Bool // nobody else may begin, though it isn't closed yet: its loop is still to do that
	shut   atomic.Bool // closed, to look at from anywhere
}

const (
	lockClosed  uint32 = 1 << 0
	lockReading uint32 = 1 << 1
	lockWriting uint32 = 1 << 2
	lockUser    uint32 = 1 << 3

	// The kinds of use. Two kinds that share a bit exclude each other.
	using   = lockUser
	reading = lockUser | lockReading
	writing = lockUser | lockWriting
	both    = lockUser | lockReading | lockWriting
)

// share makes the descriptor one that may be used from elsewhere.
func (l *lock) share() error {
	return l.home.Do(func() { l.shared.Store(true) })
}

// private reports whether nobody can be using the descriptor at the same time, because the caller runs on its loop and it was not used elsewhere.
func (l *lock) private() bool { return !l.shared.Load() && l.home.Here() }

// acquire begins a use. It returns net.ErrClosed, or ErrBusy if another one excludes it.
func (l *lock) acquire(kind uint32) error {
	exclusive := kind & (lockReading | lockWriting)
	if l.ending.Load() {
		return net.ErrClosed
	}
	if !l.shared.Load() {
		if l.home.Here() {
			if l.word&lockClosed != 0 {
				return net.ErrClosed
			}
			if l.word&exclusive != 0 {
				return ErrBusy
			}
			l.word += kind
			return nil
		}
		if err := l.share(); err != nil {
			return err
		}
	}
	for {
		old := atomic.LoadUint32(&l.word)
		switch {
		case old&lockClosed != 0:
			return net.ErrClosed
		case old&exclusive != 0:
			return ErrBusy
		}
		if atomic.CompareAndSwapUint32(&l.word, old, old+kind) {
			return nil
		}
	}
}

// hold begins a use of a descriptor that is ending, in a function of atHome.
func (l *lock) hold() {
	if l.shared.Load() {
		atomic.AddUint32(&l.word, using)
	} else {
		l.word += using
	}
}

// release ends a use, and reports whether it was the last one of a closed descriptor.
func (l *lock) release(kind uint32) (last bool) {
	if !l.shared.Load() {
		l.word -= kind
		return l.word == lockClosed
	}
	return atomic.AddUint32(&l.word, -kind) == lockClosed
}

// close marks the descriptor as closed and reports whether nobody uses it. It is called once, after shut was set, on the loop unless the
// descriptor is shared.
func (l *lock) close() (last bool) {
	if !l.shared.Load() {
		l.word |= lockClosed
		return l.word == lockClosed
	}
	return atomic.OrUint32(&l.word, lockClosed) == 0
}

func (l *lock) closed() bool { return l.shut.Load() }

// busy reports whether somebody reads or writes. On the loop.
func (l *lock) busy() bool {
	if !l.shared.Load() {
		return l.word&(lockReading|lockWriting) != 0
	}
	return atomic.LoadUint32(&l.word)&(lockReading|lockWriting) != 0
}

// atHome calls fn where the descriptor may be changed: here if that is on its loop, or it is shared; else the loop calls it soon.
func (l *lock) atHome(fn func()) {
	if l.shared.Load() {
		fn()
		return
	}
	l.onLoop(fn)
}

// onLoop calls fn here if that is on the loop, else the loop calls it soon, and Run doesn't return before that.
func (l *lock) onLoop(fn func()) {
	if l.home.Here() {
		fn()
		return
	}
	rt := l.home.Runtime()
	rt.Retain()
	if l.home.Loop().Post(func() { defer rt.Release(); fn() }) != nil {
		defer rt.Release()
		fn()
	}
}
