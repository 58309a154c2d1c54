package nats

import "github.com/nats-io/nats-server/v2/server"

// Inner returns nats-server's server.
func (s *Server) Inner() *server.Server { return s.server }
