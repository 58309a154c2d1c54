package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/verify"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A verdict is what is wrong with a chain, layer by layer. crypto/x509 stops at the first fault;
// here each layer is looked at as if those below it were in order, so that a certificate that has
// run out and is for another host is both.
type verdict struct {
	chain []*x509.Certificate // as it was sent, its own first
	name  string              // whose it has to be; "": anybody's
	roots *x509.CertPool      // nil: the system's
	noSNI bool
	now   time.Time
	file  bool // no server has sent it

	findings []Finding
}

// judge verifies what the server has sent.
func (p *prober) judge(ctx context.Context, s *session) {
	chain := s.state.PeerCertificates
	for _, cert := range chain {
		p.report.Certificates = append(p.report.Certificates, describe(cert))
	}
	v := &verdict{
		chain: chain, name: p.name, roots: p.options.Roots, noSNI: p.base.noSNI, now: time.Now(),
	}
	layers, err := runtime.Await(ctx, func() ([]Layer, error) { return v.layers(), nil })
	if err != nil {
		return
	}
	p.report.Layers = append(p.report.Layers, layers...)
	for _, finding := range v.findings {
		p.report.add(finding)
	}
}

// layers looks at all of them.
func (v *verdict) layers() []Layer {
	path, ended := verify.Path(v.chain)
	var layers []Layer
	for _, step := range []struct {
		name string
		look func()
		fine string
	}{
		{layerChain, func() { v.trust(path, ended) }, "it leads to a trusted root"},
		{layerName, v.host, "it is for " + text.Printable(v.name, text.MaxText)},
		{layerDates, func() { v.dates(path, ended) },
			"the server's certificate ends on " + text.UTC(v.chain[0].NotAfter)},
	} {
		if step.name == layerName && v.name == "" {
			continue // there is nothing to compare with
		}
		began, before := time.Now(), len(v.findings)
		step.look()
		layer := Layer{Name: step.name}
		layer.Status, layer.Detail = outcome(step.fine, v.findings[before:])
		layer.Seconds = time.Since(began).Seconds()
		layers = append(layers, layer)
	}
	return layers
}

// refuse adds what an error of a verification means.
func (v *verdict) refuse(layer string, err error) {
	config := &tls.Config{
		RootCAs: v.roots, ServerName: v.name, Time: func() time.Time { return v.now },
	}
	if v.noSNI {
		config.ServerName = tlsconfig.NoSNI
	}
	say := explain.Client
	if v.file {
		say = explain.File
	}
	e := asExplained(say(&tls.CertificateVerificationError{
		UnverifiedCertificates: v.chain, Err: err,
	}, v.name, config))
	v.findings = append(v.findings, explained(e, layer))
}

// trust looks for a way to a root, and then at what the certificates may be used for: as clients
// do, or where dates will find something, at a time when all on the way are valid.
func (v *verdict) trust(path []*x509.Certificate, ended bool) {
	options := x509.VerifyOptions{
		Roots: v.roots, Intermediates: x509.NewCertPool(), CurrentTime: v.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	outdated := len(v.outdated(path, ended)) > 0
	if outdated {
		options.CurrentTime = together(path)
	}
	for _, cert := range v.chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	leaf := v.chain[0]
	chains, err := leaf.Verify(options)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case outdated && isInvalid && invalid.Reason == x509.Expired:
		// They were never valid together: the dates will tell.
	case err != nil:
		v.refuse(layerChain, err)
	default:
		v.complete(chains)
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if _, err := leaf.Verify(options); err != nil {
			v.refuse(layerChain, err)
		}
	}
	for _, problem := range tlsconfig.InspectChain("chain", v.chain, nil, v.roots) {
		switch problem.ID() {
		case explain.IDCertWeak, explain.IDChainOrder, explain.IDChainStray, explain.IDCertUsage:
			v.findings = append(v.findings, ofFile(problem, layerChain))
		}
	}
}

// together returns a time at which all are valid, or the last one at which the first is.
func together(path []*x509.Certificate) time.Time {
	var from time.Time
	to := path[0].NotAfter
	for _, cert := range path {
		if cert.NotBefore.After(from) {
			from = cert.NotBefore
		}
		if cert.NotAfter.Before(to) {
			to = cert.NotAfter
		}
	}
	if from.After(to) {
		return path[0].NotAfter.Add(-time.Second)
	}
	return from
}

// complete adds a finding if every chain needs a certificate that was not sent and is no root: it
// is among the trusted ones here, and proves that it lacks for everybody else.
func (v *verdict) complete(chains [][]*x509.Certificate) {
	var lacks *x509.Certificate
	for _, chain := range chains {
		missing := slices.IndexFunc(chain, func(cert *x509.Certificate) bool {
			return !verify.SelfSigned(cert) && !slices.ContainsFunc(v.chain, cert.Equal)
		})
		if missing < 0 {
			return
		}
		lacks = chain[missing]
	}
	lacking, mend := "the server does not send", "Have the server send it, too"
	if v.file {
		lacking, mend = "the file does not have", "Put it behind the certificate"
	}
	v.findings = append(v.findings, Finding{
		explain.IDChainIncomplete, Error, layerChain,
		fmt.Sprintf("%s the intermediate certificate %s; the chain is only complete with the one "+
			"that is trusted here", lacking, text.CertName(lacks)),
		mend + " (the full chain): it is trusted here, and by nobody else.",
	})
}

// host compares the name.
func (v *verdict) host() {
	if err := v.chain[0].VerifyHostname(v.name); err != nil {
		v.refuse(layerName, err)
	}
}

// renewal is how long before its end a certificate should have been renewed.
const renewal = 21 * 24 * time.Hour

// outdated returns the certificates on the path that have ended or not begun, but for the root,
// whose dates nobody else can do anything about.
func (v *verdict) outdated(path []*x509.Certificate, ended bool) (certs []*x509.Certificate) {
	for i, cert := range path {
		if ended && i == len(path)-1 && i > 0 {
			break
		}
		if v.now.After(cert.NotAfter) || v.now.Before(cert.NotBefore) {
			certs = append(certs, cert)
		}
	}
	return certs
}

// dates looks at those of each certificate on the path.
func (v *verdict) dates(path []*x509.Certificate, ended bool) {
	for _, cert := range v.outdated(path, ended) {
		v.refuse(layerDates, x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired})
	}
	leaf := v.chain[0]
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if left := leaf.NotAfter.Sub(v.now); left > 0 && left < min(renewal, life/3) {
		v.findings = append(v.findings, found(IDExpiresSoon, layerDates, fmt.Sprintf(
			"the server's certificate %s ends on %s, in %s", text.CertName(leaf),
			text.UTC(leaf.NotAfter), text.Span(v.now, leaf.NotAfter))))
	}
}

// describe says what is in a certificate.
func describe(cert *x509.Certificate) Certificate {
	hosts := text.Hosts(cert)
	names := make([]string, 0, min(100, len(hosts)))
	for _, host := range hosts[:cap(names)] {
		names = append(names, text.Printable(host, text.MaxText))
	}
	return Certificate{
		Subject: text.Printable(cert.Subject.String(), text.MaxText),
		Issuer:  text.Printable(cert.Issuer.String(), text.MaxText),
		Names:   names, NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
		Key: keyOf(cert), Signature: cert.SignatureAlgorithm.String(),
		SHA256: text.Fingerprint(cert.Raw), SPKI: text.Fingerprint(cert.RawSubjectPublicKeyInfo),
		CA: cert.IsCA,
	}
}

func keyOf(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return cert.PublicKeyAlgorithm.String()
}
