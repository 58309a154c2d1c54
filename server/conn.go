package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/whorl-go/whorl/internal/callback"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// ID is the number of a connection: never 0, and never used again by the same Server. Swoole's
// session id.
type ID uint64

// Conn is a connection that the server has accepted.
//
// Its methods may be called from any coroutine and any goroutine, and those that don't wait from
// callbacks. With Handle, one caller at a time may be in Recv, and one in Send or SendFile; a
// second one gets socket.ErrBusy. Close may be called at any time.
type Conn struct {
	flow     callback.Conn // first: packets begin here
	listener *Listener
	worker   *worker
	value    any
	rare     atomic.Pointer[rare]
	id       ID

	// Of the worker's wheel.
	prev, next *Conn

	seen  atomic.Uint32 // a tick: when the last packet has come
	flags atomic.Uint32
	due   tick
	began age

	remote [16]byte // as netip has it
	port   uint16
	family uint8 // 4, 6, or 0: a Unix socket
	slot   uint8 // of the wheel
	stage  stage
	// That are left of it: itself, its handler, what it delivers after its end. On the loop.
	parts uint8
}

// rare is what few connections have.
type rare struct {
	uid     atomic.Int64
	outside callback.Outside
	failure atomic.Pointer[error] // what a handler was told of the connection's end
	zone    string                // of an IPv6 address
	proxy   *Proxied
	atEnd   []func() // of the loop
}

const (
	flagClosed    uint32 = 1 << iota
	flagProtected        // from IdleTimeout
	flagUpgrading        // EnableSSL is under way
	flagCounted          // for the address
	flagSpoken           // its client has sent a packet
	flagRefused          // it is one more than MaxConnections
)

func (c *Conn) toRare() *rare {
	for {
		if r := c.rare.Load(); r != nil {
			return r
		}
		c.rare.CompareAndSwap(nil, new(rare))
	}
}

// ID returns the connection's number.
func (c *Conn) ID() ID { return c.id }

// Listener returns the listener that has accepted the connection.
func (c *Conn) Listener() *Listener { return c.listener }

// Server returns the server.
func (c *Conn) Server() *Server { return c.worker.server }

// Socket returns the connection's socket, for what Conn has no method for. It shares the connection
// with the Conn.
func (c *Conn) Socket() *socket.Socket { return &c.flow.Socket }

// Value returns what SetValue has set. Both are for callbacks and coroutines of the connection's
// loop, which need no lock.
func (c *Conn) Value() any { return c.value }

// SetValue keeps a value with the connection, such as the state of its session; not beyond a
// successful EnableSSL.
func (c *Conn) SetValue(v any) { c.value = v }

func (c *Conn) setRemote(a netip.AddrPort) {
	ip := a.Addr()
	c.remote, c.port = [16]byte{}, a.Port()
	switch {
	case !a.IsValid():
		c.family = 0
		return
	case ip.Unmap().Is4():
		c.family = 4
		ip = ip.Unmap()
	default:
		c.family = 6
		if zone := ip.Zone(); zone != "" {
			c.toRare().zone = zone
		}
	}
	c.remote = ip.As16()
}

// RemoteAddrPort returns the address of the client, also when a proxy has told it; not valid on a
// Unix socket.
func (c *Conn) RemoteAddrPort() netip.AddrPort {
	ip := netip.AddrFrom16(c.remote)
	switch c.family {
	case 0:
		return netip.AddrPort{}
	case 4:
		ip = ip.Unmap()
	default:
		if r := c.rare.Load(); r != nil && r.zone != "" {
			ip = ip.WithZone(r.zone)
		}
	}
	return netip.AddrPortFrom(ip, c.port)
}

// RemoteAddr is RemoteAddrPort as a net.Addr.
func (c *Conn) RemoteAddr() net.Addr {
	if a := c.RemoteAddrPort(); a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return &net.UnixAddr{Net: c.listener.network}
}

// LocalAddr returns the address that the client has connected to, or that the proxy has told.
func (c *Conn) LocalAddr() net.Addr {
	if p := c.Proxied(); p != nil && p.Destination.IsValid() {
		return net.TCPAddrFromAddrPort(p.Destination)
	}
	return c.flow.Socket.LocalAddr()
}

