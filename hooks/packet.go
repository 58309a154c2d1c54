package hooks

import (
	"net"
)

// PacketConn is a datagram socket, of "udp" or "unixgram", as a net.PacketConn, and if it was
// dialled also as a net.Conn. [ListenPacket] and [Dialer] make it. What is said of [Conn] is true
// of it, too.
type PacketConn struct{ conn }

// ReadFrom receives one datagram and tells where it came from. What doesn't fit p is lost.
func (c *PacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	ctx, err := c.rd.enterContext()
	if err != nil {
		return 0, nil, c.fail("read", err)
	}
	defer c.rd.turn.Unlock()
	n, from, err := c.socket.RecvFrom(ctx, p)
	return n, from, c.fail("read", err)
}

// WriteTo sends one datagram to an address: a *net.UDPAddr or *net.UnixAddr. On a connection that
// was dialled it returns net.ErrWriteToConnected.
func (c *PacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.remote != nil {
		return 0, c.fail("write", net.ErrWriteToConnected)
	}
	ctx, err := c.wr.enterContext()
	if err != nil {
		return 0, c.fail("write", err)
	}
	defer c.wr.turn.Unlock()
	n, err := c.socket.SendTo(ctx, p, to)
	return n, c.fail("write", err)
}
