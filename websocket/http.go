package websocket

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/websocket/internal/handshake"
)

// What isn't a handshake is net/http's: its server gets the connection as a net.Conn, with the
// bytes that have come, and keeps it for as many requests as the client makes. A handshake among
// these takes the connection back.

// queue is the net.Listener of the HTTP server.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), done: make(chan struct{})} }

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *queue) Addr() net.Addr { return new(net.TCPAddr) } // it has none

// newHTTP makes the HTTP server.
func (s *Server) newHTTP() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(s.handleHTTP),
		ReadHeaderTimeout: s.config.HeaderTimeout,
		ReadTimeout:       s.config.BodyTimeout,
		IdleTimeout:       s.config.KeepAliveTimeout,
		MaxHeaderBytes:    s.config.MaxHeader,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return &requestContext{ctx, conn.(*pipe).conn}
		},
	}
}

// handOver gives a connection to net/http, with the bytes that have come. It is called on a loop.
func (s *Server) handOver(c *Conn, in []byte) {
	s.serveHTTP.Do(func() {
		ctx := c.context()
		s.http.BaseContext = func(net.Listener) context.Context { return ctx }
		s.http.ErrorLog = zap.NewStdLog(s.log())
		go s.http.Serve(s.connections)
	})
	p := newPipe(c, in)
	c.toRare().pipe = p
	c.become(stateHTTP)
	go func() { // the loop doesn't wait for net/http
		select {
		case s.connections.conns <- p:
		case <-s.connections.done:
			p.Close()
		}
	}()
}

// elsewhere reports whether OnRequest, by calling Upgrade, is what makes WebSockets.
func (s *Server) elsewhere() bool { return s.config.OnMessage == nil && s.config.Handle == nil }

// endHTTP ends the HTTP server.
func (s *Server) endHTTP() {
	s.connections.Close()
	s.http.Close()
}

// handleHTTP handles a request that net/http has read.
func (s *Server) handleHTTP(w http.ResponseWriter, r *http.Request) {
	c := ConnOf(r)
	s.describe(r, c)
	switch {
	case handshake.IsUpgrade(r) && !s.elsewhere():
		take, err := takeBack(w, c)
		if err != nil {
			http.Error(w, "no WebSocket here", http.StatusInternalServerError)
			return
		}
		c.home.do(func() {
			if rest, ok := take(); ok {
				c.guard(func() { c.rare.Load().request.handshake(r, rest) })
			}
		})
	case s.draining.Load():
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the server shuts down", http.StatusServiceUnavailable)
	case r.ContentLength > int64(s.config.MaxBody):
		w.Header().Set("Connection", "close")
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
	case s.config.OnRequest == nil:
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade, close")
		http.Error(w, "this is a WebSocket server", http.StatusUpgradeRequired)
	default:
		r.Body = http.MaxBytesReader(w, r.Body, int64(s.config.MaxBody))
		s.config.OnRequest.ServeHTTP(w, r)
	}
}

// describe tells a request what is known of its connection.
func (s *Server) describe(r *http.Request, c *Conn) {
	if state, ok := c.ConnectionState(); ok {
		r.TLS = &state
	}
	remote := c.carrier.remote()
	rare := c.toRare()
	rare.remote, rare.secure = nil, s.forwardedTLS(r.Header, remote)
	if client, ok := s.forwarded(r.Header, remote); ok {
		remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, 0))
		rare.remote = remote
	}
	r.RemoteAddr = remote.String()
}

// forwarded returns the client's address behind trusted reverse proxies (RFC 7239, and
// X-Forwarded-For before it). A proxy that sets one of the headers may let the other one of its
// client's through: if both are there, they must agree.
func (s *Server) forwarded(h http.Header, peer net.Addr) (client netip.Addr, ok bool) {
	if !s.trusted.Contains(peer) {
		return client, false
	}
	client, _, ok = s.lastHop(parameters(h, "for"))
	if before := list(h["X-Forwarded-For"]); len(before) > 0 {
		other, _, valid := s.lastHop(before)
		if len(h["Forwarded"]) > 0 && (client != other || ok != valid) {
			return netip.Addr{}, false
		}
		return other, valid
	}
	return client, ok
}

