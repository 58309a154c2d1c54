package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// An attempt is how to make a handshake. The zero one is that of any client that uses crypto/tls.
type attempt struct {
	lowest, highest uint16   // versions; 0: crypto/tls's choice
	suites          []uint16 // of TLS 1.2 and below; nil: crypto/tls's choice
	groups          []tls.CurveID
	alpn            []string
	noSNI           bool
	cache           tls.ClientSessionCache
}

// A session is a connection with TLS, or what has become of it.
type session struct {
	client *client.Client
	state  tls.ConnectionState
	plain  *tls.Config                 // for explanations: what was offered
	asked  *tls.CertificateRequestInfo // the server wants a certificate; nil: it doesn't
	shown  bool                        // it has got one
	said   *starttls.Session           // what came over TLS after STARTTLS

	// failure is what has ended it, as it was returned. If TLS did stand before that, shake has
	// returned no error.
	failure error
}

func (s *session) close() { s.client.Close() }

// shake connects and makes a handshake that takes every certificate. The session is for
// explanations if it fails; else it has to be closed.
func (p *prober) shake(ctx context.Context, a attempt) (*session, error) {
	s := &session{plain: p.config(a)}
	config := s.plain.Clone()
	config.Certificates = nil
	config.InsecureSkipVerify = true // the certificate is looked at, and trusted with nothing
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		s.asked = info
		if mine := p.options.Certificate; mine != nil && info.SupportsCertificate(mine) == nil {
			s.shown = true
			return mine, nil
		}
		return &tls.Certificate{}, nil
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		s.state = state // there is more to see than the error, if it fails after this
		return nil
	}
	var err error
	s.client, err = p.connect(ctx, func(c *client.Config) { c.TLS = config })
	if err != nil {
		s.failure = err
		return s, err
	}
	if p.protocol != nil {
		s.said, err = p.upgrade(ctx, s.client)
	} else {
		err = s.client.EnableSSL(ctx)
	}
	if err != nil {
		s.client.Close()
		s.failure = err
		if whereFailed(err) == layerAnswer && asExplained(err) == nil {
			return s, nil // TLS stands, what is behind it is another matter
		}
		return s, p.explain(err, s)
	}
	s.state, _ = s.client.ConnectionState()
	return s, nil
}

// config is what is offered in an attempt.
func (p *prober) config(a attempt) *tls.Config {
	config := &tls.Config{
		ServerName: p.name, RootCAs: p.options.Roots,
		MinVersion: cmp.Or(a.lowest, tls.VersionTLS12), MaxVersion: a.highest,
		CipherSuites: a.suites, CurvePreferences: a.groups, NextProtos: a.alpn,
		ClientSessionCache: a.cache,
	}
	if a.noSNI {
		config.ServerName = tlsconfig.NoSNI
	}
	if p.options.Certificate != nil {
		config.Certificates = []tls.Certificate{*p.options.Certificate}
	}
	return config
}

// explain puts the error of a handshake into words: for what was offered, without what the probe
// does to look at it.
func (p *prober) explain(err error, s *session) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, socket.ErrPlaintextPending) && p.protocol == nil {
		return explain.Plaintext(nil, p.target.Host, err)
	}
	e := asExplained(err)
	if e == nil || e.Err == nil {
		return err
	}
	if e.ID != explain.IDParametersNone || s.asked == nil || s.shown {
		return explain.Client(e.Err, p.name, s.plain)
	}
	// TLS 1.2 has one alert for all that doesn't suit the server, and this is among it.
	required := p.wantsCertificate(s, fmt.Sprintf("and sent alert %d", e.Alert))
	required.Alert, required.Err = e.Alert, e.Err
	return required
}

// wantsCertificate explains a refusal for lack of the client's certificate, or because of it, that
// was said otherwise than by an alert of TLS 1.3: then is how.
func (p *prober) wantsCertificate(s *session, then string) *explain.HandshakeError {
	alert, got := tls.AlertError(certificateRequired), "none, "
	if s.shown {
		alert, got = badCertificate, "it, "
	}
	e := *asExplained(explain.Client(alert, p.name, s.plain))
	e.Alert, e.Err = -1, nil
	e.Detail = "the server asked for a certificate, got " + got + then
	return &e
}

// RFC 8446, section 6.2.
const (
	badCertificate      = 42
	certificateRequired = 116
)

// listen waits for what the server says by itself once TLS stands: a greeting, or an alert about
// the client's certificate. It returns nothing when nothing comes.
func (s *session) listen(ctx context.Context, patience time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := s.client.Recv(ctx)
	if isTimeout(err) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, nil
	}
	return bytes.Clone(said), err
}

// authorities returns the names of those whose certificates the server wants.
func (s *session) authorities() []string {
	if s.asked == nil {
		return nil
	}
	var names []string
	for _, der := range s.asked.AcceptableCAs[:min(20, len(s.asked.AcceptableCAs))] {
		var sequence pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
			continue
		}
		var name pkix.Name
		name.FillFromRDNSequence(&sequence)
		names = append(names, text.Printable(cmp.Or(name.CommonName, name.String()), text.MaxName))
	}
	return names
}

// wanted says whose certificate the server wants, if it has named somebody.
func (s *session) wanted() string {
	if names := s.authorities(); len(names) > 0 {
		return "; it wants one from " + text.List(names, text.Quoted)
	}
	return ""
}

func (s *session) summary() *Session {
	words := tlsconfig.Describe(s.state)
	return &Session{
		Version: words.Protocol, Suite: words.CipherSuite, Group: words.Group, ALPN: words.ALPN,
		Retried: s.state.HelloRetryRequest,
	}
}

func (s *session) describe() string { return tlsconfig.Describe(s.state).String() }

// allSuites are the suites of TLS 1.2 and below that crypto/tls can speak.
func allSuites() []uint16 {
	var ids []uint16
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.ContainsFunc(suite.SupportedVersions, func(v uint16) bool {
			return v <= tls.VersionTLS12
		}) {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// anything is the attempt that offers all that crypto/tls can speak.
func anything() attempt { return attempt{lowest: tls.VersionTLS10, suites: allSuites()} }

// ticket is a cache for the session of one connection. With TLS 1.3 it comes after the handshake,
// and then the server has taken the client's certificate.
type ticket struct {
	tls.ClientSessionCache
	here    bool
	offered bool   // crypto/tls has taken it out, and not thrown it away at once
	came    func() // nil: nobody waits
}

func (t *ticket) Get(key string) (*tls.ClientSessionState, bool) {
	state, ok := t.ClientSessionCache.Get(key)
	t.offered = ok && state != nil
	return state, ok
}

func newTicket() *ticket {
	return &ticket{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
}

func (t *ticket) Put(key string, state *tls.ClientSessionState) {
	t.ClientSessionCache.Put(key, state)
	t.here = state != nil
	t.offered = t.offered && t.here
	if t.here && t.came != nil {
		t.came()
	}
}
