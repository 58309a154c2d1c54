package socket

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
)

// SendTo sends a datagram to an address: *net.UDPAddr or *net.UnixAddr. On a socket that isn't
// bound yet, the kernel chooses the local address. It waits while the kernel has no room. Stream
// sockets get EPROTONOSUPPORT.
func (s *Socket) SendTo(ctx context.Context, p []byte, to net.Addr) (int, error) {
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, s.fail("sendto", err)
	}
	if s.network.kind != unix.SOCK_DGRAM {
		return 0, s.fail("sendto", syscall.EPROTONOSUPPORT)
	}
	sa, family, err := s.datagramSockaddr(to)
	if err != nil {
		return 0, s.fail("sendto", err)
	}
	if s.conn.Load() == nil {
		if err := s.openDatagram(ctx, family); err != nil {
			return 0, s.fail("sendto", err)
		}
	}
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("sendto", err)
	}
	defer f.leave(writing)
	n, err := f.transmit(ctx, s.patience(), func() (int, error) { return s.trySendTo(f, p, sa) })
	return n, s.fail("sendto", err)
}

// trySendTo sends a datagram without waiting.
func (s *Socket) trySendTo(f *fd, p []byte, to unix.Sockaddr) (int, error) {
	for {
		err := unix.Sendto(f.number, p, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, to)
		switch {
		case err == nil:
			return len(p), nil
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && s.network.family == unix.AF_UNIX:
			return 0, errPeerFull
		}
		return 0, sendError("sendto", errnoOf(err))
	}
}

// openDatagram makes the descriptor of a datagram socket that is used without Bind and Connect.
func (s *Socket) openDatagram(ctx context.Context, family int) error {
	f, err := s.open(ctx, family)
	if err != nil {
		return err
	}
	if err := f.register(); err != nil {
		sysClose(f.number)
		return err
	}
	return s.install(f)
}

func (s *Socket) datagramSockaddr(to net.Addr) (unix.Sockaddr, int, error) {
	switch a := to.(type) {
	case *net.UDPAddr:
		target := a.AddrPort()
		ip := target.Addr().Unmap()
		if s.network.family == unix.AF_INET6 && ip.Is4() {
			ip = netip.AddrFrom16(ip.As16())
		}
		if s.network.family == unix.AF_UNIX || !s.network.admits(ip) {
			break
		}
		return inetSockaddr(netip.AddrPortFrom(ip, target.Port()))
	case *net.UnixAddr:
		if s.network.family != unix.AF_UNIX {
			break
		}
		sa, err := unixSockaddr(a.Name)
		return sa, unix.AF_UNIX, err
	}
	return nil, 0, fmt.Errorf(
		"address %v (%T) is not of network %s: %w",
		to,
		to,
		s.network.name,
		syscall.EAFNOSUPPORT,
	)
}

// RecvFrom receives one datagram and tells where it came from. What doesn't fit p is lost. A Unix
// sender that isn't bound has no address: from is then a *net.UnixAddr without a name. Stream
// sockets get EPROTONOSUPPORT.
func (s *Socket) RecvFrom(ctx context.Context, p []byte) (n int, from net.Addr, err error) {
	if s.network.stream() { // what was read ahead, and TLS, would be passed over
		return 0, nil, s.fail("recvfrom", syscall.EPROTONOSUPPORT)
	}
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, nil, s.fail("recvfrom", err)
	}
	f, err := s.acquire(reading)
	if err != nil {
		return 0, nil, s.fail("recvfrom", err)
	}
	defer f.leave(reading)
	err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
		n, from, err = s.tryRecvFrom(f, p)
		return err
	})
	return n, from, s.fail("recvfrom", err)
}

// tryRecvFrom receives a datagram without waiting.
func (s *Socket) tryRecvFrom(f *fd, p []byte) (n int, from net.Addr, err error) {
	for {
		n, sa, err := unix.Recvfrom(f.number, p, unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil, f.nothing()
		default:
			return 0, nil, os.NewSyscallError("recvfrom", err)
		}
		if f.endOfInput(n, p) {
			return 0, nil, io.EOF
		}
		from := s.network.addrOf(sa)
		if from == nil && s.network.family == unix.AF_UNIX {
			from = &net.UnixAddr{Net: s.network.name}
		}
		return n, from, nil
	}
}

// messageSize is how much room the next message needs.
func (s *Socket) messageSize(f *fd) int {
	if s.network.family != unix.AF_UNIX { // which has messages that are larger than UDP's
		return bufferSize
	}
	return max(bufferSize, sysMessageSize(f.number))
}
