package hooks

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/fallback"
	"github.com/whorl-go/whorl/internal/numeric"
	"github.com/whorl-go/whorl/internal/resident"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// ListenConfig says how to listen, as net.ListenConfig does. The zero ListenConfig is ready for
// use.
type ListenConfig struct {
	// KeepAlive and KeepAliveConfig set up TCP's keep-alive probes on the connections that are
	// accepted, see Dialer.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Backlog is how many connections the kernel completes ahead of Accept; 0 means
	// socket.DefaultBacklog.
	Backlog int
	// Control is called with the descriptor before it is bound, with the network and address that
	// were given. Its error ends the attempt. It must not wait.
	Control func(network, address string, c syscall.RawConn) error
	// Runtime is whose loops the listener and its connections live on if neither the caller nor the
	// context says so, see Dialer.
	Runtime *runtime.Runtime
}

// Listen listens with the zero ListenConfig.
func Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return new(ListenConfig).Listen(ctx, network, address)
}

// ListenPacket opens a datagram socket with the zero ListenConfig.
func ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return new(ListenConfig).ListenPacket(ctx, network, address)
}

// Listen listens on an address and returns a *Listener. network is "tcp", "tcp4", "tcp6", "unix" or
// "unixpacket"; address is "host:port" or the path of a Unix socket. As in package net, an empty or
// unspecified host with "tcp" means all addresses of both families, a name stands for its first
// address, and port 0 has the kernel choose. ctx bounds the look-up of a name only. Errors are
// *net.OpError with Op "listen".
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if datagrams(network) {
		return nil, lc.failed(network, address, net.UnknownNetworkError(network))
	}
	ctx, err := fallback.Within(ctx, lc.Runtime)
	if err != nil {
		return nil, lc.failed(network, address, err)
	}
	l := new(Listener)
	err = lc.bind(ctx, network, address, func(network, address string) error {
		l.socket = new(socket.Socket)
		if err := lc.prepare(l.socket, network, address); err != nil {
			return err
		}
		if err := l.socket.Bind(ctx, address); err != nil {
			return err
		}
		if err := l.socket.Listen(lc.Backlog); err != nil {
			l.socket.Abort()
			return err
		}
		return nil
	})
	if err != nil {
		return nil, lc.failed(network, address, err)
	}
	l.begin(network)
	return l, nil
}

// ListenPacket opens a bound datagram socket and returns a *PacketConn. network is "udp", "udp4",
// "udp6" or "unixgram"; addresses are those of Listen.
func (lc *ListenConfig) ListenPacket(
	ctx context.Context,
	network, address string,
) (net.PacketConn, error) {
	if !datagrams(network) {
		return nil, lc.failed(network, address, net.UnknownNetworkError(network))
	}
	ctx, err := fallback.Within(ctx, lc.Runtime)
	if err != nil {
		return nil, lc.failed(network, address, err)
	}
	var c *PacketConn
	err = lc.bind(ctx, network, address, func(network, address string) error {
		c = new(PacketConn)
		c.socket = new(socket.Socket)
		if err := lc.prepare(c.socket, network, address); err != nil {
			return err
		}
		return c.socket.Bind(ctx, address)
	})
	if err != nil {
		return nil, lc.failed(network, address, err)
	}
	c.begin(network)
	return c, nil
}

func (lc *ListenConfig) failed(network, address string, err error) error {
	if inner, ok := err.(*net.OpError); ok {
		err = inner.Err
	}
	return &net.OpError{Op: "listen", Net: network, Addr: dialedAddr{network, address}, Err: err}
}

