package cluster

// Stats are counts since Start, of this node, and how much there is now.
type Stats struct {
	Published  uint64 // messages that the Broker has taken
	Unsent     uint64 // messages that it hasn't: for each there is a gap
	Refused    uint64 // messages that were refused with socket.ErrQueueFull
	Received   uint64 // messages that have come from the Broker, heartbeats included
	Delivered  uint64 // messages on their way to a member, for each member
	Dropped    uint64 // messages that weren't, as a loop was behind, for each member
	Late       uint64 // messages that came again, or behind their successors, and were dropped
	Rejected   uint64 // messages that couldn't be read
	Recovered  uint64 // messages that were fetched from the History
	Lost       uint64 // times at which the Broker said that messages may be lost
	Gaps       uint64 // gaps that were told, or would have been
	Queued     int    // bytes that wait for the Broker, or for the members here
	Nodes      int    // that live, this one included
	Rooms      int    // with members anywhere
	Members    int    // connections of this node that have an ID
	Subscribed int    // subjects of rooms and users
}

// Stats returns them.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Queued, s.Members = h.work.queued, len(h.members)
	if h.me != nil {
		s.Nodes = 1 + len(h.nodes)
	}
	return s
}
