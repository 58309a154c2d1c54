package websocket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// feed takes what has come, and may change it.
func (c *Conn) feed(in []byte) {
	c.heard = c.home.now()
	if c.state.Load()&flagPinged != 0 {
		c.state.And(^flagPinged) // whatever it says, it lives
	}
	p := c.params()
	for {
		state := c.current()
		if state != stateOpen && state != stateClosing {
			return
		}
		event, n, err := c.recv.Next(&p.engine, in)
		if err != nil {
			c.violated(err)
			return
		}
		in = in[n:]
		switch event.Kind {
		case engine.None:
			return
		case engine.Message, engine.Piece:
			if state != stateOpen {
				continue // this side has closed: nothing more is taken
			}
			m := Message{
				Opcode: Opcode(event.Opcode), Data: event.Data, More: event.Kind == engine.Piece && !event.Final,
			}
			if p.OnMessage != nil {
				p.OnMessage(c.context(), c, m)
				continue
			}
			box := c.mailbox()
			if m.Data = bytes.Clone(m.Data); box.held.Load() || box.full(p.MaxMessage) {
				c.hold(box, m, in)
				return
			}
			box.put(m)
		case engine.PingReceived:
			if p.OnPing == nil || state != stateOpen || !p.OnPing(c.context(), c, event.Data) {
				c.sendControl(engine.Pong, event.Data)
			}
		case engine.PongReceived:
			if p.OnPong != nil && state == stateOpen {
				p.OnPong(c.context(), c, event.Data)
			}
		case engine.Closed:
			c.peerClosed(event.Code, event.Reason)
		}
	}
}

// A mailbox is for Recv.
type mailbox struct {
	messages *runtime.Channel[Message]
	bytes    atomic.Int64 // in messages
	busy     atomic.Bool  // somebody is in Recv
	held     atomic.Bool  // there is more, for which there was no room

	// At home.
	next     Message // that is held
	unparsed []byte  // what has come behind it
}

// room is how many messages a mailbox takes.
const room = 16

// mailbox returns the mailbox, nil before the handshake is over.
func (c *Conn) mailbox() *mailbox {
	for c.current() >= stateOpen {
		r := c.toRare()
		box := r.box.Load()
		if box == nil {
			r.box.CompareAndSwap(nil, &mailbox{messages: runtime.NewChannel[Message](room)})
			continue // r may be that of a connection before this one
		}
		if c.current() >= stateClosing {
			box.messages.Close()
		}
		if c.rare.Load() == r {
			return box
		}
	}
	return nil
}

// full reports whether there is no room for another message: there are 16, or so many bytes.
func (b *mailbox) full(bytes int) bool {
	return b.messages.Len() == room || b.bytes.Load() >= int64(bytes)
}

func (b *mailbox) put(m Message) {
	b.bytes.Add(int64(len(m.Data)))
	b.messages.Push(context.Background(), m) // it has room
}

// hold keeps a message for which there is no room, and what has come behind it, and has the peer
// wait.
func (c *Conn) hold(box *mailbox, m Message, rest []byte) {
	box.next, box.unparsed = m, bytes.Clone(rest)
	c.carrier.pause()
	box.held.Store(true)
	if !box.full(c.params().MaxMessage) { // somebody has emptied it, and hadn't seen that
		c.home.later(c.goOn)
	}
}

// held returns the mailbox if something is held.
func (c *Conn) held() *mailbox {
	if r := c.rare.Load(); r != nil {
		if box := r.box.Load(); box != nil && box.held.Load() {
			return box
		}
	}
	return nil
}

// goOn follows hold.
func (c *Conn) goOn() {
	box, open := c.held(), c.current() == stateOpen
	if box == nil || open && box.full(c.params().MaxMessage) {
		return
	}
	m, rest := box.next, box.unparsed
	box.next, box.unparsed = Message{}, nil
	box.held.Store(false)
	if open {
		box.put(m)
	}
	defer c.resume()
	c.guard(func() { c.feed(rest) })
}

// resume has more received, unless the peer has to wait for Recv.
func (c *Conn) resume() {
	if c.held() == nil {
		c.carrier.resume()
	}
}

// Recv waits for a message and returns it, where there is no Options.OnMessage. Its data is the
// caller's. Up to 16 messages wait for Recv, of Options.MaxMessage bytes together or one more; then
// the peer has to. One caller at a time may be in Recv; a second one gets socket.ErrBusy.
//
// Before the handshake is over it returns ErrNotEstablished. A connection that has ended is a
// *CloseError, after all that has come before. When ctx is done
// nothing is lost.
func (c *Conn) Recv(ctx context.Context) (Message, error) {
	if c.params().OnMessage != nil {
		return Message{}, errors.New("websocket: messages go to OnMessage")
	}
	box := c.mailbox()
	if box == nil {
		return Message{}, ErrNotEstablished
	}
	if !box.busy.CompareAndSwap(false, true) {
		return Message{}, socket.ErrBusy
	}
	defer box.busy.Store(false)
	m, err := box.messages.Pop(ctx)
	box.bytes.Add(-int64(len(m.Data)))
	if box.held.Load() {
		c.home.do(c.goOn)
	}
	if errors.Is(err, runtime.ErrChannelClosed) {
		return Message{}, c.ending()
	}
	return m, err
}

// Messages returns the messages of the connection, as Recv would one after the other, until the
// connection has ended in order. Any other error of Recv comes last, without a message.
func (c *Conn) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := c.Recv(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}
