package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/callback"
	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Async is a connection to a server that is served by callbacks: Swoole's async client. While
// nothing happens it has no coroutine, no stack and no buffer. Make it with [NewAsync], or with an
// [AsyncDialer] if there are to be many of a kind; [AsyncConfig] says what is called when.
//
// An Async lives on one event loop, for life: that of whoever calls Connect first. Its methods may
// be called from callbacks, coroutines and plain goroutines; they don't wait, except for SendFile.
// From elsewhere than the loop, what they do is handed over to it, in the order of the calls of
// each goroutine.
//
// An Async that is connecting, connected, or waiting for its next attempt keeps runtime.Run from
// returning. Shutdown of the runtime ends it, with runtime.ErrShutdown for OnClose or OnError.
type Async struct {
	dialer *AsyncDialer
	keeper atomic.Pointer[keeper]    // of its loop; set by the first Connect
	conn   atomic.Pointer[asyncConn] // the connection that stands; changed on the loop
	state  atomic.Uint32             // an AsyncState
	value  any

	outside callback.Outside // of Send

	// On the loop.
	effort     *effort       // that is to bring the next connection; nil when one stands
	since      time.Duration // when the connection came to stand
	address    string        // of Connect
	prev, next *Async        // of the keeper's list
	losses     int32         // of this series
	network    uint8         // of Connect: which of asyncNetworks
	listed     bool          // by the keeper
	valued     bool          // SetValue was called since OnClose has begun
}

// asyncNetworks are those with streams.
var asyncNetworks = []string{"tcp", "tcp4", "tcp6", "tls", "tls4", "tls6", "unix"}

// AsyncState says what an Async is at.
type AsyncState uint32

// Any goroutine may go from idle and waiting to connecting (Connect), and to closing (Close);
// everything else is done on the loop.
const (
	AsyncIdle       AsyncState = iota // nothing; Connect may be called
	AsyncConnecting                   // an attempt is under way, or about to be
	AsyncOpen                         // the connection stands, or OnClose is due
	// It will be time for the next attempt, see AsyncConfig.Reconnect; Connect may be called.
	AsyncWaiting
	AsyncClosing // Close was called, OnClose or OnError is due
)

func (s AsyncState) String() string {
	return [...]string{"idle", "connecting", "open", "waiting", "closing"}[s]
}

// asyncConn is one connection of an Async.
type asyncConn struct {
	flow  callback.Conn
	async *Async
}

// NewAsync makes an Async that is not connected, with a configuration of its own, which costs more
// than the rest of it: for many of a kind there is AsyncDialer. What is wrong with the
// configuration is returned by Connect.
func NewAsync(config AsyncConfig) *Async { return newAsyncDialer(config).New() }

// Connect begins to connect and returns at once; OnConnect or OnError answers. network is "tcp",
// "tcp4", "tcp6", "unix", or "tls", "tls4", "tls6" for TCP with TLS from the start; address is
// "host:port" or the path of a Unix socket. DNS, several addresses, proxy and TLS handshake are run
// by a coroutine that has ended when the connection stands. If ctx is done before that, the attempt
// fails with its error, and is not repeated; attempts of AsyncConfig.Reconnect don't go by ctx.
//
// An error means that nothing has begun and nothing is called back: the configuration or the
// address is wrong, ctx is done, the Async is connected or connecting (socket.ErrConnected; it is
// so until OnClose or OnError is called), or there is no runtime or it shuts down. An Async that
// waits for its next attempt connects at once, to the new address, and its series of losses begins
// anew.
func (a *Async) Connect(ctx context.Context, network, address string) error {
	if a.dialer.invalid != nil {
		return a.dialer.invalid
	}
	fail := func(err error) error {
		return &net.OpError{Op: "connect", Net: network, Err: fmt.Errorf("%s: %w", address, err)}
	}
	which := slices.Index(asyncNetworks, network)
	if which < 0 {
		if err := socket.House(new(socket.Socket), house.Key{}).Init(network); err != nil {
			return &net.OpError{Op: "connect", Net: network, Err: net.UnknownNetworkError(network)}
		}
		return fail(
			fmt.Errorf("an Async needs a network with streams: %w", syscall.EPROTONOSUPPORT),
		)
	}
	if _, err := a.dialer.target(network, address); err != nil {
		return err
	}
	if err := dialing.Done(ctx); err != nil {
		return fail(err)
	}
	k, err := a.settle(ctx)
	if err != nil {
		return fail(err)
	}
	was, ok := a.move(AsyncConnecting, AsyncIdle, AsyncWaiting)
	if !ok {
		return fail(socket.ErrConnected)
	}
	if was == AsyncIdle {
		k.enter()
	}
	e := &effort{async: a, ctx: ctx, network: uint8(which), address: address}
	if k.home.Here() {
		k.loop.DeferTask((*start)(e))
	} else if k.loop.PostTask((*start)(e)) != nil {
		a.state.Store(uint32(AsyncIdle))
		k.leave()
		return fail(runtime.ErrShutdown)
	}
	return nil
}

