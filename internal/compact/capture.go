package compact

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
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

// Forced is after how long all connections become compact for which that wasn't asked for:
// WHORL_TEST_COMPACT_TLS, by which all tests run a second time. 0 if it isn't set.
var Forced = sync.OnceValue(func() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("WHORL_TEST_COMPACT_TLS"))
	return d
})

var forcedConfigs sync.Map // *tls.Config by *tls.Config

// ForcedConfig is Config for Forced: the same for the same configuration, with its ticket keys.
func ForcedConfig(c *tls.Config) *tls.Config {
	if c == nil {
		return Config(nil)
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handshaken {
		return
	}
	h, bit := &c.server, uint8(2)
	if client {
		h, bit = &c.client, 1
	}
	secret := bytes.TrimSpace(rest[65:])
	if c.secrets&bit != 0 || len(secret) > 2*maxSecret || c.size > 0 && len(secret) != 2*c.size {
		c.giveUp(Unclear) // another connection has the same random: whose secret is it?
		return
	}
	n, err := hex.Decode(h.secret[:], secret)
	if err == nil {
		c.secrets |= bit
	}
	c.size = n
}

// A Reason is why a connection stays with crypto/tls.
type Reason uint32

const (
	OldVersion     Reason = 1 + iota // it isn't TLS 1.3
	EncryptedHello                   // what would tell its secrets is encrypted
	ChangedKeys                      // the peer has sent a KeyUpdate before the State took over
	Unclear                          // something isn't as it is expected to be
)

// A Capture follows a connection from its first byte to the moment when its State takes over. It
// is for whoever reads and writes for crypto/tls: one at a time during the handshake, and from
// Begin on one who reads and one who writes.
type Capture struct {
	captures *sync.Map
	asClient bool
	random   [32]byte
	hello    []byte // what has come of the ClientHello, until the random is known
	known    bool
	why      atomic.Uint32 // a Reason: it can't be compacted

	// Until Begin guarded by mu: a connection with the same client random writes here, too.
	mu         sync.Mutex
	client     half // its secret, and the number of the next record that it sends
	server     half
	size       int   // of a secret
	secrets    uint8 // which are there
	handshaken bool

	suite    *suite // from Begin on
	sent     bool   // a record that did open; of whoever writes
	received bool   // likewise, of whoever reads
	said     bool   // close_notify
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
	if c.known || c.handshaken || c.Useless() {
		return
	}
	c.hello = append(c.hello, p[:min(len(p), randomAt+32-len(c.hello))]...)
	if len(c.hello) < randomAt+32 {
		return
	}
	// A record that ends before the random would have something else in its place: whoever sends it
	// could claim another connection's random, and get its secrets.
	if c.hello[0] != typeHandshake || c.hello[HeaderSize] != 1 ||
		int(c.hello[3])<<8|int(c.hello[4]) < len(c.hello)-HeaderSize {
		c.giveUp(Unclear)
		return
	}
	copy(c.random[:], c.hello[randomAt:])
	c.hello, c.known = nil, true
	if _, twice := c.captures.LoadOrStore(c.random, c); twice {
		c.known = false
		c.giveUp(Unclear) // the randoms of honest clients differ
	}
}

// End forgets a Capture's client random: its handshake is over, however that was.
func (c *Capture) End() {
	if c.known {
		c.captures.CompareAndDelete(c.random, c)
		c.known = false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handshaken = true
}

// Begin is End after a handshake that has succeeded. It reports whether the connection can be
// compacted, as far as is known; Why says why it can't.
func (c *Capture) Begin(cs *tls.ConnectionState) bool {
	c.End()
	switch c.suite = suites[cs.CipherSuite]; {
	case cs.Version != tls.VersionTLS13:
		c.giveUp(OldVersion)
	case cs.ECHAccepted: // the random of the lines is another one than that in plain sight
		c.giveUp(EncryptedHello)
	case c.secrets != 3 || c.suite == nil || c.suite.secret != c.size:
		c.giveUp(Unclear)
	}
	return !c.Useless()
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
	if c.Useless() {
		return
	}
	var first, last []byte
	records := uint64(0)
	for len(b) >= HeaderSize {
		n := HeaderSize + int(b[3])<<8 + int(b[4])
		if n > len(b) {
			break
		}
		if b[0] == typeData {
			if last = b[:n]; first == nil {
				first = last
			}
			records++
		}
		b = b[n:]
	}
	if len(b) > 0 {
		c.giveUp(Unclear) // not whole records
		return
	}
	if records == 0 {
		return
	}
	if c.suite == nil {
		c.sentShaking(records, last)
		return
	}
	own := c.own()
	if !c.sent {
		if _, c.sent = peek(c.suite, own, own.seq, first); !c.sent {
			c.giveUp(Unclear)
		}
	}
	own.seq += records
}

// sentShaking counts records that were sent during the handshake. Some of them may be under its
// keys: those that come first.
func (c *Capture) sentShaking(records uint64, last []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secrets != 3 {
		return
	}
	own := c.own()
	for _, s := range suites {
		if s.secret != c.size {
			continue
		}
		for i := range records {
			if _, ok := peek(s, own, own.seq+i, last); ok {
				own.seq += i + 1
				return
			}
		}
	}
}

// peek opens a record, and leaves it as it is.
func peek(s *suite, h *half, seq uint64, record []byte) ([]byte, bool) {
	key, iv := s.traffic(h.secret[:s.secret])
	l := s.wake(key, iv)
	clear(key)
	plain, err := l.aead.Open(nil, l.nonce(seq), record[HeaderSize:], record[:HeaderSize])
	return plain, err == nil
}

// Received counts a record that was handed to crypto/tls after Begin. It is empty if it was too
// large to be kept. data says that it has brought something to read. Otherwise it was a message,
// which is looked at: after a KeyUpdate the connection stays with crypto/tls.
func (c *Capture) Received(record []byte, data bool) {
	peers := c.peers()
	defer func() { peers.seq++ }()
	if c.Useless() || data && (c.received || len(record) == 0) {
		return
	}
	var plain []byte
	if len(record) > HeaderSize {
		plain, c.received = peek(c.suite, peers, peers.seq, record)
	}
	if !c.received {
		c.giveUp(Unclear)
	} else if !data {
		c.giveUp(changes(plain))
	}
}

// changes is why what a record carries makes it impossible to go on from there; 0 if it carries
// nothing, or tickets that are whole.
func changes(plain []byte) Reason {
	end := len(plain) - 1
	for end >= 0 && plain[end] == 0 {
		end--
	}
	if end == 0 && plain[0] == typeData {
		return 0
	}
	if end <= 0 || plain[end] != typeHandshake {
		return Unclear
	}
	messages := plain[:end]
	for len(messages) >= 4 && messages[0] == messageTicket {
		n := 4 + int(messages[1])<<16 + int(messages[2])<<8 + int(messages[3])
		if n > len(messages) {
			return Unclear
		}
		if messages = messages[n:]; len(messages) == 0 {
			return 0
		}
	}
	if messages[0] == messageKeyUpdate {
		return ChangedKeys
	}
	return Unclear
}

// Said notes that crypto/tls has sent close_notify.
func (c *Capture) Said() { c.said = true }

// errNotCompact is why a connection stays with crypto/tls.
var errNotCompact = errors.New("compact: not a connection that can be compacted")

// State returns the State that takes over, after Begin has said that it can. Nothing may be in
// flight.
func (c *Capture) State(cs *tls.ConnectionState) (*State, error) {
	if c.Useless() || c.suite == nil {
		return nil, errNotCompact
	}
	s := newState(c.suite, identify(cs, c.asClient), c.peers(), c.own())
	s.said = c.said
	return s, nil
}

// Useless reports whether it is certain that the connection stays with crypto/tls.
func (c *Capture) Useless() bool { return c.Why() != 0 }

// Why says why it does, 0 if that isn't certain.
func (c *Capture) Why() Reason { return Reason(c.why.Load()) }

// giveUp is for whoever finds a reason. The first one counts.
func (c *Capture) giveUp(why Reason) { c.why.CompareAndSwap(0, uint32(why)) }

// Wipe forgets the secrets, when the handshake is over.
func (c *Capture) Wipe() { c.client, c.server, c.secrets = half{}, half{}, 0 }
