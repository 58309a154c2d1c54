package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"

	"github.com/whorl-go/whorl/internal/proxyproto"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
)

// A connection comes to stand in stages. Each of the first three waits for the client without a coroutine and a buffer, so that very many clients that
// say nothing, or say it a byte at a time, cost little and keep nobody else waiting: what they send is looked at while it still lies in the kernel. Only a whole ClientHello
// gets a handshake. All together must be over within Port.HandshakeTimeout.
type stage uint8

const (
	stageProxy     stage = iota // the header of a proxy is due
	stageHello                  // the first TLS record is due
	stageWaiting                // for a free handshake
	stageHandshake              // a coroutine shakes hands
	stageOpen                   // OnConnect was called
)

// scratchSize holds the largest TLS record, and the largest header of a proxy.
const scratchSize = 5 + 16<<10

// opener is a Conn that doesn't stand yet, as a socket.Watcher.
type opener Conn

// open begins the first stage that the connection needs.
func (c *Conn) open() {
	q := c.listener.port
	c.stage = stageHello
	c.worker.counters.opening.Add(1)
	if q.proxied && q.trusted.Contains(c.RemoteAddr()) {
		c.stage = stageProxy
	} else if !c.enterAddress() {
		c.flow.End(ErrTooMany, true)
		return
	}
	if c.stage == stageHello && !q.secure {
		c.begin()
		return
	}
	if err := c.flow.Socket.Watch((*opener)(c)); err != nil {
		c.flow.End(err, true)
		return
	}
	(*opener)(c).Readable()
}

// enterAddress counts the connection for the client's address, if those are limited.
func (c *Conn) enterAddress() bool {
	limit := c.worker.server.config.MaxPerAddress
	if limit <= 0 || c.family == 0 {
		return true
	}
	if !c.worker.server.addresses.enter(c.RemoteAddrPort().Addr().WithZone(""), limit) {
		c.worker.server.refused.Add(1)
		return false
	}
	c.flags.Or(flagCounted)
	return true
}

// Writable is of socket.Watcher.
func (o *opener) Writable() {}

// Readable looks at what has arrived.
func (o *opener) Readable() {
	c := (*Conn)(o)
	for c.stage <= stageHello && !c.flow.Over() {
		w := c.worker
		if w.scratch == nil {
			w.scratch = make([]byte, scratchSize)
		}
		n, err := c.flow.Socket.Arrived(w.scratch)
		if errors.Is(err, socket.ErrWouldBlock) {
			return
		}
		if err != nil {
			c.flow.End(err, false)
			return
		}
		goOn := false
		if c.stage == stageProxy {
			goOn = c.readProxy(w.scratch[:n])
		} else {
			goOn = c.readHello(w.scratch[:n])
		}
		if goOn {
			continue
		}
		if c.stage <= stageHello && c.flow.Socket.HungUp() { // it will never be whole
			c.flow.End(io.ErrUnexpectedEOF, false)
		}
		return
	}
}

// readProxy reads the header of a proxy and goes on to the next stage; false if it must wait for more, or the connection has ended.
func (c *Conn) readProxy(data []byte) bool {
	n, header, err := proxyproto.Parse(data)
	if err != nil {
		c.flow.End(err, true)
		return false
	}
	if n == 0 {
		return false
	}
	c.toRare().proxy = newProxied(header) // before Discard: it may refer to data
	if err := c.flow.Socket.Discard(n); err != nil {
		c.flow.End(err, true)
		return false
	}
	if source := header.Source; !header.Local && source.IsValid() {
		c.setRemote(source)
	}
	if !c.enterAddress() {
		c.flow.End(ErrTooMany, true)
		return false
	}
	c.stage = stageHello
	if !c.listener.port.secure {
		c.flow.Socket.Watch(nil)
		c.begin()
		return false
	}
	return true
}

const recordHandshake = 22 // TLS's content type, RFC 8446 section 5.1

