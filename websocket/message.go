package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Opcode says what a frame is (RFC 6455, section 5.2).
type Opcode uint8

// Opcodes. Text is UTF-8, which is checked in what is received, and up to the program in what is
// sent.
const (
	Text   = Opcode(engine.Text)
	Binary = Opcode(engine.Binary)
	Ping   = Opcode(engine.Ping)
	Pong   = Opcode(engine.Pong)
)

func (op Opcode) String() string {
	switch op {
	case Text:
		return "text"
	case Binary:
		return "binary"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return fmt.Sprintf("opcode %d", uint8(op))
}

// Message is what a peer has sent.
type Message struct {
	Opcode Opcode // Text or Binary
	Data   []byte
	// More says that this is a piece of a message, and not the last one. It is always false without
	// Options.Pieces.
	More bool
}

// Status says what has become of a message that was pushed.
type Status uint8

const (
	// Queued says that the message is on its way: with the kernel, or about to be. It may still be
	// lost with the connection.
	Queued Status = iota
	// BackPressure is Queued, with more than Options.HighWater waiting for the peer: whoever can,
	// sends less.
	BackPressure
	// Dropped says that the message was not sent, as more than Options.MaxQueue would wait for the
	// peer. What becomes of the connection, Options.OnSlow says.
	Dropped
)

func (s Status) String() string {
	return [...]string{"queued", "back-pressure", "dropped"}[s]
}

// Status codes of the closing handshake (RFC 6455, section 7.4.1, and the IANA registry). The
// program's own are 3000 to 4999.
const (
	StatusNormal          = 1000
	StatusGoingAway       = 1001
	StatusProtocolError   = 1002
	StatusUnsupportedData = 1003
	StatusNoStatus        = 1005 // the close frame had none; never sent
	StatusAbnormal        = 1006 // there was no close frame; never sent
	StatusInvalidData     = 1007
	StatusPolicyViolation = 1008
	StatusTooBig          = 1009
	StatusMissingExt      = 1010
	StatusInternalError   = 1011
	StatusServiceRestart  = 1012
	StatusTryAgainLater   = 1013
)

// CloseError says how a connection has ended. Recv returns it, and so do operations on a connection
// that has ended. errors.Is finds net.ErrClosed in it if this side has ended the connection, io.EOF
// if the peer has, in order; and whatever lies behind an end without order.
type CloseError struct {
	Code   int    // of the close frame; StatusNoStatus or StatusAbnormal if there was none
	Reason string // of the close frame: the peer's words, unless this side has ended the connection
	Clean  bool   // both sides have said that they close
	Err    error
}

func (e *CloseError) Error() string {
	text := fmt.Sprintf("websocket: closed with %d", e.Code)
	if e.Code == StatusAbnormal {
		text = "websocket: the connection has ended without a close frame"
	}
	if e.Reason != "" {
		text += fmt.Sprintf(" %q", e.Reason)
	}
	if e.Err != nil && e.Err != io.EOF && e.Err != net.ErrClosed {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *CloseError) Unwrap() error { return e.Err }

var (
	// ErrNotEstablished is returned for a connection that is not a WebSocket yet: nothing can be
	// pushed ahead of the response to its handshake. Swoole's WEBSOCKET_UNCONNECTED.
	ErrNotEstablished = errors.New("websocket: the handshake is not over")

	// ErrPongTimeout is why a connection has ended whose peer has not answered a ping in
	// Options.PongTimeout.
	ErrPongTimeout = errors.New("websocket: the peer has not answered a ping")

	// ErrCloseTimeout is why a connection has ended whose peer has not answered a close frame in
	// Options.CloseTimeout.
	ErrCloseTimeout = errors.New("websocket: the peer has not answered the close frame")

	// ErrSlow is why a connection has ended whose peer takes less than it is sent.
	ErrSlow = errors.New("websocket: the peer takes less than it is sent")

	// ErrTooBig is returned for a control frame of more than 125 bytes.
	ErrTooBig = errors.New("websocket: a control frame has 125 bytes at most")
)

// Pack returns the frame in which a server sends a message: Swoole's WebSocket\Server::pack.
func Pack(op Opcode, data []byte) []byte {
	return engine.AppendMessage(nil, engine.Server, engine.Opcode(op), data, [4]byte{})
}

// Unpack is the opposite of Pack: it returns the one message that a frame of a server holds.
func Unpack(frame []byte) (Message, error) {
	var receiver engine.Receiver
	defer receiver.Release()
	params := engine.Params{Role: engine.Client, MaxMessage: len(frame)}
	event, n, err := receiver.Next(&params, append([]byte(nil), frame...))
	switch {
	case err != nil:
		return Message{}, err
	case n < len(frame):
		return Message{}, errors.New("websocket: more than one frame")
	}
	switch event.Kind {
	case engine.Message:
		return Message{Opcode: Opcode(event.Opcode), Data: event.Data}, nil
	case engine.PingReceived:
		return Message{Opcode: Ping, Data: event.Data}, nil
	case engine.PongReceived:
		return Message{Opcode: Pong, Data: event.Data}, nil
	}
	return Message{}, errors.New("websocket: not a whole message")
}
