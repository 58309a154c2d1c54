package packet

import (
	"bytes"
	"errors"
	"fmt"
)

// NewEOF returns a Framer for packets that end with delimiter: a packet is everything through and
// including the first delimiter, which may have any length from 1 byte. max is the largest packet
// in bytes, delimiter included; once max bytes hold no complete delimiter, Next returns
// [ErrPacketTooLarge].
//
// What is left at the end of the stream without a delimiter is not a packet. For a last line
// without its line feed use [NewSplit] with [bufio.ScanLines].
//
// An empty delimiter is an error, and so is a max that the delimiter alone exceeds.
func NewEOF(delimiter string, max int) (Framer, error) {
	if err := checkLimit(max); err != nil {
		return nil, err
	}
	if delimiter == "" {
		return nil, errors.New("packet: the delimiter is empty")
	}
	if len(delimiter) > max {
		return nil, fmt.Errorf(
			"packet: the delimiter has %d bytes, the limit for a whole packet is %d",
			len(delimiter),
			max,
		)
	}
	return &eofFramer{delimiter: delimiter, last: delimiter[len(delimiter)-1], limit: max}, nil
}

// eofFramer is kept small, 48 bytes: a program may have very many.
type eofFramer struct {
	delimiter string
	limit     int
	last      byte // of delimiter

	// State of the stream.
	place int    // no delimiter starts before data[place]
	err   *error // nil: none yet. A pointer is half as large
}

func (f *eofFramer) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if f.err != nil {
		return 0, nil, *f.err
	}
	// A delimiter that ends behind the limit doesn't count, however much has been read.
	if len(data) > f.limit {
		data = data[:f.limit]
	}
	width := len(f.delimiter)
	end := -1
	if first := f.place + width - 1; first < len(data) {
		// As a rule the first byte that is the delimiter's last is the end of a delimiter.
		if i := bytes.IndexByte(data[first:], f.last); i >= 0 {
			end = first + i + 1
			if !endsWith(data[:end-1], f.delimiter[:width-1]) {
				end = f.search(data, end-width+1)
			}
		}
	}
	if end >= 0 {
		f.place = 0
		return end, data[:end:end], nil
	}
	if len(data) == f.limit {
		err := fmt.Errorf(
			"%w: no delimiter %q in %d bytes, the limit",
			ErrPacketTooLarge,
			f.delimiter,
			f.limit,
		)
		f.err = &err
		return 0, nil, err
	}
	// The last bytes may be the start of a delimiter whose rest comes with the next read.
	f.place = max(f.place, len(data)-width+1)
	return 0, nil, nil
}

// Index is of Indexer. It goes by the delimiter's last byte alone, so a peer that sends many false
// ones fills ends with them; the rest is left to Next then, and to search.
func (f *eofFramer) Index(data []byte, ends []uint32) int {
	before := len(f.delimiter) - 1
	first := f.place + before
	if first > len(data) || f.err != nil {
		return 0
	}
	found, scanned := scan(data[first:], f.last, ends)
	from, n := 0, 0
	for _, place := range ends[:found] {
		end := first + int(place)
		switch {
		case end-from <= before:
			continue
		case before == 1: // "\r\n", for one: without the calls that others cost
			if data[end-2] != f.delimiter[0] {
				continue
			}
		case !endsWith(data[:end-1], f.delimiter[:before]):
			continue
		}
		if end-from > f.limit {
			break
		}
		ends[n] = uint32(end)
		from = end
		n++
	}
	f.place = max(0, f.place+scanned-from)
	return n
}

// search returns where the first delimiter ends that starts at data[from] or later, or -1.
//
// It isn't done by looking for the delimiter's last byte again and again, since a peer can send as
// many false ones as it likes: at a call for each, "\n\n\n…" took hundreds of times as long.
// bytes.Index changes to a vectorised or rolling-hash search once it finds too many false starts,
// so nothing makes it slow. Used alone it would need a third more time for lines of 100 bytes that
// end with "\r\n", hence the fast path in Next.
func (f *eofFramer) search(data []byte, from int) (end int) {
	i := bytes.Index(data[from:], []byte(f.delimiter))
	if i < 0 {
		return -1
	}
	return from + i + len(f.delimiter)
}

// endsWith is bytes.HasSuffix for data that is at least as long as suffix, without a call: suffix
// is a few bytes long.
func endsWith(data []byte, suffix string) bool {
	data = data[len(data)-len(suffix):]
	for i := len(suffix) - 1; i >= 0; i-- {
		if data[i] != suffix[i] {
			return false
		}
	}
	return true
}

func (f *eofFramer) Want() int { return 0 }

func (f *eofFramer) Reset() { f.place, f.err = 0, nil }
