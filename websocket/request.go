package websocket

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket/internal/handshake"
)

// An exchange is the first request of a connection, until it is answered. Requests that ask for
// WebSocket are answered here; for all others net/http takes the connection over.
type exchange struct {
	server *Server
	conn   *Conn
	head   []byte // what has come of it, as long as that isn't all
}

// readers has what net/http reads a request's head with.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

var headEnd = []byte("\r\n\r\n")

// again is for those whom a server that shuts down refuses.
var again = http.Header{"Retry-After": {"1"}}

// tlsHandshake is the first byte of whoever speaks TLS (RFC 8446, section 5.1).
const tlsHandshake = 22

// received takes what has come.
func (x *exchange) received(p []byte) {
	from := max(0, len(x.head)-len(headEnd)+1)
	whole := p
	if len(x.head) > 0 {
		x.head = append(x.head, p...)
		whole = x.head
	}
	end := bytes.Index(whole[from:], headEnd)
	limit := x.server.config.MaxHeader
	switch {
	case whole[0] == tlsHandshake:
		x.refuse(http.StatusBadRequest, "TLS, where there is none", nil)
	case !httpguts.IsTokenRune(rune(whole[0])): // nor is the rest worth waiting for
		x.refuse(http.StatusBadRequest, "malformed request", nil)
	case end < 0 && len(whole) > limit, end > limit-from:
		x.refuse(http.StatusRequestHeaderFieldsTooLarge, "the request's head is too large", nil)
	case end < 0 && len(x.head) == 0:
		x.head = bytes.Clone(p)
	case end >= 0:
		end += from + len(headEnd)
		x.complete(whole[:end], whole[end:])
	}
}

// look refuses a request that takes too long.
func (x *exchange) look(passed func(since uint32, d time.Duration) bool) {
	if x.conn.current() == stateRequest && passed(x.conn.heard, x.server.config.HeaderTimeout) {
		if len(x.head) == 0 {
			// It hasn't asked for anything.
			x.conn.finish(true, StatusAbnormal, "", runtime.ErrTimeout)
			return
		}
		x.refuse(http.StatusRequestTimeout, "the request's head took too long", nil)
	}
}

// complete follows the head of the request.
func (x *exchange) complete(head, rest []byte) {
	r, err := readRequest(head)
	switch {
	case err != nil:
		x.refuse(http.StatusBadRequest, "malformed request", nil)
	case x.server.draining.Load():
		x.refuse(http.StatusServiceUnavailable, "the server shuts down", again)
	case !handshake.IsUpgrade(r) || x.server.elsewhere():
		x.server.handOver(x.conn, slices.Concat(head, rest))
	default:
		x.conn.carrier.pause()
		x.conn.become(stateHandshake)
		x.server.describe(r, x.conn)
		x.handshake(r, bytes.Clone(rest))
	}
}

// readRequest reads the head of a request, and checks what net/http's server checks and
// http.ReadRequest doesn't.
func readRequest(head []byte) (*http.Request, error) {
	from := bytes.NewReader(head)
	reader := readers.Get().(*bufio.Reader)
	reader.Reset(from)
	r, err := http.ReadRequest(reader)
	left := reader.Buffered() + from.Len()
	reader.Reset(nil)
	readers.Put(reader)
	if err != nil {
		return nil, err
	}
	if left > 0 { // others may see another request there
		return nil, errors.New("an empty line that ends in LF alone")
	}
	hosts := 0
	for line := range bytes.Lines(head) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok &&
			bytes.EqualFold(name, []byte("Host")) {
			hosts++
		}
	}
	if hosts > 1 || !httpguts.ValidHostHeader(r.Host) {
		return nil, errors.New("more than one host, or none that there can be")
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, invalidValue) {
			return nil, errors.New("invalid header")
		}
	}
	return r, nil
}

func invalidValue(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }

// handshake follows a request for a WebSocket. Nothing is received meanwhile; rest has come behind
// the request.
func (x *exchange) handshake(r *http.Request, rest []byte) {
	s, c := x.server, x.conn
	if s.draining.Load() {
		x.refuse(http.StatusServiceUnavailable, "the server shuts down", again)
		return
	}
	if refusal := check(r, s.config.OriginPatterns); refusal != nil {
		x.refuse(refusal.Status, refusal.Reason, refusal.Header)
		return
	}
	a := &answer{server: s, conn: c, header: http.Header{}, rest: rest}
	decide := s.config.OnHandshake
	if decide == nil {
		a.request = r.WithContext(&requestContext{c.context(), c})
		a.WriteHeader(http.StatusSwitchingProtocols)
		a.end(nil)
		return
	}
	_, err := sched.Go(c.context(), func(ctx context.Context) {
		var failed error = runtime.ErrGoexit
		defer func() {
			if value := recover(); value != nil {
				a.end(errPanic)
				panic(value) // for the runtime, which logs it
			}
			a.end(failed)
		}()
		a.request = r.WithContext(&requestContext{ctx, c})
		decide(a, a.request)
		failed = nil
	})
	if err != nil {
		a.end(err)
	}
}

