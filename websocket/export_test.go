package websocket

// Held reports whether a peer has to wait for Recv.
func Held(c *Conn) bool { return c.held() != nil }

// Draining reports whether Shutdown was called.
func Draining(s *Server) bool { return s.draining.Load() }

// QueuedBytes is how much waits for the peer.
func QueuedBytes(c *Conn) int { return c.carrier.queued() }

// AtHome has fn run where all of c happens.
func AtHome(c *Conn, fn func()) bool { return c.home.do(fn) }
