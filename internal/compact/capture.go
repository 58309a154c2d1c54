package compact

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// Config returns a copy of a configuration whose handshakes tell a Capture their secrets. A
// KeyLogWriter that it has goes on to get its lines.
func Config(c *tls.Config) *tls.Config {
	return withSink(c, new(sync.Map))
}

func withSink(c *tls.Config, captures *sync.Map) *tls.Config {
	if c == nil {
		c = new(tls.Config)
	}
	c = c.Clone()
	if _, ok := c.KeyLogWriter.(*sink); ok {
		return c
	}
	c.KeyLogWriter = &sink{c.KeyLogWriter, captures}
	if choose := c.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return chosen, err
			}
			// Tickets are sealed with the keys that were set in chosen, which the copy has, or else
			// with those of the configuration that the connection began with.
			return withSink(chosen, captures), nil
		}
	}
	return c
}

// Forced is after how long a silence all connections become compact, whether that was asked for or
// not: WHORL_TEST_COMPACT_TLS, by which all tests run a second time. 0 if it isn't set.
var Forced = sync.OnceValue(func() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("WHORL_TEST_COMPACT_TLS"))
	return d
})

var forcedConfigs sync.Map // *tls.Config by *tls.Config

// ForcedConfig is Config for Forced: the same for the same configuration, with its ticket keys.
func ForcedConfig(c *tls.Config) *tls.Config {
	if c == nil || Enabled(c) {
		return Config(c)
	}
	made, _ := forcedConfigs.LoadOrStore(c, Config(c))
	return made.(*tls.Config)
}

// Enabled reports whether a configuration is one of Config's.
func Enabled(c *tls.Config) bool {
	if c == nil {
		return false
	}
	_, ok := c.KeyLogWriter.(*sink)
	return ok
}

// sink is a Config.KeyLogWriter.
type sink struct {
	user     io.Writer
	captures *sync.Map // *Capture by client random, of those whose handshake is under way
}

// The labels of the application traffic secrets (NSS key log format).
var (
	labelClient = []byte("CLIENT_TRAFFIC_SECRET_0 ")
	labelServer = []byte("SERVER_TRAFFIC_SECRET_0 ")
)

func (s *sink) Write(line []byte) (int, error) {
	s.learn(line)
	if s.user != nil {
		return s.user.Write(line)
	}
	return len(line), nil
}

func (s *sink) learn(line []byte) {
	rest, client := bytes.CutPrefix(line, labelClient)
	if !client {
		var server bool
		if rest, server = bytes.CutPrefix(line, labelServer); !server {
			return
		}
	}
	var random [32]byte
	if len(rest) < 65 {
		return
	}
	if _, err := hex.Decode(random[:], rest[:64]); err != nil {
		return
	}
	found, ok := s.captures.Load(random)
	if !ok {
		return
	}
	c := found.(*Capture)
	secret := bytes.TrimSpace(rest[65:])
	if len(secret) > 2*maxSecret {
		return
	}
	h := &c.server
	if client {
		h = &c.client
	}
	n, err := hex.Decode(h.secret[:], secret)
	if err == nil && client {
		c.secrets |= 1
	} else if err == nil {
		c.secrets |= 2
	}
	c.size = n
}

// A Capture follows a connection from its first byte to the moment when its State takes over. It
// is for whoever reads and writes for crypto/tls, one at a time during the handshake.
type Capture struct {
	captures   *sync.Map
	asClient   bool
	random     [32]byte
	hello      []byte // what has come of the ClientHello, until the random is known
	known      bool
	client     half // its secret, and the number of the next record that it sends
	server     half
	size       int   // of a secret
	secrets    uint8 // which are there
	useless    bool  // it can't be compacted
	handshaken bool
	suites     []*suite // that may be it, during the handshake
}

// NewCapture begins a Capture, before a handshake with a configuration of Config's.
func NewCapture(c *tls.Config, asClient bool) *Capture {
	return &Capture{captures: c.KeyLogWriter.(*sink).captures, asClient: asClient}
}

// randomAt is where the random is: behind the header of the record, that of the message, and the
// version.
const randomAt = HeaderSize + 4 + 2

