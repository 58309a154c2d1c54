package bench

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"github.com/whorl-go/whorl/internal/bench/report"
)

// errNoTicket says that a server doesn't let sessions be resumed.
var errNoTicket = errors.New("the server gave no session ticket, so there is nothing to resume")

// sessionSlot is the tls.ClientSessionCache of one loop: the last session that the server gave,
// which all handshakes of the loop that are to resume one offer. crypto/tls calls it on the loop.
type sessionSlot struct {
	session *tls.ClientSessionState
	tickets uint64 // that came, this one and those that are only counted
}

func (s *sessionSlot) Get(string) (*tls.ClientSessionState, bool) {
	return s.session,
		s.session != nil
}

// Put keeps a session, or with nil, after a failed handshake, forgets it.
func (s *sessionSlot) Put(_ string, session *tls.ClientSessionState) {
	s.session = session
	s.tickets++
}

// ticketBell is the tls.ClientSessionCache of handshakes that don't resume and whose tickets tell
// that the server takes the client's certificate: it counts them.
type ticketBell struct{ slot *sessionSlot }

func (ticketBell) Get(string) (*tls.ClientSessionState, bool)      { return nil, false }
func (b ticketBell) Put(_ string, session *tls.ClientSessionState) { b.slot.tickets++ }

// agreement is what a handshake has agreed on.
type agreement struct {
	version, suite uint16
	group          tls.CurveID
	resumed        bool
}

func agreementOf(state tls.ConnectionState) agreement {
	return agreement{state.Version, state.CipherSuite, state.CurveID, state.DidResume}
}

func (a agreement) groupName() string {
	if a.group == 0 {
		return ""
	}
	return a.group.String()
}

func (a agreement) String() string {
	text := tls.VersionName(a.version) + ", " + tls.CipherSuiteName(a.suite)
	if group := a.groupName(); group != "" {
		text += ", " + group
	}
	if a.resumed {
		text += ", resumed"
	}
	return text
}

// summarize reports on all handshakes of a run.
func summarize(agreed map[agreement]int64, certificate string) *report.TLS {
	t := &report.TLS{Certificate: certificate, Negotiated: make(map[string]int64)}
	var most agreement
	resumed := int64(0)
	for a, n := range agreed {
		t.Handshakes += n
		t.Negotiated[a.String()] += n
		if a.resumed {
			resumed += n
		}
		if n > agreed[most] || n == agreed[most] && a.String() < most.String() {
			most = a
		}
	}
	if t.Handshakes > 0 {
		t.Version, t.Suite, t.Group = tls.VersionName(most.version),
			tls.CipherSuiteName(most.suite), most.groupName()
		t.Resumed = float64(resumed) / float64(t.Handshakes)
	}
	return t
}

// describeCertificate says of what type a server's certificate is.
func describeCertificate(chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return ""
	}
	leaf := chain[0]
	kind := leaf.PublicKeyAlgorithm.String()
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		kind = "ECDSA " + key.Params().Name
	case *rsa.PublicKey:
		kind = fmt.Sprintf("RSA %d", key.N.BitLen())
	case ed25519.PublicKey:
		kind = "Ed25519"
	}
	return fmt.Sprintf("%s, signed with %s, chain of %d", kind, leaf.SignatureAlgorithm, len(chain))
}
