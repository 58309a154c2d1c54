package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// Conn is a connection that can be a member: a *websocket.Conn, established, of a server or a
// client, or a *server.Conn.
type Conn interface {
	AtEnd(fn func())
}

var errConn = errors.New("cluster: neither a *websocket.Conn nor a *server.Conn")

// A member is a connection of this node, with a user or in a room.
type member struct {
	conn    Conn
	number  uint64
	user    *topic // nil: none
	entries []*entry
	ended   bool
}

// An entry is a member of a room, here or on another node.
type entry struct {
	topic  *topic
	node   *node
	number uint64
	user   string
	meta   []byte
	index  int // in the topic's entries; -1: another entry has taken its place
}

// Member is a member of a room.
type Member struct {
	ID
	User string // what Bind has set, "" if nothing
	Meta []byte // what Join was given; not to be changed
	// Replaces is, in what OnPresence is told of who has joined, the member whose place this one
	// takes as it has moved, see Hub.HandOver: that one isn't told to have left.
	Replaces ID
}

func (e *entry) member() Member {
	return Member{ID: ID{e.node.name, e.number}, User: e.user, Meta: e.meta}
}

func (e *entry) newcomer() newcomer {
	return newcomer{place{e.number, e.topic.name()}, e.user, e.meta}
}

// Bind says whose connection it is, for ToUser, Disconnect and Members. It has to come before Join,
// and can't be changed. It ends with the connection.
func (h *Hub) Bind(c Conn, user string) error {
	if err := CheckName(user); err != nil {
		return err
	}
	return h.with(c, func(m *member) error {
		switch {
		case m.user != nil && m.user.user() == user:
			return nil
		case m.user != nil || len(m.entries) > 0:
			return ErrBound
		}
		t := h.topic(subjectUser + user)
		if err := h.enter(t, c); err != nil {
			return err
		}
		m.user = t
		t.conns = append(t.conns, m)
		return nil
	})
}

// Join has a connection join a room. Members shows meta to others, with the user of Bind; it is
// copied. The connection leaves the room with its end, or by Leave; a second Join changes nothing.
// Broadcasts of this node that come after it reach the connection; those of other nodes as soon as
// the Broker knows.
func (h *Hub) Join(c Conn, room string, meta []byte) error {
	if err := h.fits(room, meta); err != nil {
		return err
	}
	return h.with(c, func(m *member) error { return h.join(m, room, meta) })
}

func (h *Hub) fits(room string, meta []byte) error {
	h.mu.Lock()
	most := h.config.MaxMeta
	if h.phase == phaseRunning {
		most = min(most, h.limits.meta)
	}
	h.mu.Unlock()
	if len(meta) > most {
		return fmt.Errorf("%w: %d bytes of meta, of %d", ErrTooBig, len(meta), most)
	}
	return CheckName(room)
}

// with calls fn, with mu held, for the member that a connection is, or becomes if fn has no error.
func (h *Hub) with(c Conn, fn func(m *member) error) error {
	m, fresh, err := h.enlist(c, fn)
	if fresh && err == nil {
		c.AtEnd(func() { h.gone(m) }) // at once if it has ended meanwhile
	}
	h.signal()
	return err
}

func (h *Hub) enlist(c Conn, fn func(m *member) error) (m *member, fresh bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock() // also after a panic: c may be a nil pointer
	if h.phase != phaseRunning {
		return nil, false, ErrNotRunning
	}
	m = h.members[c]
	if fresh = m == nil; fresh {
		h.last++
		m = &member{conn: c, number: h.last}
	}
	if err = fn(m); fresh && err == nil {
		h.members[c], h.numbers[m.number] = m, m
	}
	return m, fresh, err
}

// join is Join with mu held.
func (h *Hub) join(m *member, room string, meta []byte) error {
	t := h.topic(subjectRoom + room)
	switch {
	case m.isIn(t):
		return nil
	case len(m.entries) >= h.config.MaxRooms:
		h.tidy(t)
		return ErrTooMany
	}
	if err := h.enter(t, m.conn); err != nil {
		return err
	}
	e := &entry{topic: t, node: h.me, number: m.number, meta: slices.Clone(meta)}
	if m.user != nil {
		e.user = m.user.user()
	}
	m.entries = append(m.entries, e)
	h.appear(e)
	h.work.joined(e)
	return nil
}

