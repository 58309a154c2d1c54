package probe

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/whorl-go/whorl/internal/text"
)

// mustStaple is the extension of RFC 7633 by which a certificate promises a staple.
var mustStaple = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

// staple looks at the answer of OCSP that came with the handshake.
func (p *prober) staple(o *Offers, s *session) {
	o.Staple = p.judgeStaple(s.state.OCSPResponse, s.state.PeerCertificates, time.Now())
}

func (p *prober) judgeStaple(
	response []byte, chain []*x509.Certificate, now time.Time,
) Staple {
	leaf := chain[0]
	if len(response) == 0 {
		promised := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
			return e.Id.Equal(mustStaple)
		})
		if promised {
			p.report.add(found(IDStapleMissing, layerOffers,
				"the certificate "+text.CertName(leaf)+" promises a staple, and none was sent"))
		}
		return Staple{}
	}
	var issuer *x509.Certificate
	if len(chain) > 1 {
		issuer = chain[1]
	}
	answer, err := ocsp.ParseResponseForCert(response, leaf, issuer)
	if err != nil {
		p.report.add(found(IDStapleInvalid, layerOffers,
			"the staple: "+text.Printable(err.Error(), text.MaxText)))
		return Staple{Sent: true, Status: "unreadable"}
	}
	staple := Staple{Sent: true, Status: "good", ThisUpdate: utc(answer.ThisUpdate),
		NextUpdate: utc(answer.NextUpdate)}
	switch answer.Status {
	case ocsp.Revoked:
		staple.Status = "revoked"
		p.report.add(found(IDStapleRevoked, layerOffers,
			"the certificate was revoked on "+text.UTC(answer.RevokedAt)))
	case ocsp.Unknown:
		staple.Status = "unknown"
		p.report.add(found(IDStapleInvalid, layerOffers,
			"the staple says that the authority doesn't know the certificate"))
	}
	if !answer.NextUpdate.IsZero() && now.After(answer.NextUpdate) {
		p.report.add(found(IDStapleStale, layerOffers, "the staple has run out on "+
			text.UTC(answer.NextUpdate)+", "+text.Span(answer.NextUpdate, now)+" ago"))
	}
	return staple
}

func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
