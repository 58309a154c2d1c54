package tlsconfig

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Most of what verifying a chain costs are its signatures, and programs that make many connections verify the same few
// chains again and again. So for a minute a Client remembers that crypto/tls has verified a chain.
//
// It never tells crypto/tls not to verify. The configuration that For returns has, beside the base's roots, the one leaf
// that was found good as a trust anchor; a chain that ends at once has no signature to check. Each time crypto/tls still
// checks the leaf's name, dates and usage, that the server has its key, and that a resumed session fits the roots. A
// server that sends another certificate is verified by the roots, as ever: the leaf is no authority, so nothing else
// can be signed with it.
//
// What crypto/tls hasn't looked at then is for VerifyConnection, see confirm: that all certificates are those that were
// sent when the chain was verified, that it was verified a short time ago, and that none of it has run out since. If
// it isn't so, the base's roots decide. Should that callback ever get lost, what is left is trust in a leaf of that name
// which was once verified.
//
// Sessions need no rule of their own. confirm puts the whole chain where crypto/tls keeps what it has verified, so the
// session carries it to its root, and is resumed only where that root is trusted and nothing in the chain has run out:
// by crypto/tls without a memory just as by a Client with other roots.

const (
	maxChains    = 256         // chains remembered in a process
	maxChainAge  = time.Minute // for how long
	maxChainSize = 16 << 10    // bytes that a server may send along with it, for a certificate that nobody needs can be sent by anybody
)

// verifiedChains is what the Clients of the process have verified. It is shared, as programs in Swoole's manner
// make a client for each connection.
var verifiedChains = chainMemory{chains: make(map[chainKey]*knownChain)}

// A chainMemory holds chains that crypto/tls has verified. Its methods may be called concurrently.
type chainMemory struct {
	mu     sync.Mutex
	chains map[chainKey]*knownChain // at most maxChains
}

// A chainKey says for whom a chain was verified, and by what. A pool can be added to: see knownChain.roots.
type chainKey struct {
	roots *x509.CertPool // nil: the system's
	name  string         // as crypto/tls has checked it
}

// A knownChain was verified. It doesn't change.
type knownChain struct {
	sent  []*x509.Certificate // all that the server sent, the leaf first
	chain []*x509.Certificate // from the leaf to the root
	at    time.Time           // when it was verified
	until time.Time           // when the first of the chain runs out
	roots *x509.CertPool      // a copy of what verified it; nil: the system's

	anchored func() *x509.CertPool // roots and the leaf; nil where the system's can't be had
}

// remembers reports whether chains may be remembered for connections under base. Not where somebody else decides what is
// valid, by which clock, or wants to see each chain verified; nor where the operating system verifies.
func remembers(base *tls.Config) bool {
	return !base.InsecureSkipVerify && base.ServerName != NoSNI &&
		base.Time == nil && base.VerifyPeerCertificate == nil &&
		base.EncryptedClientHelloConfigList == nil && !fips140.Enabled() &&
		(base.RootCAs != nil || !slices.Contains([]string{"windows", "darwin", "ios"}, runtime.GOOS))
}

// get returns the chain to rely on now, or nil.
func (m *chainMemory) get(key chainKey) *knownChain {
	m.mu.Lock()
	known := m.chains[key]
	m.mu.Unlock()
	if known == nil || !known.fresh(time.Now()) || !known.by(key.roots) || known.anchored() == nil {
		return nil
	}
	return known
}

