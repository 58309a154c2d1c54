package cluster

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Each node owns its members, and tells the others who comes and goes. What it says to all has
// numbers without a hole. Whoever has missed a number, or meets a node for the first time, asks for
// all its members. A node that says nothing for Config.NodeTimeout has none any more.

// A node is what this one knows of another one, or of itself.
type node struct {
	origin
	number  uint64    // of the last that it has said to all
	changed uint64    // that of its last kindDiff
	heard   time.Time // when
	synced  bool      // members are what it says
	asked   time.Time // for them
	told    time.Time // those of this one
	moves   time.Time // until when its members may join elsewhere; zero: it doesn't hand over
	until   time.Time // it has ended, and is remembered for so long
	members map[place]*entry
	size    int // of them, in bytes

	incoming []newcomer // the parts of its members that have come
	weight   int        // their bytes
	parts    uint64     // how many
	as       uint64     // the number that they are as of

	tracks   map[string]*track // by subject
	floor    uint64            // messages up to here that have no track come too late
	beats    [4]beat           // the last ones
	suspects map[string]suspect
}

// Node is what a Hub knows of a node.
type Node struct {
	Name    string
	Members int           // how many entries it has in rooms
	Silent  time.Duration // since it was heard; 0 of the Hub's own
	Moving  bool          // it hands over, see HandOver
}

