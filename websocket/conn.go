package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Conn is a WebSocket connection, a server's or a client's. Its methods may be called from any
// coroutine, any goroutine and any callback; those that wait not from callbacks.
type Conn struct {
	// What each message touches lies together.
	agreed  atomic.Pointer[params] // changed at home
	carrier carrier
	home    home
	state   atomic.Uint32 // a state, and flags
	heard   uint32        // when the peer has spoken, on the home's clock; in HTTP, since when it is due
	recv    engine.Receiver

	value any
	id    server.ID
	rare  atomic.Pointer[rare]
	since uint32 // a ping, or a close frame, waits for its answer

	// Of the home's list.
	slot       uint8
	prev, next *Conn
}

// A carrier carries the frames of a Conn. Its methods are for the Conn's home, but for queued.
type carrier interface {
	send(p []byte) error // queues; socket.ErrQueueFull
	queued() int         // from anywhere
	pause()
	resume()
	end(abort bool) // what is queued is still delivered, unless abort
	local() net.Addr
	remote() net.Addr
	tls() (tls.ConnectionState, bool)
}

// A home is where all of a Conn happens, one thing at a time: an event loop, or, for the net.Conn
// of somebody else, a queue of its own.
type home interface {
	context() context.Context // of callbacks
	here() bool
	do(fn func()) bool // at once if this is it, else in order; false: it has ended
	later(fn func())   // for the home itself
	now() uint32       // milliseconds; of the home itself
	enter(c *Conn)     // has look called from time to time; of the home itself
	pace(c *Conn)      // c's params have changed; of the home itself
	leave(c *Conn)     // of the home itself

	behind() *atomic.Int64 // the bytes of broadcasts on their way; from anywhere
}

// The states of a Conn, in their order.
const (
	stateRequest   uint32 = iota // of HTTP, or the client's response
	stateHTTP                    // net/http serves it
	stateHandshake               // the program decides about it
	stateOpen
	stateClosing
	stateClosed
	stateMask uint32 = 7

	flagFull        uint32 = 8   // more than HighWater waits for the peer
	flagPinged      uint32 = 16  // and has not answered yet
	flagEstablished uint32 = 32  // OnClose is due
	flagStreaming   uint32 = 64  // a Writer is open; changed at home
	flagOwed        uint32 = 128 // arrived is about to be called
)

// rare is what few connections have, or have only for a while.
type rare struct {
	sender      engine.Sender // with Compression.Takeover
	outside     atomic.Int64  // bytes on their way to the home
	box         atomic.Pointer[mailbox]
	closed      atomic.Pointer[CloseError] // set when it is known how it ends
	drained     *runtime.Channel[struct{}]
	queued      int         // when a connection that closes was looked at
	slow        atomic.Bool // slow is about to be called
	writer      *Writer     // that is open
	kept        []func()    // what is to be sent behind its message
	memberships []membership
	atEnd       []func()
	subprotocol string
	remote      net.Addr // what a proxy has told
	secure      bool     // so it has

	request *exchange // the request is read
	pipe    *pipe     // to net/http
}

func (c *Conn) toRare() *rare {
	for {
		if r := c.rare.Load(); r != nil {
			return r
		}
		c.rare.CompareAndSwap(nil, new(rare))
	}
}

func (c *Conn) params() *params { return c.agreed.Load() }

func (c *Conn) current() uint32 { return c.state.Load() & stateMask }

// become changes the state, at home.
func (c *Conn) become(state uint32) {
	for {
		old := c.state.Load()
		if c.state.CompareAndSwap(old, old&^stateMask|state) {
			return
		}
	}
}

// ID returns the connection's number at its server; 0 for a client's.
func (c *Conn) ID() server.ID { return c.id }

// Value returns what SetValue has set. Both are for callbacks and coroutines of the connection's
// loop, which need no lock.
func (c *Conn) Value() any { return c.value }

// SetValue keeps a value of the program's with the connection.
func (c *Conn) SetValue(v any) { c.value = v }

// Established reports whether messages can be sent: the handshake is over, and nobody has begun to
// close.
func (c *Conn) Established() bool { return c.current() == stateOpen }

// Subprotocol returns what both sides have agreed on, "" if nothing.
func (c *Conn) Subprotocol() string {
	if r := c.rare.Load(); r != nil {
		return r.subprotocol
	}
	return ""
}

// Compressed reports whether permessage-deflate was agreed on.
func (c *Conn) Compressed() bool { return c.params().engine.Deflate != nil }

// RemoteAddr returns the address of the peer: the client's own behind a trusted proxy.
func (c *Conn) RemoteAddr() net.Addr {
	if r := c.rare.Load(); r != nil && r.remote != nil {
		return r.remote
	}
	return c.carrier.remote()
}

// LocalAddr returns the address of this side.
func (c *Conn) LocalAddr() net.Addr {
	return c.carrier.local()
}

