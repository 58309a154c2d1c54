package engine

import (
	"sync"

	"github.com/klauspost/compress/flate"
)

// maxHistory is how much of what was sent a Sender keeps with takeover. A compressor is borrowed
// for each message and reads all of it anew, so that more would cost more than it saves.
const maxHistory = 4 << 10

// marker is the end of the empty stored block that flushes the compressor. A message leaves it out
// at its end (RFC 7692, section 7.2.1).
const marker = "\x00\x00\xff\xff"

// A deflater is borrowed for one frame. It is large, about 1 MiB: a program needs as many as frames
// are compressed at the same moment.
type deflater struct {
	out appender
	w   *flate.Writer
}

// appender is append as an io.Writer.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// deflaters are kept by the bits of their window.
var deflaters [16]sync.Pool

// deflate appends data, compressed behind what dict holds of earlier data, and flushed: it ends in
// marker. No reference goes further back than a window of bits.
func deflate(dst, data, dict []byte, bits int) []byte {
	size := 1 << bits
	// Some of a dictionary is given up for the faster compressor, see below.
	if len(data) <= size/2 {
		dict = dict[max(0, len(dict)-(size-len(data))):]
	}
	if len(dict)+len(data) <= size {
		bits = 15 // nothing can refer further back; it is faster than a window of its own
	}
	d, ok := deflaters[bits].Get().(*deflater)
	if !ok {
		d = newDeflater(bits)
	}
	d.out.b = dst
	d.w.ResetDict(&d.out, dict)
	d.w.Write(data) // neither fails, as append doesn't
	d.w.Flush()
	dst, d.out.b = d.out.b, nil
	d.w.ResetDict(nil, nil) // it would keep dict
	deflaters[bits].Put(d)
	return dst
}

func newDeflater(bits int) *deflater {
	d := new(deflater)
	var err error
	if bits == 15 {
		d.w, err = flate.NewWriter(&d.out, flate.BestSpeed)
	} else {
		d.w, err = flate.NewWriterWindow(&d.out, 1<<bits)
	}
	if err != nil {
		panic("engine: no compressor for a window of this size: " + err.Error())
	}
	return d
}

// appendCompressed appends a frame that is compressed, whatever comes of it.
func (s *Sender) appendCompressed(
	dst []byte, p *Params, op Opcode, first, final bool, data []byte, mask [4]byte,
) []byte {
	dst = appendDeflated(
		dst, p.Role, op, first, final, data, s.window.bytes(), p.Deflate.SendBits, mask,
	)
	s.keep(p, data)
	return dst
}

// Sent tells s of a frame from [AppendCompressedOnce] that goes out on its connection in this
// place, and of the data in it. It matters with takeover only.
func (s *Sender) Sent(p *Params, frame, data []byte) {
	if p.Deflate != nil && frame[0]&bitRSV1 != 0 {
		s.keep(p, data)
	}
}

// keep keeps the end of data to refer to, with takeover.
func (s *Sender) keep(p *Params, data []byte) {
	if p.Deflate.SendTakeover {
		s.window = s.window.slide(data, min(maxHistory, 1<<p.Deflate.SendBits))
	}
}

// appendDeflated appends a compressed frame. How large its header is shows afterwards only.
func appendDeflated(
	dst []byte, role Role, op Opcode, first, final bool, data, dict []byte, bits int, mask [4]byte,
) []byte {
	var none [maxHeader]byte
	start, guess := len(dst), headerSize(role, len(data))
	dst = append(dst, none[:guess]...)
	dst = deflate(dst, data, dict, bits)
	if final {
		dst = dst[:len(dst)-len(marker)]
	}
	size := len(dst) - start - guess
	header := headerSize(role, size)
	if header != guess {
		if header > guess {
			dst = append(dst, none[:header-guess]...)
		}
		copy(dst[start+header:], dst[start+guess:start+guess+size])
		dst = dst[:start+header+size]
	}
	AppendHeader(dst[:start], role, op, final, first, size, mask)
	maskFor(role, dst[start+header:], mask)
	return dst
}