// bind calls attempt with what to bind to: a numeric host, and an address of IPv6 for all of both
// families, unless the machine has no IPv6.
func (lc *ListenConfig) bind(
	ctx context.Context,
	network, address string,
	attempt func(network, address string) error,
) error {
	if err := inner(new(socket.Socket)).Init(network); err != nil { // no such network
		return err
	}
	if strings.HasPrefix(network, "unix") {
		return attempt(network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip, err := numeric.Host(ctx, network, host)
	if err != nil {
		return err
	}
	if host != "" && !ip.IsUnspecified() {
		return attempt(network, net.JoinHostPort(ip.String(), port))
	}
	switch network {
	case "tcp4", "udp4":
		return attempt(network, net.JoinHostPort("0.0.0.0", port))
	case "tcp", "udp":
		err := attempt(network, net.JoinHostPort("::", port))
		if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			err = attempt(network, net.JoinHostPort("0.0.0.0", port))
		}
		return err
	}
	return attempt(network, net.JoinHostPort("::", port))
}

// prepare sets a new socket's options.
func (lc *ListenConfig) prepare(s *socket.Socket, network, address string) error {
	if err := inner(s).Init(network); err != nil {
		return err
	}
	s.SetTimeouts(socket.Timeouts{Handshake: socket.DefaultHandshakeTimeout})
	if strings.HasPrefix(network, "tcp") { // connections inherit it: tcp(7)
		if err := setKeepAlive(s, keepAliveConfig(lc.KeepAlive, lc.KeepAliveConfig)); err != nil {
			return err
		}
	}
	if host, _, err := net.SplitHostPort(address); err == nil && host == "::" {
		only := 0
		if strings.HasSuffix(network, "6") {
			only = 1
		}
		if err := s.SetOption(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
	}
	if lc.Control == nil {
		return nil
	}
	return inner(s).OnOpen(
		func(number uintptr) error { return lc.Control(network, address, newDescriptor(number)) },
	)
}

// Listener is a net.Listener on a loop. Listen makes it.
//
// All methods may be called from any coroutine and any goroutine; who accepts while somebody else
// does waits for its turn. One that nobody closes is closed as a [Conn] is; at the end of the
// runtime the path of a Unix socket is removed, too.
type Listener struct {
	socket   *socket.Socket
	network  string
	addr     net.Addr
	side     side
	closed   atomic.Bool
	keep     atomic.Bool // SetUnlinkOnClose(false), or the path was removed
	resident *resident.Resident
}

func (l *Listener) begin(network string) {
	home, _ := inner(l.socket).Home()
	l.network, l.addr, l.side.limit.values = network, l.socket.LocalAddr(), home.Runtime().Context()
	if l.addr == nil {
		l.addr = noAddr(network)
	}
	l.resident = resident.MoveIn(l.socket, l)
}

// ShutdownBegins and RuntimeEnded make it an owner.
func (l *Listener) ShutdownBegins() { l.side.limit.end(runtime.ErrShutdown) }
func (l *Listener) RuntimeEnded()   { l.unlink() }

// unlink removes the path of a Unix socket, once. It comes before the socket is closed, lest it be
// another's by then.
func (l *Listener) unlink() {
	if path, ok := l.addr.(*net.UnixAddr); ok && path.Name != "" && path.Name[0] != '@' &&
		!l.keep.Swap(true) {
		os.Remove(path.Name)
	}
}

func (l *Listener) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if inner, ok := err.(*net.OpError); ok {
		err = inner.Err
	}
	if !l.closed.Load() {
		err = l.side.limit.why(err)
	}
	return &net.OpError{Op: op, Net: l.network, Addr: l.addr, Err: err}
}

// Accept waits for a connection and returns it, a *Conn: on the caller's loop if the caller is a
// coroutine, else on one of the runtime's loops in turn.
func (l *Listener) Accept() (net.Conn, error) {
	c := &Conn{accepted: true}
	if err := l.accept(c); err != nil {
		return nil, l.fail("accept", err)
	}
	c.begin(l.network)
	if c.remote == nil { // the peer has reset the connection already
		c.remote = noAddr(l.network)
	}
	return c, nil
}

func (l *Listener) accept(c *Conn) error {
	ctx, err := l.side.enterContext()
	if err != nil {
		return err
	}
	defer l.side.turn.Unlock()
	in, err := inner(l.socket).AcceptIncoming(ctx)
	if err != nil {
		return err
	}
	c.socket = new(socket.Socket)
	return inner(c.socket).Begin(ctx, in)
}

// Close stops listening; who waits in Accept is woken with net.ErrClosed. Connections stay as they
// are. The path of a Unix socket is removed, see SetUnlinkOnClose.
func (l *Listener) Close() error {
	if !l.closed.CompareAndSwap(false, true) {
		return l.fail("close", net.ErrClosed)
	}
	l.resident.Leave()
	l.unlink()
	l.side.limit.end(net.ErrClosed)
	err := l.socket.Close()
	if errors.Is(err, net.ErrClosed) { // by the end of the runtime
		return nil
	}
	return l.fail("close", err)
}

// Addr returns the address that is listened on; also after Close.
func (l *Listener) Addr() net.Addr { return l.addr }

// SetDeadline sets the time after which Accept returns os.ErrDeadlineExceeded. It may be moved at
// any time; the zero time is none.
func (l *Listener) SetDeadline(t time.Time) error { return l.fail("set", l.side.limit.set(t)) }

// SetUnlinkOnClose says whether Close removes the path of a Unix socket; it does by default.
func (l *Listener) SetUnlinkOnClose(unlink bool) { l.keep.Store(!unlink) }
