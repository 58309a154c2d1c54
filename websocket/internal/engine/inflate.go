package engine

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

var (
	errDeflate = &ProtocolError{CodeInvalidPayload,
		"compressed data that is corrupt", "RFC 7692, section 7.2.2"}
)

// tail ends what a message carries: the end of the sync marker that the sender has left out
// (RFC 7692, section 7.2.2), and an empty last block, by which the inflater knows the end.
var tail = []byte{0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff}

// look is when the beginning of a compressed message is looked at.
//
// Looks at the end of a frame and those within one are counted apart. So what is found between two
// frames, and which of the control frames between them are handed out, depends on the frames only
// and not on the cuts of the reads.
type look struct {
	atEnd, within looks
	seen          int // bytes that have been looked at
	refused       int // bytes that were no piece
}

// looks is what looks have cost, in bytes gone through, and where the last one was.
type looks struct {
	cost int
	at   int
}

// Looks are taken at each new piece until they have cost as much, and then when the bytes have
// doubled. Within a frame there is one for each read at most. But of frames very many come with one
// read: there the inflater's setting up counts.
const (
	freeWithin = 256 << 10
	freeAtEnd  = 16 << 10
	setUp      = 1 << 10
)

func (l *looks) due(have, free int) bool { return l.cost < free || have >= 2*l.at }

func (l *looks) taken(have, cost int) {
	l.at = have
	l.cost = min(l.cost+cost, freeWithin)
}

// takeCompressed takes the next bytes of a compressed message.
func (r *Receiver) takeCompressed(
	p *Params, t *part, chunk []byte, ended bool,
) (Event, *ProtocolError) {
	t.buf = t.buf.add(chunk)
	if !ended {
		if p.Pieces && !t.inFrame && r.inflatePiece(p, t) {
			return Event{Kind: Piece, Opcode: t.op, Data: t.out.bytes()}, nil
		}
		return Event{}, r.lookAt(p, t)
	}
	t.buf = t.buf.add(tail)
	ev := Event{Kind: Message, Opcode: t.op, Final: p.Pieces}
	if p.Pieces {
		ev.Kind = Piece
	}
	var err *ProtocolError
	t.out.free()
	t.look.seen = len(t.buf.b)
	t.out, err = t.inflate(p, r.window.bytes(), true)
	if err == nil && t.op == Text && !t.checked.text.ended() {
		err = errUTF8
	}
	if err != nil {
		return Event{}, err
	}
	if ev.Data = t.out.bytes(); p.Deflate.ReceiveTakeover {
		r.window = r.window.slide(ev.Data, p.Deflate.receiveWindow())
	} else {
		r.window.free()
		r.window = nil
	}
	t.op = 0
	return ev, nil
}

// inflatePiece inflates what has come into t.out, if the sender has flushed its compressor there,
// as one does that sends pieces. What was inflated is gone then, but for the window. It says
// whether there is anything in t.out.
func (r *Receiver) inflatePiece(p *Params, t *part) bool {
	have := len(t.buf.bytes())
	if !bytes.HasSuffix(t.buf.bytes(), tail[:len(marker)]) || have < 2*t.look.refused {
		return false
	}
	before := t.checked
	t.buf = t.buf.add(tail[len(marker):])
	out, err := t.inflate(p, r.window.bytes(), true)
	if err != nil {
		// The marker is data within a block, or what is wrong is found by looking.
		out.free()
		t.buf.b, t.checked, t.look.refused = t.buf.b[:have], before, have
		return false
	}
	t.buf.free()
	t.out.free()
	t.buf, t.out, t.look = nil, out, look{}
	r.window = r.window.slide(out.bytes(), p.Deflate.receiveWindow())
	return len(out.bytes()) > 0
}

// lookAt looks at what has come of a compressed message, if it is time to.
func (r *Receiver) lookAt(p *Params, t *part) *ProtocolError {
	have := len(t.buf.bytes())
	l := &t.look
	if have == l.seen || !l.atEnd.due(have, freeAtEnd) ||
		t.inFrame && !l.within.due(have, freeWithin) {
		return nil
	}
	size, err := r.lookNow(p, t)
	if t.inFrame {
		l.within.taken(have, have+size)
	} else {
		l.atEnd.taken(have, setUp+have+size)
	}
	return err
}

