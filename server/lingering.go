package server

import (
	"fmt"
	"time"

	"github.com/whorl-go/whorl/internal/house"
	"go.uber.org/zap"
)

// A connection that has ended may still have something to deliver, which its socket does in the
// background. As long as it does it counts: for MaxConnections, for its client's address, and in
// Stats. Else a client that asks for much, has the server close, and takes nothing could have any
// number of them. They have a bound of their own, so that they can't keep all others out, either.

// lingerings are the connections of a loop that have ended and still deliver, oldest first. They
// are linked by the fields that the wheel has used.
type lingerings struct {
	first, last *Conn
	count, most int
	mostBytes   int // that all of them but one may have queued
}

// delivering counts a connection that has ended, if there is something left to deliver.
func (w *worker) delivering(c *Conn) {
	d := c.flow.House().Delivery()
	if d == nil {
		return
	}
	c.parts++
	d.Then((*events)(c))
	ls := &w.lingerings
	c.prev, c.next = ls.last, nil
	if c.prev != nil {
		c.prev.next = c
	} else {
		ls.first = c
	}
	ls.last = c
	ls.count++
	w.counters.lingering.Add(1)
	w.wind()
	if w.draining { // nobody new comes
		return
	}
	if ls.count > ls.most {
		ls.mostSilent(c).Cut(ErrLingering)
	}
	for d.Queued() > 0 && ls.count > 1 && ls.weigh() > ls.mostBytes {
		ls.mostSilent(c).Cut(ErrLingering)
	}
}

// mostSilent returns the delivery whose client has taken nothing for the longest, of the oldest
// few. It isn't that of newest, unless there is no other: what its client has taken, nobody has
// looked at yet.
func (ls *lingerings) mostSilent(newest *Conn) (found house.Delivery) {
	const few = 16
	for i, c := 0, ls.first; i < few && c != nil; i, c = i+1, c.next {
		if c == newest && found != nil {
			continue // it is the last of the list
		}
		if d := c.flow.House().Delivery(); found == nil || d.Silent() > found.Silent() {
			found = d
		}
	}
	return found
}

// Delivered is of house.Delivered.
func (e *events) Delivered(left int, cut error) {
	c := (*Conn)(e)
	w := c.worker
	ls := &w.lingerings
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		ls.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		ls.last = c.prev
	}
	c.prev, c.next = nil, nil
	ls.count--
	w.counters.lingering.Add(-1)
	if cut != nil {
		w.server.cut(c, left, cut)
	}
	c.part()
}

// weigh returns how many bytes those that deliver have queued here.
func (ls *lingerings) weigh() (queued int) {
	for c := ls.first; c != nil; c = c.next {
		queued += c.flow.House().Delivery().Queued()
	}
	return queued
}

// cut notes that not everything was delivered that was sent on a connection.
func (s *Server) cut(c *Conn, left int, why error) {
	s.cuts.connections.Add(1)
	s.cuts.bytes.Add(uint64(left))
	if now := int64(time.Since(s.began)); now > s.cuts.complain.Load() {
		s.cuts.complain.Store(now + int64(time.Second)) // before that the next line's count will do
		s.log.Warn("server: connection cut off", zap.Error(why),
			zap.Stringer("peer", c.RemoteAddr()), zap.Int("bytes not delivered", left),
			zap.Uint64("connections so far", s.cuts.connections.Load()))
	}
}

// CutError is what Shutdown returns when not everything was delivered. Unwrap returns the cause of
// its context's end, if that is why.
type CutError struct {
	Connections int // that were cut off
	Bytes       int // that these had sent, and their clients hadn't taken
	Err         error
}

func (e *CutError) Error() string {
	text := fmt.Sprintf("server: connections cut off: %d, bytes not delivered: %d",
		e.Connections, e.Bytes)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *CutError) Unwrap() error { return e.Err }
