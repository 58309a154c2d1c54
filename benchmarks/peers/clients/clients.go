//go:build linux

// Package clients holds the clients that are compared, written as each library wants it: a file per
// library. A client has a process of its own; package otherside is at the other end.
//
// To add a client, add a file with a New function and put it in Peers.
package clients

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/internal/bench/farside"
	framing "github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/socket"
)

// Work is what a client does.
type Work string

const (
	// a message of Size bytes on each connection, which comes back, and then the next one
	RoundTrip Work = "round trip"
	// receives packets of Size bytes that end with CR LF, from connections on which there is always
	// more
	EOF     Work = "EOF"
	Length  Work = "length"  // the same, with packets that begin with their length
	Connect Work = "connect" // connects and leaves, Conns at a time
	// the same with a full TLS 1.3 handshake, after which it reads one byte
	Full    Work = "full"
	Resumed Work = "resumed" // the same with a session of an earlier connection
	// sends Size bytes at a time, as fast as the other side takes them
	Send    Work = "send"
	Receive Work = "receive" // receives as fast as it can; what counts is each Size bytes
	// has one message come back on each connection, and then waits for more
	Idle Work = "idle"
)

// Far returns what the other side has to do, and of what kind its packets are if it sends any.
func (w Work) Far() (farside.Role, framing.Framing) {
	switch w {
	case EOF:
		return farside.Source, framing.EOF
	case Length, Receive:
		return farside.Source, framing.Length
	case Full, Resumed:
		return farside.Hello, framing.None
	case Send:
		return farside.Sink, framing.None
	}
	return farside.Echo, framing.None
}

// MinSize is the least size of a message of RoundTrip, in bytes: the length of the rest and the
// message's number.
const MinSize = 12

// Config says what a client is to do. It is sent to the client's process, so it holds plain values
// only.
type Config struct {
	Client string // the peer's name
	Work   Work   // what it does all the time
	Addr   string // of the other side
	TLS    bool   // whether connections begin with TLS
	Conns  int    // how many to open before the child is ready
	Size   int    // of messages and packets, in bytes
	// CA is PEM; the other side has a certificate of it for ServerName.
	CA, ServerName string

	shared  *tls.Config // made by trust
	compact socket.CompactTLS
}

// forgetful is a session cache that never stores: every handshake is a full one.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

// trust makes the TLS configuration that all connections share, as those of a program do; nil
// without TLS.
func (c *Config) trust() {
	if c.TLS {
		c.shared = &tls.Config{
			RootCAs: x509.NewCertPool(), ServerName: c.ServerName, ClientSessionCache: forgetful{},
		}
		c.shared.RootCAs.AppendCertsFromPEM([]byte(c.CA))
	}
}

// tlsConfig returns the configuration of a connection. One that resumes has a cache of its own, so
// that its session is there when it needs it.
func (c *Config) tlsConfig() *tls.Config {
	if c.Work != Resumed {
		return c.shared
	}
	config := c.shared.Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return config
}

// address is where the nth connection goes.
func (c *Config) address(n int) string {
	addr, err := farside.Address(c.Addr, n)
	if err != nil {
		return c.Addr // Dialling it tells what is wrong.
	}
	return addr
}

// Client does a Work in turns, for one goroutine at a time.
type Client = child.Turns

// Peer is one way to write the client.
type Peer struct {
	Name  string // of the contestant
	About string // a line for the report
	// Module is the path of the library's module, whose version the report gives. Empty for the
	// standard library.
	Module string
	Plain  []Work // what it can do in plaintext
	TLS    []Work // and over TLS
	// Goroutines is how many each connection has while it is idle.
	Goroutines int
	// New makes a client that counts in counters. It is nil in a client that is a program of its
	// own.
	New func(c *Config, counters *child.Counters) (Client, error)
	// Build, for a client that is a program of its own, returns its path; what it builds goes into
	// dir. The program speaks package child's protocol, with the commands "start" and "stop", and
	// Arguments returns what it is started with.
	Build     func(dir string) (path string, err error)
	Arguments func(c *Config) []string
}

// Can tells whether a peer can do that.
func (p *Peer) Can(w Work, tls bool) bool {
	if tls {
		return slices.Contains(p.TLS, w)
	}
	return slices.Contains(p.Plain, w)
}

// Peers are all that can be compared.
var Peers = []Peer{whorlClient, whorlAsync, whorlCompact, whorlAsyncCompact, raw, gnetPeer, netPeer,
	bufferedPeer, slowPeer, aeadPeer}

// Find returns the peer of that name.
func Find(name string) (Peer, error) {
	i := slices.IndexFunc(Peers, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		return Peer{}, fmt.Errorf("clients: no client is called %q; there are %v", name, Names())
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

// Serve is a client's process: it does what a Config in JSON says.
func Serve(config []byte, control *child.Control) error {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return fmt.Errorf("clients: configuration: %w", err)
	}
	peer, err := Find(c.Client)
	if err != nil {
		return err
	}
	if peer.New == nil || !peer.Can(c.Work, c.TLS) {
		return fmt.Errorf("clients: %s can't do %s (TLS: %v) here", c.Client, c.Work, c.TLS)
	}
	counters, err := child.OpenCounters()
	if err != nil {
		return err
	}
	c.trust()
	client, err := peer.New(&c, counters)
	if err != nil {
		return err
	}
	turns := waves{client}
	if err := turns.Open(c.Conns); err != nil {
		return fmt.Errorf("clients: %s: %w", c.Client, err)
	}
	control.HandleTurns(turns)
	control.Ready("")
	select {}
}

// waves opens a client's connections a few at a time.
type waves struct{ Client }

// atATime is how many connections are opened at a time: fewer than a listener's queue holds.
const atATime = 64

func (w waves) Open(n int) error {
	for ; n > 0; n -= atATime {
		if err := w.Client.Open(min(n, atATime)); err != nil {
			return err
		}
	}
	return nil
}
