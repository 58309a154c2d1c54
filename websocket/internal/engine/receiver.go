package engine

import (
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// A Receiver turns the bytes of one connection into events. Its zero value is ready. It is three
// words, and between messages it holds nothing else, but for the window of
// [Deflate.ReceiveTakeover].
//
// It isn't safe for concurrent use. Every call takes the same Params.
type Receiver struct {
	part   *part          // of a frame or message that has begun; nil between messages
	window *buffer        // the end of what was inflated before, with context takeover
	err    *ProtocolError // what has ended it, or &closed
}

// closed stands in Receiver.err for a close frame that has come.
var closed ProtocolError

// part is what has come of a frame or of a message that is not whole. It is borrowed.
type part struct {
	// The frame, while it lasts.
	left    int64   // bytes of it that are to come
	mask    [4]byte // for the next of them
	inFrame bool    // what it carries hasn't come whole
	fin     bool
	control Opcode // 0: it is part of the message

	// The message, while op isn't 0.
	op         Opcode
	compressed bool
	total      int64   // what its frames' headers have declared
	checked    checked // what was found to be legal
	buf        *buffer // what has come, compressed or not
	look       look    // at what is compressed
	out        *buffer // of what was inflated, what is handed out

	// What is collected of a header or of a control frame.
	head    [maxHeader]byte
	headLen uint8
	bodyLen uint8
	body    [maxControl]byte
}

var parts = sync.Pool{New: func() any { return new(part) }}

// Next looks for an event in the bytes that came behind those that it has consumed. It returns the
// event and how many bytes of in it has consumed; with [None] these are all of them.
//
// It unmasks in place, so it changes in. Data of an event lies in in or in memory that the next
// call of Next takes back: call Next until it returns None, with an empty in too.
//
// An error is a *[ProtocolError], and it is final: the caller sends a close frame that says why,
// and ends the connection. After [Closed], Next consumes and ignores everything.
func (r *Receiver) Next(p *Params, in []byte) (Event, int, error) {
	if t := r.part; t != nil {
		if t.idle() {
			r.dropPart()
		} else if t.out != nil {
			t.out.free()
			t.out = nil
		}
	}
	switch r.err {
	case nil:
	case &closed:
		return Event{}, len(in), nil
	default:
		return Event{}, 0, r.err
	}
	ev, n, err := r.next(p, in)
	if err != nil {
		err = r.earlier(p, err)
		r.Release()
		r.err = err
		return Event{}, n, err
	}
	return ev, n, nil
}

// Release gives back what r holds. The connection has ended: nothing may be received after it.
func (r *Receiver) Release() {
	if r.part != nil {
		r.dropPart()
	}
	r.window.free()
	r.window, r.err = nil, &closed
}

func (r *Receiver) next(p *Params, in []byte) (ev Event, at int, err *ProtocolError) {
	for {
		if r.part == nil || !r.part.inFrame {
			if at == len(in) {
				return Event{}, at, nil
			}
			var h header
			n, whole, err := r.header(&h, p, in[at:])
			at += n
			if err != nil || !whole {
				return Event{}, at, err
			}
			if h.length <= int64(len(in)-at) && h.alone(p) {
				data := in[at : at+int(h.length)]
				if p.Role == Server {
					ws.Cipher(data, h.mask, 0)
				}
				ev, err = r.alone(h.op, data)
				return ev, at + len(data), err
			}
			r.hold().begin(&h)
		}
		t := r.part
		chunk := in[at:]
		if int64(len(chunk)) > t.left {
			chunk = chunk[:t.left]
		}
		at += len(chunk)
		t.unmask(chunk)
		if t.left == 0 {
			t.inFrame = false
		}
		ev, err = r.take(p, t, chunk)
		if err != nil || ev.Kind != None || t.inFrame {
			return ev, at, err
		}
	}
}

// header reads a header from in, or from what is held of it and in. It returns how much of in it
// has consumed, and whether the header is whole.
func (r *Receiver) header(h *header, p *Params, in []byte) (int, bool, *ProtocolError) {
	t := r.part
	if t == nil || t.headLen == 0 {
		n, err := h.parse(p, t, in)
		if err != nil || n > 0 {
			return n, true, err
		}
		t = r.hold()
		t.headLen = uint8(copy(t.head[:], in))
		return len(in), false, nil
	}
	before := int(t.headLen)
	after := before + copy(t.head[before:], in)
	n, err := h.parse(p, t, t.head[:after])
	if err != nil || n > 0 {
		t.headLen = 0
		return max(n-before, 0), true, err
	}
	t.headLen = uint8(after)
	return after - before, false, nil
}

// alone says whether what a frame carries can be handed out where it lies, if it is all there.
func (h *header) alone(p *Params) bool {
	return h.op.control() || h.fin && h.op != Continuation && !h.compressed && !p.Pieces
}

// alone takes a control frame, or a message in one frame, that is whole.
func (r *Receiver) alone(op Opcode, data []byte) (Event, *ProtocolError) {
	switch op {
	case Ping:
		return Event{Kind: PingReceived, Opcode: op, Data: data}, nil
	case Pong:
		return Event{Kind: PongReceived, Opcode: op, Data: data}, nil
	case Close:
		code, reason, err := parseClose(data)
		if err != nil {
			return Event{}, err
		}
		r.Release()
		return Event{Kind: Closed, Opcode: op, Code: code, Reason: reason}, nil
	}
	if op == Text && !utf8.Valid(data) {
		return Event{}, errUTF8
	}
	return Event{Kind: Message, Opcode: op, Data: data}, nil
}

// take takes the next bytes of a frame that r.part has begun.
func (r *Receiver) take(p *Params, t *part, chunk []byte) (Event, *ProtocolError) {
	if t.control != 0 {
		t.bodyLen += uint8(copy(t.body[t.bodyLen:], chunk))
		if t.inFrame {
			return Event{}, nil
		}
		return r.alone(t.control, t.body[:t.bodyLen])
	}
	ended := t.fin && !t.inFrame
	if t.compressed {
		return r.takeCompressed(p, t, chunk, ended)
	}
	if t.op == Text && (!t.checked.text.add(chunk) || ended && !t.checked.text.ended()) {
		return Event{}, errUTF8
	}
	ev := Event{Kind: Message, Opcode: t.op, Data: chunk}
	switch {
	case p.Pieces:
		if len(chunk) == 0 && !ended {
			return Event{}, nil
		}
		ev.Kind, ev.Final = Piece, ended
	case ended && t.buf == nil: // all of it lies here
	default:
		if t.buf = t.buf.add(chunk); !ended {
			return Event{}, nil
		}
		ev.Data = t.buf.bytes()
	}
	if ended {
		t.op = 0
	}
	return ev, nil
}

// hold returns r.part. It borrows one if there is none.
func (r *Receiver) hold() *part {
	if r.part == nil {
		r.part = parts.Get().(*part)
	}
	return r.part
}

func (r *Receiver) dropPart() {
	r.part.buf.free()
	r.part.out.free()
	*r.part = part{}
	parts.Put(r.part)
	r.part = nil
}

// idle says whether nothing is to come for t. What it has handed out isn't needed any more when
// Next is called again.
func (t *part) idle() bool { return t.op == 0 && !t.inFrame && t.headLen == 0 }

// begin begins a frame.
func (t *part) begin(h *header) {
	t.left, t.mask, t.inFrame, t.fin = h.length, h.mask, true, h.fin
	t.control, t.bodyLen = 0, 0
	switch {
	case h.op.control():
		t.control = h.op
		return
	case h.op != Continuation:
		t.op, t.compressed = h.op, h.compressed
	}
	t.total += h.length
}

// unmask unmasks the next bytes of the frame, and turns the mask for those behind them.
func (t *part) unmask(chunk []byte) {
	t.left -= int64(len(chunk))
	if t.mask == [4]byte{} {
		return
	}
	ws.Cipher(chunk, t.mask, 0)
	turned := t.mask
	for i := range turned {
		turned[i] = t.mask[(i+len(chunk))%4]
	}
	t.mask = turned
}