// readHello waits until the first TLS record is there.
func (c *Conn) readHello(data []byte) bool {
	const header = 5
	if data[0] != recordHandshake {
		c.refusePlaintext(data)
		return false
	}
	if len(data) < header {
		return false
	}
	length := int(data[3])<<8 | int(data[4])
	if len(data) < min(header+length, c.listener.port.mostHello) {
		return false
	}
	c.flow.Socket.Watch(nil)
	w := c.worker
	if w.slots == 0 {
		c.stage = stageWaiting
		w.waiting = append(w.waiting, c)
		w.counters.waiting.Add(1)
		return false
	}
	c.handshake()
	return false
}

// handshake begins the TLS handshake, in a coroutine of its own, so that the stack that it takes isn't that of the handler.
func (c *Conn) handshake() {
	w := c.worker
	w.slots--
	w.counters.handshaking.Add(1)
	c.stage = stageHandshake
	if _, err := runtime.GoDeep(w.ctx, c.shake); err != nil {
		c.shaken(err)
	}
}

// shake shakes hands.
func (c *Conn) shake(ctx context.Context) {
	err := error(runtime.ErrGoexit) // unless the handshake returns: callbacks of the configuration are the program's
	defer func() {
		c.shaken(err)
		if err == nil {
			c.begin()
		}
	}()
	err = c.flow.Socket.SSLHandshake(ctx, c.listener.port.TLS)
}

// shaken follows a handshake of the last stage.
func (c *Conn) shaken(err error) {
	w := c.worker
	w.slots++
	w.counters.handshaking.Add(-1)
	if err := c.handshaken(err); err != nil {
		c.flow.End(err, false)
	}
	if len(w.waiting) > 0 && !w.beginning {
		w.beginning = true
		w.loop.Defer(w.beginWaiting) // not from here: each of very many could fail at once, and begin the next
	}
}

// beginWaiting begins the handshakes of those who wait for one, as many as there are slots for.
func (w *worker) beginWaiting() {
	w.beginning = false
	for len(w.waiting) > 0 && w.slots > 0 {
		next := w.waiting[0]
		w.waiting[0] = nil
		w.waiting = w.waiting[1:]
		w.counters.waiting.Add(-1)
		if !next.flow.Over() {
			next.handshake()
		}
	}
}

// begin begins to serve the connection.
func (c *Conn) begin() {
	if c.flow.Over() {
		return
	}
	w := c.worker
	c.stage = stageOpen
	w.counters.opening.Add(-1)
	w.counters.opened.Add(1)
	framer, err := c.listener.port.rule().Framer()
	if err == nil && framer != nil {
		err = c.flow.Socket.SetProtocol(framer)
	}
	w.lastID++
	c.id = ID(w.lastID*uint64(len(w.server.workers)) + uint64(w.index))
	w.registry.add(c)
	c.seen.Store(uint32(w.now))
	w.wheel.remove(c)
	c.due = c.nextCheck()
	w.wheel.add(c)
	if err != nil {
		c.flow.End(err, true)
		return
	}
	if c.listener.port.Handle == nil {
		c.serveCallbacks()
	} else if _, err := runtime.Go(w.ctx, c.handler()); err != nil {
		c.flow.End(err, true)
	}
}

// refusePlaintext tells a client that doesn't speak TLS that the port does.
func (c *Conn) refusePlaintext(data []byte) {
	c.worker.server.outcomes.add(string(tlsconfig.ReasonPlaintextClient))
	hint := c.listener.port.PlaintextHint
	if hint == "" {
		record := tls.RecordHeaderError{Msg: "tls: first record does not look like a TLS handshake"}
		copy(record.RecordHeader[:], data)
		hint = cmp.Or(string(tlsconfig.PlaintextHint(record)), "This port speaks TLS from the start.\r\n")
	}
	if _, err := c.flow.Socket.Queue([]byte(hint), len(hint)); err != nil {
		c.flow.End(err, true)
		return
	}
	c.flow.Socket.Discard(len(data)) // or closing would reset the connection before the hint is read
	c.flow.End(errPlaintext, false)
}

var errPlaintext = errors.New("server: the client doesn't speak TLS")
