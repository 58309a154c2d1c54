//go:build linux

// Package websockets holds the WebSocket servers that are compared: each sends back what it gets,
// or to all that are connected, written as its library's own examples write it. One file per
// library.
//
// To add a server, add a file with a Serve function and put it in Peers.
package websockets

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/whorl-go/whorl/benchmarks/peers/identity"
)

// Config says what a server is to do. It is sent to the server's process, so it holds plain values
// only.
type Config struct {
	Server string // the peer's name
	// Broadcast sends text to all connections; binary messages are sent back still. Whoever is sent
	// one back gets all broadcasts from then on.
	Broadcast bool
	// Deflate agrees to compression without context takeover in either direction.
	Deflate   bool
	TLS       bool   // whether connections begin with TLS
	Cert, Key string // PEM
}

// Peer is one way to write the server.
type Peer struct {
	Name       string // of the contestant
	About      string // a line for the report
	Deflate    bool   // whether it can compress
	Plain      bool   // whether it can serve ws
	TLS        bool   // and wss
	Broadcast  bool   // whether it broadcasts
	Goroutines int    // that each connection has while it is idle
	// Module is the path of the library's module, whose version the report gives. Empty for the
	// standard library.
	Module string
	// Serve listens on a free port of 127.0.0.1, calls ready once it accepts, and serves until the
	// process ends. It returns early only with an error.
	Serve func(c Config, ready func(net.Addr)) error
}

// Peers are all that can be compared.
var Peers = []Peer{whorlCallback, whorlCoroutine, whorlCompact, raw, gwsPeer, nbioPeer, gobwasPeer,
	gorillaPeer, coderPeer}

// Can tells whether a peer can do that.
func (p *Peer) Can(broadcast, deflate, tls bool) bool {
	return (p.TLS || !tls) && (p.Plain || tls) && (p.Deflate || !deflate) &&
		(p.Broadcast || !broadcast)
}

// Find returns the peer of that name.
func Find(name string) (Peer, error) {
	i := slices.IndexFunc(Peers, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		return Peer{}, fmt.Errorf("websockets: no server is called %q; there are %v", name, Names())
	}
	return Peers[i], nil
}

// Names lists the peers.
func Names() (names []string) {
	for _, p := range Peers {
		names = append(names, p.Name)
	}
	return names
}

// Serve runs the server that a Config in JSON asks for. It calls ready once the server accepts
// connections.
func Serve(config []byte, ready func(net.Addr)) error {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return fmt.Errorf("websockets: configuration: %w", err)
	}
	peer, err := Find(c.Server)
	if err != nil {
		return err
	}
	return peer.Serve(c, ready)
}

// certificate returns the TLS configuration of a server; nil without TLS.
func (c *Config) certificate() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	return identity.ServerConfig(c.Cert, c.Key)
}

// listen is for servers that take a listener.
func (c *Config) listen() (net.Listener, error) {
	config, err := c.certificate()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || config == nil {
		return l, err
	}
	return tls.NewListener(l, config), nil
}

// serveHTTP is for libraries that upgrade requests of net/http.
func (c *Config) serveHTTP(ready func(net.Addr), handle http.HandlerFunc) error {
	l, err := c.listen()
	if err != nil {
		return err
	}
	ready(l.Addr())
	return http.Serve(l, handle)
}

// room is whom a library without rooms broadcasts to.
type room[C comparable] struct {
	mu  sync.RWMutex
	all []C // guarded by mu
}

func (r *room[C]) join(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
}

func (r *room[C]) leave(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.all, c); i >= 0 {
		r.all = slices.Delete(r.all, i, i+1)
	}
}

// each has fn called for all.
func (r *room[C]) each(fn func(C)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.all {
		fn(c)
	}
}
