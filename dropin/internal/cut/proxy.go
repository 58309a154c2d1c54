// Package cut is a TCP proxy that cuts connections in the middle, for tests of what becomes of
// their clients.
package cut

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Proxy stands before a server and passes everything on, both ways, until it is told to cut. It
// knows nothing of Whorl. All methods may be called by many at once.
type Proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	silent atomic.Bool
	cuts   atomic.Int64

	mu     sync.Mutex
	closed bool               // guarded by mu
	pairs  map[*pair]struct{} // guarded by mu
}

// A pair is a client's connection and the one to the server.
type pair struct{ client, server *net.TCPConn }

// New starts a proxy before the server at target.
func New(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, pairs: make(map[*pair]struct{})}
	p.running.Go(p.serve)
	return p, nil
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections, and returns when nothing is left of the proxy.
func (p *Proxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut(func() bool { return true })
	p.running.Wait()
}

// Cuts returns how many connections have been cut.
func (p *Proxy) Cuts() int { return int(p.cuts.Load()) }

// Connections returns how many connections are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pairs)
}

// CutAll cuts all connections.
func (p *Proxy) CutAll() { p.cut(func() bool { return true }) }

// CutSome cuts each connection with a probability.
func (p *Proxy) CutSome(probability float64) {
	p.cut(func() bool { return rand.Float64() < probability })
}

// Silence has the proxy swallow what comes from the servers (true), so that clients wait in vain,
// or pass it on again.
func (p *Proxy) Silence(on bool) { p.silent.Store(on) }

func (p *Proxy) cut(chosen func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if !chosen() {
			continue
		}
		p.cuts.Add(1)
		if rand.IntN(2) == 0 { // a reset; otherwise both sides see an orderly end
			c.client.SetLinger(0)
			c.server.SetLinger(0)
		}
		c.client.Close()
		c.server.Close()
		delete(p.pairs, c)
	}
}

func (p *Proxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.join(conn.(*net.TCPConn)) })
	}
}

// join connects a client with the server, and returns when they have ended.
func (p *Proxy) join(client *net.TCPConn) {
	defer client.Close()
	dialed, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	if err != nil {
		return
	}
	c := &pair{client, dialed.(*net.TCPConn)}
	defer c.server.Close()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.pairs[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pairs, c)
	}()

	var both sync.WaitGroup
	both.Go(func() {
		defer c.server.CloseWrite()
		io.Copy(plain{c.server}, client)
	})
	both.Go(func() {
		defer client.CloseWrite()
		io.Copy(&gate{p, client}, c.server)
	})
	both.Wait()
}

// plain hides what else a connection can do: splice(2) would keep pipes open for a while, and tests
// count descriptors.
type plain struct{ io.Writer }

// A gate passes on to the client unless the proxy is to be silent.
type gate struct {
	proxy  *Proxy
	client *net.TCPConn
}

func (g *gate) Write(b []byte) (int, error) {
	if g.proxy.silent.Load() {
		return len(b), nil
	}
	return g.client.Write(b)
}
