package websocket

import (
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
	p := c.params
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
			} else if !c.mailbox().put(m) {
				c.hold(m, in)
				return
			}
		case engine.PingReceived:
			c.sendControl(engine.Pong, event.Data)
			if p.OnPing != nil && state == stateOpen {
				p.OnPing(c.context(), c, event.Data)
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
	busy     atomic.Bool // somebody is in Recv
	held     atomic.Bool // there is more, for which there was no room
	last     []byte      // of whoever is in Recv: the message that was handed out

	// At home.
	next     Message // that is held
	unparsed []byte  // what has come behind it
}

// room is how many messages a mailbox takes.
const room = 16

func (c *Conn) mailbox() *mailbox {
	r := c.toRare()
	box := r.box.Load()
	if box == nil {
		box = &mailbox{messages: runtime.NewChannel[Message](room)}
		if !r.box.CompareAndSwap(nil, box) {
			box = r.box.Load()
		}
		if c.current() >= stateClosing {
			box.messages.Close()
		}
	}
	return box
}

// put copies a message, if there is room.
func (b *mailbox) put(m Message) bool {
	if b.held.Load() || b.messages.Len() == room {
		return false
	}
	m.Data = append([]byte(nil), m.Data...)
	return b.messages.Push(context.Background(), m) == nil // it doesn't wait
}

// hold keeps a message for which there is no room, and what has come behind it, and has the peer
// wait.
func (c *Conn) hold(m Message, rest []byte) {
	box := c.mailbox()
	m.Data = append([]byte(nil), m.Data...)
	box.next, box.unparsed = m, append([]byte(nil), rest...)
	c.carrier.pause()
	box.held.Store(true)
	if box.messages.Len() < room { // it was emptied meanwhile, by somebody who hadn't seen that
		c.home.later(c.goOn)
	}
}

// goOn follows hold.
func (c *Conn) goOn() {
	box := c.mailbox()
	if c.current() != stateOpen || !box.held.Load() || box.messages.Len() == room {
		return
	}
	m, rest := box.next, box.unparsed
	box.next, box.unparsed = Message{}, nil
	box.held.Store(false)
	box.messages.Push(context.Background(), m)
	c.feed(rest)
	if !box.held.Load() {
		c.carrier.resume()
	}
}

// Recv waits for a message and returns it, where there is no Options.OnMessage. Its data is the
// caller's. Up to 16 messages wait for Recv; then the peer has to. One caller at a time may be in
// Recv; a second one gets socket.ErrBusy.
//
// A connection that has ended is a *CloseError, after all that has come before. When ctx is done
// nothing is lost.
func (c *Conn) Recv(ctx context.Context) (Message, error) {
	if c.params.OnMessage != nil {
		return Message{}, errors.New("websocket: messages go to OnMessage")
	}
	box := c.mailbox()
	if !box.busy.CompareAndSwap(false, true) {
		return Message{}, socket.ErrBusy
	}
	defer box.busy.Store(false)
	m, err := box.messages.Pop(ctx)
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
