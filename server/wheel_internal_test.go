package server

import (
	"testing"
	"time"
)

// A client isn't taken to be silent for longer than it is, wherever between two ticks its packet
// came.
func TestSilenceIsNotOverstated(t *testing.T) {
	w := &worker{server: New(Config{})}
	c := &Conn{worker: w}
	for range 20 {
		for now := time.Now(); time.Since(now) < 300*time.Microsecond; {
		}
		began, stamp := time.Now(), w.server.clock()
		c.seen.Store(uint32(stamp))
		for w.server.clock() == stamp {
		}
		silent := time.Duration(c.silent()) * tickLength
		if passed := time.Since(began); silent > passed {
			t.Fatalf("silent for %v after %v", silent, passed)
		}
	}
}

// A slot with very many connections that aren't due is visited to its end, though that takes
// longer than a turn, and those behind it get their visit.
func TestWheelGetsPastVeryManyThatAreNotDue(t *testing.T) {
	const many = 300_000
	w := wheel{step: 1}
	w.begin(0)
	conns := make([]Conn, many)
	w.add(&Conn{due: 2})
	w.add(&Conn{due: 1}) // at the end of the slot of the many
	for i := range conns {
		conns[i].due = 1 + wheelSlots // in the same slot, one turn later
		w.add(&conns[i])
	}
	visited := 0
	fn := func(c *Conn) {
		visited++
		w.remove(c)
	}
	turns := 1
	for ; !w.advance(2, fn); turns++ {
		if turns == 10_000 {
			t.Fatalf("not at the end after %d turns, %d visited", turns, visited)
		}
	}
	if visited != 2 {
		t.Errorf("%d visited of the 2 that were due", visited)
	}
}

// Whoever is next in an unfinished visit may go meanwhile.
func TestWheelGoesOnBehindOneThatHasGone(t *testing.T) {
	w := wheel{step: 1}
	w.begin(0)
	conns := make([]Conn, 100)
	for i := range conns {
		conns[i].due = 1
		w.add(&conns[i])
	}
	w.position, w.at, w.rest = 1, 1, w.slots[1]
	visited, gone := 0, 0
	fn := func(c *Conn) {
		visited++
		w.remove(c)
	}
	for !w.visit(0, fn) { // it has no time at all, so that it stops as often as it can
		gone++
		w.remove(w.rest)
	}
	if gone == 0 || visited+gone != len(conns) || w.count != 0 {
		t.Errorf("%d were visited, %d had gone before; %d are left", visited, gone, w.count)
	}
}
