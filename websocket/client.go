package websocket

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket/internal/engine"
	"github.com/whorl-go/whorl/websocket/internal/handshake"
)

// ClientConfig is the configuration of a client's connections.
type ClientConfig struct {
	// Options are those of the WebSocket connections.
	Options

	// Client is what lies below: TLS, the proxy, the resolver, time-outs. Its framing is this
	// package's. Its ConnectTimeout is for everything up to the TLS handshake, HandshakeTimeout of
	// this configuration for the rest.
	Client client.Config

	// Header goes out with the request, such as Origin, Authorization and Cookie.
	Header http.Header

	// HandshakeTimeout is how long the server may take for its response to the request: 10 s if 0.
	HandshakeTimeout time.Duration

	// OnOpen is called when the handshake is over, before the first message. resp is the server's
	// response. Optional.
	OnOpen func(ctx context.Context, c *Conn, resp *http.Response)

	// OnError is called when an attempt to connect has failed, with a *DialError. Optional.
	OnError func(ctx context.Context, c *Conn, err error)

	// Reconnect decides whether and when to connect again after an attempt has failed or a
	// connection has ended; nil: never. It isn't asked after Close. See client.Backoff.
	Reconnect client.Reconnect

	// MaxConnecting and Spread are those of client.AsyncConfig.
	MaxConnecting int
	Spread        bool
}

// DefaultHandshakeTimeout is ClientConfig.HandshakeTimeout unless something else is asked for.
const DefaultHandshakeTimeout = 10 * time.Second

// maxResponse bounds the head of a server's response.
const maxResponse = 64 << 10

// A Dialer makes connections that share a configuration: each of very many takes less memory. Its
// methods may be called from anywhere.
type Dialer struct {
	config ClientConfig
	shared *shared
	async  *client.AsyncDialer
	offer  string
}

// NewDialer makes a Dialer. The error says what is wrong with the configuration.
func NewDialer(config ClientConfig) (*Dialer, error) {
	config.HandshakeTimeout = orDefault(config.HandshakeTimeout, DefaultHandshakeTimeout)
	d := &Dialer{config: config}
	var err error
	if d.shared, err = config.Options.prepare(engine.Client); err != nil {
		return nil, err
	}
	d.shared.patience = config.HandshakeTimeout
	switch low := &config.Client; {
	case framed(low.EOF, low.Length, low.Split):
		return nil, errors.New(
			"websocket: ClientConfig: Client has a framing, which is this package's",
		)
	case low.MaxPacket != 0:
		return nil, errors.New(
			"websocket: ClientConfig: set MaxMessage in Options, not MaxPacket in Client",
		)
	}
	if config.Compression.Enabled {
		d.offer = handshake.Offer(config.Compression.most())
	}
	for name := range config.Header {
		if ours[http.CanonicalHeaderKey(name)] || strings.EqualFold(name, "Sec-Websocket-Key") ||
			strings.EqualFold(name, "Sec-Websocket-Version") {
			return nil, fmt.Errorf(
				"websocket: ClientConfig: Header has %s, which the handshake sets",
				name,
			)
		}
	}
	low := client.AsyncConfig{
		Config: config.Client, MaxConnecting: config.MaxConnecting, Spread: config.Spread,
		OnConnect: d.connected, OnReceive: d.received, OnError: d.failed, OnClose: d.closed,
		OnBufferFull:  func(_ context.Context, a *client.Async) { ofAsync(a).bufferFull() },
		OnBufferEmpty: func(_ context.Context, a *client.Async) { ofAsync(a).bufferEmpty() },
		MaxQueue:      d.shared.limits.Queue,
		HighWater:     d.shared.HighWater, LowWater: d.shared.LowWater,
	}
	if config.Reconnect != nil {
		low.Reconnect = policy{config.Reconnect}
	}
	d.async, err = client.NewAsyncDialer(low)
	return d, err
}

// attempt is what a client's Conn knows of its handshake.
type attempt struct {
	dialer *Dialer
	target *target
	key    string
	head   []byte                  // what has come of the response
	failed error                   // why the handshake has failed
	done   *runtime.Channel[error] // for Dial; nil: nobody waits
}

// Dial connects and returns when the WebSocket stands. The error is a *DialError, and the
// connection is given up then, whatever Reconnect says.
func (d *Dialer) Dial(ctx context.Context, rawURL string) (*Conn, error) {
	done := runtime.NewChannel[error](1)
	c, err := d.open(ctx, rawURL, done)
	if err != nil {
		return nil, err
	}
	err, waiting := done.Pop(ctx)
	if waiting != nil {
		layer := "TCP"
		if c.carrier.(*asyncCarrier).a.Connected() {
			layer = "HTTP"
		}
		err = &DialError{Layer: layer, URL: rawURL, Err: waiting}
	}
	if err != nil {
		c.Abort()
		return nil, err
	}
	return c, nil
}

