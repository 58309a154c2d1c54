package cluster

// Ahead returns how many connections a room remembers to have been given more than the others.
func (h *Hub) Ahead(room string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[subjectRoom+room]; t != nil {
		return len(t.ahead)
	}
	return 0
}

// Holding returns how many bytes wait for those before them, as the Hub counts.
func (h *Hub) Holding() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holding
}

// Topics returns how many rooms and users the Hub has to do with.
func (h *Hub) Topics() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.topics)
}