var errPanic = errors.New("websocket: a panic in a function of the program")

// requestContext is the context of a request: the coroutine's, and the connection.
type requestContext struct {
	context.Context
	conn *Conn
}

type connKey struct{}

func (r *requestContext) Value(key any) any {
	if key == (connKey{}) {
		return r.conn
	}
	return r.Context.Value(key)
}

// ConnOf returns the connection of a request that a Server handles, nil if r is somebody else's.
// Until the handshake is over nothing can be pushed to it; its ID and its Value may be used.
func ConnOf(r *http.Request) *Conn {
	c, _ := r.Context().Value(connKey{}).(*Conn)
	return c
}

// Subprotocols returns those that the client of a request has offered, the one that it likes best
// first. OnHandshake chooses one by setting Sec-WebSocket-Protocol.
func Subprotocols(r *http.Request) []string { return handshake.Protocols(r.Header) }

// refuse answers a request that can't be served, and ends the connection.
func (x *exchange) refuse(status int, reason string, h http.Header) {
	if x.server.config.OnDisconnect == nil && status != http.StatusServiceUnavailable {
		x.server.warn("websocket: request refused", x.conn.RemoteAddr(), errors.New(reason))
	}
	x.conn.refuse(status, h, []byte(reason+"\n"), reason)
}

func (c *Conn) refuse(status int, h http.Header, body []byte, reason string) {
	c.carrier.send(response(status, h, body))
	c.finish(false, StatusAbnormal, "", fmt.Errorf("websocket: HTTP status %d: %s", status, reason))
}

// response is an HTTP response that ends its connection.
func response(status int, h http.Header, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	if h.Get("Content-Type") == "" {
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
	}
	h.WriteSubset(&b, map[string]bool{
		"Content-Length": true, "Connection": true, "Transfer-Encoding": true, "Date": true,
	})
	connection := "close"
	if h.Get("Upgrade") != "" { // RFC 9110, section 7.8
		connection = "Upgrade, close"
	}
	fmt.Fprintf(&b, "Date: %s\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n",
		time.Now().UTC().Format(http.TimeFormat), connection, len(body))
	b.Write(body)
	return b.Bytes()
}

// An answer is the http.ResponseWriter of a handshake. With the status 101 the connection is a
// WebSocket at once.
type answer struct {
	server  *Server
	conn    *Conn
	request *http.Request
	header  http.Header
	status  int
	body    []byte
	failed  error  // of the upgrade
	rest    []byte // what has come behind the request
}

// maxAnswer bounds the body of a refusal.
const maxAnswer = 64 << 10

func (a *answer) Header() http.Header { return a.header }

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	switch {
	case a.status == http.StatusSwitchingProtocols:
		return 0, http.ErrHijacked
	case len(a.body)+len(p) > maxAnswer:
		return 0, errors.New("websocket: the body of a refusal is too large")
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 && status != http.StatusSwitchingProtocols || status > 999 {
		return // it was answered, or this is no answer
	}
	a.status = status
	if status == http.StatusSwitchingProtocols {
		if a.failed = a.upgrade(); a.failed != nil {
			a.status = http.StatusInternalServerError
		}
	}
}

