package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"iter"
	"net"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// Client is a connection to a server. Make it with [New].
//
// Its methods may be called from any coroutine and any goroutine. At a time one caller may be in
// Recv and one in Send or SendFile; a second one gets socket.ErrBusy. EnableSSL wants both
// directions for itself. Close may be called at any time; who waits is woken with net.ErrClosed.
// After Close the Client can connect again.
//
// An error leaves the connection open, unless it is one of EnableSSL; an error other than a
// time-out or a cancellation means that the connection is of no use any more and should be closed.
type Client struct {
	current atomic.Pointer[connection] // first: each operation begins here
	*dialer
	mu     sync.Mutex  // guards changes of current and closed
	closed atomic.Bool // Close was called since the last Connect
}

// connection is one connection of a Client.
type connection struct {
	socket socket.Socket // first: each operation goes on here
	to     *target
	// state is nil until Connect has done all it had to, proxy and TLS included; then it is
	// &stands, or the error of EnableSSL.
	state atomic.Pointer[error]
}

var stands error

// New makes a Client that is not connected, with a configuration of its own, which costs more than
// the rest of it: for many of a kind there is [Dialer]. What is wrong with the configuration is
// returned by Connect.
//
//go:noinline
func New(config Config) *Client { // not inlined: a coroutine that calls it has a small stack
	d := new(dialer)
	d.init(&config)
	return &Client{dialer: d}
}

// Connect connects to a server. network is one of net.Dial's ("tcp", "tcp4", "tcp6", "udp", "udp4",
// "udp6", "unix", "unixgram", "unixpacket"), or "tls", "tls4" or "tls6" for TCP with TLS from the
// start; address is "host:port" or the path of a Unix socket. If the host has several addresses,
// they are tried as RFC 8305 says. An international host name, "bücher.example", is looked up, sent
// and verified as DNS has it. A Client that is connected returns socket.ErrConnected. With a
// context that is done Connect begins nothing.
//
// Not inlined: the caller's frame stays on a small stack.
//
//go:noinline
func (c *Client) Connect(ctx context.Context, network, address string) error {
	return deep(
		ctx,
		"connect",
		func(ctx context.Context) error { return c.connect(ctx, network, address) },
	)
}

// connect is Connect, on a deep stack.
func (c *Client) connect(ctx context.Context, network, address string) (err error) {
	if c.invalid != nil {
		return c.invalid
	}
	to, err := c.target(network, address)
	if err != nil {
		return err
	}
	conn := &connection{to: to}
	if socket.House(&conn.socket, house.Key{}).Init(to.transport) != nil {
		return &net.OpError{Op: "connect", Net: network, Err: net.UnknownNetworkError(network)}
	}
	if err := c.begin(conn); err != nil {
		return err
	}
	// Unless dial returns: callbacks of the TLS configuration are the program's.
	err = runtime.ErrGoexit
	defer func() {
		if err != nil {
			conn.socket.Abort()
			c.current.CompareAndSwap(conn, nil)
		}
	}()
	if err = c.dial(ctx, &conn.socket, to); err == nil {
		conn.state.Store(&stands)
	}
	return err
}

// deep runs what needs a deep stack on one that is kept for that, so that those of very many
// coroutines stay small.
func deep(ctx context.Context, op string, fn func(ctx context.Context) error) error {
	var err error
	returned := false
	switch detour := runtime.Detour(ctx, func(ctx context.Context) { err, returned = fn(ctx), true }); {
	case detour == runtime.ErrOnLoop: // not in a coroutine: what doesn't wait may be done nevertheless
		return fn(ctx)
	case detour != nil:
		panic(detour)
	case !returned:
		// Only callbacks of the TLS configuration can.
		return &net.OpError{Op: op, Err: explain.Local(runtime.ErrGoexit, "")}
	}
	return err
}

// begin makes conn the client's connection if it has no other.
func (c *Client) begin(conn *connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.current.Load(); old != nil && old.failed() == nil {
		return conn.to.fail(socket.ErrConnected)
	}
	c.current.Store(conn)
	c.closed.Store(false)
	return nil
}

