package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// ask finds out what the server takes, with a connection for each question, one after the other:
// servers count the connections of a client.
func (p *prober) ask(ctx context.Context, s *session) {
	o := &Offers{}
	p.report.Offers = o
	o.ClientCertificate = ClientCertificate{
		Asked: s.asked != nil, Authorities: s.authorities(),
		Required: p.required(s),
	}
	lowest, newest := p.versions(ctx, o)
	p.suites(ctx, o, s, lowest)
	p.groups(ctx, o, s, newest)
	p.alpn(ctx, o)
	p.withoutSNI(ctx, o, s)
	p.resumption(ctx, o, s)
	p.staple(o, s)
}

// required says whether the server lets nobody in without a certificate.
func (p *prober) required(s *session) Taken {
	for _, id := range []explain.ID{explain.IDClientCertRequired, explain.IDClientCertWithheld} {
		switch finding := p.report.Has(id); {
		case finding == nil:
		case finding.Severity == Error:
			return Yes
		default:
			return Untested
		}
	}
	if s.shown {
		return Untested
	}
	return No
}

// takes makes a handshake and says whether it has worked. A server that wants a certificate first,
// or another one, has taken what was offered.
func (p *prober) takes(ctx context.Context, a attempt) (*session, Choice) {
	if ctx.Err() != nil {
		return nil, Choice{Taken: Untested, Note: "given up"}
	}
	s, err := p.shake(ctx, a)
	if err == nil {
		s.close()
		return s, Choice{Taken: Yes}
	}
	e := asExplained(err)
	switch {
	case e == nil:
		_, said := unreached(err)
		return nil, Choice{Taken: Untested, Note: said}
	case e.Reason == explain.ReasonClientCertRequired:
		return nil, Choice{Taken: Yes, Note: "wants a client certificate"}
	case e.Reason == explain.ReasonClientCertRefused:
		return nil, Choice{Taken: Yes, Note: "refuses the client certificate"}
	case e.Reason == explain.ReasonTimeout:
		return nil, Choice{Taken: Untested, Note: "no answer in time"}
	case e.Reason == explain.ReasonReset, e.Reason == explain.ReasonClosed:
		return nil, Choice{Taken: No, Note: string(e.Reason)}
	}
	return nil, Choice{Taken: No}
}

// with returns the attempt that works, changed.
func (p *prober) with(change func(*attempt)) attempt {
	a := p.base
	change(&a)
	return a
}

var versions = []uint16{
	tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10,
}

// versions returns the lowest and the newest that the server takes; 0: none.
func (p *prober) versions(ctx context.Context, o *Offers) (lowest, newest uint16) {
	var old []string
	for _, version := range versions {
		_, choice := p.takes(ctx, p.with(func(a *attempt) {
			a.lowest, a.highest, a.suites = version, version, allSuites()
		}))
		choice.Name = tls.VersionName(version)
		o.Versions = append(o.Versions, choice)
		if choice.Taken != Yes {
			continue
		}
		lowest, newest = version, max(newest, version)
		if version < tls.VersionTLS12 {
			old = append(old, choice.Name)
		}
	}
	for _, name := range []string{"SSL 3.0", "SSL 2.0"} {
		o.Versions = append(o.Versions, Choice{name, Untested, "crypto/tls doesn't speak it"})
	}
	if len(old) > 0 {
		p.report.add(
			found(IDVersionOld, layerOffers, "the server takes "+strings.Join(old, " and ")),
		)
	}
	if o.Versions[0].Taken == No {
		p.report.add(found(IDVersionNo13, layerOffers, "the server doesn't take TLS 1.3"))
	}
	return lowest, newest
}

// suites takes away what the server has chosen until it finds nothing any more.
func (p *prober) suites(ctx context.Context, o *Offers, s *session, lowest uint16) {
	for _, suite := range tls.CipherSuites() {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS13) ||
			o.Versions[0].Taken != Yes {
			continue
		}
		choice := Choice{suite.Name, Untested, "crypto/tls always offers all three of TLS 1.3"}
		if suite.ID == s.state.CipherSuite {
			choice = Choice{Name: suite.Name, Taken: Yes, Note: "chosen"}
		}
		o.Suites = append(o.Suites, choice)
	}
	left := allSuites()
	if lowest != 0 && lowest < tls.VersionTLS13 {
		for len(left) > 0 {
			chosen, choice := p.takes(ctx, p.with(func(a *attempt) {
				a.lowest, a.highest, a.suites = lowest, tls.VersionTLS12, left
				a.groups = nil
			}))
			if chosen == nil {
				if choice.Taken != No {
					o.Suites = append(o.Suites, Choice{"the rest", Untested, choice.Note})
					left = nil
				}
				break
			}
			id := chosen.state.CipherSuite
			o.Suites = append(o.Suites, Choice{Name: tls.CipherSuiteName(id), Taken: Yes})
			left = slices.DeleteFunc(left, func(other uint16) bool { return other == id })
		}
	}
	for _, id := range left {
		o.Suites = append(o.Suites, Choice{Name: tls.CipherSuiteName(id), Taken: No})
	}
	o.Suites = append(o.Suites, Choice{
		"DHE, PSK, CCM, ARIA, CAMELLIA, NULL, EXPORT", Untested, "crypto/tls doesn't speak them",
	})
	p.weakSuites(o)
}

