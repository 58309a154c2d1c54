package eventloop

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Events says what a descriptor is ready for, or what one wants to hear of. The bits are those of
// epoll_ctl(2).
type Events uint32

const (
	Readable      Events = 0x1        // EPOLLIN
	Urgent        Events = 0x2        // EPOLLPRI: out-of-band data; not told of by kqueue(2)
	Writable      Events = 0x4        // EPOLLOUT
	Error         Events = 0x8        // EPOLLERR, always reported
	Hangup        Events = 0x10       // EPOLLHUP, always reported
	PeerClosed    Events = 0x2000     // EPOLLRDHUP: the peer has closed its sending side
	EdgeTriggered Events = 0x80000000 // EPOLLET: report changes, not states
)

// A Handler is told what its descriptor is ready for, on the loop.
type Handler interface {
	HandleEvents(Events)
}

// An Anticipator is a Handler whose events touch much memory. The loop tells it of an event that
// it is about to handle, after some others, so that the processor can fetch that memory meanwhile
// (see internal/prefetch): first with stage 0, when the Descriptor itself has been fetched, then
// with 1 and 2, when what was asked for in the stage before is there. Anticipate must change
// nothing; the event may not come to pass.
type Anticipator interface {
	Handler
	Anticipate(stage int)
}

// An EndListener is a Handler that is told when its loop has ended while its descriptor is
// registered: no event will come any more.
type EndListener interface {
	Handler

	// LoopEnded is called once, on the loop's goroutine, after the last task; on the goroutine
	// that calls Close if the loop has never run. The Descriptor is not registered any more, and
	// Post and Register fail. A panic is caught as those of all handlers are.
	LoopEnded()
}

// A Descriptor is the registration of a file descriptor with a loop. It is meant to be part of the
// type that owns the file descriptor. After Unregister it must not be registered again: an event
// may be on its way to it.
type Descriptor struct {
	loop        *Loop
	handler     Handler
	fd          int32
	generation  uint32
	registered  atomic.Bool
	anticipates bool // handler is an Anticipator
}

// ErrRegistered is returned for a file descriptor, or a Descriptor, that a loop watches already.
var ErrRegistered = errors.New("eventloop: descriptor is already registered")

// ErrNotRegistered is returned for a Descriptor that no loop watches.
var ErrNotRegistered = errors.New("eventloop: descriptor is not registered")

// Register has the loop watch fd for the events and call h on the loop when they occur. fd must
// stay open until Unregister; where the loop polls with kqueue(2) it can't be 0, which is
// errors.ErrUnsupported. Register may be called from any goroutine; the first events may then be
// handled before it returns. It fails with ErrClosed after Close, and with ErrRegistered for what
// is registered already.
func (l *Loop) Register(d *Descriptor, fd int, events Events, h Handler) error {
	if l.closing.Load() {
		return ErrClosed
	}
	if d.registered.Load() {
		return fmt.Errorf("%w: as %d", ErrRegistered, d.fd)
	}
	if fd < 0 || fd >= chunkSize*maxChunks {
		return fmt.Errorf("eventloop: descriptor %d is out of range", fd)
	}
	d.loop, d.handler, d.fd = l, h, int32(fd)
	_, d.anticipates = h.(Anticipator)
	if err := descriptors.insert(d); err != nil {
		return err
	}
	if err := l.poller.add(fd, d.generation, events); err != nil {
		if d.forget() != nil {
			return nil // the loop has ended meanwhile, and has told the handler
		}
		return fmt.Errorf("eventloop: register descriptor %d: %w", fd, err)
	}
	return nil
}

// Modify changes the events that are watched for. With EdgeTriggered set, it also reports anew
// what the descriptor is ready for. It may be called from any goroutine. It fails with
// ErrNotRegistered before Register and after Unregister.
func (d *Descriptor) Modify(events Events) error {
	if !d.registered.Load() {
		return ErrNotRegistered
	}
	if err := d.loop.poller.modify(int(d.fd), d.generation, events); err != nil {
		return fmt.Errorf("eventloop: modify descriptor %d: %w", d.fd, err)
	}
	return nil
}

// Unregister ends the watch; do it before the file descriptor is closed. Called on the loop, the
// handler is not called any more; called elsewhere, a call under way may still end. A second
// Unregister returns ErrNotRegistered, and so does one after the loop's end.
func (d *Descriptor) Unregister() error {
	if err := d.forget(); err != nil {
		return err
	}
	d.loop.poller.remove(int(d.fd))
	return nil
}

// forget takes the descriptor out of the table.
func (d *Descriptor) forget() error {
	if !d.registered.CompareAndSwap(true, false) {
		return ErrNotRegistered
	}
	descriptors.clear(d)
	d.loop.counters.descriptors.Add(-1)
	return nil
}

// descriptors finds the Descriptor of a file descriptor's number. There is one table for the
// process, because numbers are the process's: a number is watched by one loop at most. Lookups
// take no lock.
//
// A number is used again soon after it was closed, while an event for the former holder may lie in
// a batch that a loop is just working off. So each registration has a generation, which the
// poller hands back with the event.
var descriptors descriptorTable

const (
	chunkSize = 1024
	maxChunks = 4096 // times chunkSize: more than the kernel's usual fs.nr_open of 1,048,576
)

type descriptorTable struct {
	mu         sync.Mutex // guards insertion
	generation uint32     // guarded by mu
	chunks     [maxChunks]atomic.Pointer[[chunkSize]atomic.Pointer[Descriptor]]
}

func (t *descriptorTable) insert(d *Descriptor) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.loop.swept {
		return ErrClosed
	}
	chunk := t.chunks[d.fd/chunkSize].Load()
	if chunk == nil {
		chunk = new([chunkSize]atomic.Pointer[Descriptor])
		t.chunks[d.fd/chunkSize].Store(chunk)
	}
	slot := &chunk[d.fd%chunkSize]
	if slot.Load() != nil {
		return fmt.Errorf("%w: %d", ErrRegistered, d.fd)
	}
	t.generation++
	d.generation = t.generation
	d.registered.Store(true)
	d.loop.counters.descriptors.Add(1)
	slot.Store(d)
	return nil
}

func (t *descriptorTable) clear(d *Descriptor) {
	t.chunks[d.fd/chunkSize].Load()[d.fd%chunkSize].CompareAndSwap(d, nil)
}

// takeLoop takes all descriptors of a loop out that ends. What comes after that fails to register.
func (t *descriptorTable) takeLoop(l *Loop) []*Descriptor {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.swept = true
	var all []*Descriptor
	for i := range t.chunks {
		chunk := t.chunks[i].Load()
		if chunk == nil {
			continue
		}
		for j := range chunk {
			if d := chunk[j].Load(); d != nil && d.loop == l && d.forget() == nil {
				all = append(all, d)
			}
		}
	}
	return all
}

// tellEnd tells the handlers that were still registered that the loop has ended. It goes on behind
// one that has panicked.
func (l *Loop) tellEnd() {
	for l.cursor < len(l.left) {
		d := l.left[l.cursor]
		l.left[l.cursor] = nil
		l.cursor++
		if h, ok := d.handler.(EndListener); ok {
			l.turn()
			h.LoopEnded()
		}
	}
	l.left = nil
}

func (t *descriptorTable) lookup(fd int) *Descriptor {
	if fd < 0 || fd >= chunkSize*maxChunks {
		return nil
	}
	chunk := t.chunks[fd/chunkSize].Load()
	if chunk == nil {
		return nil
	}
	return chunk[fd%chunkSize].Load()
}
