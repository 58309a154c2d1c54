package socket

import (
	"context"
	"net"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
)

// DefaultBacklog is how many connections the kernel completes ahead of Accept, unless Listen says
// otherwise. The kernel caps it: Linux at net.core.somaxconn, macOS at kern.ipc.somaxconn.
const DefaultBacklog = 4096

// Listen makes a bound socket of a stream network, or of "unixpacket", a listener; backlog <= 0
// means DefaultBacklog.
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
	s.listening.Store(true)
	if !f.registered {
		return s.fail("listen", f.register())
	}
	return nil
}

// Accept waits for a connection and returns it, on the caller's loop, with the listener's time-outs
// and linger. Timeouts.Read bounds the wait. The TLS handshake, if there is to be one, is left to
// the caller, so that a slow peer doesn't keep others from being accepted.
//
// EMFILE, ENFILE, ENOBUFS and ENOMEM say that the machine is short of something: the connection
// stays in the backlog; wait a little before the next Accept.
func (s *Socket) Accept(ctx context.Context) (*Socket, error) {
	in, err := (*inner)(s).AcceptIncoming(ctx)
	if err != nil {
		return nil, err
	}
	child := new(Socket)
	if err := (*inner)(child).Begin(ctx, in); err != nil {
		return nil, err
	}
	return child, nil
}

func (i *inner) AcceptIncoming(ctx context.Context) (in house.Incoming, err error) {
	s := (*Socket)(i)
	if err := sched.Begin(ctx, 0); err != nil {
		return house.Incoming{}, s.fail("accept", err)
	}
	f, err := s.acquire(reading)
	if err != nil {
		return house.Incoming{}, s.fail("accept", err)
	}
	defer f.leave(reading)
	err = f.receive(ctx, reasonAccept, s.timeouts.Load().Read, func() error {
		in, err = s.tryAccept(f)
		return err
	})
	return in, s.fail("accept", err)
}

func (i *inner) TryAccept() (house.Incoming, error) {
	s := (*Socket)(i)
	f, err := s.acquire(reading)
	if err != nil {
		return house.Incoming{}, s.fail("accept", err)
	}
	defer f.leave(reading)
	in, err := s.tryAccept(f)
	if err == errWait {
		return in, ErrWouldBlock
	}
	return in, s.fail("accept", err)
}

func (s *Socket) tryAccept(f *fd) (house.Incoming, error) {
	if !s.listening.Load() {
		return house.Incoming{}, syscall.EINVAL
	}
	for {
		number, remote, errno := sysAccept(f.number)
		switch errno {
		case 0:
			return house.Incoming{Remote: remote, Listener: (*inner)(s), Number: number}, nil
		case syscall.EINTR, syscall.ECONNABORTED: // the peer has given up already
		case syscall.EAGAIN:
			return house.Incoming{}, errWait
		default:
			return house.Incoming{}, callError("accept4", errno)
		}
	}
}

func (i *inner) Begin(ctx context.Context, in house.Incoming) error {
	s := (*Socket)(i)
	listener := (*Socket)(in.Listener.(*inner))
	s.init(listener.network)
	s.accepted = true
	s.timeouts.Store(listener.timeouts.Load())
	s.linger.Store(listener.linger.Load())
	return s.fail("accept", s.adopt(ctx, in.Number))
}

func (i *inner) Become(other house.Socket) error {
	s, from := (*Socket)(i), (*Socket)(other.(*inner))
	f, err := from.acquireHere(both)
	if err != nil {
		return from.fail("hand over", err)
	}
	defer f.leave(both)
	from.mu.Lock()
	defer from.mu.Unlock()
	switch {
	case from.gone:
		return from.fail("hand over", net.ErrClosed)
	case from.secure.Load() != nil: // which knows its socket
		return from.fail("hand over", syscall.EPROTONOSUPPORT)
	}
	s.init(from.network)
	s.accepted = from.accepted
	s.timeouts.Store(from.timeouts.Load())
	s.linger.Store(from.linger.Load())
	s.dialed.Store(from.dialed.Load())
	s.in, from.in = from.in, input{}
	s.conn.Store(f)
	from.gone = true
	from.conn.Store(nil)
	return nil
}

// Adopt makes a Socket of a descriptor that was made elsewhere: a listener that was inherited or
// passed by systemd (LISTEN_FDS), a connection that another process has passed on. It duplicates
// the file's descriptor, which makes both non-blocking (the flag is shared), and puts its own on
// the caller's loop. In a TLS handshake, a connection that is adopted has the client's role.
func Adopt(ctx context.Context, file *os.File) (*Socket, error) {
	number, err := duplicate(file)
	if err != nil {
		return nil, &net.OpError{Op: "adopt", Err: err}
	}
	n, listening, err := identify(number)
	if err != nil {
		sysClose(number)
		return nil, &net.OpError{Op: "adopt", Err: err}
	}
	s := newSocket(n)
	if err := s.adopt(ctx, number); err != nil {
		return nil, s.fail("adopt", err)
	}
	s.listening.Store(listening)
	return s, nil
}

// identify asks what kind of socket a descriptor is.
func identify(number int) (n *network, listening bool, err error) {
	family, kind, listening, err := sysKind(number)
	if err != nil {
		return nil, false, err
	}
	for i := range networks {
		if n := &networks[i]; n.family == family && n.kind == kind {
			return n, listening, nil
		}
	}
	return nil, false, syscall.EAFNOSUPPORT
}

// Listen binds and listens: a short form of New, Bind and Listen. network is a stream network, or
// "unixpacket"; for others the error is EOPNOTSUPP.
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

// Listening reports whether the socket is a listener.
func (s *Socket) Listening() bool { return s.listening.Load() }

// Network returns the network that the socket was made for; for one that was adopted, a network
// with a version, such as "tcp4".
func (s *Socket) Network() string { return s.network.name }

// File returns a duplicate of the socket's descriptor, for another process to adopt. It is
// non-blocking, as the socket's own is.
func (s *Socket) File() (*os.File, error) {
	f, err := s.acquire(using)
	if err != nil {
		return nil, s.fail("file", err)
	}
	defer f.leave(using)
	number, err := unix.FcntlInt(uintptr(f.number), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, s.fail("file", os.NewSyscallError("fcntl", err))
	}
	return os.NewFile(uintptr(number), s.network.name), nil
}
