//go:build linux

// Package echo holds the servers that are compared: each sends back what it gets, written as its
// library's own echo example writes it. One file per library.
//
// To add a server, add a file with a Serve function and put it in Peers.
package echo

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"slices"

	"github.com/whorl-go/whorl/benchmarks/peers/identity"
)

// Config says what a server is to do. It is sent to the server's process, so it holds plain values
// only.
type Config struct {
	Server string // the peer's name
	TLS    bool   // whether connections begin with TLS
	// Cert and Key are PEM. All servers get the same, as the size of a chain is part of what a
	// connection costs.
	Cert, Key string
	// Buffer is the size of the read buffer, in bytes, in a server that holds one for each
	// connection.
	Buffer int
}

// Certificate returns the TLS configuration of a server that has no wishes of its own.
func (c *Config) Certificate() (*tls.Config, error) {
	return identity.ServerConfig(c.Cert, c.Key)
}

// Peer is one way to write the server.
type Peer struct {
	Name  string // of the contestant
	About string // a line for the report
	Plain bool   // whether it speaks plaintext
	TLS   bool   // and TLS
	// Goroutines is how many each connection has while it is idle.
	Goroutines int
	// Module is the path of the library's module, whose version the report gives. Empty for the
	// standard library.
	Module string
	// Serve listens on a free port of 127.0.0.1, calls ready once it accepts, and serves until the
	// process ends. It returns early only with an error. It is nil in a server that is a program of
	// its own.
	Serve func(c Config, ready func(net.Addr)) error
	// Build, for a server that is a program of its own, returns its path; what it builds goes into
	// dir. The program has to speak package child's protocol: write one line of JSON to descriptor
	// 3 when it listens, and end with its standard input.
	Build func(dir string) (path string, err error)
}

// Peers are all that can be compared.
var Peers = []Peer{whorlCallback, whorlCoroutine, whorlCompact, whorlCoroutineCompact, raw,
	gnetPeer, netPeer, nbioPeer, netpollPeer, slowPeer}

// Find returns the peer of that name.
func Find(name string) (Peer, error) {
	i := slices.IndexFunc(Peers, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		return Peer{}, fmt.Errorf("echo: no server is called %q; there are %v", name, Names())
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
		return fmt.Errorf("echo: configuration: %w", err)
	}
	peer, err := Find(c.Server)
	if err != nil {
		return err
	}
	return peer.Serve(c, ready)
}

// freeAddress finds a free port for a library that can't be asked which one it got. Another process
// could take the port in between: the server then fails to start, and says so.
func freeAddress() (*net.TCPAddr, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr), nil
}
