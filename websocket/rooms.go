package websocket

import (
	"bytes"
	"slices"
	"sync"

	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Rooms are named groups of connections to which messages are broadcast. A Server has its own;
// connections of Upgrade and of clients may join those that NewRooms makes. The methods may be
// called from any coroutine, goroutine and callback, and never wait.
//
// A message is encoded once, and compressed once, for all members. Each loop with members is woken
// once, and writes once to each of them, however many broadcasts there are in one of its turns.
// What one goroutine does to a room, Join and Leave included, is done in order.
type Rooms struct {
	mu  sync.RWMutex
	all map[string]*group // guarded by mu
}

// NewRooms makes a set of rooms.
func NewRooms() *Rooms { return &Rooms{all: map[string]*group{}} }

// A group is a room: its members by home.
type group struct {
	rooms *Rooms
	name  string

	mu    sync.RWMutex
	parts map[home]*division // guarded by mu
}

// A division are the members of a room on one home, where they are changed; others read them under
// mu.
type division struct {
	joining int // are on their way; guarded by the group's mu
	mu      sync.Mutex
	members []*Conn
}

// A membership is a Conn's place in a room.
type membership struct {
	group *group
	part  *division
	index int // in members
}

// group returns the room of a name; nil if there is none and it isn't to be made.
func (r *Rooms) group(name string, make bool) *group {
	r.mu.RLock()
	g := r.all[name]
	r.mu.RUnlock()
	if g != nil || !make {
		return g
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g = r.all[name]; g == nil {
		g = &group{rooms: r, name: name, parts: map[home]*division{}}
		r.all[name] = g
	}
	return g
}

// Join has a connection join a room. It leaves it with its end, or by Leave; a second Join changes
// nothing. The error is that of a connection to which nothing can be pushed.
func (r *Rooms) Join(c *Conn, room string) error {
	if err := c.usable(); err != nil {
		return err
	}
	g, part := r.enter(room, c.home)
	if !c.home.do(func() { g.join(c, part) }) {
		return c.ending()
	}
	return nil
}

// enter returns a room and its division for a home, which are there from now on: what the caller
// broadcasts comes behind its Join.
func (r *Rooms) enter(room string, h home) (*group, *division) {
	for {
		g := r.group(room, true)
		g.mu.Lock()
		if g.parts != nil { // else it has just gone
			part := g.parts[h]
			if part == nil {
				part = new(division)
				g.parts[h] = part
			}
			part.joining++
			g.mu.Unlock()
			return g, part
		}
		g.mu.Unlock()
	}
}

// join is Join at home.
func (g *group) join(c *Conn, part *division) {
	g.mu.Lock()
	defer g.mu.Unlock()
	part.joining--
	own := c.toRare()
	if c.current() != stateOpen ||
		slices.ContainsFunc(own.memberships, func(m membership) bool { return m.part == part }) {
		g.tidy(c.home, part)
		return
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	own.memberships = append(own.memberships, membership{g, part, len(part.members)})
	part.members = append(part.members, c)
}

// tidy removes a division that is empty, and a room without divisions. The caller holds g.mu.
func (g *group) tidy(h home, part *division) {
	if len(part.members)+part.joining > 0 {
		return
	}
	delete(g.parts, h)
	if len(g.parts) > 0 {
		return
	}
	g.rooms.mu.Lock()
	delete(g.rooms.all, g.name)
	g.rooms.mu.Unlock()
	g.parts = nil
}

// Leave has a connection leave a room.
func (r *Rooms) Leave(c *Conn, room string) {
	if c.usable() != nil {
		return
	}
	c.home.do(func() {
		own := c.rare.Load()
		if own == nil {
			return
		}
		for i, m := range own.memberships {
			if m.group.name == room && m.group.rooms == r {
				own.memberships = slices.Delete(own.memberships, i, i+1)
				m.leave(c)
				return
			}
		}
	})
}

// leaveAll has a connection that has ended leave all its rooms.
func (c *Conn) leaveAll(r *rare) {
	for _, m := range r.memberships {
		m.leave(c)
	}
	r.memberships = nil
}

// leave takes c out, at home. The last member takes its place.
func (m membership) leave(c *Conn) {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	m.part.mu.Lock()
	defer m.part.mu.Unlock()
	members := m.part.members
	last := members[len(members)-1]
	members[m.index], members[len(members)-1] = last, nil
	m.part.members = members[:len(members)-1]
	if last != c {
		for i := range last.rare.Load().memberships {
			if other := &last.rare.Load().memberships[i]; other.part == m.part {
				other.index = m.index
			}
		}
	}
	g.tidy(c.home, m.part)
}

// Of returns the rooms of r that a connection is in, in the order of Join. It is for the connection's
// own callbacks and coroutines.
func (r *Rooms) Of(c *Conn) []string {
	var names []string
	if own := c.rare.Load(); own != nil {
		for _, m := range own.memberships {
			if m.group.rooms == r {
				names = append(names, m.group.name)
			}
		}
	}
	return names
}

// Members returns the members of a room. Those that come or go meanwhile may be among them or not.
func (r *Rooms) Members(room string) []*Conn {
	g := r.group(room, false)
	if g == nil {
		return nil
	}
	var all []*Conn
	for _, part := range g.divisions() {
		part.mu.Lock()
		all = append(all, part.members...)
		part.mu.Unlock()
	}
	return all
}

// divisions returns the parts of a room by their homes.
func (g *group) divisions() map[home]*division {
	g.mu.RLock()
	defer g.mu.RUnlock()
	parts := make(map[home]*division, len(g.parts))
	for h, part := range g.parts {
		parts[h] = part
	}
	return parts
}

// maxBehind is how much may be on its way to a home in broadcasts, with what each costs there.
const maxBehind = 32 << 20

// Broadcast sends a message, Text or Binary, to all members of a room but those excepted. What
// becomes of slow ones, their Options say. It returns to how many members it is on its way, those
// excepted included, and how many are on a loop to which 32 MiB of broadcasts are on their way
// already: to these it isn't sent.
func (r *Rooms) Broadcast(room string, data []byte, op Opcode, except ...*Conn) (sent, missed int) {
	g := r.group(room, false)
	if g == nil || op != Text && op != Binary {
		return 0, 0
	}
	cast := &broadcast{op: engine.Opcode(op), data: bytes.Clone(data), except: slices.Clone(except)}
	n := int64(len(data) + passing)
	for h, part := range g.divisions() {
		part.mu.Lock()
		members := len(part.members)
		part.mu.Unlock()
		behind := h.behind()
		if behind.Add(n) > maxBehind {
			behind.Add(-n)
			missed += members
			continue
		}
		sent += members
		h.do(func() {
			behind.Add(-n)
			cast.deliver(part)
		})
	}
	return sent, missed
}

// A broadcast is a message for many.
type broadcast struct {
	op     engine.Opcode
	data   []byte
	except []*Conn

	plain  sync.Once
	whole  []byte // a server's
	mu     sync.Mutex
	packed map[int][]byte // guarded by mu: a server's, compressed, by the bits of the window
}

// deliver sends it to the members on one home.
func (b *broadcast) deliver(part *division) {
	var slow []*Conn
	part.mu.Lock()
	for _, c := range part.members {
		if len(b.except) > 0 && slices.Contains(b.except, c) {
			continue
		}
		if !b.send(c) {
			slow = append(slow, c)
		}
	}
	part.mu.Unlock()
	for _, c := range slow {
		c.slow() // which may have it leave
	}
}

// send sends it to one of them. It returns false if that takes too little.
func (b *broadcast) send(c *Conn) bool {
	switch {
	case c.current() != stateOpen:
		return true
	case c.state.Load()&flagStreaming != 0:
		return b.keep(c)
	}
	frame := b.frame(c)
	if !c.hasRoom(len(frame)) || c.carrier.send(frame) != nil {
		return false
	}
	if d := c.params().engine.Deflate; d != nil && d.SendTakeover &&
		c.params().role == engine.Server {
		c.toRare().sender.Sent(&c.params().engine, frame, b.data)
	}
	return true
}

// keep sends it when the member's Writer is closed.
func (b *broadcast) keep(c *Conn) bool {
	r, n := c.toRare(), int64(len(b.data)+passing)
	if r.outside.Add(n) > int64(c.params().MaxQueue) {
		r.outside.Add(-n)
		return false
	}
	return c.keeps(func() {
		r.outside.Add(-n)
		if !b.send(c) {
			c.slow()
		}
	})
}

// frame returns a member's frame: all servers' are the same, but for their compression.
func (b *broadcast) frame(c *Conn) []byte {
	switch compresses := c.compresses(len(b.data)); {
	case compresses && c.params().role == engine.Client:
		return c.compress(nil, b.op, b.data)
	case compresses:
		return b.compressed(c.params().engine.Deflate.SendBits)
	case c.params().role == engine.Client:
		return engine.AppendMessage(nil, engine.Client, b.op, b.data, c.mask())
	}
	b.plain.Do(
		func() { b.whole = engine.AppendMessage(nil, engine.Server, b.op, b.data, [4]byte{}) },
	)
	return b.whole
}

func (b *broadcast) compressed(bits int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	frame := b.packed[bits]
	if frame == nil {
		if b.packed == nil {
			b.packed = map[int][]byte{}
		}
		frame = engine.AppendCompressedOnce(nil, b.op, b.data, bits)
		b.packed[bits] = frame
	}
	return frame
}
