package server

import (
	"time"

	"github.com/whorl-go/whorl/internal/clock"
)

// tick is a time on the clock of a server, in milliseconds since it was made. It comes round after
// 49 days, so only differences of less than half of that mean something.
type tick uint32

const (
	tickLength  = time.Millisecond
	longestIdle = 24 * 24 * time.Hour // fits the difference of two ticks
)

// clock reads the server's clock.
func (s *Server) clock() tick { return tick(time.Since(s.began) / tickLength) }

// ticks is how many ticks d lasts, rounded up.
func ticks(d time.Duration) tick { return tick(min(d+tickLength-1, longestIdle) / tickLength) }

// before reports whether t comes before o.
func (t tick) before(o tick) bool { return int32(t-o) < 0 }

// wheel is a timing wheel: it keeps all connections of a loop by the time when each is due to be
// looked at. Each time-out of a connection costs one visit when it is over, and one for each turn
// of the wheel before that; packets cost nothing, as a visit looks when the last one has come.
//
// It turns in steps of a fortieth of the shortest time-out that there is, and no more than
// coarsest. A time-out comes after its time, by two steps at most.
type wheel struct {
	slots      [wheelSlots]*Conn
	step       tick
	position   uint32 // of the last slot that was visited
	at         tick   // when that was due
	unfinished bool   // and hasn't been visited to its end
	rest       *Conn  // the first of that slot that is still to be visited
	count      int
}

const (
	wheelSlots = 128
	coarsest   = 100 * time.Millisecond
	finest     = 2 * time.Millisecond
	visitTime  = time.Millisecond // then others have a turn
)

// stepFor returns the step for a time-out; 0 is none.
func stepFor(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return coarsest
	}
	return min(max(timeout/40, finest), coarsest)
}

func (w *wheel) begin(now tick) { w.at, w.unfinished, w.rest = now, false, nil }

// refine makes the steps shorter.
func (w *wheel) refine(step tick) {
	if step >= w.step {
		return
	}
	all := w.all()
	for _, c := range all {
		w.remove(c)
	}
	w.step, w.unfinished, w.rest = step, false, nil
	for _, c := range all {
		w.add(c)
	}
}

// add adds a connection by its due.
func (w *wheel) add(c *Conn) {
	steps := uint32(1)
	if w.at.before(c.due) {
		steps = uint32((c.due - w.at + w.step - 1) / w.step)
	}
	slot := uint8((w.position + steps) % wheelSlots)
	c.slot = slot
	c.prev, c.next = nil, w.slots[slot]
	if c.next != nil {
		c.next.prev = c
	}
	w.slots[slot] = c
	w.count++
}

func (w *wheel) remove(c *Conn) {
	if w.rest == c {
		w.rest = c.next
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		w.slots[c.slot] = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	w.count--
}

// advance calls fn for the connections that have become due, which must change their due and add
// them again. It returns false if it has to go on after others.
func (w *wheel) advance(now tick, fn func(c *Conn)) bool {
	until := clock.Now() + visitTime
	for {
		if !w.unfinished {
			behind := (now - w.at) / w.step
			if behind == 0 {
				return true
			}
			if behind > wheelSlots { // the loop has stood still: one turn visits them all
				w.at += (behind - wheelSlots) * w.step
			}
			w.position++
			w.at += w.step
			w.rest = w.slots[w.position%wheelSlots]
		}
		w.unfinished = !w.visit(until, fn)
		if w.unfinished {
			return false
		}
	}
}

// visit calls fn for the connections of a slot that are due, and reports whether those were all. It
// goes on where the last visit has stopped: those that aren't due stay, and may be very many.
func (w *wheel) visit(until time.Duration, fn func(c *Conn)) bool {
	for n := 1; w.rest != nil; n++ {
		c := w.rest
		w.rest = c.next
		if !w.at.before(c.due) {
			fn(c)
		}
		if n%16 == 0 && clock.Now() > until {
			return w.rest == nil
		}
	}
	return true
}

// all returns all connections.
func (w *wheel) all() []*Conn {
	all := make([]*Conn, 0, w.count)
	for _, c := range w.slots {
		for ; c != nil; c = c.next {
			all = append(all, c)
		}
	}
	return all
}
