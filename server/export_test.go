package server

// Addresses returns how many addresses have connections that are counted.
func Addresses(s *Server) int {
	s.addresses.mu.Lock()
	defer s.addresses.mu.Unlock()
	return len(s.addresses.counts)
}
