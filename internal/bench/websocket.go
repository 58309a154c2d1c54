package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"github.com/gobwas/ws"

	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
)

// WebSocket is what the WebSocket modes ask the server for.
type WebSocket struct {
	URL          *url.URL    // of the request; where it leads to, Target says
	Subprotocols []string    // to offer
	Header       http.Header // more headers of the request
}

// maxResponse bounds the head of the response to the handshake.
const maxResponse = 64 << 10

var (
	errNotUpgraded = errors.New("the server has refused the WebSocket")
	errCloseFrame  = errors.New("the server has sent a close frame")
)

// webSocket reports whether messages are WebSocket's.
func (o *Options) webSocket() bool {
	return o.Mode == WebSocketEcho || o.Mode == WebSocketIdle || o.Mode == WebSocketBroadcast
}

// holds reports whether connections are opened to be held.
func (o *Options) holds() bool { return o.Mode == Connections || o.Mode == WebSocketIdle }

// frame returns a message as a client sends it, masked. What is held is kept alive by pings, which
// every server answers.
func (o *Options) frame(payload []byte) []byte {
	op := ws.OpBinary
	if o.Mode == WebSocketIdle {
		op = ws.OpPing
	}
	return masked(op, payload)
}

func masked(op ws.OpCode, payload []byte) []byte {
	var mask [4]byte
	binary.NativeEndian.PutUint32(mask[:], rand.Uint32())
	return ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(op, true, payload), mask))
}

// upgrade makes a connection a WebSocket (RFC 6455, section 4.1).
func (d *dialer) upgrade(ctx context.Context, s *socket.Socket, t *trial) error {
	began := clock.Now()
	stream := &headStream{ctx: ctx, socket: s}
	head, err := packet.NewEOF("\r\n\r\n", maxResponse)
	if err == nil {
		err = s.SetProtocol(head)
	}
	if err == nil {
		ask := ws.Dialer{Protocols: d.options.WebSocket.Subprotocols,
			Header: ws.HandshakeHeaderHTTP(d.options.WebSocket.Header)}
		_, _, err = ask.Upgrade(stream, d.options.WebSocket.URL)
	}
	if status, ok := errors.AsType[ws.StatusError](err); ok {
		err = fmt.Errorf("%w: HTTP status %d", errNotUpgraded, int(status))
	}
	if err != nil && stream.read {
		err = fmt.Errorf("%w: %s", err, stream.quote())
	}
	if err == nil {
		err = s.SetProtocol(new(frames))
	}
	if err != nil {
		return failedIn(phaseUpgrade, err)
	}
	t.note(phaseUpgrade, clock.Now()-began)
	return nil
}

// headStream is a socket for a handshake: it reads the head of the response, and nothing of what
// follows.
type headStream struct {
	ctx    context.Context
	socket *socket.Socket
	head   []byte
	read   bool
	first  string // line
}

// quote returns what the server has said, its first line and what there is of the body: that tells
// more than what was expected in its place.
func (h *headStream) quote() string {
	var body [200]byte
	text := reply.Quote([]byte(h.first))
	if n, _ := h.socket.Peek(body[:]); n > 0 {
		text += " " + reply.Quote(body[:n])
	}
	return text
}

func (h *headStream) Write(p []byte) (int, error) { return h.socket.SendAll(h.ctx, p) }

func (h *headStream) Read(p []byte) (int, error) {
	if !h.read {
		head, err := h.socket.RecvPacket(h.ctx)
		if err != nil {
			return 0, err
		}
		h.head, h.read = head, true
		h.first, _, _ = strings.Cut(string(head), "\r\n")
	}
	if len(h.head) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, h.head)
	h.head = h.head[n:]
	return n, nil
}

// frames is a Framer for what a server sends: a packet is a frame, with its header.
type frames struct {
	want int
	err  error
}

// Next makes it a Framer.
func (f *frames) Next(data []byte, _ bool) (advance int, pkt []byte, err error) {
	if f.err != nil {
		return 0, nil, f.err
	}
	f.want = 0
	if len(data) < 2 {
		return 0, nil, nil
	}
	at, length := headerSize(data[1]), uint64(data[1]&127)
	if len(data) < at {
		return 0, nil, nil
	}
	switch at {
	case 4:
		length = uint64(binary.BigEndian.Uint16(data[2:]))
	case 10:
		length = binary.BigEndian.Uint64(data[2:])
	}
	switch {
	case data[1]&128 != 0: // masked (RFC 6455, section 5.1)
		f.err = packet.ErrMalformed
	case length > message.MaxSize:
		f.err = packet.ErrPacketTooLarge
	}
	if f.err != nil {
		return 0, nil, f.err
	}
	if end := at + int(length); len(data) >= end {
		return end, data[:end:end], nil
	}
	f.want = at + int(length)
	return 0, nil, nil
}

// headerSize is how long a server's header is, by its second byte.
func headerSize(second byte) int {
	switch second & 127 {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// Want returns how long the frame is.
func (f *frames) Want() int { return f.want }

// Reset begins anew.
func (f *frames) Reset() { *f = frames{} }

// receiveMessage receives the next message. It answers a WebSocket server's pings. Of idle
// connections the pongs are the messages: what the server sends them besides is its own affair.
func (r *run) receiveMessage(ctx context.Context, s *socket.Socket) ([]byte, error) {
	if !r.options.webSocket() {
		return s.RecvPacket(ctx)
	}
	var parts []byte // of a message in fragments
	for {
		frame, err := s.RecvPacket(ctx)
		if err != nil {
			return nil, err
		}
		fin, op, payload := frame[0]&128 != 0, ws.OpCode(frame[0]&15), frame[headerSize(frame[1]):]
		switch {
		case op == ws.OpClose:
			return nil, errCloseFrame
		case op == ws.OpPing:
			if _, err := s.SendSoon(ctx, masked(ws.OpPong, payload)); err != nil {
				return nil, err
			}
		case op == ws.OpPong:
			if r.options.Mode == WebSocketIdle {
				return payload, nil
			}
		case r.options.Mode == WebSocketIdle:
		case fin && parts == nil:
			return payload, nil
		default:
			if parts = append(parts, payload...); len(parts) > message.MaxSize {
				return nil, packet.ErrPacketTooLarge
			}
			if fin {
				return parts, nil
			}
		}
	}
}
