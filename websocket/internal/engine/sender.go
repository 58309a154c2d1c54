package engine

import "github.com/gobwas/ws"

// A Sender is the compressor's state of one connection's sending direction. Its zero value is
// ready. It is one word, and it holds something with [Deflate.SendTakeover] only: the last 4 KiB
// that were compressed. Without that and without compression, nothing has to be kept for sending.
//
// It isn't safe for concurrent use. With SendTakeover frames have to go out in the order in which
// they were made.
type Sender struct {
	window *buffer
}

// AppendMessage appends a whole message, or a control frame, that isn't compressed. mask is for
// clients.
func AppendMessage(dst []byte, role Role, op Opcode, data []byte, mask [4]byte) []byte {
	return appendFrame(dst, role, op, true, data, mask)
}

func appendFrame(
	dst []byte, role Role, op Opcode, fin bool, data []byte, mask [4]byte,
) []byte {
	dst = AppendHeader(dst, role, op, fin, false, len(data), mask)
	start := len(dst)
	dst = append(dst, data...)
	maskFor(role, dst[start:], mask)
	return dst
}

func maskFor(role Role, data []byte, mask [4]byte) {
	if role == Client {
		ws.Cipher(data, mask, 0)
	}
}

// AppendCompressed appends a whole message, compressed if p.Deflate isn't nil. Without takeover, a
// message that compression doesn't make smaller goes out as it is.
func (s *Sender) AppendCompressed(
	dst []byte, p *Params, op Opcode, data []byte, mask [4]byte,
) []byte {
	if p.Deflate == nil {
		return AppendMessage(dst, p.Role, op, data, mask)
	}
	if p.Deflate.SendTakeover {
		return s.appendCompressed(dst, p, op, true, true, data, mask)
	}
	return appendOnce(dst, p.Role, op, data, p.Deflate.SendBits, mask)
}

// AppendCompressedOnce appends a whole message of a server for any number of connections that have
// agreed on a window of bits or more for sending: what it appends depends on nothing else. A
// message that compression doesn't make smaller goes out as it is. It may go to connections with
// SendTakeover, too: their Sender is told with [Sender.Sent].
func AppendCompressedOnce(dst []byte, op Opcode, data []byte, bits int) []byte {
	return appendOnce(dst, Server, op, data, bits, [4]byte{})
}

func appendOnce(
	dst []byte, role Role, op Opcode, data []byte, bits int, mask [4]byte,
) []byte {
	start := len(dst)
	dst = appendDeflated(dst, role, op, true, true, data, nil, bits, mask)
	if len(dst)-start >= headerSize(role, len(data))+len(data) {
		return AppendMessage(dst[:start], role, op, data, mask)
	}
	return dst
}

// AppendPiece appends the next part of a message, as a frame of its own. op is the message's
// opcode, compress the message's too: both are the same for all its pieces. Control frames may go
// between them, other messages may not. It compresses only if p.Deflate isn't nil, and each piece
// by itself: without takeover nothing is held between them.
func (s *Sender) AppendPiece(
	dst []byte, p *Params, op Opcode, data []byte, first, final, compress bool, mask [4]byte,
) []byte {
	if !first {
		op = Continuation
	}
	if !compress || p.Deflate == nil {
		return appendFrame(dst, p.Role, op, final, data, mask)
	}
	return s.appendCompressed(dst, p, op, first, final, data, mask)
}

// Release gives back what s holds. The connection has ended.
func (s *Sender) Release() {
	s.window.free()
	s.window = nil
}