// lookNow looks at what has come of a compressed message, and says how much it inflates to.
func (r *Receiver) lookNow(p *Params, t *part) (int, *ProtocolError) {
	t.look.seen = len(t.buf.bytes())
	before := t.checked
	out, err := t.inflate(p, r.window.bytes(), false)
	out.free()
	size := t.checked.size - before.size
	t.checked = before
	return size, err
}

// earlier returns the error that ends the connection: err, unless there is another one in what came
// before and hasn't been looked at.
func (r *Receiver) earlier(p *Params, err *ProtocolError) *ProtocolError {
	t := r.part
	if t == nil || t.op == 0 || !t.compressed || len(t.buf.bytes()) == t.look.seen {
		return err
	}
	if _, first := r.lookNow(p, t); first != nil {
		return first
	}
	return err
}

// maxWindow is how far back a reference can go.
const maxWindow = 32 << 10

// An inflater is borrowed for one message.
type inflater struct {
	src bytes.Reader
	z   interface {
		io.Reader
		flate.Resetter
	}
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.z = flate.NewReader(&f.src).(interface {
		io.Reader
		flate.Resetter
	})
	return f
}}

// checked is what was found to be legal of a message.
type checked struct {
	size int  // of what was inflated
	text text // inflated or not
}

// inflate inflates t.buf behind window: up to a last block at its end, and returns all of it, or
// else as far as it goes, and returns the end of it only. That is the caller's to free, with an
// error too.
func (t *part) inflate(p *Params, window []byte, whole bool) (*buffer, *ProtocolError) {
	src := t.buf.bytes()
	f := inflaters.Get().(*inflater)
	defer f.free()
	f.src.Reset(src)
	f.z.Reset(&f.src, window)
	out := borrow(max(2*len(src), min(8*len(src), 32<<10)))
	lasts := 0 // last blocks that have come
	for {
		if len(out.b) == cap(out.b) {
			out = out.grow(1)
		}
		n, err := f.z.Read(out.b[len(out.b):cap(out.b)])
		chunk := out.b[len(out.b) : len(out.b)+n]
		out.b = out.b[:len(out.b)+n]
		if err := t.check(p, chunk); err != nil {
			return out, err
		}
		if !whole && len(out.b) >= 2*maxWindow {
			out.b = out.b[:copy(out.b, out.b[len(out.b)-maxWindow:])]
		}
		switch {
		case err == nil:
		case err == io.EOF && f.src.Len() == 0:
			return out, nil
		case err == io.EOF:
			// A last block within a message ends one stream, and another one begins (RFC 7692,
			// section 7.2.3.4). It costs more than its two bytes.
			if lasts++; lasts > 64+len(src)/64 {
				return out, errDeflate
			}
			f.restart(window, out.b, p.Deflate.receiveWindow())
		case errors.Is(err, io.ErrUnexpectedEOF) && !whole:
			return out, nil
		default:
			return out, errDeflate
		}
	}
}

// check looks at the next inflated bytes of a message. Which error it finds doesn't depend on how
// many these are.
func (t *part) check(p *Params, chunk []byte) *ProtocolError {
	allowed := max(0, min(len(chunk), p.MaxMessage-t.checked.size))
	if t.op == Text && !t.checked.text.add(chunk[:allowed]) {
		return errUTF8
	}
	if len(chunk) > allowed {
		return errTooLarge
	}
	t.checked.size += len(chunk)
	return nil
}

// restart begins a new stream behind a last block. What was inflated before it is still there to
// refer to.
func (f *inflater) restart(window, out []byte, size int) {
	if len(out) >= size || len(window) == 0 {
		f.z.Reset(&f.src, out[max(0, len(out)-size):])
		return
	}
	var history *buffer
	history = history.slide(window, size).slide(out, size)
	f.z.Reset(&f.src, history.b)
	history.free()
}

// free gives f back.
func (f *inflater) free() {
	f.src.Reset(nil)
	inflaters.Put(f)
}
