package socket

// SetServerRole says which side of the TLS handshake the connection takes, whoever has connected to
// whom: the server's (true) or the client's. Without it that is the server's for a socket that was
// accepted, and the client's for the others. FTP is where it differs: the client accepts the data
// connection and remains TLS's client (RFC 4217, section 7). Call it before SSLHandshake; while
// others send or receive it returns ErrBusy, and with TLS on ErrSSLActive.
func (s *Socket) SetServerRole(server bool) error {
	f, err := s.acquire(both)
	if err != nil {
		return s.fail("set role", err)
	}
	defer f.leave(both)
	if s.secure.Load() != nil {
		return s.fail("set role", ErrSSLActive)
	}
	s.accepted = server
	return nil
}
