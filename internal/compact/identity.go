package compact

import (
	"crypto/sha256"
	"crypto/tls"
	"strings"
	"sync"
	"time"
	"unique"
)

// PeerIdentity is what is kept of a peer's certificate, verified or not as the configuration had
// it.
type PeerIdentity struct {
	SHA256   [sha256.Size]byte // of the certificate, in DER
	Names    []string          // of DNS, and IP addresses, that it is for
	NotAfter time.Time
	Verified bool // against trusted roots
}

// facts are what a handshake has agreed on. Connections to the same peer share them.
type facts struct {
	suite, curve         uint16
	client, resumed, ech bool
	retried              bool
	verified, certified  bool
	protocol, serverName string
	certificate          [sha256.Size]byte
	names                string // separated by NUL
	notAfter             int64
}

type identity struct{ unique.Handle[facts] }

func identify(cs *tls.ConnectionState, client bool) identity {
	f := facts{
		suite: cs.CipherSuite, curve: uint16(cs.CurveID), client: client, resumed: cs.DidResume,
		ech: cs.ECHAccepted, retried: cs.HelloRetryRequest,
		protocol: cs.NegotiatedProtocol, serverName: cs.ServerName,
		verified: len(cs.VerifiedChains) > 0,
	}
	if len(cs.PeerCertificates) > 0 {
		leaf := cs.PeerCertificates[0]
		names := append([]string(nil), leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		f.certified, f.certificate = true, sha256.Sum256(leaf.Raw)
		f.names, f.notAfter = strings.Join(names, "\x00"), leaf.NotAfter.Unix()
	}
	return identity{unique.Make(f)}
}

func (i identity) client() bool { return i.Value().client }

// noExporter is a state whose ExportKeyingMaterial returns an error. That of one that has none
// would panic, and only crypto/tls can set it: the only text that it has for TLS 1.3 speaks of
// renegotiation.
var noExporter = sync.OnceValue(func() tls.ConnectionState {
	return tls.Client(nil, &tls.Config{Renegotiation: tls.RenegotiateOnceAsClient}).ConnectionState()
})

func (i identity) state() tls.ConnectionState {
	f := i.Value()
	cs := noExporter()
	cs.Version, cs.HandshakeComplete, cs.DidResume = tls.VersionTLS13, true, f.resumed
	cs.CipherSuite, cs.CurveID = f.suite, tls.CurveID(f.curve)
	cs.NegotiatedProtocol, cs.ServerName = f.protocol, f.serverName
	cs.ECHAccepted, cs.HelloRetryRequest = f.ech, f.retried
	cs.TLSUnique = nil
	return cs
}

// Peer returns what is known of the peer's certificate; ok is false if it has shown none.
func (s *State) Peer() (p PeerIdentity, ok bool) { return s.identity.peer() }

// PeerOf is Peer of a connection that isn't compact.
func PeerOf(cs *tls.ConnectionState) (p PeerIdentity, ok bool) { return identify(cs, false).peer() }

func (i identity) peer() (p PeerIdentity, ok bool) {
	f := i.Value()
	if !f.certified {
		return p, false
	}
	p = PeerIdentity{SHA256: f.certificate, NotAfter: time.Unix(f.notAfter, 0).UTC(), Verified: f.verified}
	if f.names != "" {
		p.Names = strings.Split(f.names, "\x00")
	}
	return p, true
}