// settle returns the keeper of the Async's loop, which the first call chooses.
func (a *Async) settle(ctx context.Context) (*keeper, error) {
	if a.keeper.Load() == nil {
		k, err := keeperFor(ctx, a.dialer.callbacks.Spread)
		if err != nil {
			return nil, err
		}
		a.keeper.CompareAndSwap(nil, k)
	}
	k := a.keeper.Load()
	if k.ctx.Err() != nil {
		return nil, runtime.ErrShutdown
	}
	return k, nil
}

// move changes the state, if it is one of those, and returns the one before.
func (a *Async) move(to AsyncState, from ...AsyncState) (was AsyncState, ok bool) {
	for {
		was = a.State()
		if !slices.Contains(from, was) {
			return was, false
		}
		if a.state.CompareAndSwap(uint32(was), uint32(to)) {
			return was, true
		}
	}
}

// use returns the connection, or the error of having none.
func (a *Async) use(op string) (*asyncConn, error) {
	c := a.conn.Load()
	switch {
	case c == nil:
		return nil, &net.OpError{Op: op, Err: socket.ErrNotConnected}
	case a.State() == AsyncClosing:
		return nil, &net.OpError{Op: op, Err: net.ErrClosed}
	}
	return c, nil
}

// do has fn run on the loop: here, if this is it. If the loop has ended, so has the connection, and
// fn is dropped.
func (a *Async) do(fn func()) {
	k := a.keeper.Load()
	if k.home.Here() {
		fn()
	} else {
		k.loop.Post(fn)
	}
}

// Send sends all of p, which may be used again when it returns, and never waits: what the server
// doesn't take is queued, up to AsyncConfig.MaxQueue. Beyond that Send takes nothing and returns
// socket.ErrQueueFull. What is sent in one turn of the loop leaves together; what is sent while a
// TLS handshake or a SendFile is under way leaves after it.
//
// From elsewhere than the loop, p is copied and handed over. If it turns out there that the queue
// is full, the connection is aborted with ErrOverflow, since nothing that was taken is dropped in
// silence.
//
// It has no context, as it never waits, and no count, as it takes all or nothing. Client.Send, and
// Send of a server's Conn, which is for both styles, may wait.
func (a *Async) Send(p []byte) error {
	c, err := a.use("send")
	if err != nil {
		return err
	}
	if c.flow.House().OnLoop() {
		err = c.flow.Send(p)
	} else {
		err = a.outside.Send(&c.flow, p, c.flow.Send)
	}
	if err == nil {
		return nil
	}
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	return &net.OpError{Op: "send", Err: err}
}

// SendFile sends length bytes of a file from offset on; length 0 means to the end of the file. It
// returns how many bytes were sent. In plaintext the kernel copies the file (sendfile(2)). It
// waits, so a callback has to call it in a coroutine; what is sent by Send meanwhile goes out after
// it. A second SendFile at the same time is socket.ErrBusy.
func (a *Async) SendFile(ctx context.Context, name string, offset, length int64) (int64, error) {
	c, err := a.use("sendfile")
	if err != nil {
		return 0, err
	}
	if err := a.outside.Arrive(ctx, &c.flow); err != nil {
		return 0, &net.OpError{Op: "sendfile", Net: c.flow.Socket.Network(), Err: err}
	}
	defer c.flow.WriteReleased()
	return c.flow.House().SendPath(ctx, name, offset, length)
}

