package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/goroutine"
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

	// OnOpen is called behind the 101 and before the first message, which may have come when Upgrade
	// returns. Optional.
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
// error, and the handler returns. w gives its connection away (http.Hijacker); that of a middleware
// needs a method Unwrap. Without options (nil) all are at their defaults.
//
// In Config.OnRequest of a Server the connection is served by its loop from then on, costs no
// coroutine and no goroutine, and is one of the Server's: for Push by ID, Connections, Shutdown. On
// other servers of net/http it is served by a loop, too, if their listener is one of package hooks
// and TLS isn't tls.NewListener's; else a goroutine reads from it, which calls the callbacks.
func Upgrade(w http.ResponseWriter, r *http.Request, o *UpgradeOptions) (*Conn, error) {
	if o == nil {
		o = new(UpgradeOptions)
	}
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
	c, take, err := takeOver(w, r, shared)
	if err != nil {
		http.Error(w, "no WebSocket here", http.StatusInternalServerError)
		if errors.Is(err, http.ErrNotSupported) {
			err = fmt.Errorf("%w: this is HTTP/2, or %T needs a method Unwrap", err, w)
		}
		return nil, fmt.Errorf("websocket: the http.ResponseWriter gives no connection: %w", err)
	}
	header := w.Header()
	err = c.await(func() error {
		rest, ok := take()
		if !ok {
			return net.ErrClosed
		}
		if err := c.switchTo(agreed, header); err != nil {
			c.carrier.end(true)
			return err
		}
		defer c.home.later(func() { c.listen(rest) })
		if o.OnOpen != nil {
			o.OnOpen(c.context(), c, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// takeOver takes the connection from net/http, as takeBack does.
func takeOver(
	w http.ResponseWriter, r *http.Request, s *shared,
) (c *Conn, take func() (rest []byte, ok bool), err error) {
	if c := ConnOf(r); c != nil && c.current() == stateHTTP {
		take, err := takeBack(w, c)
		return c, take, err
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if hooked, ok := conn.(*hooks.Conn); ok {
		if c, take, ok := newHooked(hooked, rw.Reader, s); ok {
			return c, take, nil
		}
	}
	conn.SetDeadline(time.Time{})
	ctx := context.WithoutCancel(r.Context())
	c = newPlain(ctx, conn, s)
	return c, func() ([]byte, bool) {
		c.become(stateHandshake)
		return buffered(rw.Reader), true
	}, nil
}

// buffered returns what net/http has read behind the request.
func buffered(r *bufio.Reader) []byte {
	rest, _ := r.Peek(r.Buffered())
	return bytes.Clone(rest)
}

// A lane is the home of a Conn on somebody else's net.Conn: what is to be done is done one after
// the other, by a goroutine that is there as long as there is something to do, or by the reader.
type lane struct {
	ctx  context.Context
	conn *plain
	self atomic.Uintptr // the goroutine that works the queue off
	cast atomic.Int64   // of broadcasts on their way

	mu      sync.Mutex
	queue   []func() // guarded by mu
	running bool     // guarded by mu: somebody works the queue off
	timer   *time.Timer
}

func (l *lane) context() context.Context { return l.ctx }

func (l *lane) here() bool { return goroutine.ID(l.self.Load()) == goroutine.Current() }

func (l *lane) do(fn func()) bool {
	if l.here() {
		fn()
	} else if l.enqueue(fn) {
		go l.work() // not here: the caller may hold what callbacks want
	}
	return true
}

// enqueue puts fn into the queue, and reports whether the caller has to see to it.
func (l *lane) enqueue(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, fn)
	first := !l.running
	l.running = true
	return first
}

// work works the queue off.
func (l *lane) work() {
	l.self.Store(uintptr(goroutine.Current()))
	over := false
	defer func() {
		if over {
			return
		}
		l.self.Store(0)
		if value := recover(); value != nil { // it must not end the program
			l.conn.panicked(value)
		}
		go l.work()
	}()
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.self.Store(0)
			l.queue, l.running, over = nil, false, true
			l.mu.Unlock()
			return
		}
		next := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.mu.Unlock()
		l.conn.ws.guard(next)
	}
}

func (l *lane) later(fn func())       { l.enqueue(fn) } // work goes on with it
func (l *lane) now() uint32           { return milliseconds() }
func (l *lane) behind() *atomic.Int64 { return &l.cast }

func (l *lane) enter(c *Conn) {
	period := c.params().period() * hubSlots
	l.mu.Lock()
	defer l.mu.Unlock()
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

func (l *lane) pace(*Conn)  {} // they were those of Upgrade from the beginning
func (l *lane) leave(*Conn) { l.timer.Stop() }

// plain is somebody else's net.Conn as a carrier. One goroutine reads, and one writes as long as
// there is something to write.
type plain struct {
	net.Conn
	ws *Conn

	mu      sync.Mutex
	cond    *sync.Cond // paused has become false
	out     []byte     // guarded by mu: is to be written
	under   int        // guarded by mu: bytes that are being written
	writing bool       // guarded by mu
	paused  bool       // guarded by mu
	full    bool       // guarded by mu
	ending  bool       // guarded by mu: to be closed when all is written
	closed  bool       // guarded by mu
	over    bool       // guarded by mu: the reader has noticed
}

// newPlain begins a Conn on a net.Conn. It reads nothing until listen.
func newPlain(ctx context.Context, conn net.Conn, s *shared) *Conn {
	p := &plain{Conn: conn, paused: true}
	p.cond = sync.NewCond(&p.mu)
	l := &lane{ctx: ctx, conn: p}
	p.ws = &Conn{carrier: p, home: l, heard: milliseconds()}
	p.ws.agreed.Store(s.agreed(nil))
	l.enter(p.ws)
	go p.read()
	return p.ws
}

// panicked reports a panic: to the runtime, or else as net/http does.
func (p *plain) panicked(value any) {
	stack := debug.Stack()
	ctx := p.ws.context()
	if at, err := sched.HomeFor(ctx); err == nil {
		at.Loop().ReportPanic(value, stack)
		return
	}
	report := log.Printf
	if s, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok && s.ErrorLog != nil {
		report = s.ErrorLog.Printf
	}
	report("websocket: panic serving %v: %v\n%s", p.RemoteAddr(), value, stack)
}

// read reads until the end.
func (p *plain) read() {
	over := false
	defer func() {
		if !over { // runtime.Goexit in a callback
			go p.read()
		}
	}()
	buf := make([]byte, 4<<10)
	for {
		p.mu.Lock()
		for p.paused {
			p.cond.Wait()
		}
		p.mu.Unlock()
		n, err := p.Conn.Read(buf)
		if n > 0 {
			done := make(chan struct{})
			if p.ws.home.(*lane).enqueue(func() {
				defer close(done)
				p.ws.feed(buf[:n])
			}) {
				p.ws.home.(*lane).work()
			}
			<-done
		}
		if err != nil {
			p.ended(err)
			over = true
			return
		}
	}
}

// ended is the end of the connection.
func (p *plain) ended(err error) {
	p.mu.Lock()
	p.over = true
	p.out = nil
	p.mu.Unlock()
	p.Conn.Close()
	p.ws.home.do(func() { p.ws.carrierEnded(err) })
}

func (p *plain) send(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	options := p.ws.params()
	switch {
	case p.over, p.ending:
		return net.ErrClosed
	case p.under+len(p.out)+len(b) > options.limits.Queue:
		return socket.ErrQueueFull
	}
	p.out = append(p.out, b...)
	if !p.full && p.under+len(p.out) > options.HighWater {
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
		p.under = len(b)
		p.mu.Unlock()
		for len(b) > 0 {
			// Whoever takes nothing of it is cut off in the end.
			p.Conn.SetWriteDeadline(time.Now().Add(socket.DefaultWriteTimeout))
			n, err := p.Conn.Write(b[:min(len(b), 64<<10)])
			if err != nil {
				p.close() // which the reader notices; nothing more is written
				return
			}
			b = b[n:]
			p.written(n)
		}
	}
}

// written follows a write.
func (p *plain) written(n int) {
	p.mu.Lock()
	p.under -= n
	empty := p.full && p.under+len(p.out) <= p.ws.params().LowWater
	p.full = p.full && !empty
	p.mu.Unlock()
	if empty {
		p.ws.home.do(p.ws.bufferEmpty)
	}
}

// finish half-closes, so that the peer gets what was written although it has sent more, and closes
// when it has closed.
func (p *plain) finish() {
	type halfCloser interface{ CloseWrite() error }
	if h, ok := p.Conn.(halfCloser); ok && h.CloseWrite() == nil {
		p.Conn.SetReadDeadline(time.Now().Add(max(p.ws.params().CloseTimeout, time.Second)))
		p.resume()
		return
	}
	p.close()
}

// close closes, which the reader notices.
func (p *plain) close() {
	p.Conn.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.resume()
}

func (p *plain) queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.under + len(p.out)
}

func (p *plain) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = !p.closed
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
	}
	p.mu.Unlock()
	switch {
	case abort:
		p.close()
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
