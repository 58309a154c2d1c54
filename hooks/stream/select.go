package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Select looks in two steps: what this process has read or decrypted already, and then, with one
// poll(2) that doesn't wait, what the kernel says of all the others. So it tells the state at the
// moment of the look, whatever edges the loops have seen, and reads nothing of a plaintext stream:
// a client's hello stays where EnableCrypto wants it. With TLS the kernel's word is not enough,
// since part of a record is no data: there it decrypts into the socket's buffer.
//
// Where nothing is ready it parks. Each stream of which a select has ever waited tells, by
// socket.Watch, whatever happens to its socket to the select that has its direction at the time; so
// it doesn't matter which loop the socket lives on, and which loop or goroutine waits. It is told
// what has happened since it began to look, so nothing falls between the look and the wait.

// Ready has the streams that Select has found ready, under the keys that they were given by.
type Ready[K comparable] struct {
	Read, Write, Except map[K]*Stream
}

// Count returns how many there are in all; one that is in several of the maps counts several times,
// as in PHP.
func (r Ready[K]) Count() int { return len(r.Read) + len(r.Write) + len(r.Except) }

// Select waits until one of the streams is ready, and returns all that are: those of read to
// receive or accept something, or whose peer has closed; those of write to take something; those of
// except for out-of-band data to receive. Data that has been read ahead or decrypted counts. Keys
// may be of any type; for a slice take a map of its indexes. The maps aren't changed, and any of
// them may be nil. Of a line that Gets or GetLine have found incomplete, only what has come since
// then counts.
//
// With timeout 0 it doesn't wait; with a negative one it waits for ever. When the time is over,
// nothing is ready and there is no error.
//
// A stream that is being opened is not ready, see [Stream]. One that was closed is an error,
// net.ErrClosed, also while Select waits; one that somebody else reads, writes or selects in the
// same direction is socket.ErrBusy. Errors name the key. If ctx is done first, the error is that of
// ctx.
//
// The streams may live on any loop, and Select may be called from any coroutine or goroutine. It is
// cheapest in a coroutine of the streams' loop. What it costs grows with the number of streams, as
// it does with select(2): thousands of connections are better served by a coroutine each.
func Select[K comparable](
	ctx context.Context,
	read, write, except map[K]*Stream,
	timeout time.Duration,
) (Ready[K], error) {
	total := len(read) + len(write) + len(except)
	items := make([]selectItem, 0, total)
	keys := make([]K, 0, total)
	for _, set := range []struct {
		streams map[K]*Stream
		kind    selectKind
	}{{read, selectRead}, {write, selectWrite}, {except, selectExcept}} {
		for key, s := range set.streams {
			items = append(items, selectItem{stream: s, kind: set.kind})
			keys = append(keys, key)
		}
	}
	var ready Ready[K]
	at, err := selectStreams(ctx, items, timeout)
	switch {
	case err != nil && at >= 0:
		return ready, fmt.Errorf("stream select: key %v: %w", keys[at], err)
	case err != nil:
		return ready, fmt.Errorf("stream select: %w", err)
	}
	for i, item := range items {
		if !item.ready {
			continue
		}
		into := [...]*map[K]*Stream{selectRead: &ready.Read, selectWrite: &ready.Write, selectExcept: &ready.Except}[item.kind]
		if *into == nil {
			*into = make(map[K]*Stream)
		}
		(*into)[keys[i]] = item.stream
	}
	return ready, nil
}

// selectKind is which of its three sets a stream is in.
type selectKind uint8

const (
	selectRead selectKind = iota
	selectWrite
	selectExcept
)

// selectItem is a stream in one of the sets.
type selectItem struct {
	stream *Stream
	kind   selectKind
	ready  bool
}

// side is the direction that the select has: out-of-band data is part of what arrives.
func (i *selectItem) side() *streamSide {
	if i.kind == selectWrite {
		return &i.stream.wr
	}
	return &i.stream.rd
}

// selection is one call of Select. Others keep it for a moment longer than that lasts.
type selection struct {
	// slot is nil (nobody waits, nothing has happened), &selectFired (something has happened since
	// the last look) or who waits.
	slot atomic.Pointer[sched.Waiter]
}

