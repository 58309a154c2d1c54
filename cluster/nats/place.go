package nats

import "github.com/whorl-go/whorl/cluster"

// A fate is what becomes of a message of a history.
type fate int

const (
	pass      fate = iota
	gap            // others of its subject are missing before it
	again          // it was there before: a server of a cluster has sent it on once more
	restarted      // the stream counts from the beginning
)

// A history is what is known of a stream by its messages, which come in the stream's order. What
// comes out of it is only as good as the stamps: one that is forged does harm to those who have
// subscribed to what it was published to, who would get forged messages anyway.
type history struct {
	epoch string // "" while it isn't known
	last  string // the last one that was known
	top   uint64 // the greatest offset of all subjects
	time  int64  // of the message that has it
	era   uint32 // how often the stream has begun anew
	told  uint32 // how often the Receiver was told that messages of all subjects may be lost
	anew  bool   // messages have shown that it has, and the epoch isn't known yet
}

// set takes the epoch that the stream has from here on.
func (h *history) set(epoch string) {
	if epoch != "" && h.last != "" && epoch != h.last && !h.anew {
		h.restart()
	}
	if h.epoch = epoch; epoch != "" {
		h.last, h.anew = epoch, false
	}
}

func (h *history) restart() {
	h.era++
	h.top, h.time = 0, 0
}

// place returns the position of a message of a subject.
func (h *history) place(s *subscription, m stamp) (cluster.Position, fate) {
	fate := pass
	if m.offset <= h.top && m.time > h.time {
		// Later, but not behind: this is another stream. Which one isn't known yet, and nobody may
		// come back with a position that has the wrong epoch.
		h.restart()
		h.epoch, h.anew, fate = "", true, restarted
	}
	if m.offset > h.top {
		h.top, h.time = m.offset, m.time
	}
	h.sync(s)
	if m.offset <= s.offset {
		return cluster.Position{}, again
	}
	if s.floor != 0 && m.last > s.floor {
		fate = gap
	}
	s.offset, s.floor = m.offset, max(s.floor, m.offset)
	epoch := h.epoch
	if epoch == "" && !h.anew {
		// It is looked up after a reconnection, and is hardly another one. If it is, a position with
		// the old one is recognized as such: who comes back with it is told that it can't be had.
		epoch = h.last
	}
	if epoch == "" {
		return cluster.Position{}, fate
	}
	return cluster.Position{Offset: m.offset, Epoch: epoch}, fate
}

// sync forgets of a subscription what was of another stream, and what was before a loss that the
// Receiver was told of.
func (h *history) sync(s *subscription) {
	if s.era != h.era {
		s.era, s.offset, s.floor = h.era, 0, 0
	}
	if s.told != h.told {
		s.told, s.floor = h.told, 0
	}
}

// enter takes note that nothing of a subject is missing up to a position, if nothing was received
// of it since the last loss.
func (h *history) enter(s *subscription, top cluster.Position) {
	if h.sync(s); s.floor == 0 {
		s.floor = top.Offset
	}
}

// tell takes note that the Receiver is told of a loss; s is nil if it is of all subjects.
func (h *history) tell(s *subscription) {
	if s != nil {
		s.floor = 0
	} else {
		h.told++
	}
}
