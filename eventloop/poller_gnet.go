//go:build ((linux && gnetpoll) || darwin || freebsd || netbsd || openbsd) && !poll_opt

package eventloop

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	gneterrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// poller is the poller of gnet, which knows kqueue(2), and poll(2). It is made for macOS and the
// BSDs; the build tag gnetpoll has it on Linux, too, with epoll, so that it can be tried there.
//
// gnet's Polling calls back for each event, for ever: it takes no time-out and doesn't say when a
// batch is over. So it runs as a coroutine of the loop, and a pipe of ours is among what it
// watches. A byte in that pipe stands behind everything that was ready before it was written: when
// the pipe's turn comes, the coroutine switches back to the loop.
//
// What gnet says of a descriptor is only taken as a hint to look at it, with poll(2), which tells
// the same on all systems: kqueue has an event for each direction, goes on with descriptors that
// were removed, as gnet's Delete does nothing there, and has no generations. To gnet all are
// edge-triggered; those that are level-triggered are looked at anew as long as they are ready.
type poller struct {
	gnet *netpoll.Poller
	pipe [2]int // from, to

	// The loop's.
	next   func() (struct{}, bool) // runs Polling until the pipe's turn comes; nil before the first
	stop   func()
	alarm  *time.Timer // wakes at the time-out
	look   []unix.PollFd
	events []readiness

	mu      sync.Mutex
	closed  bool
	written bool // there is a byte in the pipe
	byte    [1]byte
	watched map[int]*watch
	hints   []*watch // to be looked at
}

// watch is a descriptor that is watched. Guarded by the poller's mu.
type watch struct {
	fd         int32
	generation uint32
	events     Events
	removed    bool
	hinted     Events // what to look for; it is among the hints if not 0
}

type readiness struct {
	watch  *watch
	events Events
}

func openPoller() (*poller, error) {
	p := &poller{watched: make(map[int]*watch)}
	var err error
	if p.gnet, err = netpoll.OpenPoller(); err != nil {
		return nil, err
	}
	if err = p.openPipe(); err != nil {
		p.gnet.Close()
		return nil, err
	}
	if err = watchable(p.pipe[0]); err == nil {
		err = p.gnet.AddRead(&netpoll.PollAttachment{FD: p.pipe[0]}, true)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) openPipe() error {
	syscall.ForkLock.RLock() // macOS has no pipe2(2)
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p.pipe[:]); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	for _, fd := range p.pipe {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return nil
}

func (p *poller) close() {
	if p.stop != nil {
		p.stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.alarm != nil {
		p.alarm.Stop()
	}
	unix.Close(p.pipe[0])
	unix.Close(p.pipe[1])
	p.gnet.Close()
}

func (p *poller) poll() int {
	if p.woken() {
		p.round() // that byte stands too far in front
	}
	p.wake()
	p.round()
	return p.report()
}

func (p *poller) wait(timeout time.Duration) int {
	if n := p.report(); n > 0 {
		return n // level-triggered, they have been ready since the last time
	}
	if timeout >= 0 {
		if p.alarm == nil {
			p.alarm = time.AfterFunc(timeout, p.wake)
		} else {
			p.alarm.Reset(timeout)
		}
		defer p.alarm.Stop()
	}
	p.round()
	return p.report()
}

// round has gnet poll until the pipe's turn comes.
func (p *poller) round() {
	if p.next == nil { // here and not in openPoller, as a coroutine belongs to who may lock no thread
		p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
			p.gnet.Polling(func(fd int, event netpoll.IOEvent, _ netpoll.IOFlags) error {
				if fd != p.pipe[0] {
					p.hint(fd, netpoll.IsReadEvent(event), netpoll.IsWriteEvent(event))
				} else if p.emptyPipe(); !yield(struct{}{}) {
					return gneterrors.ErrEngineShutdown // ends Polling
				}
				return nil
			})
		})
	}
	p.next()
}

func (p *poller) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fillPipe()
}

func (p *poller) woken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written
}

// fillPipe ends the round. With mu held.
func (p *poller) fillPipe() {
	for !p.written && !p.closed {
		_, err := unix.Write(p.pipe[1], p.byte[:])
		p.written = err != unix.EINTR
	}
}

func (p *poller) emptyPipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.written {
		_, err := unix.Read(p.pipe[0], p.byte[:])
		p.written = err == unix.EINTR
	}
}

// hint notes that something has happened to a descriptor.
func (p *poller) hint(fd int, read, write bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watched[fd]
	if w == nil {
		return
	}
	events := alwaysReported
	if read {
		events |= Readable | Urgent | PeerClosed
	}
	if write {
		events |= Writable
	}
	p.lookAt(w, events)
	p.fillPipe()
}

// lookAt has the next report look for the events. With mu held.
func (p *poller) lookAt(w *watch, events Events) {
	if w.hinted == 0 {
		p.hints = append(p.hints, w)
	}
	w.hinted |= events
}

// alwaysReported is what is reported whether or not one asks for it.
const alwaysReported Events = Error | Hangup

