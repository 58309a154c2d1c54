package websocket

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/whorl-go/whorl/internal/callback"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Options say what happens on WebSocket connections, in both roles.
//
// With OnMessage, messages are handed to a callback, on the connection's loop, one after the other;
// it must not wait. Without it they are received by Conn.Recv. In both styles a connection on which
// nothing happens has no coroutine, unless the program keeps one in Recv, and no buffer.
type Options struct {
	// OnMessage gets each message. Its data is valid until it returns.
	OnMessage func(ctx context.Context, c *Conn, m Message)

	// OnClose is called once for each connection that was established, as the last of all. code and
	// reason are those of the close frame that has ended it, StatusNoStatus if that had none, and
	// StatusAbnormal if there was none. clean says that both sides have closed in order. What lies
	// behind it, such as ErrPongTimeout, Conn.Err tells. Optional.
	OnClose func(ctx context.Context, c *Conn, code int, reason string, clean bool)

	// OnPing gets the peer's pings. It is answered by a pong with the same data, unless OnPing
	// returns true: then the answer is the program's. OnPong gets the peer's pongs. data is valid
	// until they return. Optional.
	OnPing func(ctx context.Context, c *Conn, data []byte) (answered bool)
	OnPong func(ctx context.Context, c *Conn, data []byte)

	// OnSlow is asked when a message can't be sent as more than MaxQueue would wait for the peer.
	// True drops the message, false closes the connection with StatusTryAgainLater. nil: false. It
	// is called within Push, on the connection's loop, and must not push.
	OnSlow func(c *Conn) (drop bool)

	// OnDrained is called when, after BackPressure, no more than LowWater waits for the peer; where
	// messages from elsewhere than the loop were too many to be sure, when they have come there and
	// fewer than HighWater wait. Whoever pushes from elsewhere better waits in Conn.Drain: OnDrained
	// may come before its Push returns.
	OnDrained func(ctx context.Context, c *Conn)

	// Subprotocols are those that the program speaks, best first (RFC 6455, section 1.9). A server
	// takes its first one that the client has offered, a client offers all.
	Subprotocols []string

	// Compression is permessage-deflate (RFC 7692).
	Compression Compression

	// MaxMessage is the largest message, in bytes, after inflation; who sends a larger one is
	// disconnected with StatusTooBig. 0 means 2 MiB. Swoole: package_max_length.
	MaxMessage int

	// Pieces has messages handed out in pieces while they come, see Message.More: none is collected,
	// and MaxMessage bounds only what it says.
	Pieces bool

	// MaxQueue is how many bytes may wait for a peer that takes less than it is sent; 0 means 2 MiB.
	// HighWater and LowWater are the marks of BackPressure and OnDrained; 0 means 80 and 20 per cent
	// of MaxQueue.
	MaxQueue, HighWater, LowWater int

	// PingInterval is after how long a silence of the peer it is pinged, to an eighth: 30 s if 0,
	// never if negative; so with the two below.
	PingInterval time.Duration
	// PongTimeout is how long it then may go on to say nothing, to an eighth of PingInterval: 30 s.
	PongTimeout time.Duration
	// CloseTimeout is how long the peer may take to answer a close frame, after the last that it has
	// taken of what goes before it: 5 s.
	CloseTimeout time.Duration
}

// Compression says how messages are compressed.
type Compression struct {
	// Enabled offers permessage-deflate, or agrees to it.
	Enabled bool
	// Takeover has both sides keep what they have compressed so far for the next message: smaller
	// messages for up to 64 KiB that each connection keeps. Without it a connection keeps nothing.
	Takeover bool
	// WindowBits is the base-2 logarithm of the window of both directions, from 9 to 15; 0 means
	// 15.
	WindowBits int
	// MinSize is the size from which messages are compressed; 0 means 128 bytes.
	MinSize int
}

// Defaults of Options.
const (
	DefaultMaxMessage   = 2 << 20
	DefaultMaxQueue     = 2 << 20
	DefaultPingInterval = 30 * time.Second
	DefaultPongTimeout  = 30 * time.Second
	DefaultCloseTimeout = 5 * time.Second
	defaultMinSize      = 128
)

// shared is what the connections of one configuration have in common.
type shared struct {
	Options
	role   engine.Role
	limits callback.Limits // of the carriers, whose queue has room for controlRoom beside messages
	params sync.Map        // *params by engine.Deflate, or struct{} for none

	patience time.Duration // with what comes before the WebSocket
}

// params is shared, and what two sides have agreed on.
type params struct {
	*shared
	engine engine.Params
}

// prepare checks the options and fills in the defaults.
func (o Options) prepare(role engine.Role) (*shared, error) {
	fail := func(format string, values ...any) (*shared, error) {
		return nil, fmt.Errorf("websocket: Options: "+format, values...)
	}
	o.MaxMessage = cmp.Or(o.MaxMessage, DefaultMaxMessage)
	o.MaxQueue = cmp.Or(o.MaxQueue, DefaultMaxQueue)
	o.HighWater = cmp.Or(o.HighWater, o.MaxQueue/10*8)
	o.LowWater = cmp.Or(o.LowWater, min(o.MaxQueue/10*2, o.HighWater))
	o.PingInterval = orDefault(o.PingInterval, DefaultPingInterval)
	o.PongTimeout = orDefault(o.PongTimeout, DefaultPongTimeout)
	o.CloseTimeout = orDefault(o.CloseTimeout, DefaultCloseTimeout)
	o.Compression.MinSize = cmp.Or(o.Compression.MinSize, defaultMinSize)
	switch {
	case o.MaxMessage < 0:
		return fail("MaxMessage must not be negative")
	case o.LowWater < 0 || o.LowWater > o.HighWater || o.HighWater > o.MaxQueue:
		return fail(
			"LowWater (%d), HighWater (%d) and MaxQueue (%d) must not decrease, nor be negative",
			o.LowWater,
			o.HighWater,
			o.MaxQueue,
		)
	}
	if bits := o.Compression.WindowBits; bits != 0 && (bits < 9 || bits > 15) {
		return fail("Compression.WindowBits is %d, must be from 9 to 15", bits)
	}
	for _, name := range o.Subprotocols {
		if !httpguts.ValidHeaderFieldName(name) { // a token, too
			return fail("the subprotocol %q is not a token", name)
		}
	}
	limits, err := callback.NewLimits(
		o.MaxQueue+controlRoom, o.HighWater, o.LowWater, socket.DefaultWriteTimeout,
	)
	return &shared{Options: o, role: role, limits: limits}, err
}

// controlRoom is what may be queued beyond MaxQueue: frames without payload, headers, a response.
// Behind the largest message there is room for them.
const controlRoom = 128 << 10

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(0, d)
}

// agreed returns the params of connections on which a compression was agreed on; nil for none.
func (s *shared) agreed(deflate *engine.Deflate) *params {
	var key any = struct{}{}
	if deflate != nil {
		key = *deflate
	}
	if p, ok := s.params.Load(key); ok {
		return p.(*params)
	}
	p, _ := s.params.LoadOrStore(key, &params{shared: s, engine: engine.Params{
		Role: s.role, MaxMessage: s.MaxMessage, Deflate: deflate, Pieces: s.Pieces,
	}})
	return p.(*params)
}

// most is the most that this side does.
func (c Compression) most() engine.Deflate {
	return engine.Deflate{
		SendBits: c.WindowBits, ReceiveBits: c.WindowBits, SendTakeover: c.Takeover, ReceiveTakeover: c.Takeover,
	}
}