// forwardedTLS reports whether a trusted proxy says that its client's connection has TLS: the one
// that says where the client is, or where that can't be told from the headers, the nearest.
func (s *Server) forwardedTLS(h http.Header, peer net.Addr) bool {
	said := 0
	for _, header := range []struct{ hops, protos []string }{
		{parameters(h, "for"), parameters(h, "proto")},
		{list(h["X-Forwarded-For"]), list(h["X-Forwarded-Proto"])},
	} {
		if len(header.protos) == 0 {
			continue
		}
		at := len(header.protos) - 1
		if len(header.hops) == len(header.protos) {
			_, at, _ = s.lastHop(header.hops)
		}
		switch strings.ToLower(strings.TrimSpace(header.protos[at])) {
		case "https", "wss":
			said++
		default:
			return false
		}
	}
	return said > 0 && s.trusted.Contains(peer)
}

// parameters returns the value that a parameter has in each element of Forwarded (RFC 7239, section
// 4), "" where it has none: what an element lacks must not be taken from the one before it, which
// is the client's own. Nor must what is quoted, such as a Host, be taken for an element. Of a
// header that is malformed, which may be both, there is only "".
func parameters(h http.Header, name string) (values []string) {
	malformed := []string{""}
	all := strings.Join(h["Forwarded"], ",")
	elements, ok := split(all, ',')
	if !ok || strings.Contains(all, `\`) { // an escape is in no address
		return malformed
	}
	for _, element := range elements {
		if strings.TrimSpace(element) == "" {
			continue
		}
		value, seen := "", map[string]bool{}
		pairs, _ := split(element, ';')
		for _, pair := range pairs {
			key, text, _ := strings.Cut(strings.TrimSpace(pair), "=")
			key = strings.ToLower(key)
			if inner, quoted := strings.CutPrefix(text, `"`); quoted {
				text = strings.TrimSuffix(inner, `"`)
			}
			if strings.Contains(text, `"`) || seen[key] && key != "" {
				return malformed
			}
			if seen[key] = true; key == name {
				value = text
			}
		}
		values = append(values, value)
	}
	return values
}

// split cuts s at each separator that isn't within a quoted string; ok is false if one of these has
// no end.
func split(s string, separator byte) (parts []string, ok bool) {
	from, quoted := 0, false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == separator:
			parts, from = append(parts, s[from:i]), i+1
		}
	}
	return append(parts, s[from:]), !quoted
}

// list returns the elements of a header that is a list.
func list(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	return strings.Split(strings.Join(lines, ","), ",")
}

// lastHop returns the last address that is no trusted proxy's, and which hop is the first that a
// trusted proxy has told of.
func (s *Server) lastHop(hops []string) (client netip.Addr, at int, ok bool) {
	for at = len(hops) - 1; at >= 0; at-- {
		ip, valid := parseHop(strings.TrimSpace(hops[at]))
		if !valid {
			return client, at, ok // what lies before it can't be trusted
		}
		client, ok = ip, true
		if !s.trusted.Contains(&net.TCPAddr{IP: ip.AsSlice()}) {
			return client, at, true
		}
	}
	return client, 0, ok
}

// parseHop reads an address with or without a port, and brackets.
func parseHop(s string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap(), true
	}
	ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return ip.Unmap(), err == nil && ip.Zone() == ""
}