// report looks at the descriptors that there are hints at, and returns how many are ready.
func (p *poller) report() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = p.events[:0]
	for len(p.hints) > 0 && len(p.events) == 0 {
		batch := p.hints[:min(len(p.hints), maxEvents)]
		p.ask(batch)
		for i, w := range batch {
			events := answer(p.look[i]) & (w.events | alwaysReported) & w.hinted
			w.hinted = 0
			if events != 0 && !w.removed {
				p.events = append(p.events, readiness{w, events})
			}
		}
		p.hints = slices.Delete(p.hints, 0, len(batch))
	}
	for _, ready := range p.events {
		if w := ready.watch; w.events&EdgeTriggered == 0 {
			p.lookAt(w, w.events|alwaysReported)
		}
	}
	return len(p.events)
}

// ask is poll(2) without waiting. With mu held, so that no descriptor is removed and closed
// meanwhile.
func (p *poller) ask(batch []*watch) {
	p.look = p.look[:0]
	for _, w := range batch {
		fd := w.fd
		if w.removed {
			fd = -1 // poll(2) passes over it
		}
		p.look = append(p.look, unix.PollFd{Fd: fd, Events: question(w.events)})
	}
	pollNow(p.look)
}

// sysPoll is poll(2); tests have that of macOS in its place.
var sysPoll = unix.Poll

func pollNow(look []unix.PollFd) {
	for {
		if _, err := sysPoll(look, 0); err != unix.EINTR {
			return
		}
	}
}

// pollPeerClosed is POLLRDHUP of poll(2); 0 where there is none. There a peer that has closed its
// sending side is Readable, and on macOS it hangs up, see answer.
var pollPeerClosed = map[string]int16{"linux": 0x2000, "freebsd": 0x4000}[runtime.GOOS]

// The other events have the same bits in poll(2) on all systems as in epoll_ctl(2).
const samePoll = Readable | Urgent | Writable | Error | Hangup

// question is what poll(2) is asked of a descriptor. Where it can't be asked for the end of the
// peer's direction, or says nothing of a hang-up to who asks for nothing, it is asked for input.
func question(events Events) int16 {
	q := int16(events & samePoll)
	if events&PeerClosed != 0 {
		q |= pollPeerClosed
	}
	if q == 0 || events&PeerClosed != 0 && pollPeerClosed == 0 {
		q |= int16(Readable)
	}
	return q
}

// answer returns what poll(2) says of a descriptor. A hang-up is the end of both directions on most
// systems, and of either on macOS (poll_callback in its kern/sys_generic.c); with it, POLLOUT is
// left out there and on FreeBSD, as POSIX wants it. So what has hung up is asked of writing alone.
func answer(look unix.PollFd) Events {
	events := Events(look.Revents) & samePoll
	if look.Revents&pollPeerClosed != 0 {
		events |= PeerClosed
	}
	if events&Hangup == 0 {
		return events
	}
	writing := []unix.PollFd{{Fd: look.Fd, Events: int16(Writable)}}
	pollNow(writing)
	if writing[0].Revents&(unix.POLLHUP|unix.POLLNVAL) != 0 {
		return events | Writable | PeerClosed // a write fails at once
	}
	return events&^(Hangup|Writable) | PeerClosed | Events(writing[0].Revents)&Writable
}

func (p *poller) event(i int) (fd int, generation uint32, events Events) {
	e := &p.events[i]
	return int(e.watch.fd), e.watch.generation, e.events
}

// watchable returns an error for descriptor 0 on kqueue, where gnet's poller takes its events for
// wake-ups of its own.
func watchable(fd int) error {
	if fd == 0 && runtime.GOOS != "linux" {
		return fmt.Errorf("gnet's poller can't watch descriptor 0: %w", errors.ErrUnsupported)
	}
	return nil
}

func (p *poller) add(fd int, generation uint32, events Events) error {
	if err := watchable(fd); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	w := &watch{fd: int32(fd), generation: generation, events: events}
	if err := p.subscribe(w); err != nil {
		return err
	}
	p.watched[fd] = w
	return nil
}

func (p *poller) modify(fd int, generation uint32, events Events) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watched[fd]
	if p.closed || w == nil {
		return ErrClosed
	}
	w.events = events
	p.gnet.Delete(fd) // its Mod methods can't take writing alone, nor nothing
	return p.subscribe(w)
}

// subscribe has gnet watch a descriptor, and tell what it is ready for already: epoll and kqueue do
// that when something is added, and kqueue also when it was there. With mu held.
func (p *poller) subscribe(w *watch) error {
	of := &netpoll.PollAttachment{FD: int(w.fd)}
	if w.events&Writable != 0 {
		return p.gnet.AddReadWrite(of, true)
	}
	return p.gnet.AddRead(of, true)
}

func (p *poller) remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watched[fd]; w != nil && !p.closed {
		delete(p.watched, fd)
		w.removed = true
		p.gnet.Delete(fd)
	}
}
