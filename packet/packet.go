// Package packet finds the packets in a stream of bytes: bytes in, packets out. Packages client,
// server and socket read by its rules; by hand it is
//
//	lines, err := packet.NewEOF("\r\n", 64<<10)
//	…
//	for {
//		n, line, err := lines.Next(data, false) // data: what has come, and isn't consumed
//		if err != nil {
//			return err // ErrPacketTooLarge
//		}
//		if line == nil {
//			break // more bytes are needed
//		}
//		handle(line)
//		data = data[n:]
//	}
//
// TCP delivers a stream in pieces of any size; the peer meant packets. A [Framer] is the rule that
// tells where a packet ends, and there are three kinds:
//
//   - [NewEOF]: a packet ends with a delimiter (Swoole's open_eof_split and package_eof);
//   - [NewLength]: a field in the header says how long the packet is, or a function of yours works
//     it out (open_length_check, package_length_type and its relations, package_length_func);
//   - [NewSplit]: any [bufio.SplitFunc] cuts the stream into tokens.
//
// A Framer does no I/O and never looks at the clock. Whoever reads the socket owns the buffer,
// hands the Framer what it has, and is told either where the packet ends or that more bytes are
// needed. So the same Framer serves a plain connection, a TLS one and a test that feeds single
// bytes. The example of [Framer] is a whole reader.
//
// How the stream is cut into reads has no influence on the packets that come out, nor on whether a
// limit is broken.
//
// # Limits
//
// Every Framer has a limit in bytes, because the peer decides how long a packet is and the reader
// pays for it. The limit is exact: a packet of that many bytes passes, one of a byte more is
// [ErrPacketTooLarge], found as early as it can be known. A Framer never needs a buffer of more
// than limit bytes.
//
// A stream that broke a rule stays broken: there is no telling where the next packet begins, so the
// error comes back at every call until [Framer.Reset]. Swoole goes on reading there, in the middle
// of somebody's packet.
package packet

import "fmt"

// A Framer finds packet boundaries in a byte stream. It belongs to one stream and is not safe for
// concurrent use.
//
// It keeps its place: a packet that arrives in a thousand pieces is scanned once, not a thousand
// times. (A SplitFunc can't do that, see [NewSplit].) Finding a packet allocates nothing.
type Framer interface {
	// Next looks for the packet that data begins with.
	//
	// What the caller promises:
	//   - data starts at the first byte not consumed yet, and holds all bytes read so far from
	//     there on;
	//   - until bytes are consumed, each call's data extends that of the call before. It may have
	//     been moved in memory, but the bytes seen already are the same: this is what lets a Framer
	//     keep its place;
	//   - atEOF says that the peer has closed and data is all there will ever be.
	//
	// One and only one of the following comes back:
	//   - pkt != nil: a packet. advance bytes are consumed, the next call's data starts behind
	//     them. pkt is a part of data and valid as long as data's memory is (for NewSplit it is
	//     whatever the SplitFunc returned). Its capacity is its length, so appending to it copies.
	//     Only NewSplit has empty packets, and packets with advance == 0.
	//   - pkt == nil, err == nil, advance > 0: bytes were skipped and no packet was found yet.
	//     Consume them and call again at once, even if no bytes are left. Only NewSplit does this.
	//   - pkt == nil, err == nil, advance == 0: more bytes are needed. At the end of the stream:
	//     there are no more packets, and what data still holds is a packet that was cut off.
	//   - err != nil: the stream can't be framed any further: ErrPacketTooLarge, ErrMalformed, or
	//     an error of the user's function. Nothing is consumed, and every later call returns the
	//     same error until Reset.
	//
	// So pkt != nil is the test for a packet, not advance > 0. Calling with empty data is allowed;
	// it returns the sticky error if there is one.
	//
	// Only NewSplit heeds atEOF, to make a last packet of the rest. To the other kinds a packet
	// without its end is not a packet.
	Next(data []byte, atEOF bool) (advance int, pkt []byte, err error)

	// Want is the length that data must reach before Next can possibly find a packet, as known
	// since the last call of Next, or 0 if unknown. It counts from the start of data and is at most
	// the limit, so a reader can grow its buffer once to the size needed. It is no reason to read
	// less than the buffer has room for.
	//
	// Length framing knows the header's length, then the packet's. The other kinds always return 0.
	Want() int

	// Reset forgets everything about the stream, a sticky error included; the next data is the
	// start of another stream. For example after an upgrade to TLS, where nothing learned in
	// plaintext may be kept. State kept by the user's own function is the user's to reset.
	Reset()
}

// An Indexer is a Framer that finds the packets of a whole buffer at once, which takes less time
// for each. Those of NewEOF and NewLength are Indexers.
type Indexer interface {
	Framer

	// Index stores in ends where each of the packets ends that data begins with, counted from the
	// start of data, and returns how many it has found, at most len(ends). It is as if Next had
	// been called so often, and all its packets been consumed: the next data starts behind the last
	// of them. What Next would say then, be it an error, it says when it is called. 0 says nothing;
	// call Next.
	Index(data []byte, ends []uint32) int
}

// Errors for [errors.Is]. They come wrapped, with the figures that broke the rule.
var (
	// ErrPacketTooLarge means that the packet at the head of the stream is, or is going to be,
	// larger than the Framer's limit. Swoole's counterpart is error 1201.
	ErrPacketTooLarge error = &brokenRule{"packet too large", 1201}

	// ErrMalformed means that the peer announced a length that no packet can have, or that the
	// user's length function refused the header. Swoole's counterpart is error 1202.
	ErrMalformed error = &brokenRule{"malformed packet", 1202}
)

// brokenRule is an error with Swoole's number for it, which socket.Code asks for.
type brokenRule struct {
	text string
	code int
}

func (e *brokenRule) Error() string { return e.text }
func (e *brokenRule) Code() int     { return e.code }

// checkLimit refuses a limit that would let no packet pass.
func checkLimit(limit int) error {
	if limit < 1 {
		return fmt.Errorf("packet: limit of %d bytes: must be at least 1", limit)
	}
	return nil
}
