package socket

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
)

// A delivery delivers what a socket has sent before it was closed. It is a state machine on the
// socket's loop: the many that an attacker may cause take neither a coroutine nor a buffer each.
// Its methods are for that loop.
//
// It sends what is queued, half-closes, and waits until the peer has acknowledged everything. It
// reads all the while: a peer that waits for us to take what it sends may not take anything before.
// There is no event for an acknowledgement, so it has to be looked for, less and less often.
//
// The time limit is for a peer that takes nothing; one that takes something now and then gets all
// of it. When the limit has passed the connection is reset: half an answer must not look like a
// whole one.
type delivery struct {
	fd      *fd
	remote  string        // for the log
	silence time.Duration // how long the peer may take nothing

	then       house.Delivered // nil: nobody wants to know
	timer      eventloop.Timer
	pause      time.Duration // until the next look
	deadline   sched.Deadline
	left       int // bytes that the peer hadn't taken at the last look
	started    bool
	halfClosed bool
	over       bool
}

func (i *inner) Delivery() house.Delivery {
	s := (*Socket)(i)
	f := s.conn.Load()
	if f == nil || !f.closed() || !f.home.Here() {
		return nil
	}
	if d, ok := f.watcher.(*delivery); ok {
		return d
	}
	return nil
}

func (l *delivery) Then(d house.Delivered) { l.then = d }

func (i *inner) Unsent() int {
	s := (*Socket)(i)
	f, err := s.acquire(using)
	if err != nil {
		return 0
	}
	defer f.leave(using)
	return f.unsent()
}

func (f *fd) unsent() int {
	n := f.queued()
	if f.short { // TCP
		n += sysUnsent(f.number)
	}
	return n
}

func (l *delivery) Queued() int { return l.fd.queued() }

func (l *delivery) Silent() time.Duration { return l.silence - l.deadline.Until() }

func (l *delivery) Cut(why error) { l.cut(why) }

var lingerings atomic.Int64

// Lingering returns how many closed sockets of the process still deliver what they have sent.
func Lingering() int { return int(lingerings.Load()) }

// The pauses between two looks for acknowledgements.
const (
	shortestPause = time.Millisecond
	longestPause  = 100 * time.Millisecond
)

// discards is how often a lingering reads before others get their turn.
const discards = 4

// errLingerStalled is why a lingering has ended in a reset.
var errLingerStalled = errors.New("the peer took nothing of the rest in time")

// lingerOn delivers the rest of a socket that has just been closed. The caller hands over its use
// of the descriptor. The runtime waits for it.
func (s *Socket) lingerOn(f *fd) {
	l := &delivery{
		fd: f, silence: time.Duration(s.linger.Load()), pause: shortestPause,
	}
	if dialed := s.dialed.Load(); dialed != nil {
		l.remote = dialed.String()
	} else if sa, err := unix.Getpeername(f.number); err == nil {
		l.remote = s.network.addrOf(sa).String()
	}
	lingerings.Add(1)
	f.home.Runtime().Retain()
	switch {
	case l.silence <= 0:
		l.cut(nil)
	case f.home.Here():
		l.start()
	case f.home.Loop().Post(l.start) != nil:
		l.cut(runtime.ErrShutdown)
	}
}

// start begins. Those whom Close has woken leave before the first step.
func (l *delivery) start() {
	loop := l.fd.home.Loop()
	l.started, l.fd.watcher = true, l
	l.left = l.fd.unsent()
	l.deadline = sched.DeadlineAfter(l.silence)
	loop.InitTimer(&l.timer, l)
	loop.DeferTask(l)
}

// Run takes a step, Readable and Writable too: it is a task of the loop, its timer's and a Watcher.
func (l *delivery) Run()      { l.step() }
func (l *delivery) Readable() { l.step() }
func (l *delivery) Writable() { l.step() }

func (l *delivery) step() {
	if l.over {
		return
	}
	if l.fd.in(writing) { // on its way out
		l.look()
		return
	}
	switch err := l.fd.flush(); {
	case err == errWait, err == errNoBuffers:
		l.fd.slim()
	case err != nil, l.fd.unsent() == 0 && l.halfClosed:
		l.end(nil)
		return
	case !l.halfClosed:
		unix.Shutdown(l.fd.number, unix.SHUT_WR)
		l.halfClosed = true
		if l.fd.unsent() == 0 {
			l.end(nil)
			return
		}
	}
	// Who looks may have crypto/tls read, which may have begun before Close.
	if !l.fd.in(reading|looking) && !l.discard() {
		l.end(nil)
		return
	}
	l.look()
}

// discard takes what has come in, and reports whether the connection still stands.
func (l *delivery) discard() bool {
	if l.fd.exhausted() {
		return true
	}
	buf := borrow()
	defer giveBack(buf)
	for range discards {
		switch _, err := l.fd.tryRead(buf); err {
		case nil:
			l.pause = shortestPause
		case errWait, io.EOF:
			return true
		default:
			return false
		}
	}
	l.fd.home.Loop().DeferTask(l) // there may be more
	return true
}

// look renews the time limit if the peer has taken something, ends the delivery if the limit has
// passed, and sets the timer for the next look.
func (l *delivery) look() {
	if left := l.fd.unsent(); left < l.left {
		l.left = left
		l.deadline = sched.DeadlineAfter(l.silence)
	}
	switch {
	case l.deadline.Passed() && l.left == 0: // nobody is waited for but somebody on this side
		l.end(nil)
		return
	case l.deadline.Passed():
		l.cut(errLingerStalled)
		return
	case l.fd.home.Runtime().Forced():
		l.cut(runtime.ErrShutdown)
		return
	}
	l.timer.ResetClock(time.Duration(sched.DeadlineAfter(l.pause).Earlier(l.deadline)))
	l.pause = min(2*l.pause, longestPause)
}

// cut ends the delivery with a reset, and says why.
func (l *delivery) cut(why error) {
	if l.over {
		return
	}
	if why != nil {
		rt, left := l.fd.home.Runtime(), l.fd.unsent()
		if l.then == nil {
			rt.Logger().Warn("connection reset after Close: not everything was delivered",
				zap.String("peer", l.remote), zap.Int("bytes", left), zap.Error(why))
		}
		if why == runtime.ErrShutdown {
			rt.Cut(fmt.Errorf("socket: %d bytes for %s were not delivered", left, l.remote))
		}
	}
	if l.fd.out.pending.Load() || why != nil {
		sysResetOnClose(l.fd.number)
	}
	l.end(why)
}

// end gives the descriptor back.
func (l *delivery) end(cut error) {
	l.over = true
	left := 0
	if cut != nil {
		left = l.fd.unsent()
	}
	if l.started {
		l.fd.watcher = nil
		l.timer.Stop()
	}
	rt := l.fd.home.Runtime()
	l.fd.leave(using)
	lingerings.Add(-1)
	if l.then != nil {
		l.then.Delivered(left, cut)
	}
	rt.Release()
}