var selectFired sched.Waiter

var reasonSelect = sched.NewReason("stream select")

// fire ends the wait, or the next one.
func (s *selection) fire() {
	if w := s.slot.Swap(&selectFired); w != nil && w != &selectFired {
		w.Wake()
	}
}

// Remove makes a selection a sched.Queue.
func (s *selection) Remove(w *sched.Waiter) bool { return s.slot.CompareAndSwap(w, nil) }

// wait waits for fire, unless there was one since slot was cleared.
func (s *selection) wait(ctx context.Context, deadline sched.Deadline) error {
	w, err := sched.Enter(ctx)
	if err != nil {
		return err
	}
	defer w.Leave()
	if !s.slot.CompareAndSwap(nil, w) {
		return nil
	}
	return w.Wait(ctx, reasonSelect, deadline, s)
}

// streamWatcher is the house.Watcher of a stream: it tells the selects that have the stream, and
// keeps none that was forgotten.
type streamWatcher struct{ stream weak.Pointer[Stream] }

func (w streamWatcher) Readable() {
	if s := w.stream.Value(); s != nil {
		s.rd.notify()
	}
}

func (w streamWatcher) Writable() {
	if s := w.stream.Value(); s != nil {
		s.wr.notify()
	}
}

// selectStreams marks the items that are ready. With an error it returns the number of the item
// that is wrong, -1 if it is none of them.
func selectStreams(
	ctx context.Context,
	items []selectItem,
	timeout time.Duration,
) (at int, err error) {
	if len(items) == 0 {
		return -1, fmt.Errorf("there are no streams: %w", syscall.EINVAL)
	}
	sel := new(selection)
	defer sel.release(items)
	if at, err := sel.claim(items); err != nil {
		return at, err
	}
	deadline := sched.DeadlineAfter(timeout)
	polls := make([]unix.PollFd, len(items))
	for {
		sel.slot.Store(nil)
		found, at, err := look(items, polls)
		if err != nil {
			return at, err
		}
		if found || timeout == 0 {
			sched.Spend(ctx, 0)
			return 0, ctx.Err()
		}
		if more, at, err := watchAll(items); err != nil {
			return at, err
		} else if more {
			continue // something may have happened before
		}
		switch err := sel.wait(ctx, deadline); {
		case err == runtime.ErrTimeout:
			return 0, nil
		case err != nil:
			return -1, err
		}
	}
}

// claim has the directions of all items for the select.
func (s *selection) claim(items []selectItem) (at int, err error) {
	for i := range items {
		if items[i].stream == nil {
			return i, fmt.Errorf("there is no stream: %w", syscall.EINVAL)
		}
		side := items[i].side()
		if side.selector.Load() == s {
			continue // under another key, or in read and in except
		}
		if !side.busy.CompareAndSwap(false, true) {
			if items[i].stream.closed.Load() {
				return i, net.ErrClosed
			}
			return i, socket.ErrBusy
		}
		side.selector.Store(s)
	}
	return 0, nil
}

// release gives back what claim has got.
func (s *selection) release(items []selectItem) {
	for i := range items {
		if items[i].stream == nil {
			return
		}
		if side := items[i].side(); side.selector.CompareAndSwap(s, nil) {
			side.leave()
		}
	}
}

// watchAll has the sockets tell what happens to them, those that don't yet and have something to
// tell. It reports whether there were any.
func watchAll(items []selectItem) (more bool, at int, err error) {
	for i := range items {
		s := items[i].stream
		if s.watched.Load() || s.opening.Load() != nil {
			continue
		}
		more = true
		if err := s.watch(); err != nil {
			return more, i, err
		}
	}
	return more, 0, nil
}

