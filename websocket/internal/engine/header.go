package engine

import (
	"encoding/binary"
	"math"
)

// A frame's header (RFC 6455, section 5.2):
//
//	byte 0   FIN RSV1 RSV2 RSV3 opcode×4
//	byte 1   MASK length×7           126: 2 bytes of length follow, 127: 8 bytes
//	2 or 8   length, in as few bytes as possible
//	4        the mask, if MASK is set
const (
	maxHeader  = 14
	maxControl = 125 // bytes that a control frame may carry

	bitFin  = 0x80
	bitRSV1 = 0x40
	bitsRSV = 0x30 // RSV2 and RSV3
	bitMask = 0x80
)

const framing = "RFC 6455, section 5.2"

var (
	errReservedBits = &ProtocolError{CodeProtocolError, "a reserved bit is set", framing}
	errOpcode       = &ProtocolError{CodeProtocolError, "reserved opcode", framing}
	errLength       = &ProtocolError{CodeProtocolError, "length not in its shortest form", framing}
	errLengthSign   = &ProtocolError{CodeProtocolError, "length with its highest bit set", framing}
	errUnmasked     = &ProtocolError{CodeProtocolError,
		"frame of a client without a mask", "RFC 6455, section 5.1"}
	errMasked = &ProtocolError{CodeProtocolError,
		"frame of a server with a mask", "RFC 6455, section 5.1"}
	errNoMessage = &ProtocolError{CodeProtocolError,
		"continuation of nothing", "RFC 6455, section 5.4"}
	errInterleaved = &ProtocolError{CodeProtocolError,
		"message within a message", "RFC 6455, section 5.4"}
	errControlFragmented = &ProtocolError{CodeProtocolError,
		"control frame in fragments", "RFC 6455, section 5.5"}
	errControlLength = &ProtocolError{CodeProtocolError,
		"control frame of more than 125 bytes", "RFC 6455, section 5.5"}
	errCompressed = &ProtocolError{CodeProtocolError,
		"RSV1 without compression", "RFC 6455, section 5.2"}
	errCompressedPart = &ProtocolError{CodeProtocolError,
		"RSV1 on a continuation", "RFC 7692, section 6.1"}
	errCompressedControl = &ProtocolError{CodeProtocolError,
		"RSV1 on a control frame", "RFC 7692, section 6.1"}
	errTooLarge = &ProtocolError{CodeTooLarge,
		"message too large", "RFC 6455, section 7.4.1"}
)

// header is one that is whole and legal.
type header struct {
	length     int64
	mask       [4]byte // zero for a frame without one, which changes nothing
	op         Opcode
	fin        bool
	compressed bool // RSV1
}

func (op Opcode) control() bool { return op&8 != 0 }

// parse reads the header that b begins with. It returns the header's size, or 0 if there has to
// come more of it; what has come has been looked at then, in the order of the bytes, so that the
// error of an illegal header doesn't depend on where it was cut.
func (h *header) parse(p *Params, t *part, b []byte) (int, *ProtocolError) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := h.first(p, t, b[0]); err != nil {
		return 0, err
	}
	if len(b) == 1 {
		return 0, nil
	}
	masked := b[1]&bitMask != 0
	if masked != (p.Role == Server) {
		if masked {
			return 0, errMasked
		}
		return 0, errUnmasked
	}
	n := 2
	switch length := b[1] &^ bitMask; {
	case length <= maxControl:
		h.length = int64(length)
	case h.op.control():
		return 0, errControlLength
	case length == 126:
		n = 4
		if len(b) < n {
			return 0, nil
		}
		if h.length = int64(binary.BigEndian.Uint16(b[2:])); h.length <= maxControl {
			return 0, errLength
		}
	default:
		n = 10
		if len(b) > 2 && b[2]&0x80 != 0 {
			return 0, errLengthSign
		}
		if len(b) < n {
			return 0, nil
		}
		if h.length = int64(binary.BigEndian.Uint64(b[2:])); h.length <= math.MaxUint16 {
			return 0, errLength
		}
	}
	if !h.op.control() && h.length > room(p, t, h.compressed) {
		return 0, errTooLarge
	}
	if masked {
		if len(b) < n+4 {
			return 0, nil
		}
		h.mask = [4]byte(b[n:])
		n += 4
	}
	return n, nil
}

// first looks at a header's first byte.
func (h *header) first(p *Params, t *part, b byte) *ProtocolError {
	h.op, h.fin, h.compressed = Opcode(b&0x0f), b&bitFin != 0, b&bitRSV1 != 0
	inMessage := t != nil && t.op != 0
	switch {
	case b&bitsRSV != 0:
		return errReservedBits
	case h.op == Continuation:
		if !inMessage {
			return errNoMessage
		}
		if h.compressed {
			return errCompressedPart
		}
	case h.op == Text || h.op == Binary:
		if inMessage {
			return errInterleaved
		}
		if h.compressed && p.Deflate == nil {
			return errCompressed
		}
	case h.op == Close || h.op == Ping || h.op == Pong:
		if !h.fin {
			return errControlFragmented
		}
		if h.compressed {
			return errCompressedControl
		}
	default:
		return errOpcode
	}
	return nil
}

// room is how many bytes may still come of the message. A compressed one may be a little longer
// than what it inflates to: compressors that find nothing to compress, and flush often, add up to a
// quarter.
func room(p *Params, t *part, compressed bool) int64 {
	limit, total := int64(p.MaxMessage), int64(0)
	if t != nil && t.op != 0 {
		total, compressed = t.total, t.compressed
	}
	if compressed && limit < math.MaxInt64/2 {
		limit += limit/4 + 1024
	}
	return limit - total
}

// AppendHeader appends the header of a frame that carries length bytes. mask is used by clients
// only; the caller masks what the frame carries with it.
func AppendHeader(
	dst []byte, role Role, op Opcode, fin, compressed bool, length int, mask [4]byte,
) []byte {
	first, second := byte(op), byte(0)
	if fin {
		first |= bitFin
	}
	if compressed {
		first |= bitRSV1
	}
	if role == Client {
		second = bitMask
	}
	switch {
	case length <= maxControl:
		dst = append(dst, first, second|byte(length))
	case length <= math.MaxUint16:
		dst = append(dst, first, second|126, byte(length>>8), byte(length))
	default:
		dst = append(dst, first, second|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(length))
	}
	if role == Client {
		dst = append(dst, mask[:]...)
	}
	return dst
}

// headerSize is how many bytes AppendHeader appends.
func headerSize(role Role, length int) int {
	n := 2
	switch {
	case length > math.MaxUint16:
		n = 10
	case length > maxControl:
		n = 4
	}
	if role == Client {
		n += 4
	}
	return n
}