// ConnectionState returns what the TLS handshake has agreed on; ok is false without TLS.
func (c *Conn) ConnectionState() (state tls.ConnectionState, ok bool) { return c.carrier.tls() }

// Secure reports whether the peer's connection has TLS: here, or at a trusted proxy that says so.
func (c *Conn) Secure() bool {
	if r := c.rare.Load(); r != nil && r.secure {
		return true
	}
	_, ok := c.ConnectionState()
	return ok
}

// Err returns how the connection has ended, a *CloseError; nil as long as it stands.
func (c *Conn) Err() error {
	if c.current() != stateClosed {
		return nil
	}
	return c.ending()
}

func (c *Conn) ending() *CloseError {
	if e := c.toRare().closed.Load(); e != nil {
		return e
	}
	return &CloseError{Code: StatusAbnormal, Err: net.ErrClosed}
}

// Close begins the closing handshake with a code that may be sent and a reason of up to 123 bytes,
// of which the rest is cut off. Messages that were pushed before still go out. OnClose tells when
// it is over; a peer that doesn't answer is cut off after Options.CloseTimeout. It returns the
// *CloseError of a connection that has ended, or is ending, already. Swoole's disconnect.
func (c *Conn) Close(code int, reason string) error {
	if !engine.ValidCloseCode(code) {
		return &net.OpError{
			Op:  "close",
			Err: errors.New("websocket: no status code that may be sent"),
		}
	}
	k, dialled := c.carrier.(*asyncCarrier)
	if dialled {
		k.stopped.Store(true)
	}
	switch state := c.current(); {
	case state == stateClosing, state == stateClosed && !dialled:
		return c.ending()
	case state != stateOpen && dialled: // it may have no home yet, or wait for its next attempt
		if k.a.Close() != nil { // there is nothing to end
			return c.ending()
		}
		return nil
	}
	if !c.home.do(func() { c.shut(code, reason, net.ErrClosed) }) {
		return c.ending()
	}
	return nil
}

// Abort ends the connection at once, without a close frame.
func (c *Conn) Abort() {
	if k, ok := c.carrier.(*asyncCarrier); ok {
		k.stop(true)
		return
	}
	c.home.do(func() { c.finish(true, StatusAbnormal, "", net.ErrClosed) })
}

// AtEnd has fn called when the connection has ended, before OnClose, on its loop: it must not wait.
// Of a connection that has ended, or isn't established yet, it is called at once. Functions are
// called in the order of AtEnd, each once, also of a client's connection that connects again.
func (c *Conn) AtEnd(fn func()) {
	live := func() bool { return c.current() == stateOpen || c.current() == stateClosing }
	if !live() || !c.home.do(func() {
		if !live() {
			fn()
			return
		}
		r := c.toRare()
		r.atEnd = append(r.atEnd, fn)
	}) {
		fn()
	}
}

func (c *Conn) callAtEnd(r *rare) {
	all := r.atEnd
	r.atEnd = nil
	for _, fn := range all {
		fn()
	}
}

// shut begins the closing handshake.
func (c *Conn) shut(code int, reason string, cause error) {
	switch c.current() {
	case stateOpen:
	case stateClosing, stateClosed:
		return
	default:
		c.finish(true, StatusAbnormal, "", cause)
		return
	}
	c.decided(&CloseError{Code: code, Reason: reason, Err: cause})
	c.since = c.home.now()
	c.become(stateClosing)
	if !c.sendClose(code, reason) {
		c.carrier.end(true)
	}
	c.close()            // whoever waits in Recv isn't told of more
	c.home.later(c.goOn) // nobody takes what is held back, but behind it is the peer's answer
}

// decided notes how the connection ends, unless that is known.
func (c *Conn) decided(e *CloseError) bool { return c.toRare().closed.CompareAndSwap(nil, e) }

// sendClose sends a close frame, if there is room for it.
func (c *Conn) sendClose(code int, reason string) bool {
	if code == StatusNoStatus {
		code = 0
	}
	buf := scratch.Get().(*[]byte)
	defer putScratch(buf)
	*buf = engine.AppendClose((*buf)[:0], c.params().role, code, reason, c.mask())
	return c.carrier.send(*buf) == nil
}

// peerClosed is the peer's close frame.
func (c *Conn) peerClosed(code int, reason string) {
	c.since = c.home.now()
	if c.current() == stateOpen {
		err := error(nil)
		if code == StatusNormal || code == StatusGoingAway || code == StatusNoStatus {
			err = io.EOF
		}
		c.decided(&CloseError{Code: code, Reason: reason, Clean: true, Err: err})
		c.become(stateClosing)
		if !c.sendClose(code, reason) {
			c.carrier.end(true)
			return
		}
		c.close()
	} else if mine := c.toRare().closed.Load(); mine != nil && !mine.Clean {
		clean := *mine
		clean.Clean = true
		c.toRare().closed.Store(&clean)
	}
	// The server closes first (RFC 6455, section 7.1.1), unless the client doesn't come back.
	if k, ok := c.carrier.(*asyncCarrier); !ok || k.stopped.Load() {
		c.carrier.end(false)
	}
}