// Nodes returns the nodes that live, this one first.
func (h *Hub) Nodes() []Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.me == nil {
		return nil
	}
	own := 0
	h.ofOwn(func(*entry) { own++ })
	all := []Node{{Name: h.me.name, Members: own, Moving: h.moving()}}
	now := time.Now()
	for _, n := range h.nodes {
		all = append(all, Node{n.name, len(n.members), now.Sub(n.heard), !n.moves.IsZero()})
	}
	slices.SortFunc(all[1:], func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// node returns what is known of a node, which it is heard of for the first time if it must be; nil
// if that isn't to be listened to. The caller holds mu, as it does for all that follows.
func (h *Hub) node(from origin, now time.Time) *node {
	if from == h.me.origin {
		return h.me
	}
	if from.name == h.me.name {
		if now.Sub(h.warned) > time.Minute {
			h.warned = now
			h.log.Error("cluster: another node has the name of this one, too")
		}
		return nil
	}
	n, before := h.nodes[from.name], h.pasts[from.name]
	old := h.ended[from]
	switch {
	case before.incarnation > from.incarnation:
		return nil // of an earlier life
	case n != nil && n.incarnation == from.incarnation:
		return n
	case n != nil && n.incarnation > from.incarnation:
		return nil
	case old == nil && len(h.nodes)+len(h.ended) >= maxNodes:
		h.reject(subjectNodes, errNodes)
		return nil
	case n != nil:
		h.end(n, "it has begun anew", now)
		h.allLost(ErrNode)
	}
	if old != nil { // it was only silent
		delete(h.ended, from)
		h.nodes[from.name] = old
		old.until, old.heard = time.Time{}, now
		h.log.Info("cluster: a node has come back", zap.String("other", old.name))
		h.ask(old, now)
		return old
	}
	n = &node{origin: from, heard: now, members: map[place]*entry{}, tracks: map[string]*track{}}
	if before.incarnation == from.incarnation {
		n.floor = before.floor
	}
	h.nodes[from.name] = n
	h.log.Info("cluster: a node has come", zap.String("other", n.name))
	h.ask(n, now)
	return n
}

// known returns what is known of a node that has published something for members; nil if it is
// nothing. Such a message may be under way for longer than what its node has said to all, so that
// node may have ended.
func (h *Hub) known(from origin) *node {
	if from == h.me.origin {
		return h.me
	}
	if n := h.nodes[from.name]; n != nil && n.origin == from {
		return n
	}
	return h.ended[from]
}

// ask has a node asked for its members, once in a heartbeat.
func (h *Hub) ask(n *node, now time.Time) {
	n.synced = false
	if now.Sub(n.asked) >= h.config.Heartbeat {
		n.asked = now
		h.work.asks = append(h.work.asks, n.name)
	}
}

// answer has a node told the members of this one, as often as one asks.
func (h *Hub) answer(n *node, now time.Time) {
	if now.Sub(n.told) >= h.config.Heartbeat/2 {
		n.told = now
		h.work.state(n.name)
	}
}

// heard takes what a node says to all, or to this one.
func (h *Hub) heard(subject string, e envelope, in *reader, now time.Time) {
	var d diff
	var marks []mark
	var s state
	moves := false
	switch e.kind {
	case kindState:
		s = in.state()
	case kindDiff:
		d = in.diff()
	case kindBeat:
		marks = in.marks()
	case kindBye:
		moves = in.byte() != 0
	}
	if in.end() != nil {
		h.reject(subject, errWire)
		return
	}
	_, known := h.nodes[e.from.name]
	if !known && e.kind == kindBye {
		return
	}
	n := h.node(e.from, now)
	if n == nil {
		return
	}
	n.heard = now
	switch toThis := e.kind == kindAsk || e.kind == kindState; {
	case toThis && n == h.me:
		return
	case e.kind == kindAsk:
		h.answer(n, now)
		return
	case e.kind == kindState:
		h.learn(n, s, now)
		return
	}
	if n.number > 0 && e.number <= n.number {
		return
	}
	if h.skips(n, e.number-1, now) && n != h.me {
		h.ask(n, now)
	}
	n.number = e.number
	switch e.kind {
	case kindHello:
		n.synced = true // it has none
		n.asked = time.Time{}
		h.work.forgetAsk(n.name)
		if n != h.me {
			h.answer(n, now)
		}
	case kindDiff:
		n.changed = e.number
		if n != h.me && n.synced {
			h.apply(n, d)
		}
	case kindBeat:
		h.marked(n, marks, now)
		if last := &n.beats[0]; now.Sub(last.at) < h.config.Heartbeat/2 {
			last.number = e.before // it is of the same heartbeat
		} else {
			copy(n.beats[1:], n.beats[:])
			n.beats[0] = beat{now, e.before}
		}
	case kindBye:
		h.farewell(n, moves, now)
	}
}

// skips reports whether what a node has said to all up to a number hasn't all come, and has the
// loss told that this may be. When this node is new, others are expected to have said something
// before.
func (h *Hub) skips(n *node, number uint64, now time.Time) bool {
	if number <= n.number || n.number == 0 && now.Sub(h.began) < 3*h.config.Heartbeat {
		return false
	}
	h.allLost(ErrNode)
	return true
}

// apply changes the members of a node.
func (h *Hub) apply(n *node, d diff) {
	for _, p := range d.left {
		if e := n.members[p]; e != nil {
			n.remove(e)
			h.disappear(e)
		}
	}
	for _, c := range d.joined {
		h.admit(n, c)
	}
}

func (c *newcomer) size() int { return 200 + len(c.user) + len(c.meta) + len(c.room) }

func (n *node) remove(e *entry) {
	c := e.newcomer()
	delete(n.members, c.place)
	n.size -= c.size()
}

// admit adds a member of another node.
func (h *Hub) admit(n *node, c newcomer) {
	if n.members[c.place] != nil {
		return
	}
	if n.size+c.size() > maxForeign {
		h.reject(subjectNodes, errForeign)
		return
	}
	e := &entry{
		topic:  h.topic(subjectRoom + c.room),
		node:   n,
		number: c.number,
		user:   c.user,
		meta:   c.meta,
	}
	n.members[c.place] = e
	n.size += c.size()
	h.appear(e)
}

var errNodes = errors.New("cluster: there are too many nodes")

var errForeign = errors.New("cluster: a node has more members than there is room for")

// learn takes a part of all the members of a node.
func (h *Hub) learn(n *node, s state, now time.Time) {
	if n.synced {
		return
	}
	if s.part == 0 {
		n.incoming, n.weight, n.parts, n.as = nil, 0, 0, s.number
	}
	for i := range s.members {
		n.weight += s.members[i].size()
	}
	if s.part != n.parts || s.number != n.as || n.weight > maxForeign {
		n.incoming, n.parts = nil, 0
		return // it is asked again
	}
	n.incoming = append(n.incoming, s.members...)
	if n.parts++; n.parts < s.parts {
		return
	}
	all := n.incoming
	n.incoming, n.parts = nil, 0
	if s.number < n.changed {
		h.ask(n, now) // there were changes since
		return
	}
	n.synced = true
	h.skips(n, s.number, now)
	n.number = max(n.number, s.number)
	there := make(map[place]*newcomer, len(all))
	for i := range all {
		there[all[i].place] = &all[i]
	}
	for p, e := range n.members {
		switch c := there[p]; {
		case c == nil && !n.moves.IsZero(): // it may be on its way
		case c == nil || c.user != e.user || !bytes.Equal(c.meta, e.meta): // it may have come again
			n.remove(e)
			h.disappear(e)
		}
	}
	for _, c := range all {
		h.admit(n, c)
	}
}

// farewell is a node's word that it ends, or that its members are about to join elsewhere.
func (h *Hub) farewell(n *node, moves bool, now time.Time) {
	switch {
	case n == h.me:
	case moves && n.moves.IsZero():
		n.moves = now.Add(h.config.MoveTimeout)
		for _, e := range n.members {
			h.offer(e)
		}
	case !moves:
		h.end(n, "it has ended", now)
	}
}

// end takes a node out of those that live. Its members stay if they may yet join elsewhere, and the
// node is remembered as long as messages of it may be under way.
func (h *Hub) end(n *node, why string, now time.Time) {
	h.log.Info("cluster: a node has gone", zap.String("other", n.name), zap.String("why", why),
		zap.Int("members", len(n.members)))
	delete(h.nodes, n.name)
	h.ended[n.origin] = n
	n.until = now.Add(6 * h.config.Heartbeat)
	if n.moves.IsZero() {
		h.drop(n)
	} else if n.moves.After(n.until) {
		n.until = n.moves
	}
}

// drop takes all members of a node out.
func (h *Hub) drop(n *node) {
	for _, e := range n.members {
		h.disappear(e)
	}
	n.members, n.size, n.incoming = map[place]*entry{}, 0, nil
}

// moved ends that the members of a node may join elsewhere: they had the time. One that lives says
// who is left.
func (h *Hub) moved(n *node, now time.Time) {
	if n.until.IsZero() {
		for _, e := range n.members {
			h.withdraw(e)
		}
		h.ask(n, now)
	} else {
		h.drop(n)
	}
	n.moves = time.Time{}
}

// listen has a look at the nodes, once in a heartbeat.
func (h *Hub) listen(now time.Time) {
	late := now.Sub(h.ticked) - h.config.Heartbeat
	h.ticked = now
	for _, n := range h.nodes {
		if late > h.config.Heartbeat { // this process has stood still: what was said comes yet
			if n.heard = n.heard.Add(late); n.heard.After(now) {
				n.heard = now
			}
		}
		over := !n.moves.IsZero() && now.After(n.moves)
		switch silent := now.Sub(n.heard) >= h.config.NodeTimeout; {
		case silent:
			h.end(n, "it was silent", now)
			h.allLost(ErrNode)
		case over:
			h.moved(n, now)
		case !n.synced:
			h.ask(n, now)
		}
		n.forget(now.Add(-6 * h.config.Heartbeat))
	}
	if h.moving() && now.After(h.me.moves) {
		h.stay()
	}
	h.me.forget(now.Add(-6 * h.config.Heartbeat))
	for from, n := range h.ended {
		h.examine(n, now)
		if !n.moves.IsZero() && now.After(n.moves) {
			h.moved(n, now)
		}
		if now.After(n.until) {
			delete(h.ended, from)
			h.remember(n)
		}
	}
}

// appear adds an entry to its room.
func (h *Hub) appear(e *entry) {
	t := e.topic
	for _, other := range h.offers[seat{t, e.user}] {
		if other.node != e.node {
			other.node.remove(other)
			h.tell(t).replace(e.member(), other.member())
			h.vanish(other, e)
			return
		}
	}
	if e.index = len(t.entries); e.index == 0 {
		h.stats.Rooms++
	}
	t.entries = append(t.entries, e)
	h.tell(t).join(e.member())
	h.offer(e)
}

// A seat is what a user has in a room.
type seat struct {
	topic *topic
	user  string
}

// maxOffers is how many connections of a user in a room others may take the place of.
const maxOffers = 64

// offer has whoever joins elsewhere take the place of an entry, if its node hands over.
func (h *Hub) offer(e *entry) {
	at := seat{e.topic, e.user}
	if !e.node.moves.IsZero() && e.user != "" && len(h.offers[at]) < maxOffers {
		h.offers[at] = append(h.offers[at], e)
	}
}

// withdraw is the opposite of offer.
func (h *Hub) withdraw(e *entry) {
	if e.node.moves.IsZero() {
		return
	}
	at := seat{e.topic, e.user}
	rest := slices.DeleteFunc(h.offers[at], func(other *entry) bool { return other == e })
	if h.offers[at] = rest; len(rest) == 0 {
		delete(h.offers, at)
	}
}

// disappear takes an entry out of its room.
func (h *Hub) disappear(e *entry) {
	h.tell(e.topic).leave(e.member())
	h.vanish(e, nil)
}

// vanish is disappear without a word. heir, if there is one, takes the entry's place.
func (h *Hub) vanish(e, heir *entry) {
	t := e.topic
	h.withdraw(e)
	if e.index < 0 {
		return
	}
	if heir != nil {
		heir.index = e.index
		t.entries[e.index] = heir
		e.index = -1
		h.offer(heir)
		return
	}
	last := len(t.entries) - 1
	moved := t.entries[last]
	t.entries[e.index], moved.index = moved, e.index
	t.entries[last] = nil
	if t.entries = t.entries[:last]; last == 0 {
		h.stats.Rooms--
	}
	h.tidy(t)
}
