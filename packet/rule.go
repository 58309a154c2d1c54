package packet

import (
	"bufio"
	"errors"
)

// DefaultMax is the largest packet unless a Rule says otherwise: 2 MiB, as with Swoole.
const DefaultMax = 2 << 20

// DefaultSplitMax is DefaultMax for a SplitFunc: 64 KiB, as with bufio.Scanner. It looks at all
// that has come of a packet each time that more comes, so a peer can have it work in proportion to
// the square of the size.
const DefaultSplitMax = bufio.MaxScanTokenSize

// Rule says where packets end, as a configuration does: by at most one of EOF, Length and Split.
// The zero Rule is no framing.
type Rule struct {
	EOF    string          // packets end with this delimiter, see NewEOF
	Length LengthField     // packets have a length field, see NewLength
	Split  bufio.SplitFunc // packets are what it says, see NewSplit
	// The largest packet, in bytes; 0 means DefaultMax, with Split DefaultSplitMax.
	Max int
}

// Framer makes a Framer for one stream; nil if the Rule is no framing. It fails if the Rule
// contradicts itself.
func (r Rule) Framer() (Framer, error) {
	limit := r.Max
	switch {
	case limit != 0:
	case r.Split != nil:
		limit = DefaultSplitMax
	default:
		limit = DefaultMax
	}
	kinds := 0
	for _, set := range []bool{r.EOF != "", !r.Length.IsZero(), r.Split != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return nil, errors.New("packet: EOF, Length and Split exclude each other")
	case r.EOF != "":
		return NewEOF(r.EOF, limit)
	case kinds == 1 && r.Split == nil:
		return NewLength(r.Length, limit)
	case kinds == 1:
		return NewSplit(r.Split, limit)
	}
	return nil, checkLimit(limit)
}