// Hello takes what the client sends first, as it comes.
func (c *Capture) Hello(p []byte) {
	if c.known || c.useless || c.handshaken {
		return
	}
	c.hello = append(c.hello, p[:min(len(p), randomAt+32-len(c.hello))]...)
	if len(c.hello) < randomAt+32 {
		return
	}
	if c.hello[0] != typeHandshake || c.hello[HeaderSize] != 1 {
		c.useless = true
		return
	}
	copy(c.random[:], c.hello[randomAt:])
	c.hello, c.known = nil, true
	if _, twice := c.captures.LoadOrStore(c.random, c); twice {
		c.useless, c.known = true, false // the randoms of honest clients differ
	}
}

// End forgets a Capture's client random: its handshake is over, however that was.
func (c *Capture) End() {
	if c.known {
		c.captures.CompareAndDelete(c.random, c)
		c.known = false
	}
	c.handshaken = true
}

func (c *Capture) own() *half {
	if c.asClient {
		return &c.client
	}
	return &c.server
}

func (c *Capture) peers() *half {
	if c.asClient {
		return &c.server
	}
	return &c.client
}

// Sent takes whole records that crypto/tls has sent.
func (c *Capture) Sent(b []byte) {
	if c.useless || c.secrets != 3 {
		return
	}
	var last []byte
	records := uint64(0)
	for len(b) >= HeaderSize {
		n := HeaderSize + int(b[3])<<8 + int(b[4])
		if n > len(b) {
			break
		}
		if b[0] == typeData {
			last = b[:n]
			records++
		}
		b = b[n:]
	}
	if len(b) > 0 {
		c.useless = true // not whole records
		return
	}
	own := c.own()
	if c.handshaken {
		own.seq += records
		return
	}
	// Some of them may be under the handshake keys: those that come first.
	if records == 0 {
		return
	}
	for _, s := range c.candidates() {
		for i := range records {
			if opens(s, own, own.seq+i, last) {
				c.suites = []*suite{s}
				own.seq += i + 1
				return
			}
		}
	}
}

// candidates are the suites with secrets of the size that was told.
func (c *Capture) candidates() []*suite {
	if c.suites == nil {
		for _, id := range []uint16{
			tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
		} {
			if s := suites[id]; s.secret == c.size {
				c.suites = append(c.suites, s)
			}
		}
	}
	return c.suites
}

// opens reports whether a record opens with a number.
func opens(s *suite, h *half, seq uint64, record []byte) bool {
	_, ok := peek(s, h, seq, record)
	return ok
}

// peek opens a record, and leaves it as it is.
func peek(s *suite, h *half, seq uint64, record []byte) ([]byte, bool) {
	h = &half{secret: h.secret}
	l := h.wake(s)
	nonce := l.nonce(seq)
	plain, err := l.aead.Open(nil, nonce[:], record[HeaderSize:], record[:HeaderSize])
	return plain, err == nil
}

// Received counts a record that was handed to crypto/tls after the handshake. record is nil if it
// has brought something to read. Otherwise it was a message, which is looked at: after a KeyUpdate
// the connection stays with crypto/tls.
func (c *Capture) Received(record []byte) {
	peers := c.peers()
	defer func() { peers.seq++ }()
	if c.useless || record == nil || c.secrets != 3 {
		return
	}
	var plain []byte
	ok := false
	for _, s := range c.candidates() {
		if len(record) > HeaderSize && !ok {
			plain, ok = peek(s, peers, peers.seq, record)
		}
	}
	end := len(plain) - 1
	for end >= 0 && plain[end] == 0 {
		end--
	}
	// A ticket that is whole, and nothing else, changes nothing.
	if !ok || end < 4 || plain[end] != typeHandshake || plain[0] != messageTicket ||
		int(plain[1])<<16|int(plain[2])<<8|int(plain[3]) != end-4 {
		c.useless = true
	}
}

// errNotCompact is why a connection stays with crypto/tls.
var errNotCompact = errors.New("compact: not a connection that can be compacted")

// State returns the State that takes over. Nothing may be in flight.
func (c *Capture) State(cs *tls.ConnectionState) (*State, error) {
	s := suites[cs.CipherSuite]
	if c.useless || cs.Version != tls.VersionTLS13 || s == nil || c.secrets != 3 || c.size != s.secret {
		return nil, errNotCompact
	}
	state := &State{suite: s, identity: identify(cs, c.asClient), in: *c.peers(), out: *c.own()}
	state.in.live, state.out.live = nil, nil
	return state, nil
}

// Useless reports whether it is certain that the connection stays with crypto/tls.
func (c *Capture) Useless() bool { return c.useless }

// Wipe forgets the secrets.
func (c *Capture) Wipe() { c.client, c.server, c.secrets = half{}, half{}, 0 }
