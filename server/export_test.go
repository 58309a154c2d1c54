package server

import (
	"context"
	"net/netip"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// CountedTogether reports whether MaxPerAddress takes two clients for one.
func CountedTogether(s *Server, a, b string) bool {
	var ends [2]Conn
	for i, addr := range []string{a, b} {
		ends[i].setRemote(netip.MustParseAddrPort(addr))
	}
	return s.addressOf(&ends[0]) == s.addressOf(&ends[1])
}

// Addresses returns how many addresses have connections that are counted.
func Addresses(s *Server) int {
	s.addresses.mu.Lock()
	defer s.addresses.mu.Unlock()
	return len(s.addresses.counts)
}

// House returns what the module's packages may do with a socket.
func House(s *socket.Socket) house.Socket { return socket.House(s, house.Key{}) }

// EnterSlot waits for a slot, as a handshake of the connection does.
func EnterSlot(ctx context.Context, c *Conn) error {
	h := newHandshake(c)
	h.granted = runtime.NewChannel[struct{}](1)
	return h.Enter(ctx, 0)
}
