package cluster

import (
	"errors"
	"slices"
	"time"
)

// How losses are noticed. A node gives all its messages one sequence of numbers, and says with each
// what number the one before it on the same subject had. A message whose predecessor hasn't come is
// behind a gap. The last one before a silence has no successor, so each heartbeat lists the
// subjects on which there were messages since the one before, and their last numbers. Heartbeats
// have numbers of their own: where one is missing, anything may be.
//
// So neither side has to remember anything of a room in which nothing has been said for a few
// heartbeats.

// A track is the last message that has come from a node on a subject.
type track struct {
	number uint64
	told   uint64 // those up to here that haven't come were told
	at     time.Time
}

// recent is the last message that this node has published on a subject.
type recent struct {
	number uint64
	beat   uint64 // the heartbeat that has listed it; 0: none yet
}

type verdict uint8

const (
	fine    verdict = iota
	late            // it has come, or one behind it has
	missing         // one before it hasn't come
	foreign         // it isn't to be listened to: of an earlier life, or a node of the same name
)

// verdict says what a message is behind those that have come. What the history has of a node that
// isn't there any more has its place there, and makes nobody of the node.
func (h *Hub) verdict(t *topic, e envelope, at Position, from source, now time.Time) verdict {
	if now.Sub(t.opened) >= 4*h.config.Heartbeat {
		t.seeds = nil // others don't remember more
	}
	n := h.known(e.from)
	if n == nil && from != stored {
		n = h.node(e.from, now)
	}
	switch {
	case n != nil && from == live && t.past(at):
		if last := n.tracks[t.subject]; last != nil && e.number > last.number {
			h.owes(t, owed{n, mark{t.subject, e.number}}, now) // its place is behind others' by now
		}
		return late
	case n != nil: // the track of what was stored may have been forgotten meanwhile
		return n.judge(t, e, from, from != stored && h.expects(n, t, e.before, now))
	case from != stored:
		return foreign
	case t.past(at):
		return late
	}
	return fine
}

// past reports whether something at a position, or behind it, was delivered.
func (t *topic) past(at Position) bool {
	return at.Epoch != "" && at.Epoch == t.at.Epoch && at.Offset <= t.at.Offset
}

// judge says what a message is behind those that have come. note notes it.
func (n *node) judge(t *topic, e envelope, from source, expected bool) verdict {
	last, seed := n.tracks[t.subject], t.seeds[e.from]
	switch {
	case last == nil && e.number <= n.floor && from == stored:
		return fine
	case last == nil && e.number <= n.floor:
		return late // it was told to be missing, and its successors may have come
	case last == nil && (expected || seed > 0 && e.before > seed):
		return missing
	case last == nil:
		return fine
	case e.number <= last.number:
		return late
	case e.before > max(last.number, last.told):
		return missing
	}
	return fine
}

func (n *node) note(subject string, number uint64, now time.Time) {
	t := n.track(subject)
	t.number, t.at = number, now
}

func (n *node) track(subject string) *track {
	t := n.tracks[subject]
	if t == nil {
		t = new(track)
		n.tracks[subject] = t
	}
	return t
}

// forget drops the tracks that aren't needed any more: of subjects on which nothing has come for
// some heartbeats, so that their last message was listed, and nothing refers to it. What comes yet
// of that time, such as from a server that has stood still, is too late.
func (n *node) forget(before time.Time) {
	for subject, t := range n.tracks {
		if t.at.Before(before) {
			n.floor = max(n.floor, t.number)
			delete(n.tracks, subject)
		}
	}
}

// A suspect is a message that hasn't come, as a heartbeat says that did.
type suspect struct {
	number uint64
	at     time.Time
}

// marked compares what a node says it has published with what has come. What hasn't may be under
// way yet, so it is looked at again with the next heartbeat, which may have come in parts.
func (h *Hub) marked(n *node, marks []mark, now time.Time) {
	h.examine(n, now)
	for _, m := range marks {
		t := h.topics[m.subject]
		if t != nil && t.local > 0 && n.behind(m) && h.expects(n, t, m.number, now) {
			if n.suspects == nil {
				n.suspects = map[string]suspect{}
			}
			n.suspects[m.subject] = suspect{m.number, now}
		}
	}
}

// examine looks again at what hadn't come when a heartbeat of a node did.
func (h *Hub) examine(n *node, now time.Time) {
	for subject, s := range n.suspects {
		if now.Sub(s.at) < h.config.Heartbeat/2 {
			continue
		}
		delete(n.suspects, subject)
		m := mark{subject, s.number}
		switch t := h.topics[subject]; {
		case t == nil || t.local == 0 || !n.behind(m):
		case h.recover(t, ErrMissed):
			t.recovery.marks = append(t.recovery.marks, owed{n, m})
		default:
			h.owes(t, owed{n, m}, now)
		}
	}
}

// A past is what is remembered of a node that was dropped.
type past struct {
	incarnation, floor uint64
}

// remember notes up to which number messages of a node that is dropped come too late.
func (h *Hub) remember(n *node) {
	floor := n.floor
	for _, t := range n.tracks {
		floor = max(floor, t.number)
	}
	if len(h.pasts) >= maxNodes {
		for name := range h.pasts { // any
			delete(h.pasts, name)
			break
		}
	}
	h.pasts[n.name] = past{n.incarnation, floor}
}

// A beat says that what has greater numbers was published behind it.
type beat struct {
	at     time.Time
	number uint64
}

// expects reports whether a message has to have come of which nothing else is known than that its
// node remembers it: it was published when the broker knew for certain that this node listens. It
// is given a heartbeat for that. A node remembers what it has published for less than four.
func (h *Hub) expects(n *node, t *topic, number uint64, now time.Time) bool {
	if !t.subscribed || number == 0 {
		return false
	}
	return now.Sub(t.opened) >= 4*h.config.Heartbeat ||
		slices.ContainsFunc(n.beats[:], func(b beat) bool {
			return b.at.Sub(t.opened) >= h.config.Heartbeat && number > b.number
		})
}

// An owed is a message that has to have come when a recovery is over.
type owed struct {
	from *node
	mark
}

// owes has a message told that hasn't come, once.
func (h *Hub) owes(t *topic, o owed, now time.Time) {
	if o.from.behind(o.mark) {
		track := o.from.track(o.subject)
		track.told, track.at = o.number, now
		h.gap(t, ErrMissed)
	}
}

// behind reports whether a message has not come yet.
func (n *node) behind(m mark) bool {
	t := n.tracks[m.subject]
	return t == nil || max(t.number, t.told) < m.number
}

// lost begins to recover what a topic has lost, or has it told.
func (h *Hub) lost(t *topic, why error) {
	if t.local > 0 && (!h.recover(t, why) || errors.Is(why, ErrNode)) {
		h.gap(t, why) // with ErrNode it may never have got into the history
	}
}

// allLost says so of all topics.
func (h *Hub) allLost(why error) {
	for _, t := range h.topics {
		h.lost(t, why)
	}
}

// Lost is what the Broker tells.
func (r *receiver) Lost(subject string, why error) {
	h := (*Hub)(r)
	h.deliver.Lock()
	defer h.deliver.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.Lost++
	if subject == "" {
		h.work.failing = false
		h.allLost(why)
	} else if t := h.topics[subject]; t != nil {
		h.lost(t, why)
	} // what is lost of the nodes' own words, their numbers show
	h.signal()
}
