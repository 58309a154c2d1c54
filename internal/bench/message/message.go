// Package message is what a benchmark's client and server send each other: messages of one size,
// with a delimiter, a length in front, or nothing.
package message

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/packet"
)

// Framing says how messages are told from each other.
type Framing string

const (
	None   Framing = "none"   // by their size
	EOF    Framing = "eof"    // they end with CR LF
	Length Framing = "length" // four bytes in front, in network order, say how many follow
)

// Framings are all of them.
var Framings = []string{string(None), string(EOF), string(Length)}

// MaxSize is the largest message, in bytes.
const MaxSize = 64 << 20

const (
	delimiter = "\r\n"
	header    = 4
)

// ParseFraming finds a framing by its name.
func ParseFraming(name string) (Framing, error) {
	switch f := Framing(name); f {
	case None, EOF, Length:
		return f, nil
	}
	return "", fmt.Errorf("%q is no framing; there are %s", name, strings.Join(Framings, ", "))
}

// Check returns what is wrong with messages of the size, in bytes with all that belongs to the
// framing.
func (f Framing) Check(size int) error {
	least := 1
	switch f {
	case EOF:
		least = len(delimiter)
	case Length:
		least = header
	}
	if size < least || size > MaxSize {
		return fmt.Errorf("a message of %d bytes: with framing %s it has %d to %d", size, f, least,
			MaxSize)
	}
	return nil
}

// New returns a message. The size must have passed Check.
func (f Framing) New(size int) []byte {
	m := bytes.Repeat([]byte{'w'}, size)
	switch f {
	case EOF:
		copy(m[size-len(delimiter):], delimiter)
	case Length:
		binary.BigEndian.PutUint32(m, uint32(size-header))
	}
	return m
}

// Numbered returns n messages of which each has its number in front, in hexadecimal digits, as far
// as there is room: whoever sends them in turn can tell the echo of one from that of another.
func (f Framing) Numbered(size, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = f.New(size)
		body := all[i]
		switch f {
		case EOF:
			body = body[:size-len(delimiter)]
		case Length:
			body = body[header:]
		}
		digits := []byte(fmt.Sprintf("%x", i))
		// the digit that differs most comes first, where there is room for one
		slices.Reverse(digits)
		copy(body, digits)
	}
	return all
}

// Framer returns what finds messages in a stream, one for each connection.
func (f Framing) Framer(size int) (packet.Framer, error) {
	switch f {
	case EOF:
		return packet.NewEOF(delimiter, size)
	case Length:
		return packet.NewLength(packet.LengthField{Type: 'N', BodyOffset: header}, size)
	}
	return Fixed(size), nil
}

// Fixed is a Framer for messages of so many bytes.
type Fixed int

// Next, Want and Reset make it a Framer. It has no state.
func (f Fixed) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if n := int(f); len(data) >= n {
		return n, data[:n:n], nil
	}
	return 0, nil, nil
}

// Want returns the size.
func (f Fixed) Want() int { return int(f) }

// Reset does nothing: there is no state.
func (f Fixed) Reset() {}