// Open begins to connect and returns at once: OnOpen or OnError answers. With Reconnect the same
// Conn connects again and again, until Close; each time, OnClose or OnError comes before the next
// OnOpen. An error means that nothing has begun.
func (d *Dialer) Open(ctx context.Context, rawURL string) (*Conn, error) {
	return d.open(ctx, rawURL, nil)
}

func (d *Dialer) open(
	ctx context.Context,
	rawURL string,
	done *runtime.Channel[error],
) (*Conn, error) {
	to, err := parse(rawURL)
	if err != nil {
		return nil, &DialError{Layer: "URL", URL: rawURL, Err: err}
	}
	a := d.async.New()
	k := &asyncCarrier{a: a, attempt: attempt{dialer: d, target: to, done: done}}
	c := &Conn{carrier: k}
	c.agreed.Store(d.shared.agreed(nil))
	a.SetValue(c)
	if err := a.Connect(ctx, to.network, to.address); err != nil {
		return nil, &DialError{Layer: "TCP", URL: rawURL, Err: err}
	}
	return c, nil
}

// Dial connects to a URL with a configuration of its own, and returns when the WebSocket stands.
// For many connections of a kind there is Dialer.
func Dial(ctx context.Context, rawURL string, config ClientConfig) (*Conn, error) {
	d, err := NewDialer(config)
	if err != nil {
		return nil, err
	}
	return d.Dial(ctx, rawURL)
}

func ofAsync(a *client.Async) *Conn { return a.Value().(*Conn) }

// asyncCarrier is a connection of the client below as a carrier.
type asyncCarrier struct {
	a       *client.Async
	attempt attempt
	stopped atomic.Bool // by Close or Abort
}

func (k *asyncCarrier) send(p []byte) error { return k.a.Send(p) }
func (k *asyncCarrier) queued() int         { return k.a.Queued() }
func (k *asyncCarrier) pause()              { k.a.Pause() }
func (k *asyncCarrier) resume()             { k.a.Resume() }

// end ends the connection. Only what the program has ended isn't connected again.
func (k *asyncCarrier) end(abort bool) {
	switch {
	case !k.stopped.Load():
		k.a.Fail(cmp.Or(k.attempt.failed, errEnded), abort)
	case abort:
		k.a.Abort()
	default:
		k.a.Close()
	}
}

// errEnded is why the connection below has ended where OnClose says more.
var errEnded = errors.New("websocket: ended")

// stop ends it for good.
func (k *asyncCarrier) stop(abort bool) {
	k.stopped.Store(true)
	k.end(abort)
}

// policy is ClientConfig.Reconnect, which isn't asked about what the program has ended.
type policy struct{ client.Reconnect }

func (p policy) Next(a *client.Async, n int, err error) (time.Duration, bool) {
	k := ofAsync(a).carrier.(*asyncCarrier)
	if k.stopped.Load() {
		return 0, false
	}
	return p.Reconnect.Next(a, n, cmp.Or(k.attempt.failed, err))
}

func (k *asyncCarrier) local() net.Addr  { return k.a.LocalAddr() }
func (k *asyncCarrier) remote() net.Addr { return k.a.RemoteAddr() }

func (k *asyncCarrier) tls() (tls.ConnectionState, bool) { return k.a.ConnectionState() }

// connected sends the request.
func (d *Dialer) connected(ctx context.Context, a *client.Async) {
	c := ofAsync(a)
	k := c.carrier.(*asyncCarrier)
	if c.home == nil {
		at, err := sched.HomeFor(ctx) // this loop
		if err != nil {
			a.Abort()
			return
		}
		c.home = hubs.Of(at)
	}
	c.recv = engine.Receiver{}
	c.agreed.Store(d.shared.agreed(nil))
	c.rare.Store(nil)
	c.state.Store(stateRequest)
	c.home.enter(c)
	c.heard = c.home.now()
	at := &k.attempt
	at.head, at.failed = nil, nil
	var err error
	if at.key, err = handshake.NewKey(rand.Reader); err == nil {
		err = a.Send(d.request(at))
	}
	if err != nil {
		at.fail(c, "HTTP", 0, err)
	}
}

// request returns the client's handshake (RFC 6455, section 4.1).
func (d *Dialer) request(at *attempt) []byte {
	u := at.target.url
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\n", u.RequestURI())
	if d.config.Header.Get("Host") == "" {
		fmt.Fprintf(&b, "Host: %s\r\n", host(u))
	}
	fmt.Fprintf(
		&b,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
		at.key,
	)
	if len(d.shared.Subprotocols) > 0 {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(d.shared.Subprotocols, ", "))
	}
	if d.offer != "" {
		fmt.Fprintf(&b, "Sec-WebSocket-Extensions: %s\r\n", d.offer)
	}
	d.config.Header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

func (d *Dialer) received(_ context.Context, a *client.Async, p []byte) {
	c := ofAsync(a)
	switch c.current() {
	case stateOpen, stateClosing:
		c.feed(p)
	case stateRequest:
		c.carrier.(*asyncCarrier).attempt.received(c, p)
	}
}