// use returns the connection, or the error of having none. One that Connect still works on is not
// to be used: it may be to a proxy, or in plaintext.
func (c *Client) use(op string) (*connection, error) {
	conn := c.current.Load()
	if conn != nil {
		if conn.state.Load() == &stands {
			return conn, nil
		}
		if failed := conn.failed(); failed != nil {
			return nil, &net.OpError{Op: op, Err: failed}
		}
	}
	if c.closed.Load() {
		return nil, &net.OpError{Op: op, Err: net.ErrClosed}
	}
	return nil, &net.OpError{Op: op, Err: socket.ErrNotConnected}
}

// failed returns the error of an EnableSSL that has ended the connection.
func (conn *connection) failed() error {
	if state := conn.state.Load(); state != nil {
		return *state
	}
	return nil
}

// Send sends all of p. Small messages that are sent in one turn of the loop leave together, at its
// end or when the Client waits in Recv, so p may be used again as soon as Send has returned; an
// error of the connection may come out of a later operation. A sender that outruns its peer waits.
// Send returns len(p), or with an error how much was taken before it.
func (c *Client) Send(ctx context.Context, p []byte) (int, error) {
	conn, err := c.use("send")
	if err != nil {
		return 0, err
	}
	return conn.socket.SendSoon(ctx, p)
}

// SendFile sends length bytes of a file from offset on; length 0 means to the end of the file. It
// returns how many bytes were sent. In plaintext the kernel copies the file (sendfile(2)).
func (c *Client) SendFile(ctx context.Context, name string, offset, length int64) (int64, error) {
	conn, err := c.use("sendfile")
	if err != nil {
		return 0, err
	}
	return socket.House(&conn.socket, house.Key{}).SendPath(ctx, name, offset, length)
}

// Recv receives one packet, or without framing what there is. The packet is valid until the next
// Recv or EnableSSL of this Client, whatever other coroutines do meanwhile.
//
// io.EOF says that the server has closed the connection after a packet, io.ErrUnexpectedEOF that it
// did so in the middle of one. After a time-out or a cancellation nothing is lost: the next Recv
// goes on with the bytes that have come. A packet of more than MaxPacket bytes is
// packet.ErrPacketTooLarge, and so is every Recv afterwards.
func (c *Client) Recv(ctx context.Context) ([]byte, error) {
	conn := c.current.Load()
	if conn == nil || conn.state.Load() != &stands {
		_, err := c.use("recv")
		return nil, err
	}
	p, err := conn.socket.RecvPacket(ctx)
	if err == nil {
		return p, nil
	}
	return nil, c.explain(conn.to, err)
}

// Packets returns the packets of the connection, as Recv would one after the other, at less cost
// when many come at a time. A packet is valid until the next one. The sequence ends when the server
// has closed the connection after a packet; any other error of Recv comes last, without a packet.
// While the loop over it runs, Recv, Peek and EnableSSL return socket.ErrBusy; what the loop hasn't
// come to is there for them when it is left.
func (c *Client) Packets(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		conn, err := c.use("recv")
		if err != nil {
			yield(nil, err)
			return
		}
		if err := socket.House(&conn.socket, house.Key{}).EachPacket(ctx, yield); err != nil {
			yield(nil, c.explain(conn.to, err))
		}
	}
}

// Peek copies up to len(p) bytes that have arrived and were not received yet, and leaves them
// there. It doesn't wait: socket.ErrWouldBlock if nothing has arrived, io.EOF if nothing more will.
func (c *Client) Peek(p []byte) (int, error) {
	conn, err := c.use("peek")
	if err != nil {
		return 0, err
	}
	return conn.socket.Peek(p)
}

