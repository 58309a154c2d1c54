//go:build linux

package otherside

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// An outgoing message is one of those that are sent in turn.
type outgoing struct {
	payload []byte
	frame   []byte // as it is sent: masked, and compressed if that is agreed on
	// answer is what the server has sent for it, byte by byte, and has been found right. A server
	// without context takeover has no reason to send anything else the next time; if it does, that
	// is looked at again.
	answer atomic.Pointer[[]byte]
}

// different is how many different messages there are: an answer of another's can be told.
const different = 16

var (
	errShort   = errors.New("otherside: the kernel took a part of a message only")
	errClosed  = errors.New("otherside: the server has closed a connection")
	errAnswer  = errors.New("otherside: the answer is not the message that was sent")
	errDeflate = errors.New("otherside: the answer isn't compressed, or can't be inflated")
)

// messagesOf makes the messages. They are the same in each run.
func messagesOf(c WebSocket) ([]outgoing, error) {
	if c.Size < 1 {
		return nil, errors.New("otherside: messages need a size")
	}
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]outgoing, different)
	for i := range all {
		m := &all[i]
		op, rsv := ws.OpBinary, byte(0)
		switch {
		case c.Deflate:
			op, rsv, m.payload = ws.OpText, 4, record(random, c.Size)
		case c.Does == Broadcasts:
			op, m.payload = ws.OpText, text(random, c.Size)
		default:
			m.payload = make([]byte, c.Size)
			for i := range m.payload {
				m.payload[i] = byte(random.Uint32())
			}
		}
		m.frame = masked(random, op, rsv, m.payload)
	}
	return all, nil
}

// masked returns a client's frame.
func masked(random *rand.Rand, op ws.OpCode, rsv byte, payload []byte) []byte {
	if rsv != 0 {
		payload = deflated(payload)
	}
	f := ws.NewFrame(op, true, bytes.Clone(payload))
	f.Header.Rsv = rsv
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], random.Uint32()|1)
	return ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, mask))
}

func deflated(p []byte) []byte {
	var b bytes.Buffer
	z, _ := flate.NewWriter(&b, flate.DefaultCompression) // the level is one
	z.Write(p)
	z.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

func text(random *rand.Rand, size int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz      "
	p := make([]byte, size)
	for i := range p {
		p[i] = letters[random.IntN(len(letters))]
	}
	return p
}

// record makes a message such as an application sends: JSON with some fields that vary, which a
// compressor makes about half as long.
func record(random *rand.Rand, size int) []byte {
	var b strings.Builder
	b.WriteString(`{"type":"trades","trades":[`)
	for b.Len() < size-120 {
		fmt.Fprintf(&b, `{"id":%d,"symbol":"%s","price":%.2f,"amount":%d,"side":"%s"},`,
			random.IntN(1e9), strings.ToUpper(string(text(random, 3))), random.Float64()*1e4,
			random.IntN(1000), []string{"buy", "sell"}[random.IntN(2)])
	}
	head := strings.TrimSuffix(b.String(), ",") + `],"note":"`
	const tail = `"}`
	return []byte(head + string(text(random, max(0, size-len(head)-len(tail)))) + tail)
}

// wireConn is a connection of a loop.
type wireConn struct {
	fd   int32
	next int    // the message that is outstanding; of Upgrades: the key
	got  int    // of a burst, bytes
	rest []byte // what has come of an answer that isn't whole
}

func (p *loop) message(c *wireConn) *outgoing {
	return &p.load.messages[c.next%len(p.load.messages)]
}

// send sends a connection's next message.
func (p *loop) send(c *wireConn) error {
	c.next++
	return write(c.fd, p.message(c).frame)
}

func write(fd int32, b []byte) error {
	n, err := unix.Write(int(fd), b)
	if err == nil && n < len(b) {
		err = errShort
	}
	return err
}

// read reads what has come, behind kept bytes of the loop's buffer.
func (p *loop) read(c *wireConn, kept int) (n int, err error) {
	// One with a time-out is interrupted by the runtime's signals, see signal(7).
	for n, err = unix.Read(int(c.fd), p.in[kept:]); err == unix.EINTR; {
		n, err = unix.Read(int(c.fd), p.in[kept:])
	}
	switch {
	case err == unix.EAGAIN:
		return 0, nil
	case err == nil && n == 0:
		err = errClosed
	}
	return max(0, n), err
}

// trip takes what has come of an answer, and sends the next message when it is whole.
func (p *loop) trip(c *wireConn) (ended int, err error) {
	kept := copy(p.in[:], c.rest)
	n, err := p.read(c, kept)
	if n == 0 || err != nil {
		return 0, err
	}
	in, m := p.in[:kept+n], p.message(c)
	if known := m.answer.Load(); known == nil || !bytes.Equal(*known, in) {
		if whole, err := m.check(in, p.load.config.Deflate); err != nil {
			return 0, err
		} else if !whole {
			c.rest = append(c.rest[:0], in...)
			return 0, nil
		}
		answer := bytes.Clone(in)
		m.answer.Store(&answer)
	}
	c.rest = nil
	p.counter.Add(1)
	if p.load.over.Load() {
		return 1, nil
	}
	return 0, p.send(c)
}

// check looks at what has come for a message, and says whether it is all.
func (m *outgoing) check(in []byte, compressed bool) (whole bool, err error) {
	var payload []byte
	for first, fin := true, false; !fin; first = false {
		r := bytes.NewReader(in)
		h, err := ws.ReadHeader(r)
		at := len(in) - r.Len()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
			err == nil && h.Length > int64(r.Len()) {
			return false, nil
		}
		if err != nil || first && (h.Rsv != 0) != compressed {
			return false, errors.Join(errDeflate, err)
		}
		payload, in, fin = append(payload, in[at:at+int(h.Length)]...), in[at+int(h.Length):], h.Fin
	}
	if compressed {
		tail := strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")
		z := flate.NewReader(io.MultiReader(bytes.NewReader(payload), tail))
		if payload, err = io.ReadAll(z); err != nil {
			return false, errors.Join(errDeflate, err)
		}
	}
	if len(in) > 0 || !bytes.Equal(payload, m.payload) {
		return false, errAnswer
	}
	return true, nil
}