// violated answers a violation of the protocol with the close frame that the RFC names.
func (c *Conn) violated(err error) {
	code, reason := StatusProtocolError, err.Error()
	if p, ok := errors.AsType[*engine.ProtocolError](err); ok {
		code, reason = p.Code, p.Reason
	}
	if c.current() == stateOpen {
		c.sendClose(code, reason)
	}
	c.finish(false, code, reason, err)
}

// finish ends the connection without waiting for the peer.
func (c *Conn) finish(abort bool, code int, reason string, cause error) {
	if c.current() == stateClosed {
		return
	}
	c.decided(&CloseError{Code: code, Reason: reason, Err: cause})
	c.since = c.home.now()
	c.become(stateClosing)
	c.carrier.end(abort)
}

// close tells those who wait that nothing more comes.
func (c *Conn) close() {
	r := c.rare.Load()
	if r == nil {
		return
	}
	if box := r.box.Load(); box != nil {
		box.messages.Close()
	}
	if r.drained != nil {
		r.drained.Close()
	}
}

// carrierEnded is the last that happens to a connection.
func (c *Conn) carrierEnded(reason error) {
	if c.current() == stateClosed {
		return
	}
	if reason == nil {
		reason = net.ErrClosed
	}
	established := c.state.Load()&flagEstablished != 0
	if established {
		if reason == io.EOF { // without a close frame that is no order
			reason = io.ErrUnexpectedEOF
		}
		c.decided(&CloseError{Code: StatusAbnormal, Err: reason})
	}
	c.become(stateClosed)
	c.home.leave(c)
	c.recv.Release()
	if r := c.rare.Load(); r != nil {
		r.sender.Release()
		c.leaveAll(r)
		c.callAtEnd(r)
		if r.pipe != nil {
			r.pipe.ended(reason)
		}
	}
	c.close()
	if fn := c.params().OnClose; established && fn != nil {
		e := c.ending()
		fn(c.context(), c, e.Code, e.Reason, e.Clean)
	}
}

// establish begins the WebSocket: the handshake's last word was sent, or has come.
func (c *Conn) establish(p *params, subprotocol string) {
	c.agreed.Store(p)
	c.home.pace(c)
	if r := c.rare.Load(); r != nil {
		if r.request != nil {
			r.request.server.established(c)
		}
		// Very many connections are idle: what only the handshake needs goes.
		if r.remote == nil && !r.secure {
			c.rare.Store(nil)
		} else {
			r.request, r.pipe = nil, nil
		}
	}
	if subprotocol != "" {
		c.toRare().subprotocol = subprotocol
	}
	c.heard = c.home.now()
	c.state.Or(flagEstablished)
	c.become(stateOpen)
}

// look is called from time to time: it minds the time-outs.
func (c *Conn) look(now uint32) {
	passed := func(since uint32, d time.Duration) bool {
		return d > 0 && int64(now-since) >= d.Milliseconds()
	}
	switch state := c.state.Load(); state & stateMask {
	case stateRequest, stateHandshake:
		if k, ok := c.carrier.(*asyncCarrier); ok {
			k.attempt.look(c, passed)
		} else if r := c.rare.Load(); r != nil && r.request != nil {
			r.request.look(passed)
		}
	case stateOpen:
		switch {
		case c.held() != nil: // the peer may say what it wants
			c.heard, c.since = now, now
		case c.carrier.queued() > 0: // a ping may lie behind it; whether any is taken, others mind
			c.since = now
		case state&flagPinged != 0:
			if passed(c.since, c.params().PongTimeout) {
				c.finish(true, StatusAbnormal, "", ErrPongTimeout)
			}
		case passed(c.heard, c.params().PingInterval):
			if c.sendControl(engine.Ping, nil) != Dropped {
				c.since = now
				c.state.Or(flagPinged)
			}
		}
	case stateClosing:
		r, queued := c.toRare(), c.carrier.queued()
		if queued < r.queued { // the close frame has not left, but comes nearer
			c.since = now
		}
		r.queued = queued
		if passed(c.since, c.params().CloseTimeout) {
			if e := c.toRare().closed.Load(); e != nil && !e.Clean {
				late := *e
				late.Err = errors.Join(ErrCloseTimeout, e.Err)
				c.toRare().closed.Store(&late)
			}
			c.carrier.end(true)
		}
	}
}

// context is that of callbacks.
func (c *Conn) context() context.Context { return c.home.context() }

// mask returns the mask of a frame: none for a server.
func (c *Conn) mask() (mask [4]byte) {
	if c.params().role == engine.Client {
		mask = randomMask()
	}
	return mask
}

// usable returns why nothing can be sent.
func (c *Conn) usable() error {
	switch state := c.current(); {
	case state < stateOpen:
		return ErrNotEstablished
	case state > stateOpen:
		return c.ending()
	}
	return nil
}