// put remembers what was verified just now for a connection.
func (m *chainMemory) put(key chainKey, state tls.ConnectionState) {
	// One chain, as there is room for one where crypto/tls keeps it. The others' checks are worth what they cost.
	if len(state.VerifiedChains) != 1 {
		return
	}
	chain, size := state.VerifiedChains[0], 0
	for _, cert := range state.PeerCertificates {
		size += len(cert.Raw)
	}
	// A leaf that is the root has no signature to check; one that can sign must not become a root.
	leaf := chain[0]
	if len(chain) < 2 || leaf.Version != 3 || leaf.IsCA || size > maxChainSize {
		return
	}
	known := &knownChain{sent: slices.Clone(state.PeerCertificates), chain: slices.Clone(chain), at: time.Now(), until: leaf.NotAfter}
	for _, cert := range chain {
		if cert.NotAfter.Before(known.until) {
			known.until = cert.NotAfter
		}
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.chains[key]
	switch same := old != nil && old.by(key.roots); {
	case same && old.fresh(known.at):
		return // a server with several certificates must not make each connection change what is remembered
	case same && old.chain[0].Equal(leaf):
		// A pool of the system's roots is large, and connections hold it as long as they last.
		known.roots, known.anchored = old.roots, old.anchored
	default:
		known.anchor(key.roots)
	}
	if old == nil && len(m.chains) >= maxChains {
		maps.DeleteFunc(m.chains, func(_ chainKey, known *knownChain) bool { return !known.fresh(time.Now()) })
		for victim := range m.chains { // any will do
			if len(m.chains) < maxChains {
				break
			}
			delete(m.chains, victim)
		}
	}
	key.name = strings.Clone(key.name) // it may be a part of a large buffer
	m.chains[key] = known
}

// anchor adds what is needed to rely on the chain. The pool is made when that happens: many hosts are connected to once.
func (k *knownChain) anchor(roots *x509.CertPool) {
	leaf := k.chain[0]
	if roots != nil {
		k.roots = roots.Clone()
	}
	verifiedBy := k.roots
	k.anchored = sync.OnceValue(func() *x509.CertPool {
		if verifiedBy == nil {
			system, err := x509.SystemCertPool() // a copy
			if err != nil {
				return nil
			}
			system.AddCert(leaf)
			return system
		}
		pool := verifiedBy.Clone()
		pool.AddCert(leaf)
		return pool
	})
}

// by reports whether the chain was verified by these roots: the same pool, and nothing was added since.
func (k *knownChain) by(roots *x509.CertPool) bool { return roots == nil || roots.Equal(k.roots) }

// fresh reports whether the chain may be relied on at that time. A clock that goes back makes it stale, since then the
// chain may not be valid yet, and so does a machine that sleeps, during which the monotonic clock stands still.
func (k *knownChain) fresh(now time.Time) bool {
	elapsed, onTheWall := now.Sub(k.at), now.Round(0).Sub(k.at)
	return min(elapsed, onTheWall) >= 0 && max(elapsed, onTheWall) < maxChainAge && !now.After(k.until)
}

// isAnchor reports whether crypto/tls has accepted the server for being the anchor.
func (k *knownChain) isAnchor(verified [][]*x509.Certificate) bool {
	return k != nil && len(verified) == 1 && len(verified[0]) == 1 && verified[0][0].Equal(k.chain[0])
}

// confirm completes what crypto/tls has verified by roots in which known is an anchor, or by the base's where known is
// nil. It returns the state of a connection that was verified by the base's. It is the first that VerifyConnection does.
func (m *chainMemory) confirm(key chainKey, known *knownChain, state tls.ConnectionState) (tls.ConnectionState, error) {
	if !known.isAnchor(state.VerifiedChains) {
		if !state.DidResume { // a session's chain was verified long ago
			m.put(key, state)
		}
		return state, nil
	}
	// The slice is the connection's own, except that resumed ones share their session's.
	kept := state.VerifiedChains
	if known.fresh(time.Now()) && slices.EqualFunc(state.PeerCertificates, known.sent, (*x509.Certificate).Equal) {
		state.VerifiedChains = [][]*x509.Certificate{slices.Clone(known.chain)}
	} else {
		asked := state
		asked.ServerName = key.name // also where it was not sent, as for an address
		chains, err := verifier{roots: key.roots}.verify(asked)
		if err != nil {
			return state, err
		}
		state.VerifiedChains = chains
		m.put(key, state)
	}
	if !state.DidResume {
		copy(kept, state.VerifiedChains)
	}
	return state, nil
}