// Proxied returns what the header of a proxy has said, nil if there was none.
func (c *Conn) Proxied() *Proxied {
	if r := c.rare.Load(); r != nil {
		return r.proxy
	}
	return nil
}

// ConnectionState returns what the TLS handshake has agreed on; ok is false without TLS.
func (c *Conn) ConnectionState() (state tls.ConnectionState, ok bool) {
	return c.flow.Socket.ConnectionState()
}

// Recv receives one packet, or without framing what there is, with Handle. The packet is valid
// until the next Recv or EnableSSL.
//
// io.EOF says that the client has closed after a packet, io.ErrUnexpectedEOF that it did so in the
// middle of one, ErrShutdown that the server shuts down and no packet has come any more. After a
// time-out nothing is lost: the next Recv goes on with the bytes that have come.
func (c *Conn) Recv(ctx context.Context) ([]byte, error) {
	// Very many coroutines are parked here: what needs room on the stack is done by others.
	if c.refuses() {
		return c.recvFailed(ctx, socket.ErrCanceled)
	}
	pkt, err := c.flow.Socket.RecvPacket(ctx)
	return c.receives(ctx, pkt, err)
}

// refuses reports whether Recv may not begin: the server shuts down, or has callbacks.
func (c *Conn) refuses() bool {
	return c.listener.port.Handle == nil || c.worker.server.draining.Load() && !c.fresh()
}

// receives is the part of Recv that follows the socket's.
func (c *Conn) receives(ctx context.Context, pkt []byte, err error) ([]byte, error) {
	if err != nil {
		return c.recvFailed(ctx, err)
	}
	c.received(pkt)
	return pkt, nil
}

// Packets returns the packets of the connection, with Handle, as Recv would one after the other, at
// less cost when many come at a time. A packet is valid until the next one. The sequence ends when
// the client has closed after a packet; any other error of Recv, ErrShutdown included, comes last,
// without a packet. While the loop over it runs, Recv, Peek and EnableSSL return socket.ErrBusy;
// what the loop hasn't come to is there for them when it is left.
func (c *Conn) Packets(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			err := c.eachPacket(ctx, yield)
			if err == nil {
				return
			}
			pkt, err := c.recvFailed(ctx, err) // in a Shutdown there may be more
			if err == io.EOF || !yield(pkt, err) || err != nil {
				return
			}
		}
	}
}

// eachPacket hands out packets until yield returns false, which is no error, or something ends that.
func (c *Conn) eachPacket(ctx context.Context, yield func([]byte, error) bool) error {
	if c.refuses() {
		return socket.ErrCanceled
	}
	left := false
	err := c.flow.House().EachPacket(ctx, func(pkt []byte, _ error) bool {
		c.received(pkt)
		left = !yield(pkt, nil)
		return !left && !c.refuses()
	})
	switch {
	case left, err != nil:
		return err
	case c.refuses():
		return socket.ErrCanceled
	}
	return io.EOF
}

// recvFailed is the part of Recv that follows an error. When the server shuts down, what has begun
// to arrive is still received.
func (c *Conn) recvFailed(ctx context.Context, err error) (pkt []byte, _ error) {
	if c.listener.port.Handle == nil {
		return nil, &net.OpError{Op: "recv", Err: errCallbacks}
	}
	if c.worker.server.draining.Load() && errors.Is(err, socket.ErrCanceled) {
		s := &c.flow.Socket
		if _, peek := s.Peek(make([]byte, 1)); errors.Is(peek, socket.ErrWouldBlock) {
			err = ErrShutdown
		} else {
			pkt, err = s.RecvPacket(ctx) // some of it is there already
		}
	}
	switch {
	case err == nil:
		c.received(pkt)
	case final(err):
		c.failed(err)
	}
	return pkt, err
}

// final reports whether an error of Recv says that nothing more will be received.
func final(err error) bool {
	return !errors.Is(err, runtime.ErrTimeout) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, socket.ErrBusy)
}

