package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// LengthField says how a packet's header tells the packet's length. Either a field of the header
// does (Type, Offset, BodyOffset) or a function of yours (Func).
//
// With a field the whole packet is BodyOffset + length bytes long, counted from the packet's first
// byte. So BodyOffset is the number of bytes that the field doesn't count: the header's size if the
// length is that of the body alone, 0 if it is that of the whole packet.
//
// The zero LengthField means "no length framing" wherever a configuration holds one; see
// [LengthField.IsZero].
type LengthField struct {
	// Type is the letter of PHP's pack() for the field, as in Swoole's package_length_type:
	//
	//	c C          1 byte
	//	n v s S      2 bytes
	//	N V l L      4 bytes
	//	J P q Q      8 bytes
	//
	// n N J are big endian (network order) and v V P little endian, all unsigned. s S l L q Q are
	// in the machine's byte order, which is little endian on amd64 and arm64: prefer the others for
	// anything that crosses a network. c s l q are signed, and a negative length is ErrMalformed.
	//
	// 0 is 'N', Swoole's default.
	Type byte

	// Offset is where the field starts, in bytes from the start of the packet. Swoole:
	// package_length_offset.
	Offset int

	// BodyOffset is the number of bytes that the field doesn't count. Swoole: package_body_offset,
	// which is 0 on a client by default but 4 on a server's port.
	BodyOffset int

	// Func, if set, is used instead of the other three fields, which are ignored. Swoole:
	// package_length_func.
	//
	// It is called with all bytes read so far, from the start of the packet: at least one, at most
	// as many as the limit, and perhaps some beyond the packet's end. It returns the size of the
	// whole packet in bytes; or 0 if it needs more bytes to tell, and is called again when there
	// are some. A negative size or an error is ErrMalformed; the error is wrapped as well. Once it
	// gave a size it isn't called again for that packet. It may not change or keep header.
	Func func(header []byte) (size int, err error)
}

// IsZero reports whether f is the zero LengthField: no length framing.
func (f LengthField) IsZero() bool {
	return f.Func == nil && f.Type == 0 && f.Offset == 0 && f.BodyOffset == 0
}

// NewLength returns a Framer for packets that say how long they are. A packet is the whole of it,
// header included. max is the largest packet in bytes; a length that exceeds it is
// [ErrPacketTooLarge] as soon as the header has been read, before the body is waited for. With
// f.Func, so are max bytes from which it can't tell the size.
//
// A packet contains its own length field. A length that puts the packet's end before the end of the
// field, size 0 included, is therefore [ErrMalformed]. Otherwise the next packet would begin inside
// the field, or the same empty packet come for ever. From f.Func every size from 1 is accepted.
//
// Errors of NewLength: the zero LengthField (for a 4-byte length of the whole packet say Type:
// 'N'), an unknown Type, a negative offset, a field or BodyOffset beyond max.
func NewLength(f LengthField, max int) (Framer, error) {
	if err := checkLimit(max); err != nil {
		return nil, err
	}
	if f.IsZero() {
		return nil, errors.New(
			"packet: the zero LengthField means no length framing; for a 4-byte length in front, say Type: 'N'",
		)
	}
	framer := &lengthFramer{sizeFunc: f.Func, limit: max}
	if f.Func != nil {
		return framer, nil
	}
	if f.Type == 0 {
		f.Type = 'N'
	}
	width := fieldWidth(f.Type)
	switch {
	case width == 0:
		return nil, fmt.Errorf(
			"packet: length type %q is unknown: must be one of c C s S n v l L N V q Q J P",
			f.Type,
		)
	case f.Offset < 0:
		return nil, fmt.Errorf("packet: length offset %d is negative", f.Offset)
	case f.BodyOffset < 0:
		return nil, fmt.Errorf("packet: body offset %d is negative", f.BodyOffset)
	case f.Offset > max-width:
		return nil, fmt.Errorf(
			"packet: length field of %d bytes at offset %d: lies beyond the limit of %d bytes",
			width,
			f.Offset,
			max,
		)
	case f.BodyOffset > max:
		return nil, fmt.Errorf(
			"packet: body offset %d: lies beyond the limit of %d bytes",
			f.BodyOffset,
			max,
		)
	}
	framer.letter = f.Type
	framer.offset = f.Offset
	framer.bodyOffset = f.BodyOffset
	framer.header = f.Offset + width
	return framer, nil
}

type lengthFramer struct {
	letter     byte // never 0, unless sizeFunc is set
	offset     int  // where the field starts
	bodyOffset int  // 0 … limit
	header     int  // where the field ends: so many bytes are needed to decode it; 0 with sizeFunc
	limit      int
	sizeFunc   func([]byte) (int, error)

	// State of the stream.
	size int // of the packet at the head of the stream, 1 … limit; 0: not known yet
	err  error
}

