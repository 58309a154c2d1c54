package server

// wheel is a timing wheel: it keeps all connections of a loop by the time when each is due to be looked at. Each time-out of a connection costs one visit when it is over, and one for each
// turn of the wheel before that; packets cost nothing, as a visit looks when the last one has come.
type wheel struct {
	slots    [wheelSlots]*Conn
	position tick // of the last slot that was visited, in steps
	count    int
}

const (
	wheelSlots = 128
	wheelStep  = 2 // ticks: 100 ms
)

func (w *wheel) begin(now tick) { w.position = now / wheelStep }

// add adds a connection by its due.
func (w *wheel) add(c *Conn) {
	step := max(c.due/wheelStep, w.position+1)
	slot := uint8(step % wheelSlots)
	c.slot = slot
	c.prev, c.next = nil, w.slots[slot]
	if c.next != nil {
		c.next.prev = c
	}
	w.slots[slot] = c
	w.count++
}

func (w *wheel) remove(c *Conn) {
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

// advance calls fn for the connections that have become due. fn may change their due, and remove any.
func (w *wheel) advance(now tick, fn func(c *Conn)) {
	for target := now / wheelStep; w.position < target; {
		if target-w.position > wheelSlots { // the loop has stood still: one turn visits them all
			w.position = target - wheelSlots
		}
		w.position++
		w.visit(uint8(w.position%wheelSlots), func(c *Conn) {
			if c.due/wheelStep <= w.position {
				fn(c)
			}
		})
	}
}

// visit calls fn for each connection of a slot.
func (w *wheel) visit(slot uint8, fn func(c *Conn)) {
	next := w.slots[slot]
	for next != nil {
		c := next
		next = c.next
		fn(c)
	}
}

// all returns all connections.
func (w *wheel) all() []*Conn {
	all := make([]*Conn, 0, w.count)
	for slot := range w.slots {
		w.visit(uint8(slot), func(c *Conn) { all = append(all, c) })
	}
	return all
}