// received takes what has come of the response.
func (at *attempt) received(c *Conn, p []byte) {
	from := max(0, len(at.head)-len(headEnd)+1)
	at.head = append(at.head, p...)
	end := bytes.Index(at.head[from:], headEnd)
	switch {
	case end < 0 && len(at.head) > maxResponse, end > maxResponse-from:
		at.fail(c, "HTTP", 0, errors.New("the head of the response is too large"))
	case len(at.head) >= 5 && !bytes.HasPrefix(at.head, []byte("HTTP/")):
		at.fail(
			c,
			"HTTP",
			0,
			fmt.Errorf(
				"the server doesn't speak HTTP: it has sent %q",
				at.head[:min(40, len(at.head))],
			),
		)
	case end >= 0:
		at.complete(c, from+end+len(headEnd))
	}
}

// complete follows the head of the response.
func (at *attempt) complete(c *Conn, end int) {
	head, rest := at.head[:end], at.head[end:]
	at.head = nil
	from := bytes.NewReader(head)
	reader := bufio.NewReader(from)
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodGet})
	if err != nil || reader.Buffered()+from.Len() > 0 { // frames would be lost
		at.fail(c, "HTTP", 0, errors.New("malformed response"))
		return
	}
	d := at.dialer
	if resp.StatusCode != http.StatusSwitchingProtocols { // once more, with what has come of its body
		all := io.MultiReader(bytes.NewReader(head), bytes.NewReader(rest))
		if resp, err = http.ReadResponse(bufio.NewReader(all), nil); err != nil {
			at.fail(c, "HTTP", 0, errors.New("malformed response"))
			return
		}
	}
	err = handshake.CheckResponse(resp, at.key)
	resp.Body.Close()
	resp.Body = http.NoBody
	if err != nil {
		layer := "WebSocket"
		if refused, ok := errors.AsType[*handshake.ResponseError](err); ok &&
			refused.Layer == handshake.LayerStatus {
			layer = "HTTP"
		}
		at.fail(c, layer, resp.StatusCode, err)
		return
	}
	subprotocol, err := handshake.CheckProtocol(resp.Header, d.shared.Subprotocols)
	var deflate, most *engine.Deflate
	if err == nil {
		if d.config.Compression.Enabled {
			offered := d.config.Compression.most()
			most = &offered
		}
		deflate, err = handshake.Agree(resp.Header, most)
	}
	if err != nil {
		at.fail(c, "WebSocket", resp.StatusCode, err)
		return
	}
	c.establish(d.shared.agreed(deflate), subprotocol)
	if fn := d.config.OnOpen; fn != nil {
		fn(c.context(), c, resp)
	}
	at.answer(nil)
	if len(rest) > 0 {
		c.feed(rest)
	}
}

// answer tells Dial of the outcome.
func (at *attempt) answer(err error) {
	if at.done != nil {
		at.done.Push(context.Background(), err) // it has room
		at.done = nil
	}
}

// fail ends an attempt.
func (at *attempt) fail(c *Conn, layer string, status int, err error) {
	at.failed = &DialError{Layer: layer, URL: at.target.url.String(), Status: status, Err: err}
	c.finish(true, StatusAbnormal, "", at.failed)
}

// look ends an attempt whose response takes too long.
func (at *attempt) look(c *Conn, passed func(since uint32, d time.Duration) bool) {
	if passed(c.heard, at.dialer.config.HandshakeTimeout) {
		at.fail(c, "HTTP", 0, runtime.ErrTimeout)
	}
}

// failed follows an attempt that has not come as far as HTTP.
func (d *Dialer) failed(ctx context.Context, a *client.Async, err error) {
	c := ofAsync(a)
	at := &c.carrier.(*asyncCarrier).attempt
	d.lost(ctx, c, &DialError{Layer: layerOf(err), URL: at.target.url.String(), Err: err})
}

// lost tells that there is no connection.
func (d *Dialer) lost(ctx context.Context, c *Conn, err error) {
	c.state.Store(stateClosed)
	defer c.carrier.(*asyncCarrier).attempt.answer(err)
	if fn := d.config.OnError; fn != nil {
		fn(ctx, c, err)
	}
}

// closed follows the end of a connection.
func (d *Dialer) closed(ctx context.Context, a *client.Async, reason error) {
	c := ofAsync(a)
	a.SetValue(c) // the next connection is the same Conn's
	at := &c.carrier.(*asyncCarrier).attempt
	established := c.state.Load()&flagEstablished != 0
	defer func() {
		if at.done != nil { // OnOpen has not returned
			at.answer(c.ending())
		}
	}()
	c.carrierEnded(reason)
	if established {
		return
	}
	err := at.failed
	if err == nil {
		if reason == nil {
			reason = net.ErrClosed
		}
		err = &DialError{Layer: "HTTP", URL: at.target.url.String(), Err: reason}
	}
	d.lost(ctx, c, err)
}
