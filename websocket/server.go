package websocket

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/proxyproto"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Config is the configuration of a Server.
type Config struct {
	// Options are those of the WebSocket connections.
	Options

	// Server is what lies below: limits of connections, certificates, time-outs, the PROXY
	// protocol. Its callbacks, its framing and its MaxQueue are this package's, but for OnReject and
	// LastWord. Without OnReject the log is told why TLS handshakes fail, and what mends it, and of
	// clients that don't speak TLS where it is wanted. Without LastWord clients beyond the limits
	// get 503, but for those of TLS, whose connection is reset.
	Server server.Config

	// OnHandshake decides about a request for a WebSocket, in a coroutine of its own: it may wait.
	// It answers with w: http.StatusSwitchingProtocols makes the connection a WebSocket at once, and
	// computes what the RFC wants; anything else refuses it, with headers and a body of the
	// program's. A request that is no valid handshake, or comes from an Origin that isn't allowed,
	// doesn't get here. What is pushed to ConnOf(r) before the 101 is ErrNotEstablished; what
	// event.Defer is given runs when OnHandshake waits or returns, so behind a 101 that it has written
	// by then. One that returns without an answer has refused with 500. nil: all that is valid is
	// taken.
	OnHandshake func(w http.ResponseWriter, r *http.Request)

	// OnBeforeHandshakeResponse may add headers to the 101. Optional.
	OnBeforeHandshakeResponse func(ctx context.Context, r *http.Request, h http.Header)

	// OnOpen is called when the connection is a WebSocket, behind the 101 and before its first
	// message, on its loop: it must not wait. r is the request. As in Swoole it isn't called behind
	// an OnHandshake, unless OpenAfterHandshake says so. Optional.
	OnOpen             func(ctx context.Context, c *Conn, r *http.Request)
	OpenAfterHandshake bool

	// Handle serves a connection in a coroutine of its own, with Conn.Recv, in place of OnMessage.
	// When it returns the connection is closed, with StatusNormal.
	Handle func(ctx context.Context, c *Conn)

	// OnRequest gets the requests that don't ask for a WebSocket. It runs on a plain goroutine of
	// net/http's server, not on a loop. nil answers 426. Where neither OnMessage nor Handle is set it
	// gets those for a WebSocket, too, and calls Upgrade for them.
	OnRequest http.Handler

	// OnDisconnect is called, on its loop, when a connection has ended before it was a WebSocket,
	// and reason says why. Without it the log is told of requests that are refused before OnHandshake
	// and OnRequest, such as those of other hosts' pages.
	OnDisconnect func(ctx context.Context, c *Conn, reason error)

	// OriginPatterns are the pages whose scripts may connect, beside those of the host itself
	// (RFC 6455, section 10.2): "example.com", "*.example.com", "https://example.com:8443",
	// "example.com:*", or "*" for all. A request without an Origin is no browser's.
	OriginPatterns []string

	// TrustedProxies lists the IP addresses and prefixes of reverse proxies, and "unix", whose
	// Forwarded, or X-Forwarded-For and X-Forwarded-Proto, say where the client is and whether it
	// has TLS: see Conn.RemoteAddr, the request's RemoteAddr, and Conn.Secure. Of several addresses
	// the last one counts that is no trusted proxy's. A request with both kinds of headers that
	// don't agree is believed in neither.
	TrustedProxies []string

	// MaxHeader is how large the head of a request may be, 64 KiB if 0 (431 otherwise). MaxBody is
	// how large the body of a request for OnRequest may be, 1 MiB if 0 (413).
	MaxHeader, MaxBody int

	// Time-outs: HeaderTimeout is for the head of a request, from the moment when the connection
	// stands (408): 10 s if 0. BodyTimeout is for a request for OnRequest with its body: 60 s.
	// KeepAliveTimeout is how long such a connection may wait for its next request: 60 s. Negative
	// ones are none.
	HeaderTimeout, BodyTimeout, KeepAliveTimeout time.Duration
}

// Defaults of Config.
const (
	DefaultMaxHeader        = 64 << 10
	DefaultMaxBody          = 1 << 20
	DefaultHeaderTimeout    = 10 * time.Second
	DefaultBodyTimeout      = 60 * time.Second
	DefaultKeepAliveTimeout = 60 * time.Second
)