func (f *lengthFramer) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if f.err != nil {
		return 0, nil, f.err
	}
	if f.size == 0 {
		if f.size, f.err = f.measure(data); f.err != nil {
			return 0, nil, f.err
		}
	}
	if f.size == 0 || len(data) < f.size {
		return 0, nil, nil
	}
	n := f.size
	f.size = 0
	return n, data[:n:n], nil
}

// measure returns the size of the packet that data begins with, 1 … limit, or 0 if data is too
// short to tell.
func (f *lengthFramer) measure(data []byte) (size int, err error) {
	if f.sizeFunc != nil {
		return f.measureFunc(data)
	}
	if len(data) < f.header {
		return 0, nil
	}
	length, negative := decodeField(f.letter, data[f.offset:f.header])
	if negative {
		return 0, fmt.Errorf("%w: length %d is negative", ErrMalformed, int64(length))
	}
	// Compared in this way round nothing overflows, be it 2^64-1 on a 32-bit machine: bodyOffset is
	// at most limit.
	if length > uint64(f.limit-f.bodyOffset) {
		return 0, fmt.Errorf(
			"%w: length %d and body offset %d, limit %d bytes",
			ErrPacketTooLarge,
			length,
			f.bodyOffset,
			f.limit,
		)
	}
	size = f.bodyOffset + int(length)
	if size < f.header {
		return 0, fmt.Errorf(
			"%w: length %d and body offset %d end the packet before its length field ends, at byte %d",
			ErrMalformed,
			length,
			f.bodyOffset,
			f.header,
		)
	}
	return size, nil
}

func (f *lengthFramer) measureFunc(data []byte) (size int, err error) {
	if len(data) == 0 {
		return 0, nil
	}
	header := data[:min(len(data), f.limit)]
	size, err = f.sizeFunc(slices.Clip(header))
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: length function: %w", ErrMalformed, err)
	case size < 0:
		return 0, fmt.Errorf("%w: length function returned %d", ErrMalformed, size)
	case size > f.limit:
		return 0, fmt.Errorf("%w: %d bytes, limit %d", ErrPacketTooLarge, size, f.limit)
	case size == 0 && len(header) == f.limit:
		return 0, fmt.Errorf(
			"%w: length unknown after %d bytes, the limit",
			ErrPacketTooLarge,
			f.limit,
		)
	}
	return size, nil
}

func (f *lengthFramer) Want() int {
	switch {
	case f.err != nil:
		return 0
	case f.size > 0:
		return f.size
	}
	return f.header
}

// Index is of Indexer. A function of the user's isn't called before its time.
func (f *lengthFramer) Index(data []byte, ends []uint32) int {
	if f.sizeFunc != nil {
		return 0
	}
	for n, from := 0, 0; ; n++ {
		if n == len(ends) {
			return n
		}
		advance, pkt, _ := f.Next(data[from:], false)
		if pkt == nil {
			return n
		}
		from += advance
		ends[n] = uint32(from)
	}
}

func (f *lengthFramer) Reset() { f.size, f.err = 0, nil }

// fieldWidth returns the size in bytes of a field of the type, 0 for an unknown one.
func fieldWidth(letter byte) int {
	switch letter {
	case 'c', 'C':
		return 1
	case 's', 'S', 'n', 'v':
		return 2
	case 'l', 'L', 'N', 'V':
		return 4
	case 'q', 'Q', 'J', 'P':
		return 8
	}
	return 0
}

// decodeField decodes a field of the type. A negative value is returned in two's complement.
func decodeField(letter byte, field []byte) (value uint64, negative bool) {
	switch letter {
	case 'c':
		v := int8(field[0])
		return uint64(v), v < 0
	case 'C':
		return uint64(field[0]), false
	case 's':
		v := int16(binary.NativeEndian.Uint16(field))
		return uint64(v), v < 0
	case 'S':
		return uint64(binary.NativeEndian.Uint16(field)), false
	case 'n':
		return uint64(binary.BigEndian.Uint16(field)), false
	case 'v':
		return uint64(binary.LittleEndian.Uint16(field)), false
	case 'l':
		v := int32(binary.NativeEndian.Uint32(field))
		return uint64(v), v < 0
	case 'L':
		return uint64(binary.NativeEndian.Uint32(field)), false
	case 'N':
		return uint64(binary.BigEndian.Uint32(field)), false
	case 'V':
		return uint64(binary.LittleEndian.Uint32(field)), false
	case 'q':
		v := int64(binary.NativeEndian.Uint64(field))
		return uint64(v), v < 0
	case 'Q':
		return binary.NativeEndian.Uint64(field), false
	case 'J':
		return binary.BigEndian.Uint64(field), false
	case 'P':
		return binary.LittleEndian.Uint64(field), false
	}
	panic("packet: length type " + string(letter)) // NewLength lets no other pass
}
