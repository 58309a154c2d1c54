package hooks

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/resident"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// Conn is a connection over "tcp", "unix" or "unixpacket" as a net.Conn. [Dialer] and the listeners
// of [Listen] make it.
//
// All methods may be called from any coroutine and any goroutine, several at once, as net.Conn
// promises. Who reads while somebody else does waits for its turn, in the order of arrival, and so
// with writing: what one Write sends is not mixed with another's. The deadlines bound the wait for
// the turn, too.
//
// The connection lives on the loop of the coroutine that has dialled or accepted it, else on one of
// its runtime's loops. It is cheapest there. When the runtime shuts down, what waits returns
// runtime.ErrShutdown, and so does what begins afterwards.
//
// A connection that nobody closes is closed when the garbage collector finds that nobody refers to
// it, as package net's are, and at the latest when its runtime has ended. Neither is soon: close
// what isn't needed any more.
//
// Errors are *net.OpError with the operations of package net ("read", "write", "close", …), and
// errors.Is finds in them net.ErrClosed, os.ErrDeadlineExceeded and the errors of the system.
// io.EOF comes bare.
type Conn struct {
	conn
	accepted bool
}

// conn is what Conn and PacketConn have in common.
type conn struct {
	socket *socket.Socket
	rd, wr side

	network string
	// As they were at the beginning; remote is nil on a PacketConn that isn't connected.
	local, remote net.Addr
	host          string // that was dialled, for certificates

	closed   atomic.Bool
	linger   atomic.Pointer[time.Duration] // of SetLinger
	resident *resident.Resident
}

// side is one direction of a connection. What each operation looks at lies together: the beginning
// of both fields.
type side struct {
	turn  runtime.Mutex
	limit limit
}

// enter waits for the turn. The caller unlocks it after the operation, which waits by the period.
func (s *side) enter() (*period, error) {
	p := s.limit.period()
	if err := p.Err(); err != nil {
		return nil, err
	}
	if s.turn.TryLock() {
		return p, nil
	}
	return p, s.turn.Lock(s.limit.context(p))
}

// enterContext is enter for operations that wait by a context.
func (s *side) enterContext() (context.Context, error) {
	p, err := s.enter()
	if err != nil {
		return nil, err
	}
	return s.limit.context(p), nil
}

// begin makes the rest of a conn whose socket has its descriptor.
func (c *conn) begin(network string) {
	home, _ := inner(c.socket).Home()
	runtimeContext := home.Runtime().Context()
	c.network = network
	c.rd.limit.values, c.wr.limit.values = runtimeContext, runtimeContext
	c.rd.limit.reader = c.socket
	c.socket.SetTimeouts(socket.Timeouts{Handshake: socket.DefaultHandshakeTimeout})
	c.local, c.remote = c.socket.LocalAddr(), c.socket.RemoteAddr()
	if c.local == nil {
		c.local = noAddr(network)
	}
	c.resident = resident.MoveIn(c.socket, c)
}

// ShutdownBegins and RuntimeEnded make it an owner.
func (c *conn) ShutdownBegins() { c.end(runtime.ErrShutdown) }
func (c *conn) RuntimeEnded()   {}

// end ends all waiting for good.
func (c *conn) end(err error) {
	c.wr.limit.end(err)
	c.rd.limit.end(err)
}

// noAddr stands for an address that the kernel couldn't tell any more.
func noAddr(network string) net.Addr {
	switch network[:3] {
	case "tcp":
		return new(net.TCPAddr)
	case "udp":
		return new(net.UDPAddr)
	}
	return &net.UnixAddr{Net: network}
}

// fail gives an error the form that package net's have.
func (c *conn) fail(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if inner, ok := err.(*net.OpError); ok {
		if inner.Op == "remote error" || inner.Op == "local error" { // alerts, of crypto/tls
			return err
		}
		err = inner.Err
	}
	if !c.closed.Load() {
		err = c.wr.limit.why(err)
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.remote, Err: err}
}

// Read reads what there is, up to len(p) bytes, and waits until there is something. On a PacketConn
// it reads one datagram, of which is lost what doesn't fit.
func (c *conn) Read(p []byte) (int, error) {
	period, err := c.rd.enter()
	if err != nil {
		return 0, c.fail("read", err)
	}
	defer c.rd.turn.Unlock()
	n, err := inner(c.socket).RecvUntil(period, p)
	return n, c.fail("read", err)
}

// Write writes all of p, and waits where the peer is slow. When a deadline passes it returns how
// much is on its way: writing on from there sends each byte once, with TLS too.
func (c *conn) Write(p []byte) (int, error) {
	ctx, err := c.wr.enterContext()
	if err != nil {
		return 0, c.fail("write", err)
	}
	defer c.wr.turn.Unlock()
	n, err := inner(c.socket).SendExact(ctx, p)
	return n, c.fail("write", err)
}

// Close closes the connection and returns at once. Whoever waits in an operation, or for its turn,
// is woken with net.ErrClosed. What was written is still delivered in the background, see
// SetLinger. A second Close returns net.ErrClosed.
func (c *conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.fail("close", net.ErrClosed)
	}
	c.resident.Leave()
	c.end(net.ErrClosed)
	closeSocket := c.socket.Close
	if linger := c.linger.Load(); linger != nil {
		c.socket.SetLinger(*linger)
		if *linger == 0 {
			closeSocket = c.socket.Abort
		}
	}
	err := closeSocket()
	if errors.Is(err, net.ErrClosed) { // by a handshake that has failed, or the end of the runtime
		return nil
	}
	return c.fail("close", err)
}

