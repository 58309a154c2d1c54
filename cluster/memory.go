package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"
)

// MemoryHistory is what MemoryWith keeps.
type MemoryHistory struct {
	Messages int // of each room; 0: none
	Bytes    int // of each room: 1 MiB if 0
	// Age is for how long a message is kept, and for how long a room's history is kept after its
	// last message: 5 minutes if 0.
	Age time.Duration
}

// Memory returns a Broker for one process, the default of Config: a program that is written for it
// runs on many nodes with another Broker. Further nodes in the same process, such as those of a
// test, are Peers of it.
func Memory() *MemoryBroker { return MemoryWith(MemoryHistory{}) }

// MemoryWith is Memory with a History.
func MemoryWith(history MemoryHistory) *MemoryBroker {
	if history.Bytes == 0 {
		history.Bytes = 1 << 20
	}
	if history.Age == 0 {
		history.Age = 5 * time.Minute
	}
	return &MemoryBroker{bus: &bus{
		history:     history,
		epoch:       rand.Text(),
		subscribers: map[string][]*MemoryBroker{},
		kept:        map[string]*archive{},
	}}
}

// MemoryBroker is a Broker within the process.
type MemoryBroker struct {
	bus      *bus
	receiver Receiver
	subjects map[string]struct{} // guarded by the bus's mu
	closed   bool                // guarded by the bus's mu
}

// bus is what brokers have in common that are each other's Peers.
type bus struct {
	history MemoryHistory
	epoch   string

	mu          sync.Mutex
	subscribers map[string][]*MemoryBroker // by subject
	kept        map[string]*archive        // by subject
	last        uint64                     // the offset of the last message of all
	forgotten   uint64                     // the greatest offset of those whose archive is gone
	swept       time.Time
}

// An archive are the messages of a subject that are kept.
type archive struct {
	stored  []Stored
	size    int
	last    uint64    // the offset of the last one
	at      time.Time // of the last one
	dropped uint64    // no message behind this offset was dropped
}

// Peer returns the Broker of another node in the same process.
func (m *MemoryBroker) Peer() *MemoryBroker { return &MemoryBroker{bus: m.bus} }

// Start begins.
func (m *MemoryBroker) Start(_ context.Context, r Receiver) error {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.receiver, m.subjects = r, map[string]struct{}{}
	return nil
}

// Subscribe is the Broker's.
func (m *MemoryBroker) Subscribe(subject string) error {
	if err := checkName(subject, MaxSubject); err != nil {
		return err
	}
	b := m.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	switch _, there := m.subjects[subject]; {
	case m.closed:
		return ErrDisconnected
	case there:
		return nil
	}
	m.subjects[subject] = struct{}{}
	b.subscribers[subject] = append(b.subscribers[subject], m)
	return nil
}

// Unsubscribe is the Broker's.
func (m *MemoryBroker) Unsubscribe(subject string) error {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.unsubscribe(subject)
	return nil
}

func (m *MemoryBroker) unsubscribe(subject string) {
	if _, there := m.subjects[subject]; !there {
		return
	}
	delete(m.subjects, subject)
	b := m.bus
	rest := slices.DeleteFunc(
		b.subscribers[subject],
		func(other *MemoryBroker) bool { return other == m },
	)
	if len(rest) == 0 {
		delete(b.subscribers, subject)
	} else {
		b.subscribers[subject] = rest
	}
}

// Publish calls all Receivers before it returns.
func (m *MemoryBroker) Publish(subject string, message []byte) error {
	if err := checkName(subject, MaxSubject); err != nil {
		return err
	}
	if len(message) > maxMemoryMessage {
		return fmt.Errorf("%w: %d bytes, of %d", ErrTooBig, len(message), maxMemoryMessage)
	}
	b := m.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.closed {
		return ErrDisconnected
	}
	message = slices.Clone(message)
	at := b.keep(subject, message)
	for _, other := range b.subscribers[subject] {
		other.receiver.Receive(subject, message, at)
	}
	return nil
}

// keep adds a message to its history.
func (b *bus) keep(subject string, message []byte) Position {
	if b.history.Messages == 0 || !hasHistory(subject) {
		return Position{}
	}
	now := time.Now()
	b.sweep(now)
	a := b.kept[subject]
	if a == nil {
		a = &archive{dropped: b.forgotten}
		b.kept[subject] = a
	}
	b.last++
	a.last, a.at = b.last, now
	at := Position{a.last, b.epoch}
	a.stored = append(a.stored, Stored{at, now, message})
	a.size += len(message)
	a.trim(b.history, now)
	return at
}

// trim drops what is too much, and too old.
func (a *archive) trim(most MemoryHistory, now time.Time) {
	n := 0
	for n < len(a.stored) && (len(a.stored)-n > most.Messages || a.size > most.Bytes ||
		now.Sub(a.stored[n].Time) > most.Age) {
		a.size -= len(a.stored[n].Message)
		a.dropped = a.stored[n].At.Offset
		n++
	}
	a.stored = slices.Delete(a.stored, 0, n)
}

// sweep drops the histories of rooms in which nothing has been said for a while.
func (b *bus) sweep(now time.Time) {
	if now.Sub(b.swept) < b.history.Age/4 {
		return
	}
	b.swept = now
	for subject, a := range b.kept {
		if now.Sub(a.at) > b.history.Age {
			delete(b.kept, subject)
			b.forgotten = max(b.forgotten, a.last)
		}
	}
}

// Since is the History's. Without MemoryHistory.Messages there is none: ErrUnrecoverable.
func (m *MemoryBroker) Since(
	_ context.Context, subject string, since Position, limit int,
) (stored []Stored, top Position, err error) {
	b := m.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case m.closed:
		return nil, Position{}, ErrDisconnected
	case b.history.Messages == 0 && since.Epoch == "":
		return nil, Position{}, nil
	case b.history.Messages == 0:
		return nil, Position{}, ErrUnrecoverable
	}
	top, dropped := Position{b.last, b.epoch}, b.forgotten
	a := b.kept[subject]
	if a != nil {
		a.trim(b.history, time.Now())
		top.Offset, dropped, stored = a.last, a.dropped, a.stored
	}
	if since.Epoch == "" {
		return nil, top, nil
	}
	first := sort.Search(
		len(stored),
		func(i int) bool { return stored[i].At.Offset > since.Offset },
	)
	stored = stored[first:]
	if since.Epoch != b.epoch || since.Offset > b.last || since.Offset < dropped ||
		len(stored) > limit {
		return nil, top, ErrUnrecoverable
	}
	return slices.Clone(stored), top, nil
}

const maxMemoryMessage = 16 << 20

// MaxMessage is the Broker's: 16 MiB.
func (m *MemoryBroker) MaxMessage() int { return maxMemoryMessage }

// Close ends it; the history stays with its Peers.
func (m *MemoryBroker) Close(context.Context) error {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	for subject := range m.subjects {
		m.unsubscribe(subject)
	}
	m.closed = true
	return nil
}
