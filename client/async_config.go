package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/whorl-go/whorl/internal/callback"
)

// AsyncConfig says how Asyncs connect, what their packets are, and what is called back. OnReceive
// is needed; the other callbacks may be nil.
//
// # Callbacks
//
// All callbacks of an Async run on one event loop, one at a time, in the order in which things
// happen, and not in a coroutine: they must not wait. Who has to, starts a coroutine with
// runtime.Go(ctx, …); a call that waits returns runtime.ErrOnLoop. ctx is the runtime's. Every
// method of Async may be called in every callback. None is called within another one of the same
// Async, but for OnBufferFull, nor within Connect.
//
// The order is certain. Each attempt to connect (one by Connect, and those of Reconnect) is
// answered once, by OnConnect or by OnError. After OnConnect comes OnReceive, any number of times,
// then OnClose, once. In OnClose and OnError the Async is free again: Connect may be called there,
// and [Async.Retry] tells whether Reconnect will.
//
// A panic in a callback is logged. In OnClose and OnError that is all; in others it also ends the
// connection, with OnClose.
type AsyncConfig struct {
	// Config is the configuration of each connection. Its ReadTimeout has no meaning here: a server
	// may be silent for as long as it likes, see KeepAlive. Its WriteTimeout is how long a server
	// may take nothing of what is queued for it, after which the connection ends with ErrStalled.
	Config

	// OnConnect is called when the connection stands: after the proxy's answer and, on "tls", after
	// the TLS handshake.
	OnConnect func(ctx context.Context, a *Async)

	// OnReceive gets each packet, or without framing what there is. pkt is valid until it returns.
	OnReceive func(ctx context.Context, a *Async, pkt []byte)

	// OnError is called when an attempt to connect has failed: the name is unknown, nobody listens,
	// the proxy refuses, the TLS handshake of "tls" has failed, time is up, Close was called
	// meanwhile (net.ErrClosed), the runtime shuts down (runtime.ErrShutdown). Connections that
	// stood end with OnClose instead.
	OnError func(ctx context.Context, a *Async, err error)

	// OnClose is called when a connection that stood has ended, at the end of the loop's turn in
	// which it did. reason is nil after Close and Abort; io.EOF when the server has closed after a
	// packet, and io.ErrUnexpectedEOF in the middle of one; else what went wrong:
	// packet.ErrPacketTooLarge, ErrStalled, ErrOverflow, a reset, a failed EnableSSL, a
	// *runtime.PanicError, runtime.ErrShutdown.
	OnClose func(ctx context.Context, a *Async, reason error)

	// OnBufferFull is called when more than HighWater bytes are queued for a server that takes less
	// than it is sent, OnBufferEmpty when no more than LowWater are any more. OnBufferFull may be
	// called within Send, wherever that was called on the loop; else both are called later.
	OnBufferFull, OnBufferEmpty func(ctx context.Context, a *Async)

	// Spread has the connections live on the runtime's loops in turn, so that they use all
	// processors; without it they live on the loop of whoever calls Connect first. Their callbacks
	// run at the same time then: what they share needs a lock or an atomic.
	Spread bool

	// MaxQueue is how many bytes may be queued for a server that takes less than it is sent; 0
	// means 2 MiB. HighWater and LowWater are the marks of OnBufferFull and OnBufferEmpty; 0 means
	// 80 and 20 per cent of MaxQueue.
	MaxQueue, HighWater, LowWater int

	// Reconnect decides whether and when to connect again after an attempt has failed or a
	// connection has ended; nil: never. It isn't asked after Close and Abort, when the context of
	// Connect is done, and when the runtime shuts down. See [Backoff].
	Reconnect Reconnect

	// MaxConnecting is how many attempts to connect may be under way at a time among Asyncs of one
	// AsyncDialer; further ones wait for their turn, without a stack and a buffer, and
	// ConnectTimeout begins with it. 0 means DefaultMaxConnecting, negative any number.
	MaxConnecting int
}

// DefaultMaxConnecting is AsyncConfig.MaxConnecting unless something else is asked for.
const DefaultMaxConnecting = 1024

// Why connections of Asyncs end.
var (
	// ErrStalled ends a connection whose server has taken nothing of what is queued for it for
	// Config.WriteTimeout.
	ErrStalled = callback.ErrStalled

	// ErrOverflow ends a connection for which more was sent from elsewhere than its loop than
	// AsyncConfig.MaxQueue allows.
	ErrOverflow = callback.ErrOverflow
)

// An AsyncDialer makes Asyncs that share a configuration, with its TLS sessions and its limit on
// attempts under way. Its methods may be called from anywhere.
type AsyncDialer struct {
	dialer
	callbacks AsyncConfig
	limits    callback.Limits
	slots     int // MaxConnecting

	mu         sync.Mutex
	connecting int       // guarded by mu: attempts under way
	waiting    []*effort // guarded by mu: attempts that wait for their turn, oldest first
}

// NewAsyncDialer makes an AsyncDialer. The error says what is wrong with the configuration.
func NewAsyncDialer(config AsyncConfig) (*AsyncDialer, error) {
	d := newAsyncDialer(config)
	if d.invalid != nil {
		return nil, d.invalid
	}
	return d, nil
}

// newAsyncDialer keeps what is wrong with the configuration in invalid.
func newAsyncDialer(config AsyncConfig) *AsyncDialer {
	d := &AsyncDialer{callbacks: config, slots: config.MaxConnecting}
	d.init(&config.Config)
	if d.slots == 0 {
		d.slots = DefaultMaxConnecting
	}
	var err error
	d.limits, err = callback.NewLimits(
		config.MaxQueue,
		config.HighWater,
		config.LowWater,
		config.timeouts().Write,
	)
	if err == nil && config.OnReceive == nil {
		err = errors.New("OnReceive is not set")
	}
	if err != nil && d.invalid == nil {
		d.invalid = fmt.Errorf("client: AsyncConfig: %w", err)
	}
	return d
}

// New makes an Async that is not connected.
func (d *AsyncDialer) New() *Async { return &Async{dialer: d} }

// Dial makes an Async and has it connect, see [Async.Connect].
func (d *AsyncDialer) Dial(ctx context.Context, network, address string) (*Async, error) {
	a := d.New()
	return a, a.Connect(ctx, network, address)
}

// admit lets an attempt begin, or queues it and returns false.
func (d *AsyncDialer) admit(e *effort) bool {
	if d.slots < 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connecting < d.slots {
		d.connecting++
		return true
	}
	d.waiting = append(d.waiting, e)
	return false
}

// done follows an attempt that was admitted: its place is for the next one.
func (d *AsyncDialer) done() {
	if d.slots < 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.waiting) > 0 {
		next := d.waiting[0]
		d.waiting[0] = nil
		d.waiting = d.waiting[1:]
		if next.async.keeper.Load().loop.PostTask((*turn)(next)) == nil {
			return
		} // else its loop has ended
	}
	d.connecting--
}