// weakSuites adds what is wrong with the suites that the server takes.
func (p *prober) weakSuites(o *Offers) {
	var weak, fixed []string
	for _, choice := range o.Suites {
		switch {
		case choice.Taken != Yes:
		case strings.Contains(choice.Name, "RC4"), strings.Contains(choice.Name, "3DES"):
			weak = append(weak, choice.Name)
		case strings.HasPrefix(choice.Name, "TLS_RSA_"):
			fixed = append(fixed, choice.Name)
		}
	}
	if len(weak) > 0 {
		p.report.add(found(IDSuiteWeak, layerOffers, "the server takes "+strings.Join(weak, ", ")))
	}
	if len(fixed) > 0 {
		p.report.add(found(IDSuiteNoFS, layerOffers, "the server takes "+strings.Join(fixed, ", ")))
	}
}

// groups are those of crypto/tls; post-quantum ones, which need TLS 1.3, first.
var groups = []struct {
	id          tls.CurveID
	postQuantum bool
}{
	{tls.X25519MLKEM768, true}, {tls.SecP256r1MLKEM768, true}, {tls.SecP384r1MLKEM1024, true},
	{tls.X25519, false}, {tls.CurveP256, false}, {tls.CurveP384, false}, {tls.CurveP521, false},
}

// groups asks for one after the other. Up to TLS 1.2 servers want the curve of their certificate
// among what is offered (RFC 8422, section 5.1), so that it is offered as well.
func (p *prober) groups(ctx context.Context, o *Offers, s *session, newest uint16) {
	ecdhe := slices.DeleteFunc(allSuites(), func(id uint16) bool {
		return strings.HasPrefix(tls.CipherSuiteName(id), "TLS_RSA_")
	})
	postQuantum, own := false, tls.CurveID(0)
	if newest < tls.VersionTLS13 {
		own = curveOf(s.state.PeerCertificates[0])
	}
	for _, group := range groups {
		choice := Choice{Taken: No, Note: "needs TLS 1.3"}
		if newest == tls.VersionTLS13 || !group.postQuantum && newest != 0 {
			var took *session
			took, choice = p.takes(ctx, p.with(func(a *attempt) {
				a.lowest, a.highest = newest, newest
				a.groups, a.suites = []tls.CurveID{group.id}, ecdhe
				if own != 0 && own != group.id {
					a.groups = append(a.groups, own)
				}
			}))
			if took != nil && took.state.CurveID != group.id {
				choice = Choice{Taken: Untested, Note: "the server chooses " + own.String() +
					", which its certificate needs"}
			}
		}
		choice.Name = group.id.String()
		o.Groups = append(o.Groups, choice)
		postQuantum = postQuantum || group.postQuantum && choice.Taken == Yes
	}
	o.Groups = append(o.Groups, Choice{
		"ffdhe, X448, Brainpool", Untested, "crypto/tls doesn't speak them",
	})
	if !postQuantum && newest != 0 {
		p.report.add(found(IDGroupNoPQ, layerOffers, "the server takes no post-quantum group"))
	}
}

// curveOf returns the curve of a certificate's key, 0 if it is of another kind.
func curveOf(cert *x509.Certificate) tls.CurveID {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return 0
	}
	switch key.Curve {
	case elliptic.P256():
		return tls.CurveP256
	case elliptic.P384():
		return tls.CurveP384
	case elliptic.P521():
		return tls.CurveP521
	}
	return 0
}

// alpn asks for the protocols that belong to the target.
func (p *prober) alpn(ctx context.Context, o *Offers) {
	names := []string{"h2", "http/1.1"}
	if p.protocol != nil {
		names = nil
		if name := p.protocol.ALPN(); name != "" {
			names = []string{name}
		}
	}
	o.ALPN = []Choice{}
	for _, name := range names {
		s, choice := p.takes(ctx, p.with(func(a *attempt) { a.alpn = []string{name} }))
		if s != nil && s.state.NegotiatedProtocol != name {
			choice = Choice{Taken: No, Note: "ignored"}
		}
		choice.Name = name
		o.ALPN = append(o.ALPN, choice)
	}
}

// withoutSNI asks for no host.
func (p *prober) withoutSNI(ctx context.Context, o *Offers, s *session) {
	if p.target.byAddress() || p.base.noSNI || ctx.Err() != nil {
		return
	}
	other, err := p.shake(ctx, p.with(func(a *attempt) { a.noSNI = true }))
	switch e := asExplained(err); {
	case err == nil:
		other.close()
		o.WithoutSNI = "the same certificate"
		if leaf := other.state.PeerCertificates[0]; !leaf.Equal(s.state.PeerCertificates[0]) {
			o.WithoutSNI = "another certificate, " + text.CertName(leaf)
		}
	case e != nil && e.Reason != explain.ReasonClientCertRequired &&
		e.Reason != explain.ReasonClientCertRefused:
		o.WithoutSNI = fmt.Sprintf("refused: %s", e.Reason)
		p.report.add(found(IDSNIRequired, layerOffers,
			"the server refuses clients that name no host: "+string(e.Reason)))
	}
}

// resumption takes up the session of the first connection that has worked.
func (p *prober) resumption(ctx context.Context, o *Offers, s *session) {
	o.Resumption = Untested
	if s.failure != nil {
		return // there was no session
	}
	had := p.ticket.here
	again, _ := p.takes(ctx, p.with(func(a *attempt) { a.cache = p.ticket }))
	switch {
	case again == nil:
	case again.state.DidResume:
		o.Resumption = Yes
	case had && !p.ticket.offered: // crypto/tls doesn't, with a certificate that has ended
	default:
		o.Resumption = No
		p.report.add(found(IDNoResumption, layerOffers,
			"a second connection needs a full handshake again"))
	}
}
