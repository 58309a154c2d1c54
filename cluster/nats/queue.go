package nats

import (
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/cluster"
)

// A queue has what the Receiver is to be called with, in order. Who puts in doesn't wait: beyond
// the bounds messages are dropped, and in the place of those dropped of a subject is one entry
// which says so.
type queue struct {
	maxMessages, maxBytes int64

	messages, bytes atomic.Int64 // waiting, those that are in a batch included
	dropped         atomic.Uint64

	mu      sync.Mutex
	more    sync.Cond // there is an entry, or the end
	entries []entry
	held    []entry // behind what isn't known yet, see hold
	holding bool
	lost    map[string]struct{} // subjects whose last entry says that messages were dropped
	closed  bool
}

// An entry is a call of the Receiver.
type entry struct {
	subject string
	lost    error // Lost instead of Receive
	message []byte
	stamp   stamp
	epoch   *string // with lost: the history's from here on
}

// overhead is what a message takes beside its bytes: the entry, the header, nats.go's message.
const overhead = 256

func (e *entry) isMessage() bool { return e.lost == nil }

func (e *entry) size() int64 { return int64(len(e.message)) + overhead }

func newQueue(maxMessages, maxBytes int) *queue {
	q := &queue{
		maxMessages: int64(maxMessages),
		maxBytes:    int64(maxBytes),
		lost:        map[string]struct{}{},
	}
	q.more.L = &q.mu
	return q
}

// put adds entries, or says of those beyond the bounds that they are lost.
func (q *queue) put(entries ...entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	to := &q.entries
	if q.holding {
		to = &q.held
	}
	for _, e := range entries {
		if !e.isMessage() {
			if e.subject == "" || !q.says(e.subject) {
				*to = append(*to, e)
			}
			continue
		}
		size := e.size()
		if q.messages.Load() < q.maxMessages && q.bytes.Load()+size <= q.maxBytes {
			q.messages.Add(1)
			q.bytes.Add(size)
			delete(q.lost, e.subject)
			*to = append(*to, e)
			continue
		}
		q.dropped.Add(1)
		if !q.says(e.subject) {
			*to = append(*to, entry{subject: e.subject, lost: cluster.ErrSlow})
		}
	}
	q.more.Signal()
}

// says reports whether the last entry of a subject says that messages are lost, and takes note that
// it does from now on. A server that refuses all that is published doesn't fill the queue by that.
func (q *queue) says(subject string) bool {
	_, said := q.lost[subject]
	q.lost[subject] = struct{}{}
	return said
}

// hold keeps back what is put from now on, until release says what comes before it. What was kept
// back already is dropped, and that it is lost must be what release says.
//
// A connection that is made again is where it is needed. Its messages must come behind the entry
// that says that others before them may be lost, but that entry can only be made when the server
// knows the subscriptions: whoever then asks for what was missed must find all that won't be
// received.
func (q *queue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.held {
		q.done(&q.held[i])
	}
	clear(q.lost)
	q.held, q.holding = nil, true
}

func (q *queue) release(first entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.entries = append(append(q.entries, first), q.held...)
	q.held, q.holding = nil, false
	q.more.Signal()
}

// take waits for entries. The one who takes puts back the last batch, whose memory is used again.
// Its entries count until they are done. There is nothing after the end.
func (q *queue) take(last []entry) []entry {
	clear(last)
	if cap(last) > 1024 {
		last = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.entries) == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return nil
	}
	batch := q.entries
	q.entries = last[:0]
	if !q.holding { // otherwise it is of what is held
		clear(q.lost)
	}
	return batch
}

// done says that the Receiver has an entry.
func (q *queue) done(e *entry) {
	if e.isMessage() {
		q.messages.Add(-1)
		q.bytes.Add(-e.size())
	}
}

// ended tells whether it is closed.
func (q *queue) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// close drops what is in the queue.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.entries, q.held = nil, nil
	q.more.Broadcast()
}