// Server is a server of WebSocket and HTTP: Swoole's WebSocket\Server. Make it with NewServer. Its
// methods may be called from any coroutine, goroutine and callback.
type Server struct {
	*Rooms
	config   Config
	shared   *shared
	server   *server.Server
	trusted  proxyproto.Trusted
	registry registry
	invalid  error

	serving  atomic.Bool
	draining atomic.Bool
	logger   atomic.Pointer[zap.Logger]

	clientLog limiter

	http        *http.Server
	serveHTTP   sync.Once // begins it, with the first connection that is for it
	connections *queue    // for http
}

// NewServer makes a Server. What is wrong with the configuration is returned by Listen.
func NewServer(config Config) *Server {
	config.MaxHeader = orPositive(config.MaxHeader, DefaultMaxHeader)
	config.MaxBody = orPositive(config.MaxBody, DefaultMaxBody)
	config.HeaderTimeout = orDefault(config.HeaderTimeout, DefaultHeaderTimeout)
	config.BodyTimeout = orDefault(config.BodyTimeout, DefaultBodyTimeout)
	config.KeepAliveTimeout = orDefault(config.KeepAliveTimeout, DefaultKeepAliveTimeout)
	s := &Server{config: config, Rooms: NewRooms(), connections: newQueue()}
	s.registry.over = runtime.NewChannel[struct{}](1)
	s.shared, s.invalid = config.Options.prepare(engine.Server)
	if s.invalid == nil {
		s.invalid = s.check()
	}
	if s.invalid != nil {
		return s
	}
	s.http = s.newHTTP()
	s.shared.patience = config.HeaderTimeout
	low := config.Server
	low.OnConnect, low.OnReceive, low.OnClose = s.connected, s.received, s.closed
	if low.OnReject == nil {
		low.OnReject = s.rejected
	}
	if low.LastWord == nil {
		low.LastWord = lastWord
	}
	low.OnBufferFull = func(_ context.Context, sc *server.Conn) { of(sc).bufferFull() }
	low.OnBufferEmpty = func(_ context.Context, sc *server.Conn) { of(sc).bufferEmpty() }
	low.MaxQueue = s.shared.limits.Queue
	low.HighWater, low.LowWater = s.shared.HighWater, s.shared.LowWater
	s.server = server.New(low)
	return s
}

// lastWord is for clients that there is no room for; for others the server below has one.
func lastWord(_ *server.Conn, reason error) string {
	if reason == server.ErrPlaintext {
		return ""
	}
	return string(response(http.StatusServiceUnavailable, again, []byte("too many connections\n")))
}

