package websocket

import (
	"context"
	"errors"

	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Writer sends one message in fragments (RFC 6455, section 5.4), of up to 64 KiB. Write waits while
// too much waits for the peer. Close ends the message. Until then no other message is sent: Push
// returns socket.ErrBusy, but for pings, and what was pushed or broadcast meanwhile goes out
// afterwards.
//
// When Write has failed, nobody may take what was sent for the whole message: Close closes the
// connection, with StatusInternalError.
type Writer struct {
	c     *Conn
	ctx   context.Context
	op    engine.Opcode
	begun bool
	over  bool
	err   error // of Write
}

// maxFragment is the largest fragment. Beyond HighWater there is room for one.
const maxFragment = 64 << 10

// Writer begins a message, of Text or Binary. ctx bounds its waiting. It returns socket.ErrBusy
// when another one is open. It isn't for callbacks.
func (c *Conn) Writer(ctx context.Context, op Opcode) (*Writer, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	if op != Text && op != Binary {
		return nil, errors.New("websocket: Writer of " + op.String())
	}
	w := &Writer{c: c, ctx: ctx, op: engine.Opcode(op)}
	return w, c.await(func() error {
		if err := c.usable(); err != nil {
			return err
		}
		if c.state.Or(flagStreaming)&flagStreaming != 0 {
			return socket.ErrBusy
		}
		c.toRare().writer = w
		return nil
	})
}

// Write sends p. It returns how many bytes were sent.
func (w *Writer) Write(p []byte) (n int, err error) {
	for n < len(p) && w.err == nil {
		piece := p[n:min(len(p), n+maxFragment)]
		if w.err = w.c.Drain(w.ctx); w.err == nil {
			w.err = w.c.await(func() error { return w.fragment(piece, false) })
		}
		if w.err == nil {
			n += len(piece)
		}
	}
	return n, w.err
}

// Close ends the message.
func (w *Writer) Close() error {
	if w.over {
		return nil
	}
	return w.c.await(func() error {
		err := w.err
		if err == nil {
			err = w.fragment(nil, true)
		} else if w.open() {
			w.c.shut(StatusInternalError, "a message was cut off", err)
		}
		w.end()
		return err
	})
}

// open reports whether the connection is still that of the Writer, which may be over.
func (w *Writer) open() bool {
	r := w.c.rare.Load()
	return !w.over && w.c.current() == stateOpen && r != nil && r.writer == w
}

// fragment sends a fragment, at home.
func (w *Writer) fragment(p []byte, final bool) error {
	c := w.c
	switch {
	case w.over:
		return errors.New("websocket: the message has ended")
	case !w.open():
		return c.ending()
	}
	sender, params := &c.toRare().sender, &c.params().engine
	frame := sender.AppendPiece(nil, params, w.op, p, !w.begun, final, true, c.mask())
	w.begun = true
	return c.carrier.send(frame)
}

// end lets others send.
func (w *Writer) end() {
	if !w.open() {
		w.over = true
		return
	}
	w.over = true
	r := w.c.rare.Load()
	kept := r.kept
	r.writer, r.kept = nil, nil
	w.c.state.And(^flagStreaming)
	for _, send := range kept {
		send()
	}
}