// EnableSSL begins to turn the connection into TLS, in place: STARTTLS, after the server has agreed
// to it. It returns at once; no packets are handed out until onReady was called with the outcome.
// The certificate is verified against the host that was dialled, or Config.TLS.ServerName.
// Config.HandshakeTimeout bounds the handshake, and ctx does. onReady is a callback as the others:
// it must not wait.
//
// What EnableSSL finds out at once, it returns, and onReady is not called: socket.ErrNotConnected,
// socket.ErrSSLActive when TLS is on already, socket.ErrBusy during another EnableSSL or SendFile,
// after which the connection stays as it was; socket.ErrPlaintextPending, before anything is sent,
// when something has arrived in plaintext that was not handed out; and what else keeps a handshake
// from beginning. Called from elsewhere than the loop, it can only find out the first, and the
// others are for onReady: so that a callback can go on in plaintext at once where that is meant to
// be. (EnableSSLAsync of a server's Conn has nothing to go on with, and tells its function all.) A
// handshake that fails is a *explain.HandshakeError for onReady. After
// ErrPlaintextPending and all that follows it here the connection is closed, so that nothing can go
// on in plaintext by mistake, and OnClose gets that reason.
func (a *Async) EnableSSL(
	ctx context.Context,
	onReady func(ctx context.Context, a *Async, err error),
) error {
	if onReady == nil {
		return &net.OpError{
			Op:  "handshake",
			Err: errors.New("EnableSSL needs a function to call when TLS is ready"),
		}
	}
	c, err := a.use("handshake")
	if err != nil {
		return err
	}
	if c.flow.House().OnLoop() {
		return c.secure(ctx, onReady)
	}
	a.do(func() {
		if err := c.secure(ctx, onReady); err != nil {
			c.flow.Guard(func() { onReady(a.keeper.Load().ctx, a, err) })
		}
	})
	return nil
}

// secure is EnableSSL on the loop.
func (c *asyncConn) secure(
	ctx context.Context,
	onReady func(ctx context.Context, a *Async, err error),
) error {
	a, s, k := c.async, &c.flow.Socket, c.async.keeper.Load()
	to := a.target()
	begun := false
	var refused error
	handshake := func(ctx context.Context) error {
		return s.SSLHandshake(ctx, a.dialer.tlsFor(to.name))
	}
	c.flow.EnableSSL(ctx, sched.GoDeep, handshake, func(err error) {
		err = a.dialer.explainHandshake(s, to, err)
		if err == nil {
			a.value = nil
		}
		switch {
		case !begun:
			refused = err
		default:
			onReady(k.ctx, a, err)
		}
		if err != nil && !s.Connected() {
			c.flow.End(err, false)
		}
	})
	begun = true
	return refused
}

// target returns what was dialled.
func (a *Async) target() *target {
	// It was right when it was dialled.
	to, _ := a.dialer.target(asyncNetworks[a.network], a.address)
	return to
}

// Pause has no more packets handed to OnReceive until Resume, not even the next one of those that
// have arrived together. What arrives stays in the kernel, which tells the server to stop when it
// has enough. That the server has closed isn't noticed meanwhile. Swoole: sleep. Without a
// connection it does nothing; a new connection isn't paused.
func (a *Async) Pause() { a.with((*callback.Conn).Pause) }

// Resume ends a Pause. Swoole: wakeup.
func (a *Async) Resume() { a.with((*callback.Conn).Resume) }

func (a *Async) with(fn func(*callback.Conn)) {
	if c := a.conn.Load(); c != nil {
		a.do(func() { fn(&c.flow) })
	}
}