func orPositive(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// check checks what Options don't.
func (s *Server) check() error {
	c, low := &s.config, &s.config.Server
	switch {
	case c.OnMessage != nil && c.Handle != nil:
		return errors.New("websocket: Config: OnMessage and Handle exclude each other")
	case s.elsewhere() && c.OnRequest == nil:
		return errors.New("websocket: Config: neither OnMessage nor Handle is set, nor OnRequest")
	case framed(low.EOF, low.Length, low.Split):
		return errors.New("websocket: Config: Server has a framing, which is this package's")
	case low.MaxPacket != 0:
		return errors.New("websocket: Config: set MaxMessage in Options, not MaxPacket in Server")
	case low.MaxQueue != 0, low.HighWater != 0, low.LowWater != 0:
		return errors.New("websocket: Config: set MaxQueue, HighWater and LowWater in Options")
	}
	for _, callback := range []struct {
		name string
		set  bool
	}{
		{"OnConnect", low.OnConnect != nil}, {"OnReceive", low.OnReceive != nil},
		{"OnClose", low.OnClose != nil}, {"Handle", low.Handle != nil},
		{"OnPacket", low.OnPacket != nil}, {"OnBufferFull", low.OnBufferFull != nil},
		{"OnBufferEmpty", low.OnBufferEmpty != nil},
	} {
		if callback.set {
			return fmt.Errorf("websocket: Config: Server.%s is set, which is this package's",
				callback.name)
		}
	}
	var err error
	if s.trusted, err = proxyproto.ParseTrusted(c.TrustedProxies...); err != nil {
		return fmt.Errorf("websocket: Config: TrustedProxies: %w", err)
	}
	return nil
}

func framed(eof string, length packet.LengthField, split bufio.SplitFunc) bool {
	framer, err := packet.Rule{EOF: eof, Length: length, Split: split}.Framer()
	return framer != nil || err != nil
}

// Listen listens on an address, as server.Server.Listen does: "tcp" for ws, "tls" for wss, "unix".
// "tls" needs certificates in Config.Server.
func (s *Server) Listen(ctx context.Context, network, address string) (*server.Listener, error) {
	if s.invalid != nil {
		return nil, s.invalid
	}
	if network == "ws" || network == "wss" {
		return nil, fmt.Errorf(`websocket: listen on %s %s: %w: "tcp" is for ws, "tls" for wss`,
			network, address, net.UnknownNetworkError(network))
	}
	if rt, err := sched.From(ctx); err == nil {
		s.logger.Store(rt.Logger())
	}
	return s.server.Listen(ctx, network, address)
}

// Serve serves until Shutdown or Close, as server.Server.Serve does.
func (s *Server) Serve(ctx context.Context) error {
	if s.invalid != nil {
		return s.invalid
	}
	if _, err := sched.From(ctx); err != nil {
		return err
	}
	if !s.serving.Swap(true) {
		defer s.endHTTP()
	}
	return s.server.Serve(ctx)
}

// Shutdown ends the server in order: no new connections, requests are answered with 503, every
// WebSocket gets a close frame with StatusGoingAway and has Options.CloseTimeout to answer it, and
// requests that are being served are finished. When ctx is done the rest is aborted, and its error
// returned.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.invalid != nil {
		return s.invalid
	}
	s.draining.Store(true)
	for _, c := range s.registry.all() {
		c.home.do(func() { c.shut(StatusGoingAway, "", server.ErrShutdown) })
	}
	cut := s.registry.wait(ctx)
	s.connections.Close()
	runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, s.http.Shutdown(ctx) })
	return cmp.Or(s.server.Shutdown(ctx), cut)
}

// Close ends the server at once, without closing handshakes.
func (s *Server) Close() error {
	if s.invalid != nil {
		return s.invalid
	}
	s.draining.Store(true)
	return s.server.Close()
}

// Stats returns the figures of what lies below.
func (s *Server) Stats() server.Stats { return s.server.Stats() }

// Conn returns the established connection with an ID, nil if there is none.
func (s *Server) Conn(id server.ID) *Conn { return s.registry.find(id) }

// Connections yields the connections that are established. Those that come or go meanwhile may be
// among them or not.
func (s *Server) Connections() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for _, c := range s.registry.all() {
			if c.Established() && !yield(c) {
				return
			}
		}
	}
}

// find returns the connection with an ID that is a WebSocket. Until OnClose those are registered,
// so what the server below has beside them is none yet.
func (s *Server) find(id server.ID) (*Conn, error) {
	if c := s.registry.find(id); c != nil {
		return c, nil
	}
	if s.invalid == nil && s.server.Exists(id) {
		return nil, ErrNotEstablished
	}
	return nil, server.ErrNoConnection
}

// Push is Conn.Push by ID. An ID whose connection has ended is server.ErrNoConnection, one whose
// connection isn't a WebSocket yet ErrNotEstablished.
func (s *Server) Push(id server.ID, data []byte, op Opcode) (Status, error) {
	c, err := s.find(id)
	if err != nil {
		return Dropped, err
	}
	return c.Push(data, op)
}

// Disconnect is Conn.Close by ID, with the errors of Push.
func (s *Server) Disconnect(id server.ID, code int, reason string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	return c.Close(code, reason)
}

// IsEstablished reports whether there is a WebSocket with the ID, to which can be pushed.
func (s *Server) IsEstablished(id server.ID) bool {
	c := s.registry.find(id)
	return c != nil && c.Established()
}

func (s *Server) log() *zap.Logger {
	if s.config.Server.Logger != nil {
		return s.config.Server.Logger
	}
	if l := s.logger.Load(); l != nil {
		return l
	}
	return zap.NewNop()
}

