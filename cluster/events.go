package cluster

import "context"

// A Gap says that messages were lost, or may have been: to the members of a room on this node, or
// to the connections of a user. Each of the others may still come; whoever was told asks for the
// state anew.
type Gap struct {
	Room string // "" if it is a user's
	User string // "" if it is a room's
	// Err is why: ErrMissed, ErrSlow, ErrReconnected, ErrNode, what the Broker has said, or with a
	// History what was in the way of recovering.
	Err error
}

// events are what the callbacks are to be told, in the order in which the topics have changed.
type events struct {
	topics  []*topic
	calling bool // a coroutine is at it
}

// A change is what is to be told of a topic.
type change struct {
	joined map[ID]Member
	left   []Member
	gap    error
}

// tell returns what is to be told of a topic; nil if nobody is to be told of members. The caller
// holds mu, as it does for gap.
func (h *Hub) tell(t *topic) *change {
	if h.config.OnPresence == nil {
		return nil
	}
	return h.changes(t)
}

func (h *Hub) changes(t *topic) *change {
	if t.change == nil {
		t.change = new(change)
		h.events.topics = append(h.events.topics, t)
	}
	return t.change
}

func (c *change) join(m Member) {
	if c == nil {
		return
	}
	if c.joined == nil {
		c.joined = map[ID]Member{}
	}
	c.joined[m.ID] = m
}

func (c *change) leave(m Member) {
	if c == nil {
		return
	}
	told, untold := c.joined[m.ID]
	if !untold {
		c.left = append(c.left, m)
		return
	}
	delete(c.joined, m.ID)
	if told.Replaces != (ID{}) { // of which nothing was said yet
		c.left = append(c.left, Member{ID: told.Replaces, User: m.User, Meta: m.Meta})
	}
}

// replace is leave and join of one who has moved.
func (c *change) replace(m, before Member) {
	if c == nil {
		return
	}
	m.Replaces = before.ID
	if told, untold := c.joined[before.ID]; untold {
		delete(c.joined, before.ID)
		m.Replaces = told.Replaces
	}
	c.join(m)
}

// gap has a loss told.
func (h *Hub) gap(t *topic, why error) {
	h.stats.Gaps++
	if h.config.OnGap == nil {
		return
	}
	if c := h.changes(t); c.gap == nil {
		c.gap = why
	}
}

// call has a coroutine call what is to be called.
func (h *Hub) call() {
	h.mu.Lock()
	begin := len(h.events.topics) > 0 && !h.events.calling
	h.events.calling = h.events.calling || begin
	h.mu.Unlock()
	if !begin {
		return
	}
	if _, err := h.rt.Go(h.callbacks); err != nil { // it ends
		h.mu.Lock()
		h.events.calling = false
		h.mu.Unlock()
	}
}

func (h *Hub) callbacks(ctx context.Context) {
	defer func() { // also after a panic
		h.mu.Lock()
		h.events.calling = false
		h.mu.Unlock()
		h.signal()
	}()
	for {
		h.mu.Lock()
		if len(h.events.topics) == 0 {
			h.mu.Unlock()
			return
		}
		t := h.events.topics[0]
		h.events.topics[0] = nil
		h.events.topics = h.events.topics[1:]
		c := t.change
		t.change = nil
		h.tidy(t)
		h.mu.Unlock()
		h.callback(ctx, t, c)
	}
}

func (h *Hub) callback(ctx context.Context, t *topic, c *change) {
	if len(c.joined)+len(c.left) > 0 {
		joined := make([]Member, 0, len(c.joined))
		for _, m := range c.joined {
			joined = append(joined, m)
		}
		h.config.OnPresence(ctx, t.name(), joined, c.left)
	}
	switch {
	case c.gap == nil:
	case t.room():
		h.config.OnGap(ctx, Gap{Room: t.name(), Err: c.gap})
	default:
		h.config.OnGap(ctx, Gap{User: t.name(), Err: c.gap})
	}
}