// A pipe is a connection of a Server as a net.Conn, for net/http on plain goroutines.
type pipe struct {
	conn *Conn

	mu      sync.Mutex
	in      []byte        // guarded by mu: has come and isn't read
	err     error         // guarded by mu: nothing more comes
	paused  bool          // guarded by mu: there is enough in it
	taken   bool          // guarded by mu: it isn't net/http's any more
	change  chan struct{} // closed, and made anew, when one of these changes; guarded by mu
	rd, wr  *deadline
	drained chan struct{} // closed when the peer has taken enough; guarded by mu; nil: it has
}

// pipeRoom is what waits for net/http until the peer has to.
const pipeRoom = 64 << 10

func newPipe(c *Conn, in []byte) *pipe {
	return &pipe{conn: c, in: in, change: make(chan struct{}), rd: newDeadline(), wr: newDeadline()}
}

func (p *pipe) changed() {
	close(p.change)
	p.change = make(chan struct{})
}

// feed takes what has come. It is called on the loop.
func (p *pipe) feed(b []byte) {
	p.mu.Lock()
	p.in = append(p.in, b...)
	pause := len(p.in) > pipeRoom && !p.paused
	p.paused = p.paused || pause
	p.changed()
	p.mu.Unlock()
	if pause {
		p.conn.carrier.pause()
	}
}

// ended tells of the end of the connection.
func (p *pipe) ended(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		p.changed()
	}
	p.free()
}

// free says that the peer has taken enough. The caller holds mu.
func (p *pipe) free() {
	if p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		change := p.change
		if len(p.in) > 0 {
			n := copy(b, p.in)
			p.in = p.in[n:]
			resume := p.paused && len(p.in) < pipeRoom/2
			p.paused = p.paused && !resume
			p.mu.Unlock()
			if resume {
				p.conn.home.do(p.conn.carrier.resume)
			}
			return n, nil
		}
		err := p.err
		p.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if len(b) == 0 {
			return 0, nil
		}
		passed, moved := p.rd.wait()
		select {
		case <-change:
		case <-moved:
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		piece := b[written:min(len(b), written+pipeRoom)]
		if err := p.conn.await(func() error { return p.conn.carrier.send(piece) }); err != nil {
			return written, err
		}
		written += len(piece)
		if err := p.drain(); err != nil {
			return written, err
		}
	}
	return written, nil
}

// drain waits while too much is queued for the peer.
func (p *pipe) drain() error {
	p.mu.Lock()
	drained := p.drained
	p.mu.Unlock()
	for drained != nil {
		passed, moved := p.wr.wait()
		select {
		case <-drained:
			return nil
		case <-moved:
		case <-passed:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}

// full says that too much is queued for the peer. It is called on the loop.
func (p *pipe) full() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drained == nil && p.err == nil {
		p.drained = make(chan struct{})
	}
}

func (p *pipe) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free()
}

// Close is net/http's end of the connection.
func (p *pipe) Close() error {
	p.mu.Lock()
	taken := p.taken
	p.mu.Unlock()
	if !taken {
		p.conn.home.do(func() {
			if p.conn.current() == stateHTTP || p.conn.current() == stateHandshake {
				p.conn.finish(false, StatusAbnormal, "", io.EOF)
			}
		})
		p.ended(net.ErrClosed)
	}
	return nil
}

// takeBack takes a connection back from net/http. The function that it returns is to be called at
// home: it begins the handshake and returns what has come behind the request; ok is false if the
// connection has ended.
func takeBack(w http.ResponseWriter, c *Conn) (take func() (rest []byte, ok bool), err error) {
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	p := c.rare.Load().pipe
	p.mu.Lock()
	p.taken = true
	p.mu.Unlock()
	return func() ([]byte, bool) {
		if c.current() != stateHTTP {
			return nil, false
		}
		c.carrier.pause()
		c.become(stateHandshake)
		return append(buffered(rw.Reader), p.in...), true // nobody else uses p.in any more
	}, nil
}

func (p *pipe) LocalAddr() net.Addr  { return p.conn.carrier.local() }
func (p *pipe) RemoteAddr() net.Addr { return p.conn.carrier.remote() }
