package websocket

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// UpgradeOptions are the options of Upgrade. One value is for any number of calls, and must not be
// changed after the first.
type UpgradeOptions struct {
	Options

	// OriginPatterns are those of Config.
	OriginPatterns []string

	// OnOpen is called behind the 101 and before the first message. Optional.
	OnOpen func(ctx context.Context, c *Conn, r *http.Request)

	once    sync.Once
	shared  *shared
	invalid error
}

func (o *UpgradeOptions) prepare() (*shared, error) {
	o.once.Do(func() { o.shared, o.invalid = o.Options.prepare(engine.Server) })
	return o.shared, o.invalid
}

// Upgrade makes the connection of a request a WebSocket, in a handler of net/http. Headers that are
// set on w go out with the 101. A request that is refused has been answered when Upgrade returns an
// error, and the handler returns.
//
// In Config.OnRequest of a Server the connection is served by its loop from then on, and costs no
// coroutine and no goroutine. On other servers of net/http, over the listeners of package hooks as
// over package net's, a goroutine reads from it, which calls the callbacks.
func Upgrade(w http.ResponseWriter, r *http.Request, o *UpgradeOptions) (*Conn, error) {
	shared, err := o.prepare()
	if err != nil {
		http.Error(w, "the server is misconfigured", http.StatusInternalServerError)
		return nil, err
	}
	if refusal := check(r, o.OriginPatterns); refusal != nil {
		for name, values := range refusal.Header {
			w.Header()[name] = values
		}
		http.Error(w, refusal.Reason, refusal.Status)
		return nil, refusal
	}
	agreed, err := accept(r, w.Header(), shared)
	if err != nil {
		http.Error(w, "the handshake has failed", http.StatusInternalServerError)
		return nil, err
	}
	c, rest, err := takeOver(w, r, shared)
	if err != nil {
		http.Error(w, "no WebSocket here", http.StatusHTTPVersionNotSupported)
		return nil, err
	}
	header := w.Header()
	err = c.await(func() error {
		if err := c.switchTo(agreed, header); err != nil {
			c.carrier.end(true)
			return err
		}
		if o.OnOpen != nil {
			o.OnOpen(c.context(), c, r)
		}
		c.home.later(func() { c.listen(rest) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// takeOver takes the connection from net/http.
func takeOver(w http.ResponseWriter, r *http.Request, s *shared) (c *Conn, rest []byte, err error) {
	if c := ConnOf(r); c != nil && c.current() == stateHTTP {
		rest, err := c.rare.Load().pipe.takeBack(w)
		return c, rest, err
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return nil, nil, errNoHijacker
	}
	conn, rw, err := hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Time{})
	rest, _ = rw.Reader.Peek(rw.Reader.Buffered())
	ctx := context.WithoutCancel(r.Context())
	return newPlain(ctx, conn, s), append([]byte(nil), rest...), nil
}

// A lane is the home of a Conn on somebody else's net.Conn: what is to be done is done one after
// the other, by whoever comes first.
type lane struct {
	ctx  context.Context
	conn *plain

	mu      sync.Mutex
	queue   []func() // guarded by mu
	running bool     // guarded by mu: somebody works the queue off
	timer   *time.Timer
}

func (l *lane) here() bool { return false }

func (l *lane) do(fn func()) bool {
	l.mu.Lock()
	l.queue = append(l.queue, fn)
	if l.running {
		l.mu.Unlock()
		return true
	}
	l.running = true
	for len(l.queue) > 0 {
		next := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.mu.Unlock()
		l.run(next)
		l.mu.Lock()
	}
	l.queue, l.running = nil, false
	l.mu.Unlock()
	return true
}

// run calls a function; a panic ends the connection, and not the program's other goroutines.
func (l *lane) run(fn func()) {
	defer func() {
		if value := recover(); value != nil {
			l.conn.panicked(value)
		}
	}()
	fn()
}

func (l *lane) later(fn func()) { l.do(fn) }
func (l *lane) now() uint32     { return milliseconds() }

func (l *lane) enter(c *Conn) {
	period := c.params.period() * hubSlots
	l.timer = time.AfterFunc(period, func() {
		l.do(func() {
			if c.current() == stateClosed {
				return
			}
			c.look(l.now())
			l.timer.Reset(period)
		})
	})
}

func (l *lane) leave(*Conn) { l.timer.Stop() }

// plain is somebody else's net.Conn as a carrier. One goroutine reads, and one writes as long as
// there is something to write.
type plain struct {
	net.Conn
	ws *Conn

	mu      sync.Mutex
	cond    *sync.Cond // paused has become false, or the connection has ended
	out     []byte     // guarded by mu: is to be written
	writing bool       // guarded by mu
	paused  bool       // guarded by mu
	full    bool       // guarded by mu
	ending  bool       // guarded by mu: to be closed when all is written
	over    bool       // guarded by mu
}

// newPlain begins a Conn on a net.Conn. It reads nothing until listen.
func newPlain(ctx context.Context, conn net.Conn, s *shared) *Conn {
	p := &plain{Conn: conn, paused: true}
	p.cond = sync.NewCond(&p.mu)
	l := &lane{ctx: ctx, conn: p}
	p.ws = &Conn{carrier: p, home: l, params: s.agreed(nil), heard: milliseconds()}
	p.ws.become(stateHandshake)
	l.enter(p.ws)
	go p.read()
	return p.ws
}

func (p *plain) panicked(value any) {
	if at, err := sched.HomeFor(p.ws.context()); err == nil {
		at.Loop().ReportPanic(value, nil)
	}
	p.ws.shut(StatusInternalError, "", errPanic)
}

// read reads until the end.
func (p *plain) read() {
	buf := make([]byte, 4<<10)
	for {
		p.mu.Lock()
		for p.paused && !p.over {
			p.cond.Wait()
		}
		p.mu.Unlock()
		n, err := p.Conn.Read(buf)
		if n > 0 {
			done := make(chan struct{})
			p.ws.home.do(func() {
				defer close(done)
				p.ws.feed(buf[:n])
			})
			<-done
		}
		if err != nil {
			p.ended(err)
			return
		}
	}
}

// ended is the end of the connection.
func (p *plain) ended(err error) {
	p.mu.Lock()
	p.over = true
	p.out = nil
	p.cond.Broadcast()
	p.mu.Unlock()
	p.Conn.Close()
	p.ws.home.do(func() { p.ws.carrierEnded(err) })
}

func (p *plain) send(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	options := p.ws.params
	switch {
	case p.over, p.ending:
		return net.ErrClosed
	case len(p.out)+len(b) > options.MaxQueue+controlRoom:
		return socket.ErrQueueFull
	}
	p.out = append(p.out, b...)
	if !p.full && len(p.out) > options.HighWater {
		p.full = true
		p.ws.bufferFull()
	}
	if !p.writing {
		p.writing = true
		go p.write()
	}
	return nil
}

// write writes all that there is.
func (p *plain) write() {
	for {
		p.mu.Lock()
		b := p.out
		p.out = nil
		if len(b) == 0 || p.over {
			p.writing = false
			ending := p.ending
			p.mu.Unlock()
			if ending {
				p.finish()
			}
			return
		}
		p.mu.Unlock()
		// Whoever takes nothing of it is cut off in the end.
		p.Conn.SetWriteDeadline(time.Now().Add(socket.DefaultWriteTimeout))
		if _, err := p.Conn.Write(b); err != nil {
			p.mu.Lock()
			p.writing = false
			p.mu.Unlock()
			p.Conn.Close() // which the reader notices
			return
		}
		p.mu.Lock()
		empty := p.full && len(p.out) <= p.ws.params.LowWater
		p.full = p.full && !empty
		p.mu.Unlock()
		if empty {
			p.ws.home.do(p.ws.bufferEmpty)
		}
	}
}

// finish half-closes, so that the peer gets what was written although it has sent more, and closes
// when it has closed.
func (p *plain) finish() {
	type halfCloser interface{ CloseWrite() error }
	if h, ok := p.Conn.(halfCloser); ok && h.CloseWrite() == nil {
		p.Conn.SetReadDeadline(time.Now().Add(max(p.ws.params.CloseTimeout, time.Second)))
		p.resume()
		return
	}
	p.Conn.Close()
}

func (p *plain) queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.out)
}

func (p *plain) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
}

func (p *plain) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = false
	p.cond.Broadcast()
}

func (p *plain) end(abort bool) {
	p.mu.Lock()
	p.ending = true
	idle := !p.writing && !p.over
	if abort {
		p.out = nil
		p.paused = false
		p.cond.Broadcast()
	}
	p.mu.Unlock()
	switch {
	case abort:
		p.Conn.Close()
	case idle:
		p.finish()
	}
}

func (p *plain) local() net.Addr  { return p.Conn.LocalAddr() }
func (p *plain) remote() net.Addr { return p.Conn.RemoteAddr() }

func (p *plain) tls() (state tls.ConnectionState, ok bool) {
	switch c := p.Conn.(type) {
	case *tls.Conn:
		return c.ConnectionState(), true
	case interface {
		ConnectionState() (tls.ConnectionState, bool)
	}:
		return c.ConnectionState()
	}
	return state, false
}