// rejected logs why a TLS handshake has failed, or could not begin.
func (s *Server) rejected(_ context.Context, sc *server.Conn, reason error) {
	_, failed := errors.AsType[*explain.HandshakeError](reason)
	if failed || errors.Is(reason, server.ErrPlaintext) {
		s.warn("websocket: TLS handshake", sc.RemoteAddr(), reason)
	}
}

// warn logs what goes wrong with a client. Whoever likes can have much go wrong.
func (s *Server) warn(what string, client net.Addr, err error) {
	if s.clientLog.allow(time.Now()) {
		s.log().Warn(what, zap.Stringer("client", client), zap.Error(err))
	}
}

// A limiter lets maxPerSecond lines into the log in a second. It may be used concurrently.
type limiter struct {
	mu    sync.Mutex
	since time.Time // guarded by mu: begin of the second
	count int       // guarded by mu
}

const maxPerSecond = 10

func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) > time.Second {
		l.since, l.count = now, 0
	}
	l.count++
	return l.count <= maxPerSecond
}

// of returns the Conn on a connection of the server below.
func of(sc *server.Conn) *Conn {
	c, _ := sc.Value().(*Conn)
	return c
}

// connected begins a connection.
func (s *Server) connected(_ context.Context, sc *server.Conn) {
	at, ok := socket.House(sc.Socket(), house.Key{}).Home()
	if !ok {
		sc.Abort()
		return
	}
	c := &Conn{carrier: (*serverCarrier)(sc), id: sc.ID(), home: hubs.Of(at)}
	c.agreed.Store(s.shared.agreed(nil))
	c.rare.Store(&rare{request: &exchange{server: s, conn: c}})
	sc.SetValue(c)
	c.home.enter(c)
	c.heard = c.home.now()
}

func (s *Server) received(_ context.Context, sc *server.Conn, p []byte) {
	c := of(sc)
	switch c.current() {
	case stateOpen, stateClosing:
		c.feed(p)
	case stateRequest:
		c.rare.Load().request.received(p)
	case stateHTTP:
		c.rare.Load().pipe.feed(p)
	}
}

// established follows a handshake.
func (s *Server) established(c *Conn) {
	s.registry.add(c)
	if s.draining.Load() { // Shutdown may have come before
		c.home.later(func() { c.shut(StatusGoingAway, "", server.ErrShutdown) })
	}
}

func (s *Server) closed(_ context.Context, sc *server.Conn, reason error) {
	c := of(sc)
	if c == nil {
		return
	}
	s.registry.remove(c)
	c.carrierEnded(reason)
	if fn := s.config.OnDisconnect; fn != nil && c.state.Load()&flagEstablished == 0 {
		if e := c.toRare().closed.Load(); e != nil && e.Err != nil {
			reason = e.Err
		}
		fn(c.context(), c, reason)
	}
}

// handle runs Config.Handle.
func (s *Server) handle(ctx context.Context, c *Conn) {
	code := StatusInternalError
	defer func() { c.home.do(func() { c.shut(code, "", net.ErrClosed) }) }()
	s.config.Handle(ctx, c)
	code = StatusNormal
}

// serverCarrier is a connection of the server below as a carrier.
type serverCarrier server.Conn

func (k *serverCarrier) conn() *server.Conn { return (*server.Conn)(k) }

func (k *serverCarrier) send(p []byte) error {
	_, err := k.conn().Send(context.Background(), p)
	return err
}

func (k *serverCarrier) queued() int { return socket.House(k.conn().Socket(), house.Key{}).Queued() }
func (k *serverCarrier) pause()      { k.conn().Pause() }
func (k *serverCarrier) resume()     { k.conn().Resume() }

func (k *serverCarrier) end(abort bool) {
	if abort {
		k.conn().Abort()
	} else {
		k.conn().Close()
	}
}

func (k *serverCarrier) local() net.Addr  { return k.conn().LocalAddr() }
func (k *serverCarrier) remote() net.Addr { return k.conn().RemoteAddr() }

func (k *serverCarrier) tls() (tls.ConnectionState, bool) { return k.conn().ConnectionState() }