// watch has the socket tell streamWatcher what happens to it.
func (s *Stream) watch() error {
	home, ok := inner(s.socket).Home()
	if !ok {
		return s.unwatched(net.ErrClosed) // before it had a descriptor
	}
	var done runtime.WaitGroup
	done.Add(1)
	set := func() {
		defer done.Done()
		if inner(s.socket).Watch(streamWatcher{weak.Make(s)}) == nil {
			s.watched.Store(true)
		}
	}
	if home.Here() {
		set()
	} else if home.Loop().Post(set) == nil {
		if err := done.Wait(context.Background()); err != nil {
			return s.unwatched(err)
		}
	}
	switch {
	case s.watched.Load():
		return nil
	case !s.socket.Connected():
		return s.unwatched(net.ErrClosed)
	}
	return s.unwatched(runtime.ErrShutdown) // its loop has ended
}

// unwatched returns the reason why a socket couldn't be watched, if it isn't that the stream has
// ended: select sees that itself. Streams end before their sockets are closed.
func (s *Stream) unwatched(why error) error {
	if s.ended() != nil {
		return nil
	}
	return why
}

// look marks the items that are ready now, and reports whether any is.
func look(items []selectItem, polls []unix.PollFd) (found bool, at int, err error) {
	for i := range items {
		item := &items[i]
		polls[i] = unix.PollFd{Fd: -1}
		if item.stream.closed.Load() {
			return false, i, net.ErrClosed
		}
		var known bool
		item.ready, known = item.atHand()
		if !known {
			polls[i] = unix.PollFd{Fd: int32(item.stream.socket.FD()), Events: item.events()}
		}
	}
	if err := pollAll(polls); err != nil {
		return false, -1, err
	}
	for i := range items {
		item := &items[i]
		if polls[i].Revents != 0 {
			// Unless the stream was closed meanwhile, its number was its own all the time.
			if item.stream.socket.FD() == int(polls[i].Fd) {
				item.ready = item.confirmed(polls[i].Revents)
			} else {
				item.ready = true
			}
			if item.stream.closed.Load() {
				return false, i, net.ErrClosed
			}
		}
		found = found || item.ready
	}
	return found, 0, nil
}

// atHand tells, if it is known, whether the item is ready without asking the kernel.
func (i *selectItem) atHand() (ready, known bool) {
	s := i.stream
	if s.ended() != nil || s.opening.Load() == nil && s.socket.FD() < 0 {
		return true, true // the operation returns the reason at once
	}
	if o := s.crypto.Load(); o != nil {
		return o.ended.Load(), true // whether EnableCrypto has something to say
	}
	switch {
	case s.opening.Load() != nil:
		return false, true
	case i.kind == selectRead && s.socket.Buffered() > s.partial:
		return true, true
	case i.kind == selectRead && !s.dry && s.decrypts():
		ready = s.decrypted()
		return ready, ready
	}
	return false, false
}

// events returns what to ask the kernel for.
func (i *selectItem) events() int16 {
	return [...]int16{selectRead: unix.POLLIN, selectWrite: unix.POLLOUT, selectExcept: unix.POLLPRI}[i.kind]
}

// confirmed reports whether what the kernel says makes the item ready.
func (i *selectItem) confirmed(events int16) bool {
	const failed = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL
	switch {
	case i.kind == selectExcept:
		return events&unix.POLLPRI != 0
	case i.kind == selectRead && i.stream.decrypts():
		return i.stream.decrypted()
	}
	return events&(i.events()|failed) != 0
}

// decrypts is whether what the kernel has is not yet what the stream reads. Behind part of a line
// nothing can be decrypted to look at; whoever waits for the rest of the line does that.
func (s *Stream) decrypts() bool {
	return s.partial == 0 && s.secure.Load()
}

// decrypted reports whether there are decrypted bytes to read, or the end. It decrypts what has
// arrived.
func (s *Stream) decrypted() bool {
	var one [1]byte
	_, err := s.socket.Peek(one[:])
	s.dry = errors.Is(err, socket.ErrWouldBlock)
	s.countUnread()
	return !s.dry
}

// pollAll asks the kernel what is ready, and doesn't wait. It asks in parts, since poll(2) takes no
// more than the process may have descriptors.
func pollAll(polls []unix.PollFd) error {
	for part := range slices.Chunk(polls, 1024) {
		for {
			_, err := unix.Poll(part, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return os.NewSyscallError("poll", err)
			}
			break
		}
	}
	return nil
}
