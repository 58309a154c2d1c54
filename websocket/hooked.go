package websocket

import (
	"bufio"
	"crypto/tls"
	"net"
	"runtime/debug"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/callback"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// hooked is a connection of package hooks as a carrier. A goroutine of net/http has read the
// request from it; from then on its loop serves it by callbacks.
type hooked struct {
	flow     callback.Conn
	ws       *Conn
	from, to net.Addr // as they were: they are asked for after the end, too
}

// newHooked returns a Conn for a connection of package hooks that was hijacked; ok is false if that
// has TLS, which isn't ours to take, or is one of packets. take is that of takeOver.
func newHooked(
	conn *hooks.Conn, read *bufio.Reader, s *shared,
) (c *Conn, take func() (rest []byte, ok bool), ok bool) {
	hijacked := hooks.Socket(conn, house.Key{})
	inner := socket.House(hijacked, house.Key{})
	at, ok := inner.Home()
	_, secure := conn.ConnectionState()
	if secure || !ok || hijacked.Network() == "unixpacket" {
		return nil, nil, false
	}
	k := &hooked{from: conn.RemoteAddr(), to: conn.LocalAddr()}
	k.flow.Init(k, &s.limits)
	c = &Conn{carrier: k, home: hubs.Of(at)}
	k.ws = c
	c.agreed.Store(s.agreed(nil))
	return c, func() ([]byte, bool) {
		if k.flow.House().Become(inner) != nil {
			conn.Close()
			return nil, false
		}
		k.flow.Pause() // until listen
		if k.flow.Start() != nil {
			return nil, false
		}
		c.home.enter(c)
		c.heard = c.home.now()
		c.become(stateHandshake)
		return buffered(read), true
	}, true
}

// Received, BufferFull, BufferEmpty and Ended make it a callback.Handler.
func (k *hooked) Received(p []byte)  { k.ws.feed(p) }
func (k *hooked) BufferFull()        { k.ws.bufferFull() }
func (k *hooked) BufferEmpty()       { k.ws.bufferEmpty() }
func (k *hooked) Ended(reason error) { k.ws.carrierEnded(reason) }

func (k *hooked) send(p []byte) error { return k.flow.Send(p) }
func (k *hooked) queued() int         { return k.flow.House().Queued() }
func (k *hooked) pause()              { k.flow.Pause() }
func (k *hooked) resume()             { k.flow.Resume() }
func (k *hooked) end(abort bool)      { k.flow.End(nil, abort) }
func (k *hooked) local() net.Addr     { return k.to }
func (k *hooked) remote() net.Addr    { return k.from }

func (k *hooked) tls() (state tls.ConnectionState, ok bool) { return state, false }

// endHooked ends those of a hub whose loop has ended: nobody else does.
func (h *hub) endHooked() {
	for _, c := range h.slots {
		for next := c; c != nil; c = next {
			next = c.next // c leaves
			if k, ok := c.carrier.(*hooked); ok {
				k.flow.Socket.Abort()
				h.endOne(c)
			}
		}
	}
}

// endOne calls what the program has for the end, as a loop would: a panic is reported, and neither
// that nor a runtime.Goexit keeps anybody else's from being called.
func (h *hub) endOne(c *Conn) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			if value := recover(); value != nil {
				h.at.Loop().ReportPanic(value, debug.Stack())
			}
		}()
		c.carrierEnded(runtime.ErrShutdown)
	}()
	<-over
}