// check checks a handshake.
func check(r *http.Request, origins []string) *handshake.Refusal {
	if refusal, ok := errors.AsType[*handshake.Refusal](handshake.Check(r)); ok {
		return refusal
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 { // it would be taken for frames
		return &handshake.Refusal{Status: http.StatusBadRequest, Reason: "a handshake has no body"}
	}
	if !handshake.CheckOrigin(r, origins) {
		return &handshake.Refusal{
			Status: http.StatusForbidden,
			Reason: fmt.Sprintf("the Origin %.100q is not allowed where the Host is %.100q",
				r.Header.Get("Origin"), r.Host),
		}
	}
	return nil
}

// upgrade sends the response to a handshake that succeeds. From then on the connection is a
// WebSocket.
func (a *answer) upgrade() error {
	s := a.server
	accepted, err := accept(a.request, a.header, s.shared)
	if err != nil {
		return err
	}
	if fn := s.config.OnBeforeHandshakeResponse; fn != nil {
		fn(a.request.Context(), a.request, a.header)
	}
	return a.conn.await(func() error { return a.conn.switchTo(accepted, a.header) })
}

// accepted is what a handshake has agreed on.
type accepted struct {
	key         string
	params      *params
	subprotocol string
	extensions  string
}

// accept decides what is agreed on.
func accept(r *http.Request, h http.Header, s *shared) (*accepted, error) {
	a := &accepted{key: handshake.Key(r)}
	offered := handshake.Protocols(r.Header)
	if a.subprotocol = h.Get("Sec-Websocket-Protocol"); a.subprotocol == "" {
		for _, mine := range s.Subprotocols { // its preference counts
			if slices.Contains(offered, mine) {
				a.subprotocol = mine
				break
			}
		}
	} else if !slices.Contains(offered, a.subprotocol) {
		return nil, fmt.Errorf("websocket: the client has not offered the subprotocol %q", a.subprotocol)
	}
	if s.Compression.Enabled {
		if deflate, extensions, ok := handshake.Answer(r.Header, s.Compression.most()); ok {
			a.params, a.extensions = s.agreed(&deflate), extensions
		}
	}
	a.params = cmp.Or(a.params, s.agreed(nil))
	return a, nil
}

// switchTo sends the 101 and makes the connection a WebSocket.
func (c *Conn) switchTo(a *accepted, h http.Header) error {
	if c.current() != stateHandshake {
		return errors.New("websocket: the connection has ended")
	}
	head := make([]byte, 0, 512)
	head = append(
		head,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	head = append(head, handshake.Accept(a.key)...)
	head = append(head, "\r\n"...)
	if a.subprotocol != "" {
		head = append(head, "Sec-WebSocket-Protocol: "+a.subprotocol+"\r\n"...)
	}
	if a.extensions != "" {
		head = append(head, "Sec-WebSocket-Extensions: "+a.extensions+"\r\n"...)
	}
	if len(h) > 0 {
		var extra strings.Builder
		h.WriteSubset(&extra, ours)
		head = append(head, extra.String()...)
	}
	head = append(head, "\r\n"...)
	if err := c.carrier.send(head); err != nil {
		return err
	}
	c.establish(a.params, a.subprotocol)
	return nil
}

// ours are the headers of a 101 that the handshake sets itself.
var ours = map[string]bool{
	"Upgrade": true, "Connection": true, "Sec-Websocket-Accept": true, "Sec-Websocket-Protocol": true,
	"Sec-Websocket-Extensions": true, "Content-Length": true, "Transfer-Encoding": true,
}

// end follows the program's decision.
func (a *answer) end(err error) {
	c, reason := a.conn, "refused by the program"
	switch {
	case a.status == http.StatusSwitchingProtocols && a.failed == nil:
		c.await(func() error { a.opened(err); return nil })
		return
	case a.failed != nil:
		reason = a.failed.Error()
	case err != nil:
		reason = err.Error()
	case a.status == 0:
		reason = "OnHandshake has returned without a response"
	}
	if a.failed != nil || err != nil || a.status == 0 {
		a.status, a.body = http.StatusInternalServerError, []byte("the handshake has failed\n")
		a.server.log().Error("websocket: handshake", zap.String("reason", reason))
	}
	c.await(func() error { c.refuse(a.status, a.header, a.body, reason); return nil })
}

// opened begins the WebSocket: what has come behind the request is its first word.
func (a *answer) opened(err error) {
	c, s := a.conn, a.server
	switch {
	case c.current() == stateClosed:
		return
	case err != nil:
		c.shut(StatusInternalError, "", err)
	}
	defer c.home.later(func() { c.listen(a.rest) }) // after what the program has deferred
	if fn := s.config.OnOpen; fn != nil && err == nil &&
		(s.config.OnHandshake == nil || s.config.OpenAfterHandshake) {
		fn(c.context(), c, a.request)
	}
	if fn := s.config.Handle; fn != nil && c.current() == stateOpen {
		if _, err := sched.Go(c.context(), func(ctx context.Context) { s.handle(ctx, c) }); err != nil {
			c.shut(StatusInternalError, "", err)
		}
	}
}

// listen begins to take what the peer sends.
func (c *Conn) listen(rest []byte) {
	defer c.resume() // after a panic, too: the answer to the close frame is to be read
	c.guard(func() { c.feed(rest) })
}

// guard calls what calls the program, whose panic or runtime.Goexit ends the connection.
func (c *Conn) guard(fn func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value == nil {
			c.shut(StatusInternalError, "", runtime.ErrGoexit)
			return
		}
		c.shut(StatusInternalError, "", &runtime.PanicError{Value: value})
		panic(value) // for the loop, which logs it
	}()
	fn()
	returned = true
}

// await has fn run at home, and returns its error when it has.
func (c *Conn) await(fn func() error) error {
	if c.home.here() {
		return fn()
	}
	done := runtime.NewChannel[error](1)
	if !c.home.do(func() {
		err := errPanic
		defer func() { done.Push(context.Background(), err) }()
		c.guard(func() { err = fn() })
	}) {
		return runtime.ErrShutdown
	}
	err, waiting := done.Pop(context.WithoutCancel(c.context()))
	return errors.Join(err, waiting)
}