// Close closes the connection; what was sent is still delivered, see Config.Linger. OnClose
// follows, with nil. An attempt to connect is ended, and so is the wait for the next one: OnError
// gets net.ErrClosed. But Close in OnError or OnClose only calls off the attempt that Reconnect has
// asked for, and nothing follows. Close returns net.ErrClosed if there is nothing to close, or it
// was called before.
func (a *Async) Close() error { return a.end(false) }

// Abort is Close, but drops what is still under way, and the server sees a reset.
func (a *Async) Abort() error { return a.end(true) }

// Fail ends the connection because of what the server has said or done, as if it had ended by
// itself: unlike after Close, OnClose gets the reason, which must not be nil, and Reconnect is
// asked. What was sent is still delivered, unless abort drops it and resets the connection. Without
// a connection it does nothing.
func (a *Async) Fail(reason error, abort bool) {
	a.with(func(c *callback.Conn) { c.End(reason, abort) })
}

func (a *Async) end(abort bool) error {
	k := a.keeper.Load()
	if k != nil && k.home.Here() && a.effort != nil && a.effort.stage == effortAnswering {
		if _, ok := a.move(AsyncIdle, AsyncWaiting); ok {
			a.effort.stage = effortCalledOff
			return nil
		}
	}
	was, ok := a.move(AsyncClosing, AsyncConnecting, AsyncOpen, AsyncWaiting)
	if !ok {
		return &net.OpError{Op: "close", Err: net.ErrClosed}
	}
	a.do(func() { a.finish(was, abort) })
	return nil
}

// Retry tells, in OnError and OnClose, whether Reconnect has asked for another attempt, and how
// long from now that will be. Elsewhere ok is false.
func (a *Async) Retry() (in time.Duration, ok bool) {
	k := a.keeper.Load()
	if k == nil || !k.home.Here() || a.effort == nil || a.effort.stage != effortAnswering {
		return 0, false
	}
	return a.effort.delay, true
}

// State returns what the Async is at, which may change at once.
func (a *Async) State() AsyncState { return AsyncState(a.state.Load()) }

// Connected reports whether the connection stands: from OnConnect to OnClose, or to Close. It
// doesn't notice that the server has gone.
func (a *Async) Connected() bool { return a.State() == AsyncOpen }

// ConnectionState returns what the TLS handshake has agreed on; ok is false without TLS.
func (a *Async) ConnectionState() (state tls.ConnectionState, ok bool) {
	if c := a.conn.Load(); c != nil {
		return c.flow.Socket.ConnectionState()
	}
	return state, false
}

// PeerCertificates returns the certificates that the server has shown, its own first; nil without
// TLS.
func (a *Async) PeerCertificates() []*x509.Certificate {
	state, _ := a.ConnectionState()
	return state.PeerCertificates
}

// LocalAddr returns the local address, nil without a connection that is open.
func (a *Async) LocalAddr() net.Addr {
	if c := a.conn.Load(); c != nil {
		return c.flow.Socket.LocalAddr()
	}
	return nil
}

// RemoteAddr returns the server's address, or the proxy's; nil without a connection that is open.
func (a *Async) RemoteAddr() net.Addr {
	if c := a.conn.Load(); c != nil {
		return c.flow.Socket.RemoteAddr()
	}
	return nil
}

// Queued returns how many bytes are queued that the kernel hasn't taken yet.
func (a *Async) Queued() int {
	if c := a.conn.Load(); c != nil {
		return c.flow.House().Queued()
	}
	return 0
}

// Value returns what SetValue has set. Both are for callbacks and coroutines of the Async's loop,
// which need no lock, and for whoever has made the Async until it calls Connect.
func (a *Async) Value() any { return a.value }

// SetValue keeps a value with the Async, such as the state of its session. It is kept until the end
// of the connection, OnClose included, but not beyond a successful EnableSSL: what was learnt of
// one connection, or in plaintext, is nothing to go by afterwards. What is set in OnClose, or in
// EnableSSL's onReady, is for what follows.
func (a *Async) SetValue(v any) { a.value, a.valued = v, true }
