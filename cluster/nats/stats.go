package nats

// Stats are figures of a Broker, counted since it was made.
type Stats struct {
	Connected     bool
	Server        string // its name and address, "" while there is no connection
	Subscriptions int

	MessagesIn, BytesIn   uint64 // that the Receiver was called with
	MessagesOut, BytesOut uint64 // published

	Waiting, WaitingBytes int64 // received, and not taken by the Receiver yet
	Pending               int64 // bytes that wait for the server to take them

	Dropped    uint64 // messages beyond Config.QueueMessages and QueueBytes
	Gaps       uint64 // of rooms, that the history's numbers have shown
	Rejected   uint64 // messages that the server or the history has refused
	Invalid    uint64 // messages that weren't as this package sends them
	Strays     uint64 // messages that came after Unsubscribe
	Duplicates uint64 // messages that a cluster's history has sent twice
	Reconnects uint64
}

// Stats returns the figures. It waits for nothing.
func (b *Broker) Stats() Stats {
	s := Stats{
		MessagesIn:   b.messagesIn.Load(),
		BytesIn:      b.bytesIn.Load(),
		MessagesOut:  b.messagesOut.Load(),
		BytesOut:     b.bytesOut.Load(),
		Waiting:      b.queue.messages.Load(),
		WaitingBytes: b.queue.bytes.Load(),
		Dropped:      b.queue.dropped.Load(),
		Gaps:         b.gaps.Load(),
		Rejected:     b.rejected.Load(),
		Invalid:      b.invalid.Load(),
		Strays:       b.strays.Load(),
		Duplicates:   b.duplicates.Load(),
		Reconnects:   b.reconnects.Load(),
	}
	b.mu.Lock()
	s.Subscriptions = len(b.subjects)
	b.mu.Unlock()
	if l := b.link.Load(); l != nil {
		s.Connected, s.Server, s.Pending = true, l.server, l.out.queued.Load()
	}
	return s
}
