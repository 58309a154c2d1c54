package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"

	"github.com/whorl-go/whorl/internal/proxyproto"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A connection comes to stand in stages. Each of the first three waits for the client without a
// coroutine and a buffer, so that very many clients that say nothing, or say it a byte at a time,
// cost little and keep nobody else waiting: what they send is looked at while it still lies in the
// kernel. Only a whole ClientHello gets a handshake. All together must be over within
// Port.HandshakeTimeout.
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

// opener is a Conn that doesn't stand yet, as a house.Watcher.
type opener Conn

// open begins the first stage that the connection needs.
func (c *Conn) open() {
	q := c.listener.port
	c.stage = stageHello
	if q.proxied && q.trusted.Contains(c.RemoteAddr()) {
		c.stage = stageProxy
	} else if !c.enterAddress() {
		c.refuse(ErrMaxPerAddress)
		return
	}
	if c.stage == stageHello && !q.secure {
		c.begin()
		return
	}
	if err := c.flow.House().Watch((*opener)(c)); err != nil {
		c.flow.End(err, true)
		return
	}
	(*opener)(c).Readable()
}

// enterAddress counts the connection for the client's address, if those are limited.
func (c *Conn) enterAddress() bool {
	s := c.worker.server
	limit := s.config.MaxPerAddress
	if limit <= 0 || c.family == 0 {
		return true
	}
	if !s.addresses.enter(s.addressOf(c), limit) {
		s.refused.Add(1)
		return false
	}
	c.flags.Or(flagCounted)
	return true
}

// addressOf returns whose connections MaxPerAddress counts together, and whose handshakes take
// turns with those of others. Zones say nothing about a client, but of link-local addresses each is
// another's, as all share a prefix.
func (s *Server) addressOf(c *Conn) netip.Prefix {
	if c.family == 0 {
		return netip.Prefix{} // of a Unix socket
	}
	ip := c.RemoteAddrPort().Addr()
	bits := s.config.AddressPrefix
	if ip.Is4() || ip.IsLinkLocalUnicast() {
		bits = ip.BitLen()
	}
	prefix, _ := ip.Prefix(bits) // which has no zone
	return prefix
}

// Writable is of house.Watcher.
func (o *opener) Writable() {}

// Readable looks at what has arrived.
func (o *opener) Readable() {
	c := (*Conn)(o)
	for c.stage <= stageHello && !c.flow.Over() {
		data, err := c.look()
		if errors.Is(err, socket.ErrWouldBlock) {
			return
		}
		if err != nil {
			c.flow.End(err, false)
			return
		}
		goOn := false
		if c.stage == stageProxy {
			goOn = c.readProxy(data)
		} else {
			goOn = c.readHello(data)
		}
		if goOn {
			continue
		}
		if c.stage <= stageHello && c.flow.House().HungUp() { // it will never be whole
			c.flow.End(io.ErrUnexpectedEOF, false)
		}
		return
	}
}

// look returns what waits in the kernel, without taking it. It is valid until the next look on the
// loop.
func (c *Conn) look() ([]byte, error) {
	w := c.worker
	if w.scratch == nil {
		w.scratch = make([]byte, scratchSize)
	}
	n, err := c.flow.House().Arrived(w.scratch)
	return w.scratch[:n], err
}

// readProxy reads the header of a proxy and goes on to the next stage; false if it must wait for
// more, or the connection has ended.
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
	if err := c.flow.House().Discard(n); err != nil {
		c.flow.End(err, true)
		return false
	}
	if source := header.Source; !header.Local && source.IsValid() {
		c.setRemote(source)
	}
	if !c.enterAddress() {
		c.refuse(ErrMaxPerAddress)
		return false
	}
	c.stage = stageHello
	if !c.listener.port.secure {
		c.flow.House().Watch(nil)
		c.begin()
		return false
	}
	return true
}

// readHello waits until the first TLS record is there.
func (c *Conn) readHello(data []byte) bool {
	const handshake = 22 // TLS's content type, RFC 8446 section 5.1
	if data[0] != handshake {
		c.refusePlaintext(data)
		return false
	}
	if !c.flow.House().HelloArrived() {
		return false
	}
	c.flow.House().Watch(nil)
	c.stage = stageWaiting
	c.worker.queue(newHandshake(c))
	return false
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
	c.seen.Store(uint32(w.server.clock()))
	w.reschedule(c)
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

// refusePlaintext refuses a client that doesn't speak TLS on a port that does.
func (c *Conn) refusePlaintext(data []byte) {
	c.worker.server.outcomes.add(string(explain.ReasonPlaintextClient))
	hint := c.lastWord(ErrPlaintext)
	if hint == "" {
		record := tls.RecordHeaderError{Msg: "tls: first record does not look like a TLS handshake"}
		copy(record.RecordHeader[:], data)
		hint = cmp.Or(string(explain.PlaintextHint(record)), "This port speaks TLS from the start.\r\n")
	}
	c.bidFarewell(hint, ErrPlaintext)
}

// refuse ends a connection that the limits leave no room for. Whoever expects TLS would not
// understand a word.
func (c *Conn) refuse(reason error) {
	word := ""
	if !c.listener.port.secure {
		word = c.lastWord(reason)
	}
	c.bidFarewell(word, reason)
}

func (c *Conn) lastWord(reason error) (word string) {
	if fn := c.listener.port.LastWord; fn != nil {
		c.flow.Guard(func() { word = fn(c, reason) })
	}
	return word
}

// bidFarewell ends a connection with a last word, or a reset if there is none.
func (c *Conn) bidFarewell(word string, reason error) {
	if word == "" {
		c.flow.End(reason, true)
		return
	}
	if _, err := c.flow.House().Queue([]byte(word), len(word)); err != nil {
		c.flow.End(err, true)
		return
	}
	for range maxDiscards { // or closing would reset the connection before the word is read
		data, err := c.look()
		if err != nil || c.flow.House().Discard(len(data)) != nil {
			break
		}
	}
	c.flow.End(reason, false)
}

// maxDiscards bounds, in buffers, what is taken from a client that is refused.
const maxDiscards = 4
