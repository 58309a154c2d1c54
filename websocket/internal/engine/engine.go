// Package engine is the WebSocket protocol (RFC 6455) with compression (RFC 7692) without any I/O:
// bytes in, events out. It has no clock and starts no goroutine, and it allocates nothing on a
// peer's word: what it holds grows with what has come, and is given back when that has been handed
// out. So an idle connection costs its [Receiver] and its [Sender], a few words.
//
// # Receiving
//
// The caller reads bytes as it likes and pulls events out of them:
//
//	for {
//		ev, n, err := r.Next(&params, in)
//		in = in[n:]
//		if err != nil {
//			// Send AppendClose(…, err.Code, …), then end the connection.
//		}
//		if ev.Kind == engine.None {
//			break // all of in is consumed: read more
//		}
//		…
//	}
//
// A message in one frame that is whole in what was read is handed out in place, and so is each
// piece with [Params.Pieces]. Anything else is collected in a buffer that is borrowed.
//
// What is illegal is refused at its first byte: reserved bits when the first byte of a header has
// come, text that isn't UTF-8 within a frame that has not ended, a size when the header says it.
// Whatever the cuts between the reads are, events and errors are the same.
//
// # Inflating
//
// A compressed message is collected as it came, compressed, and inflated when it is whole. Until
// then a look at what has come finds text that isn't UTF-8, a size beyond the limit and corrupt
// data. It starts from the beginning, as an inflater would be 40 KiB to hold for each peer that
// sends the first bytes of a message. So it is taken with each piece only while that is cheap, and
// after that when the bytes have doubled. Either way no more is inflated than the limit allows.
//
// # Sending
//
// The functions Append… append one frame to a slice, as append does.
package engine

import "fmt"

// Role is the end of the connection that the caller is.
type Role uint8

const (
	// Server receives masked frames and sends unmasked ones.
	Server Role = iota
	// Client receives unmasked frames and sends masked ones.
	Client
)

// Opcode is what a frame is (RFC 6455, section 5.2).
type Opcode uint8

// The opcodes that RFC 6455 defines. All others are reserved and refused.
const (
	Continuation Opcode = 0
	Text         Opcode = 1
	Binary       Opcode = 2
	Close        Opcode = 8
	Ping         Opcode = 9
	Pong         Opcode = 10
)

// Kind is what has happened.
type Kind uint8

// The kinds of events.
const (
	// None means that all bytes are consumed and more are needed.
	None Kind = iota
	// Message is a whole message: Opcode is Text or Binary, Data is what it carries.
	Message
	// Piece is the next part of a message, Final its last one: with Params.Pieces, in place of
	// Message. Pieces of text may end within a character. Only the last one may be empty.
	Piece
	// PingReceived carries Data of 0 to 125 bytes, which the pong to be sent repeats.
	PingReceived
	// PongReceived carries Data of 0 to 125 bytes.
	PongReceived
	// Closed is the peer's close frame, with Code and Reason. What comes after it is ignored.
	Closed
)

// An Event is what Next has found.
type Event struct {
	Kind   Kind
	Opcode Opcode
	Final  bool   // of a Piece
	Data   []byte // in the bytes given to Next or in a borrowed buffer; valid until the next Next
	Code   int    // of Closed: 1005 if the frame carries none
	Reason string // of Closed: valid UTF-8, at most 123 bytes
}

// Params are what very many connections have in common, as a rule all of a server that have agreed
// on the same compression. They must not change while a connection uses them.
type Params struct {
	Role Role
	// MaxMessage is the largest message in bytes, after inflation. A larger one ends the
	// connection with 1009 as soon as a header, the sum of the fragments' headers, or the inflated
	// size says so. With 0 only empty messages are let in.
	MaxMessage int
	// Deflate is what both ends have agreed on; nil if the extension isn't in use.
	Deflate *Deflate
	// Pieces hands out messages as pieces while they come. Of a compressed message a piece can be
	// handed out where a fragment ends and the sender has flushed its compressor, as AppendPiece
	// does; otherwise it is one piece.
	Pieces bool
}

// Deflate are the parameters of permessage-deflate (RFC 7692, section 7.1) for one connection, seen
// from the own end.
type Deflate struct {
	// SendBits and ReceiveBits are the base-2 logarithm of the size of the window of each
	// direction, 8 to 15.
	SendBits, ReceiveBits int
	// SendTakeover and ReceiveTakeover keep the window from one message to the next: up to 4 KiB
	// for sending, and up to the size of the window for receiving, for each connection.
	SendTakeover, ReceiveTakeover bool
}

// A ProtocolError says what a peer has done wrong. It ends the connection: the caller sends a close
// frame with Code and Reason first (RFC 6455, section 7.1.7).
type ProtocolError struct {
	Code    int    // 1002, 1007 or 1009
	Reason  string // fits into a close frame
	Section string // where the rule is, such as "RFC 6455, section 5.1"
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("websocket: %s (%d; %s)", e.Reason, e.Code, e.Section)
}

// Codes of close frames that the engine gives itself (RFC 6455, section 7.4.1).
const (
	CodeProtocolError  = 1002
	CodeNoStatus       = 1005 // never in a frame: stands for a close frame that carries no code
	CodeInvalidPayload = 1007
	CodeTooLarge       = 1009
)

// receiveWindow is how many inflated bytes a peer may refer back to. Peers that have agreed on 256
// may go back further, as zlib takes 256 for 512.
func (d *Deflate) receiveWindow() int { return 1 << max(d.ReceiveBits, 9) }