var errCallbacks = errors.New("the connection is served by callbacks, which receive its packets")

// received counts a packet.
func (c *Conn) received(pkt []byte) {
	w := c.worker
	if c.flags.Load()&flagSpoken == 0 {
		c.flags.Or(flagSpoken)
	}
	if c.listener.port.IdleTimeout > 0 {
		c.seen.Store(uint32(w.server.clock()))
	} else {
		c.seen.Store(w.clock.Load()) // Info is content with that
	}
	w.counters.packetsIn.Add(1)
	w.counters.bytesIn.Add(uint64(len(pkt)))
}

// Peek copies up to len(p) bytes that have arrived and were not received yet, and leaves them
// there. It doesn't wait: socket.ErrWouldBlock if nothing has arrived.
func (c *Conn) Peek(p []byte) (int, error) { return c.flow.Socket.Peek(p) }

// Send sends all of p, which may be used again when it returns.
//
// With Handle, small messages that are sent in one turn of the loop leave together, and a sender
// that outruns its client waits. With callbacks, Send never waits: what the client doesn't take is
// queued, up to Port.MaxQueue; beyond that Send fails with socket.ErrQueueFull and takes nothing.
// From elsewhere than the connection's loop it is Server.Send.
func (c *Conn) Send(ctx context.Context, p []byte) (int, error) {
	if c.listener.port.Handle == nil {
		if err := c.send(p); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	n, err := c.flow.Socket.SendSoon(ctx, p)
	c.flow.WriteReleased()
	if err == nil {
		c.sent(n)
	}
	return n, err
}

// send sends without waiting, from wherever it is called.
func (c *Conn) send(p []byte) error {
	switch {
	case c.flow.House().OnLoop():
		return c.queue(p)
	case c.flags.Load()&flagClosed != 0:
		return net.ErrClosed
	}
	return c.toRare().outside.Send(&c.flow, p, c.queue)
}

// queue is send on the connection's loop.
func (c *Conn) queue(p []byte) error {
	err := c.flow.Send(p)
	if err == nil {
		c.sent(len(p))
	}
	return err
}

// sent counts a packet of n bytes.
func (c *Conn) sent(n int) {
	c.worker.counters.packetsOut.Add(1)
	c.worker.counters.bytesOut.Add(uint64(n))
}

// SendFile sends length bytes of a file from offset on; length 0 means to the end of the file. It
// waits, so a callback must call it in a coroutine; packets that are sent meanwhile go out after
// it. In plaintext the kernel copies the file (sendfile(2)). It returns how many bytes were sent.
func (c *Conn) SendFile(ctx context.Context, name string, offset, length int64) (int64, error) {
	if r := c.rare.Load(); r != nil {
		if err := r.outside.Arrive(ctx, &c.flow); err != nil {
			return 0, &net.OpError{Op: "sendfile", Net: c.flow.Socket.Network(), Err: err}
		}
	}
	n, err := c.flow.House().SendPath(ctx, name, offset, length)
	c.flow.WriteReleased()
	c.worker.counters.bytesOut.Add(uint64(n))
	return n, err
}

// EnableSSL turns the connection into TLS, in place, in the server's role: STARTTLS, after the
// answer that allows the client to begin was sent. It waits for the end of the handshake; callbacks
// use EnableSSLAsync.
//
// From its first moment to its last the connection is its own: whatever else sends or receives, or
// would begin TLS, gets socket.ErrBusy and changes nothing. Only what Server.Send, and Send of
// callbacks, have taken is kept, and goes out afterwards, encrypted. Afterwards, too, nothing is
// left of what was learnt in plaintext: the framing begins anew, and Value is nil.
//
// When more has arrived in plaintext than was received, or anything while the answer is still on
// its way, it fails with socket.ErrPlaintextPending: whoever put it there could pass it off as the
// client's words over TLS (CVE-2011-0411). Then, and when the handshake fails, the connection is
// closed. Port.HandshakeTimeout bounds all of it, the wait for the client's hello included.
//
// It fails with socket.ErrBusy while another caller sends or receives or is in EnableSSL, with
// socket.ErrSSLActive when TLS is on already, and with ErrNoTLS if Port has no certificates; then
// the connection stays as it was.
func (c *Conn) EnableSSL(ctx context.Context) error {
	if c.listener.port.Handle == nil {
		return &net.OpError{Op: "handshake", Err: errCallbacksSSL}
	}
	if err := c.beginUpgrade(); err != nil {
		return err
	}
	err := c.upgraded(c.upgrade(ctx))
	if err != nil && !c.flow.Socket.Connected() {
		c.failed(err)
	}
	c.flow.WriteReleased()
	return err
}

var errCallbacksSSL = errors.New("the connection is served by callbacks, which use EnableSSLAsync")

// EnableSSLAsync is EnableSSL for callbacks: it returns at once, no packets are handed out
// meanwhile, and done is called with the outcome, on the connection's loop; nil for done is
// allowed.
func (c *Conn) EnableSSLAsync(
	ctx context.Context,
	done func(ctx context.Context, c *Conn, err error),
) {
	finish := func(err error) {
		if done != nil {
			done(c.worker.ctx, c, err)
		}
	}
	if err := c.beginUpgrade(); err != nil {
		c.onLoop(func() { c.flow.Guard(func() { finish(err) }) })
		return
	}
	c.onLoop(func() {
		c.flow.EnableSSL(ctx, sched.Go, c.upgrade, func(err error) {
			err = c.upgraded(err)
			finish(err)
			if err != nil && !c.flow.Socket.Connected() {
				c.flow.End(err, false)
			}
		})
	})
}

// beginUpgrade takes the connection for an upgrade. The socket's locks keep others from it.
func (c *Conn) beginUpgrade() error {
	var err error
	switch {
	case c.listener.port.TLS == nil:
		err = ErrNoTLS
	case c.flags.Or(flagUpgrading)&flagUpgrading != 0:
		err = socket.ErrBusy
	default:
		return nil
	}
	return &net.OpError{Op: "handshake", Err: err}
}

// upgraded follows an upgrade.
func (c *Conn) upgraded(err error) error {
	c.flags.And(^flagUpgrading)
	err = c.handshaken(err)
	if err == nil {
		c.onLoop(func() { c.value = nil })
	}
	return err
}

// ErrNoTLS is returned by EnableSSL on a listener whose Port has neither Certificates nor TLS.
var ErrNoTLS = errors.New("server: no certificates are set")

// Pause has no more packets handed to OnReceive until Resume; what arrives stays in the kernel,
// which tells the client to stop when it has enough.
func (c *Conn) Pause() { c.onLoop(c.flow.Pause) }

// Resume ends a Pause.
func (c *Conn) Resume() { c.onLoop(c.flow.Resume) }

// Protect exempts the connection from Port.IdleTimeout, or ends that.
func (c *Conn) Protect(on bool) {
	if on {
		c.flags.Or(flagProtected)
	} else {
		c.flags.And(^flagProtected)
	}
}

// Bind gives the connection a number of the program's own, such as that of a user; Info tells it.
func (c *Conn) Bind(uid int64) { c.toRare().uid.Store(uid) }

// UID returns the number that Bind has set, 0 if none.
func (c *Conn) UID() int64 {
	if r := c.rare.Load(); r != nil {
		return r.uid.Load()
	}
	return 0
}

// Close closes the connection; what was sent is still delivered, see Port.Linger. It returns
// net.ErrClosed when the connection has been closed before.
func (c *Conn) Close() error { return c.end(nil, false) }

// Abort closes the connection, drops what is still under way and resets it.
func (c *Conn) Abort() error { return c.end(nil, true) }

func (c *Conn) end(reason error, abort bool) error {
	if c.flags.Or(flagClosed)&flagClosed != 0 {
		return net.ErrClosed
	}
	c.onLoop(func() { c.flow.End(reason, abort) })
	return nil
}

// onLoop has fn run on the connection's loop: here, if this is it.
func (c *Conn) onLoop(fn func()) {
	if c.flow.House().OnLoop() {
		fn()
	} else {
		c.worker.do(fn)
	}
}
