package tlsconfig

import (
	"crypto/tls"
	"strings"
	"sync"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/internal/verify"
)

const (
	// NoSNI as the ServerName of a base configuration switches SNI off and nothing else: the chain
	// is still verified and so is the name, against the host given to Client.For. It is no host's
	// name, so crypto/tls, given such a configuration without Client.For, sends no SNI and refuses
	// every certificate: it fails closed.
	NoSNI = names.NoSNI

	maxHosts    = 1024 // configurations a Client keeps; beyond that it forgets an arbitrary one
	maxSessions = 256  // sessions a Client keeps for resumption, least recently used out first
)

// A Client hands out the configurations of one policy, one for each host.
//
// All methods may be called concurrently.
//
// Sessions are resumed only within one Client, so never under another policy, and only with the
// host they were made with. The port is no part of that: the session of one port is offered to
// another port of the same host, as TLS intends (RFC 8446, Section 4.6.1: a ticket belongs to the
// name). That is safe, since both ports have to prove the same name under the same policy, but
// where unrelated servers sit behind two ports they spoil each other's sessions, and every
// connection makes a full handshake. Use one Client for each port (or protocol) there.
//
// A base that brings its own ClientSessionCache takes the charge over. Do not share that cache
// between policies: on resumption crypto/tls checks name, roots and dates again, but not which
// client certificate the session was made with, and it does not call VerifyPeerCertificate.
type Client struct {
	base *tls.Config // never modified after NewClient

	mu    sync.RWMutex
	hosts map[string]*tls.Config // guarded by mu; keyed by host as given to For
}

// NewClient returns the Client of the policy base, of which it takes a copy. A nil base means the
// defaults: system roots, TLS 1.2 to 1.3, no client certificate.
//
// MinVersion becomes TLS 1.2 where base leaves it at zero. A base that names a lower version gets
// it: it was asked for by name. Verification stays on unless base says InsecureSkipVerify. A base
// without a ClientSessionCache gets one that holds 256 sessions.
func NewClient(base *tls.Config) *Client {
	if base == nil {
		base = &tls.Config{}
	}
	base = base.Clone()
	if base.MinVersion == 0 {
		base.MinVersion = tls.VersionTLS12
	}
	if base.ClientSessionCache == nil {
		base.ClientSessionCache = tls.NewLRUClientSessionCache(maxSessions)
	}
	return &Client{base: base, hosts: make(map[string]*tls.Config)}
}

// For returns the configuration for connections to host: a name, or an IPv4 or IPv6 address,
// without a port. A trailing dot, brackets and an IPv6 zone are taken off. An empty host fits only
// a base with a ServerName of its own; otherwise the handshake will fail, as there is nothing to
// verify.
//
// Calls with the same host return the same *tls.Config. It may be kept. It must not be modified:
// Clone it first, and do not take VerifyConnection away from the clone, which may do a part of the
// verification.
//
//   - ServerName is host, unless base has one. It is sent as SNI where it is a name (never for an
//     address).
//   - Where ServerName is NoSNI, InsecureSkipVerify is set and VerifyConnection makes up for it: it
//     verifies the chain and checks that the certificate is for host.
//   - base's VerifyConnection is called for each connection. It sees the name to verify in
//     ConnectionState.ServerName also where no SNI was sent. It can pass that on as
//     x509.VerifyOptions.DNSName; were it empty, the name would not be checked at all.
func (c *Client) For(host string) *tls.Config {
	c.mu.RLock()
	config := c.hosts[host]
	c.mu.RUnlock()
	if config != nil {
		return config
	}

	fresh := c.build(host)
	c.mu.Lock()
	defer c.mu.Unlock()
	if config = c.hosts[host]; config != nil {
		return config // another call was faster; connections should share one configuration
	}
	if len(c.hosts) >= maxHosts {
		// Any will do: a host that is forgotten costs one Clone. Its sessions are kept elsewhere.
		for victim := range c.hosts {
			delete(c.hosts, victim)
			break
		}
	}
	c.hosts[strings.Clone(host)] = fresh // host may be a part of a large buffer
	return fresh
}

// build makes the configuration for one host.
func (c *Client) build(host string) *tls.Config {
	config := c.base.Clone()
	name := names.Server(host)
	fixed := config.ServerName
	if fixed == "" {
		config.ServerName = name
	} else {
		// crypto/tls keys sessions by ServerName alone, which is the same for every host here.
		config.ClientSessionCache = hostSessions{cache: config.ClientSessionCache, host: name}
		if fixed != NoSNI {
			name = names.Server(fixed)
		}
	}

	next := config.VerifyConnection
	takeOver := fixed == NoSNI && !config.InsecureSkipVerify
	if next == nil && !takeOver {
		return config
	}
	config.InsecureSkipVerify = config.InsecureSkipVerify || takeOver
	check := verify.Verifier{Roots: config.RootCAs, Now: config.Time}
	config.VerifyConnection = func(state tls.ConnectionState) (err error) {
		if state.ServerName == "" {
			state.ServerName = name
		}
		if takeOver {
			if state.VerifiedChains, err = check.Verify(state); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		return next(state)
	}
	return config
}

// hostSessions is a view of a cache that no other host shares.
type hostSessions struct {
	cache tls.ClientSessionCache
	host  string
}

func (s hostSessions) Get(key string) (*tls.ClientSessionState, bool) {
	return s.cache.Get(s.host + "\x00" + key)
}

func (s hostSessions) Put(key string, session *tls.ClientSessionState) {
	s.cache.Put(s.host+"\x00"+key, session)
}
