package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/dialogue"
)

// A Mode is what a run does.
type Mode string

const (
	Handshake Mode = "handshake" // an operation is a connection with a TLS handshake
	// an operation is a message, one after the other, in one direction or both
	Throughput  Mode = "throughput"
	PingPong    Mode = "pingpong"    // an operation is a message and its echo
	Connections Mode = "connections" // an operation is a connection that is then held

	// The same over WebSocket, and a message that the server sends to all.
	WebSocketEcho      Mode = "websocket-echo"
	WebSocketIdle      Mode = "websocket-idle"
	WebSocketBroadcast Mode = "websocket-broadcast"
)

// A Direction is where messages go in mode Throughput.
type Direction string

const (
	Send    Direction = "send"    // to the server
	Receive Direction = "receive" // from the server
	Both    Direction = "both"    // the server sends back what it gets
)

// A Hold is how mode Connections holds its connections.
type Hold string

const (
	HoldSocket    Hold = "socket"    // nobody waits on them
	HoldCoroutine Hold = "coroutine" // a coroutine waits on each
)

// Options say what a run does. All times are bounded by Timeout, all counts by what is written
// beside them.
type Options struct {
	Mode    Mode   // what an operation is
	Target  string // "host:port"
	Command string // for the report

	// How much load, and for how long. Mode Connections holds Operations connections and opens
	// Connections at a time.

	Connections int           // how many at a time
	Operations  int64         // 0: no limit
	Duration    time.Duration // 0: no limit; modes that hold: how long
	Rate        float64       // operations per second in an open loop; 0: closed loop
	Warmup      time.Duration // is not measured
	Timeout     time.Duration // of each phase of an operation
	Grace       time.Duration // how long operations may go on after the end; 0: see grace
	Loops       int           // 0: as many as processors

	// Connections.

	Source      string             // addresses to connect from, see parseSources
	ResolveEach bool               // look the name up for each connection
	TLS         *tls.Config        // nil: plaintext
	StartTLS    *dialogue.Protocol // nil: TLS from the start
	Resume      float64            // share of the handshakes that resume a session
	WebSocket   *WebSocket         // of the WebSocket modes

	// FirstByte has a handshake's operation go on until the server has said something over TLS.
	// Opening is what the client says before; empty: the server speaks first.
	FirstByte bool
	Opening   []byte // in bytes, as it is sent

	// Messages.

	Size      int             // of a message, in bytes
	Framing   message.Framing // how the ends of messages are found
	Direction Direction       // of mode Throughput
	Hold      Hold            // of mode Connections
	Heartbeat time.Duration   // 0: none

	// Progress, if set, is called a few times a second, on a goroutine of its own.
	Progress func(Progress)
}

// Progress is how far a run has come.
type Progress struct {
	Operations, Errors int64         // so far
	Rate               float64       // of the last moments
	Done               float64       // 0 to 1
	Left               time.Duration // estimated
	Stage              string        // what the run is doing
}

// Limits of the options.
const (
	MaxConnections = 4_000_000
	maxRate        = 100_000_000
	maxLoops       = 1024
	maxDuration    = 7 * 24 * time.Hour
)

// complete fills in what is left to this package.
func (o *Options) complete() {
	if o.Grace == 0 {
		o.Grace = o.grace()
	}
	if o.Loops == 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
}

// grace is how long operations may go on after the end if Options don't say. In an open loop that
// is the longest latency that is told; in a closed loop each operation is to end, if it can.
func (o *Options) grace() time.Duration {
	const least = 5 * time.Second
	if o.Rate > 0 {
		return least
	}
	return max(least, o.Timeout)
}

// Params are what a client says of itself, and of whom it wants, in dialogues. (RFC 2606: its name
// is nobody's.)
func (o *Options) Params() *dialogue.Params {
	domain, _, _ := net.SplitHostPort(o.Target)
	if o.TLS != nil && o.TLS.ServerName != "" {
		domain = o.TLS.ServerName
	}
	return &dialogue.Params{Name: "whorl-bench.invalid", Domain: domain}
}

