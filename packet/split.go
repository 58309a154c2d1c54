package packet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxStalls is how many packets in a row may come without consuming a byte. It is the number that
// bufio.Scanner uses.
const maxStalls = 100

// NewSplit returns a Framer that cuts the stream into packets with split, under the rules of
// [bufio.Scanner]:
//
//   - (0, nil, nil) asks for more bytes; an advance without a token skips bytes;
//   - an empty token that isn't nil is an empty packet;
//   - [bufio.ErrFinalToken] ends the packets, after a last one if there is a token; from then on
//     Next returns [io.EOF]. Bytes behind the advance given with it stay unconsumed;
//   - any other error of split is returned unchanged;
//   - an advance outside of the data is [bufio.ErrNegativeAdvance] or [bufio.ErrAdvanceTooFar],
//     wrapped;
//   - split is called with empty data only at the end of the stream;
//   - a panic of split is the caller's.
//
// max bounds the bytes that have to be buffered: split never sees more than max bytes, and if it
// finds nothing in so many, Next returns [ErrPacketTooLarge]. A token and the bytes behind it that
// prove its end must fit in together; the
// line "abcd\n" needs a max of 5 under [bufio.ScanLines], with or without its line feed.
//
// In two points NewSplit does better than the Scanner. After a skip it calls split at once with the
// bytes it has, where the Scanner first waits for the peer to send more, and at the end of the
// stream gives up. And more than 100 packets in a row that consume nothing are [io.ErrNoProgress],
// where the Scanner panics at the end of the stream, and in the middle goes on for ever.
//
// A SplitFunc sees all bytes from the start each time more of them arrive (and not again before
// that, however often Next is called), so a large token in many pieces costs time in proportion to
// size × pieces. For a delimiter use [NewEOF] and for a length [NewLength], which scan once.
func NewSplit(split bufio.SplitFunc, max int) (Framer, error) {
	if err := checkLimit(max); err != nil {
		return nil, err
	}
	if split == nil {
		return nil, errors.New("packet: the split function is nil")
	}
	return &splitFramer{split: split, limit: max}, nil
}

type splitFramer struct {
	split bufio.SplitFunc
	limit int

	// State of the stream.
	stalls int // packets in a row that consumed nothing
	looked int // how many bytes split has seen and found too few
	err    error
}

func (f *splitFramer) Next(data []byte, atEOF bool) (advance int, pkt []byte, err error) {
	if f.err != nil {
		return 0, nil, f.err
	}
	if len(data) == f.looked && !atEOF {
		return 0, nil, nil
	}
	f.looked = 0
	if data == nil {
		// Split may return its data as an empty last token, which must not look like none.
		data = []byte{}
	}
	// Each round consumes at least one byte or is the last one.
	skipped := 0
	for {
		window := data[skipped:]
		full := len(window) >= f.limit
		if full {
			window = window[:f.limit]
		}
		if len(window) == 0 && !atEOF {
			return skipped, nil, nil
		}
		n, token, splitErr := f.split(window, atEOF && !full)
		switch {
		case splitErr == bufio.ErrFinalToken: // the Scanner compares with == as well, and lets a wild advance pass
			f.err = io.EOF
			n = min(max(n, 0), len(window))
			if skipped+n == 0 && token == nil {
				return 0, nil, f.err
			}
			return skipped + n, slices.Clip(token), nil
		case splitErr != nil:
			return f.fail(skipped, splitErr)
		case n < 0:
			return f.fail(skipped, fmt.Errorf("packet: %w: %d", bufio.ErrNegativeAdvance, n))
		case n > len(window):
			return f.fail(
				skipped,
				fmt.Errorf("packet: %w: %d of %d bytes", bufio.ErrAdvanceTooFar, n, len(window)),
			)
		case token != nil && skipped+n == 0:
			if f.stalls++; f.stalls > maxStalls {
				return f.fail(
					0,
					fmt.Errorf(
						"packet: %d tokens without an advance: %w",
						f.stalls,
						io.ErrNoProgress,
					),
				)
			}
			return 0, slices.Clip(token), nil
		case token != nil:
			f.stalls = 0
			return skipped + n, slices.Clip(token), nil
		case n > 0:
			skipped += n
		case full:
			return f.fail(
				skipped,
				fmt.Errorf("%w: no token in %d bytes, the limit", ErrPacketTooLarge, f.limit),
			)
		default:
			f.stalls = 0
			if !atEOF {
				f.looked = len(window)
			}
			return skipped, nil, nil
		}
	}
}

// fail makes err sticky. Bytes skipped before it happened are reported first, on their own.
func (f *splitFramer) fail(skipped int, err error) (int, []byte, error) {
	f.err = err
	if skipped > 0 {
		return skipped, nil, nil
	}
	return 0, nil, err
}

func (f *splitFramer) Want() int { return 0 }

func (f *splitFramer) Reset() { f.stalls, f.looked, f.err = 0, 0, nil }
