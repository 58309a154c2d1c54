package server

import (
	"iter"
	"net"
	"net/netip"
	"slices"
	"time"
)

// find returns the connection with an ID.
func (s *Server) find(id ID) (*Conn, error) {
	s.mu.Lock()
	workers := s.workers
	s.mu.Unlock()
	if len(workers) > 0 {
		if c := workers[uint64(id)%uint64(len(workers))].registry.find(id); c != nil &&
			c.flags.Load()&flagClosed == 0 {
			return c, nil
		}
	}
	return nil, ErrNoConnection
}

// Conn returns the connection with an ID, nil if there is none or it is closed.
func (s *Server) Conn(id ID) *Conn {
	c, _ := s.find(id)
	return c
}

// Exists reports whether there is a connection with the ID that is not closed.
func (s *Server) Exists(id ID) bool { return s.Conn(id) != nil }

// Send sends all of p on a connection, in both styles, from any coroutine, callback and goroutine,
// and never waits. On the connection's own loop p is queued at once, and socket.ErrQueueFull says
// that Port.MaxQueue is reached. From elsewhere p is copied and handed to the connection's loop:
// what one goroutine sends stays in order, and if the queue turns out to be full there, the
// connection is closed with ErrOverflow, as nothing that was taken is dropped in silence. It has
// neither a context nor a count, unlike Conn.Send, as it never waits and takes all or nothing.
func (s *Server) Send(id ID, p []byte) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	return c.send(p)
}

// CloseConn closes a connection: what was sent is still delivered, unless reset drops it and resets
// the connection.
func (s *Server) CloseConn(id ID, reset bool) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	return c.end(nil, reset)
}

// Pause is Conn.Pause by ID.
func (s *Server) Pause(id ID) error { return s.with(id, (*Conn).Pause) }

// Resume is Conn.Resume by ID.
func (s *Server) Resume(id ID) error { return s.with(id, (*Conn).Resume) }

// Protect is Conn.Protect by ID.
func (s *Server) Protect(id ID, on bool) error {
	return s.with(id, func(c *Conn) { c.Protect(on) })
}

// Bind is Conn.Bind by ID.
func (s *Server) Bind(id ID, uid int64) error {
	return s.with(id, func(c *Conn) { c.Bind(uid) })
}

func (s *Server) with(id ID, fn func(c *Conn)) error {
	c, err := s.find(id)
	if err == nil {
		fn(c)
	}
	return err
}

// Info is what the server knows of a connection.
type Info struct {
	ID        ID
	UID       int64          // what Bind has set
	Listener  net.Addr       // the listener's address
	Remote    netip.AddrPort // the client's; not valid on a Unix socket
	Loop      int            // the number of its event loop
	Connected time.Time      // when it was accepted; to 100 ms
	// When the last packet has come; to 100 ms. When it came to stand, if none has.
	LastReceive time.Time
	TLS         bool
	Protected   bool
}

// Info returns what is known of a connection.
func (s *Server) Info(id ID) (Info, error) {
	c, err := s.find(id)
	if err != nil {
		return Info{}, err
	}
	return c.Info(), nil
}

// Info returns what the server knows of the connection.
func (c *Conn) Info() Info {
	began := c.worker.server.began
	_, secure := c.flow.Socket.ConnectionState()
	return Info{
		ID: c.id, UID: c.UID(), Listener: c.listener.address, Remote: c.RemoteAddrPort(), Loop: c.worker.index,
		Connected: began.Add(max(0, c.began.time()-ageUnit)), // not after LastReceive
		LastReceive: time.Now().
			Add(-time.Duration(c.worker.server.clock()-tick(c.seen.Load())) * tickLength),
		TLS:       secure,
		Protected: c.flags.Load()&flagProtected != 0,
	}
}

// Connections yields the connections there are, in the order of their IDs for each loop. Those that
// come or go meanwhile may be among them or not.
func (s *Server) Connections() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		s.mu.Lock()
		workers := s.workers
		s.mu.Unlock()
		for _, w := range workers {
			for _, id := range w.registry.ids() {
				if c := s.Conn(id); c != nil && !yield(c) {
					return
				}
			}
		}
	}
}

// ids returns the IDs in their order.
func (r *registry) ids() []ID {
	r.mu.RLock()
	ids := make([]ID, 0, len(r.all))
	for id := range r.all {
		ids = append(ids, id)
	}
	r.mu.RUnlock()
	slices.Sort(ids)
	return ids
}

// Broadcast sends p on all connections for which want returns true; nil means all. It returns on
// how many it was sent. want runs where Broadcast was called, so what belongs to a connection's
// loop, such as Conn.Value, is not for it.
func (s *Server) Broadcast(p []byte, want func(c *Conn) bool) int {
	sent := 0
	for c := range s.Connections() {
		if want == nil || want(c) {
			if s.Send(c.id, p) == nil {
				sent++
			}
		}
	}
	return sent
}