// LocalAddr returns the address that the connection was made from; also after Close.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer; also after Close. It is nil for a PacketConn that
// isn't connected.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the time after which reading and writing return os.ErrDeadlineExceeded, those
// that wait at that moment included. It may be moved at any time; the zero time is none. What a
// Read that timed out didn't get, the next one gets.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is SetDeadline for reading.
func (c *conn) SetReadDeadline(t time.Time) error { return c.fail("set", c.rd.limit.set(t)) }

// SetWriteDeadline is SetDeadline for writing.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.fail("set", c.wr.limit.set(t)) }

// SetReadBuffer sets the size of the kernel's receive buffer.
func (c *conn) SetReadBuffer(
	bytes int,
) error {
	return c.set(unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
}

// SetWriteBuffer sets the size of the kernel's send buffer.
func (c *conn) SetWriteBuffer(
	bytes int,
) error {
	return c.set(unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

func (c *conn) set(level, name, value int) error {
	return c.fail("set", c.socket.SetOption(level, name, value))
}

// CloseWrite ends the writing side: the peer reads io.EOF and can still send. It comes after the
// writes that are under way, within the write deadline. With TLS, the peer is told so by an alert,
// too (close_notify).
func (c *Conn) CloseWrite() error {
	ctx, err := c.wr.enterContext()
	if err != nil {
		return c.fail("close", err)
	}
	defer c.wr.turn.Unlock()
	return c.fail("close", c.socket.Shutdown(ctx, socket.ShutdownWrite))
}

// CloseRead ends the reading side. Who reads gets what has arrived and then io.EOF; what arrives
// later the kernel may keep.
func (c *Conn) CloseRead() error {
	// Which doesn't wait.
	return c.fail("close", c.socket.Shutdown(context.Background(), socket.ShutdownRead))
}

// EnableSSL turns the connection, in place, into TLS: as the client if it was dialled, as the
// server if it was accepted. It waits until the reads and writes that are under way have ended.
// ctx, the deadlines and socket.DefaultHandshakeTimeout bound it. A client whose config has no
// ServerName expects the host that was dialled.
//
// It refuses to start behind plaintext that has arrived and was not read
// (socket.ErrPlaintextPending), and whatever goes wrong closes the connection: see
// socket.Socket.SSLHandshake. Only socket.ErrSSLActive, and a turn that doesn't come in time, leave
// it as it is. A handshake that fails is a *explain.HandshakeError inside the *net.OpError, which
// says what to do about it.
func (c *Conn) EnableSSL(ctx context.Context, config *tls.Config) error {
	if config == nil {
		config = new(tls.Config)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, side := range []*side{&c.rd, &c.wr} {
		p := side.limit.context(side.limit.period())
		defer context.AfterFunc(p, func() { cancel(p.Err()) })()
	}
	failed := func(err error) error {
		if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && cause != nil {
			err = cause
		}
		return c.fail("handshake", err)
	}
	for _, side := range []*side{&c.rd, &c.wr} {
		if err := side.turn.Lock(ctx); err != nil {
			return failed(err)
		}
		defer side.turn.Unlock()
	}
	config, err := named(config, c.host)
	if err != nil {
		c.Close()
		return failed(err)
	}
	err = c.socket.SSLHandshake(ctx, config)
	if err == nil || c.socket.Connected() {
		return failed(err)
	}
	c.Close()
	peer := cmp.Or(c.host, c.remote.String())
	return failed(dialing.Explain(err, peer, func(err error) error {
		if c.accepted {
			return explain.Server(err, peer, config)
		}
		return explain.Client(err, peer, config)
	}))
}

// named returns the configuration with a ServerName in A-labels: its own, or else the host.
func named(config *tls.Config, host string) (*tls.Config, error) {
	name, err := dialing.ASCII(cmp.Or(config.ServerName, host))
	if err == nil && name != config.ServerName {
		config = config.Clone()
		config.ServerName = name
	}
	return config, err
}

// ConnectionState returns what the handshake of EnableSSL has agreed on; ok is false without TLS.
func (c *Conn) ConnectionState() (state tls.ConnectionState, ok bool) {
	return c.socket.ConnectionState()
}

// SetLinger says what becomes, after Close, of data that was not sent and acknowledged yet: it is
// delivered in the background, for at most that many seconds (negative: socket.DefaultLinger); with
// 0 it is dropped, and a TCP connection reset.
func (c *Conn) SetLinger(seconds int) error {
	if c.closed.Load() {
		return c.fail("set", net.ErrClosed)
	}
	linger := time.Duration(seconds) * time.Second
	if seconds < 0 {
		linger = socket.DefaultLinger
	}
	c.linger.Store(&linger)
	return nil
}

// SetNoDelay switches TCP's gathering of small segments off (true, the default) or on.
func (c *Conn) SetNoDelay(noDelay bool) error { return c.fail("set", c.socket.SetNoDelay(noDelay)) }

// SetKeepAlive switches TCP's keep-alive probes on or off.
func (c *Conn) SetKeepAlive(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return c.set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, value)
}

// SetKeepAliveConfig sets up TCP's keep-alive probes, see net.KeepAliveConfig.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.fail("set", setKeepAlive(c.socket, config))
}

// Socket returns a Conn's socket, for a package of this module that has its own make do with it,
// and doesn't close the Conn: programs have no Key. What SetLinger has set is the socket's then.
func Socket(c *Conn, _ house.Key) *socket.Socket {
	if linger := c.linger.Load(); linger != nil {
		c.socket.SetLinger(*linger)
	}
	return c.socket
}

// inner returns what programs have no call for.
func inner(s *socket.Socket) house.Socket { return socket.House(s, house.Key{}) }