func (m *member) isIn(t *topic) bool {
	return slices.ContainsFunc(m.entries, func(e *entry) bool { return e.topic == t })
}

// isIn reports whether a connection is in a room. The caller holds mu.
func (h *Hub) isIn(c Conn, t *topic) bool {
	m := h.members[c]
	return m != nil && m.isIn(t)
}

// Leave has a connection leave a room.
func (h *Hub) Leave(c Conn, room string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[c]
	if m == nil {
		return
	}
	i := slices.IndexFunc(m.entries, func(e *entry) bool { return e.topic.name() == room })
	if i < 0 {
		return
	}
	e := m.entries[i]
	m.entries = slices.Delete(m.entries, i, i+1)
	h.leave(e.topic, c)
	h.departs(e)
	h.signal()
}

// departs takes an entry of this node out, and has the other nodes told.
func (h *Hub) departs(e *entry) {
	if h.moving() {
		h.vanish(e, nil)
		return
	}
	h.work.left(e)
	h.disappear(e)
}

// gone follows the end of a connection. Its loop has taken it out of its rooms already.
func (h *Hub) gone(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.ended {
		return
	}
	m.ended = true
	for _, e := range m.entries {
		delete(e.topic.ahead, m)
		h.leave(e.topic, m.conn)
		h.departs(e)
	}
	m.entries = nil
	if t := m.user; t != nil {
		t.conns = slices.DeleteFunc(t.conns, func(other *member) bool { return other == m })
		h.leave(t, m.conn)
		h.tidy(t)
	}
	delete(h.members, m.conn)
	delete(h.numbers, m.number)
	h.signal()
}

// enter adds a connection of this node to those that a topic's messages go to.
func (h *Hub) enter(t *topic, c Conn) error {
	switch c := c.(type) {
	case *websocket.Conn:
		if err := h.rooms.Join(c, t.subject); err != nil {
			h.tidy(t)
			return err
		}
	case *server.Conn:
		if t.raw == nil {
			t.raw = newRaw()
		}
		t.raw.join(c)
	default:
		h.tidy(t)
		return errConn
	}
	h.held(t)
	return nil
}

// leave is the opposite of enter.
func (h *Hub) leave(t *topic, c Conn) {
	switch c := c.(type) {
	case *websocket.Conn:
		h.rooms.Leave(c, t.subject)
	case *server.Conn:
		t.raw.leave(c)
	}
	h.released(t)
}

// ID returns the ID of a connection. It gets that by the first ID, Bind or Join, and keeps it to
// its end, so a client can be told what it may be excepted by before it joins anything. ok is false
// if the Hub isn't running.
func (h *Hub) ID(c Conn) (id ID, ok bool) {
	err := h.with(c, func(m *member) error {
		id = ID{h.config.Node, m.number}
		return nil
	})
	return id, err == nil
}

// Conn returns the connection of this node that has an ID, nil if there is none.
func (h *Hub) Conn(id ID) Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.numbers[id.Number]; m != nil && id.Node == h.config.Node {
		return m.conn
	}
	return nil
}

// Rooms returns the rooms that a connection is in, in the order of Join.
func (h *Hub) Rooms(c Conn) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	if m := h.members[c]; m != nil {
		for _, e := range m.entries {
			names = append(names, e.topic.name())
		}
	}
	return names
}

// Members returns the members of a room on all nodes, as far as this one knows, and no more than
// Config.MaxListed. Count tells how many there are. It doesn't ask anybody.
func (h *Hub) Members(ctx context.Context, room string) ([]Member, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.running(ctx); err != nil {
		return nil, err
	}
	t := h.topics[subjectRoom+room]
	if t == nil {
		return nil, nil
	}
	entries := t.entries[:min(len(t.entries), h.config.MaxListed)]
	all := make([]Member, len(entries))
	for i, e := range entries {
		all[i] = e.member()
	}
	return all, nil
}

// Count returns how many members a room has on all nodes.
func (h *Hub) Count(room string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[subjectRoom+room]; t != nil {
		return len(t.entries)
	}
	return 0
}

var _ = []Conn{(*websocket.Conn)(nil), (*server.Conn)(nil)}