// Check returns what is wrong with the options.
func (o *Options) Check() error {
	host, port, err := net.SplitHostPort(o.Target)
	if err != nil {
		return fmt.Errorf("target %q: want host:port", o.Target)
	}
	if n, err := strconv.Atoi(port); host == "" || err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("target %q: want a host and a port from 1 to 65535", o.Target)
	}
	switch {
	case o.Connections < 1 || o.Connections > MaxConnections:
		return fmt.Errorf("%d connections: want 1 to %d", o.Connections, MaxConnections)
	case o.Operations < 0:
		return fmt.Errorf("%d operations: want 0, for no limit, or more", o.Operations)
	case o.holds() && (o.Operations < 1 || o.Operations > MaxConnections):
		return fmt.Errorf("%d connections to hold: want 1 to %d", o.Operations, MaxConnections)
	case !o.holds() && o.Operations == 0 && o.Duration == 0:
		return errors.New("neither a number of operations nor a duration: the run would not end")
	case math.IsNaN(o.Rate) || o.Rate < 0 || o.Rate > maxRate || o.Rate > 0 && o.Rate < 1e-3:
		return fmt.Errorf("a rate of %v per second: want 0.001 to %d, or 0 for a closed loop",
			o.Rate, maxRate)
	case o.Duration < 0 || o.Duration > maxDuration || o.Warmup < 0 || o.Warmup > maxDuration:
		return fmt.Errorf("duration %v, warm-up %v: want 0 to %v", o.Duration, o.Warmup,
			maxDuration)
	case o.Timeout <= 0:
		return fmt.Errorf("a time-out of %v: want more than 0", o.Timeout)
	case o.Loops < 0 || o.Loops > maxLoops:
		return fmt.Errorf("%d loops: want 1 to %d, or 0 for one for each processor", o.Loops,
			maxLoops)
	}
	return o.checkMode()
}

func (o *Options) checkMode() error {
	if math.IsNaN(o.Resume) || o.Resume < 0 || o.Resume > 1 {
		return fmt.Errorf("resume %v: want 0 to 1", o.Resume)
	}
	if o.TLS == nil && (o.StartTLS != nil || o.Resume > 0 || o.Mode == Handshake) {
		return errors.New("handshakes without TLS")
	}
	if _, err := parseSources(o.Source); err != nil {
		return err
	}
	switch o.Mode {
	case Handshake:
		if len(o.Opening) > 0 && !o.FirstByte {
			return errors.New("something to send after the handshake, and no wait for the answer")
		}
		return nil
	case Throughput:
		if err := oneOf("direction", o.Direction, Send, Receive, Both); err != nil {
			return err
		}
		if o.Direction == Receive && o.Rate > 0 {
			return errors.New("a rate for receiving: it is the server that sends")
		}
	case Connections, WebSocketIdle:
		if o.Heartbeat < 0 || o.Heartbeat > 0 && o.Heartbeat < time.Millisecond {
			return fmt.Errorf("a heartbeat each %v: want a millisecond or more, or 0 for none",
				o.Heartbeat)
		}
		if o.Warmup > 0 {
			return errors.New("connections that are held have no warm-up")
		}
		if err := oneOf("hold", o.Hold, HoldSocket, HoldCoroutine); err != nil {
			return err
		}
	case PingPong, WebSocketEcho, WebSocketBroadcast:
	default:
		return fmt.Errorf("%q is no mode", o.Mode)
	}
	if o.webSocket() {
		return o.checkWebSocket()
	}
	return o.Framing.Check(o.Size)
}

func (o *Options) checkWebSocket() error {
	switch {
	case o.WebSocket == nil || o.WebSocket.URL == nil:
		return errors.New("a WebSocket needs a URL")
	case o.StartTLS != nil:
		return errors.New("a WebSocket has no STARTTLS")
	case o.Framing != message.None:
		return errors.New("a WebSocket has a framing of its own")
	case o.Mode == WebSocketIdle && o.Hold != HoldCoroutine:
		return errors.New("idle WebSockets are held by coroutines, which answer pings")
	case o.Mode == WebSocketIdle && o.Size > ws.MaxControlFramePayloadSize:
		return fmt.Errorf("a ping of %d bytes: it has %d at most", o.Size,
			ws.MaxControlFramePayloadSize)
	}
	return o.Framing.Check(o.Size)
}

// oneOf returns an error if value is none of the choices.
func oneOf[T ~string](what string, value T, choices ...T) error {
	names := make([]string, len(choices))
	for i, c := range choices {
		if value == c {
			return nil
		}
		names[i] = string(c)
	}
	return fmt.Errorf("%s %q: want %s", what, value, strings.Join(names, ", "))
}