// EnableSSL turns the connection into TLS, in place: STARTTLS, after the server has agreed to it.
// The certificate is verified against the host that was dialled, or Config.TLS.ServerName.
// Config.HandshakeTimeout bounds the whole handshake.
//
// It returns socket.ErrSSLActive when TLS is on already, socket.ErrBusy while another caller sends
// or receives, and syscall.ESOCKTNOSUPPORT on a network without streams; then the connection stays
// as it was. It returns socket.ErrPlaintextPending, before anything is sent, when something has
// arrived in plaintext that was not received. A handshake that fails returns a
// *explain.HandshakeError, which says why. In these two cases the connection is closed, and
// operations afterwards return net.ErrClosed with that reason.
func (c *Client) EnableSSL(ctx context.Context) error {
	conn, err := c.use("handshake")
	if err != nil {
		return err
	}
	err = deep(ctx, "handshake", func(ctx context.Context) error {
		return c.handshake(ctx, &conn.socket, conn.to)
	})
	if err == nil || errors.Is(err, socket.ErrSSLActive) || errors.Is(err, socket.ErrBusy) ||
		conn.socket.Connected() {
		return err
	}
	var failed error = &failedError{err}
	conn.state.CompareAndSwap(&stands, &failed)
	return err
}

// failedError is what operations return after a failed EnableSSL: the connection is closed, and
// that is why.
type failedError struct{ cause error }

func (e *failedError) Error() string        { return net.ErrClosed.Error() + ": " + e.cause.Error() }
func (e *failedError) Is(target error) bool { return target == net.ErrClosed }
func (e *failedError) Unwrap() error        { return e.cause }

// Reframe has Recv find packets as Config says again, from the next byte on, after the SetProtocol
// of Socket has had it do otherwise. It returns socket.ErrBusy while another caller receives.
func (c *Client) Reframe() error {
	conn, err := c.use("set protocol")
	if err != nil {
		return err
	}
	framer, err := c.config.framer()
	if err != nil {
		return err
	}
	return conn.socket.SetProtocol(framer)
}

// ServerName returns whom EnableSSL verifies: Config.TLS.ServerName, or else the host that was
// dialled, as DNS has it. It is empty if the Client is not connected.
func (c *Client) ServerName() string {
	conn := c.current.Load()
	switch {
	case conn == nil:
		return ""
	case c.name != "":
		return c.name
	}
	return conn.to.name
}

// ConnectionState returns what the TLS handshake has agreed on; ok is false without TLS.
func (c *Client) ConnectionState() (state tls.ConnectionState, ok bool) {
	conn := c.current.Load()
	if conn == nil {
		return state, false
	}
	return conn.socket.ConnectionState()
}

// PeerCertificates returns the certificates that the server has shown, its own first; nil without
// TLS.
func (c *Client) PeerCertificates() []*x509.Certificate {
	state, _ := c.ConnectionState()
	return state.PeerCertificates
}

// Connected reports whether Connect has succeeded and neither Close nor a failed EnableSSL has
// ended the connection since. It doesn't notice that the server has gone.
func (c *Client) Connected() bool {
	conn := c.current.Load()
	return conn != nil && conn.state.Load() != nil && conn.socket.Connected()
}

// LocalAddr returns the local address, nil if the Client is not connected.
func (c *Client) LocalAddr() net.Addr {
	if conn := c.current.Load(); conn != nil {
		return conn.socket.LocalAddr()
	}
	return nil
}

// RemoteAddr returns the server's address, or the proxy's; nil if the Client is not connected.
func (c *Client) RemoteAddr() net.Addr {
	if conn := c.current.Load(); conn != nil {
		return conn.socket.RemoteAddr()
	}
	return nil
}

// Socket returns the connection's socket, nil if there is none, for what the Client has no method
// for. It shares the connection with the Client.
func (c *Client) Socket() *socket.Socket {
	if conn := c.current.Load(); conn != nil {
		return &conn.socket
	}
	return nil
}

// Close closes the connection and returns at once; what was sent is still delivered, see
// Config.Linger. It returns net.ErrClosed if there is none.
func (c *Client) Close() error { return c.end((*socket.Socket).Close) }

// Abort closes the connection and drops what is still under way; the server sees a reset.
func (c *Client) Abort() error { return c.end((*socket.Socket).Abort) }

func (c *Client) end(how func(*socket.Socket) error) error {
	c.mu.Lock()
	conn := c.current.Load()
	c.current.Store(nil)
	c.closed.Store(true)
	c.mu.Unlock()
	if conn == nil {
		return &net.OpError{Op: "close", Err: net.ErrClosed}
	}
	if conn.failed() != nil {
		return nil // it is closed already
	}
	return how(&conn.socket)
}
