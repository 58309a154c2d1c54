package socket

import (
	"context"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
)

// DefaultBacklog is how many connections the kernel completes ahead of Accept, unless Listen says otherwise. The kernel caps it at net.core.somaxconn.
const DefaultBacklog = 4096

// Listen makes a bound stream socket a listener; backlog <= 0 means DefaultBacklog.
func (s *Socket) Listen(backlog int) error {
	if backlog <= 0 {
		backlog = DefaultBacklog
	}
	f, err := s.acquire(both)
	if err != nil {
		return s.fail("listen", err)
	}
	defer f.leave(both)
	if err := unix.Listen(f.number, backlog); err != nil {
		return s.fail("listen", os.NewSyscallError("listen", err))
	}
	s.listening = true
	if f.descriptor.Loop() == nil {
		return s.fail("listen", f.register())
	}
	return nil
}

// Accept waits for a connection and returns it, on the caller's loop, with the listener's time-outs and linger. Timeouts.Read bounds the wait. The
// TLS handshake, if there is to be one, is left to the caller, so that a slow peer doesn't keep others from being accepted.
//
// EMFILE, ENFILE, ENOBUFS and ENOMEM say that the machine is short of something: the connection stays in the backlog; wait a little before the next Accept.
func (s *Socket) Accept(ctx context.Context) (*Socket, error) {
	runtime.Spend(ctx)
	f, err := s.acquire(reading)
	if err != nil {
		return nil, s.fail("accept", err)
	}
	defer f.leave(reading)
	if !s.listening {
		return nil, s.fail("accept", syscall.EINVAL)
	}
	var deadline runtime.Deadline
	for {
		number, errno := sysAccept(f.number)
		switch errno {
		case 0:
			child := newSocket(s.network)
			child.accepted, child.timeouts, child.linger = true, s.timeouts, s.linger
			if s.network.tcp() {
				unix.SetsockoptInt(number, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			}
			if err := child.adopt(ctx, number); err != nil {
				return nil, s.fail("accept", err)
			}
			return child, nil
		case syscall.EINTR, syscall.ECONNABORTED:
			continue // the peer has given up already
		case syscall.EAGAIN:
		default:
			return nil, s.fail("accept", callError("accept4", errno))
		}
		if deadline == 0 {
			deadline = runtime.DeadlineAfter(s.timeouts.Read)
		}
		if err := f.wait(ctx, &f.rd, reasonAccept, deadline); err != nil {
			return nil, s.fail("accept", err)
		}
	}
}

// Listen binds and listens: a short form of New, Bind and Listen. network is a stream network.
func Listen(ctx context.Context, networkName, address string) (*Socket, error) {
	s, err := New(networkName)
	if err != nil {
		return nil, err
	}
	if !s.network.stream() && s.network.kind != unix.SOCK_SEQPACKET {
		return nil, &net.OpError{Op: "listen", Net: networkName, Err: syscall.EOPNOTSUPP}
	}
	if err := s.Bind(ctx, address); err != nil {
		return nil, err
	}
	if err := s.Listen(0); err != nil {
		s.Abort()
		return nil, err
	}
	return s, nil
}
