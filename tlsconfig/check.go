package tlsconfig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/verify"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A checker looks for what would make clients refuse a certificate that can be read and fits its
// key.
//
// What every client that verifies stumbles over is an error. What depends on the client is a
// warning: a client may have the missing intermediate, or know another way around an expired one.
type checker struct {
	now         time.Time
	systemRoots func() (*x509.CertPool, error)
}

// chain returns what is wrong with the chain. Names are those that it is to be served for; none:
// its own.
func (c checker) chain(
	file string,
	chain []*x509.Certificate,
	names []string,
) (problems []*CertificateError) {
	leaf := chain[0]
	problem := func(e *CertificateError) {
		if e != nil {
			e.File = file
			problems = append(problems, e)
		}
	}
	problem(c.dates(leaf, chain, false))
	problem(missingName(leaf, names))
	problem(usage(leaf))
	for _, cert := range chain {
		// Nobody checks the signature of a root.
		if !bytes.Equal(cert.RawIssuer, cert.RawSubject) || len(chain) == 1 {
			problem(weakSignature(cert, chain))
		}
		problem(weakKey(cert, chain))
	}
	path, ended := verify.Path(chain)
	for _, cert := range path[1:] {
		problem(c.dates(cert, chain, true))
	}
	problem(c.order(chain, path, ended))
	return problems
}

func (c checker) dates(
	cert *x509.Certificate,
	chain []*x509.Certificate,
	warning bool,
) *CertificateError {
	const clock = "or check this machine's clock, which says "
	switch {
	case c.now.After(cert.NotAfter):
		return &CertificateError{
			id: above(cert, chain, explain.IDChainExpired), Reason: explain.ReasonExpired, Detail: fmt.Sprintf("%s ended on %s, %s ago", text.Describe(cert, chain), text.UTC(cert.NotAfter), text.Span(cert.NotAfter, c.now)),
			Advice: "renew it, " + clock + text.UTC(c.now), warning: warning,
		}
	case c.now.Before(cert.NotBefore):
		return &CertificateError{
			id: above(cert, chain, explain.IDChainNotYetValid), Reason: explain.ReasonNotYetValid, Detail: fmt.Sprintf("%s begins on %s, in %s", text.Describe(cert, chain), text.UTC(cert.NotBefore), text.Span(c.now, cert.NotBefore)),
			Advice: "use one that is valid, " + clock + text.UTC(c.now), warning: warning,
		}
	}
	return nil
}

// above returns id for a certificate above the first one of its chain.
func above(cert *x509.Certificate, chain []*x509.Certificate, id explain.ID) explain.ID {
	if cert.Equal(chain[0]) {
		return ""
	}
	return id
}

// missingName returns an error if the certificate is for nobody, or not for one of the hosts.
func missingName(leaf *x509.Certificate, hosts []string) *CertificateError {
	const advice = "have it reissued with a subjectAltName for each name"
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 {
		detail := "the certificate names no host"
		if leaf.Subject.CommonName != "" {
			detail = "the certificate has only the common name " + text.Quoted(
				leaf.Subject.CommonName,
			) + ", which clients don't look at"
		}
		return &CertificateError{
			id: explain.IDNameCommonName, Reason: explain.ReasonNameMismatch, Detail: detail,
			Advice: advice,
		}
	}
	for _, name := range hosts {
		covered := leaf.VerifyHostname(name) == nil
		if strings.HasPrefix(name, "*.") { // only the same wildcard covers it
			covered = slices.ContainsFunc(
				leaf.DNSNames,
				func(own string) bool { return names.Server(own) == names.Server(name) },
			)
		}
		if !covered {
			return &CertificateError{
				Reason: explain.ReasonNameMismatch, Advice: advice + ", or serve another for it",
				Detail: fmt.Sprintf(
					"it is to be served for %s, but is for %s",
					text.Quoted(name),
					text.List(text.Hosts(leaf), text.Quoted),
				),
			}
		}
	}
	return nil
}

func usage(leaf *x509.Certificate) *CertificateError {
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	return &CertificateError{
		Reason: explain.ReasonWrongUsage, Detail: "the certificate is not for TLS servers", Advice: "have it reissued with the extended key usage serverAuth",
	}
}

func weakSignature(cert *x509.Certificate, chain []*x509.Certificate) *CertificateError {
	if !verify.WeakSignature(cert) {
		return nil
	}
	return &CertificateError{
		Reason: explain.ReasonWeak,
		Detail: fmt.Sprintf(
			"%s is signed by %s",
			text.Describe(cert, chain),
			cert.SignatureAlgorithm,
		),
		Advice: "clients refuse it: have it reissued with SHA-256",
	}
}

func weakKey(cert *x509.Certificate, chain []*x509.Certificate) *CertificateError {
	weak := func(format string, args ...any) *CertificateError {
		return &CertificateError{
			Reason: explain.ReasonWeak, Detail: text.Describe(cert, chain) + " has " + fmt.Sprintf(format, args...),
			Advice: "clients refuse it: make a new key, ECDSA P-256 or RSA with 2048 bits, and have a certificate issued for it",
		}
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		// Crypto/tls takes no larger one, as it costs too much time.
		if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
			return weak("an RSA key with %d bits", bits)
		}
	case *ecdsa.PublicKey:
		if curve := key.Curve; curve != elliptic.P256() && curve != elliptic.P384() && curve != elliptic.P521() {
			return weak("a key on the curve %s, which TLS does not have", curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return weak("a key of the kind %s, which TLS does not have", cert.PublicKeyAlgorithm)
	}
	return nil
}

// order returns a warning if the chain lacks a link, or its order is not that of the path.
func (c checker) order(chain, path []*x509.Certificate, ended bool) *CertificateError {
	last := path[len(path)-1]
	inOrder := slices.Equal(chain[:len(path)], path)
	var stray *x509.Certificate
	for _, cert := range chain {
		signs := func(other *x509.Certificate) bool {
			return other != cert && bytes.Equal(other.RawIssuer, cert.RawSubject)
		}
		// Else it is another way upwards.
		if !slices.Contains(path, cert) && !slices.ContainsFunc(path, signs) {
			stray = cert
		}
	}
	warn := func(reason explain.Reason, detail, advice string) *CertificateError {
		return &CertificateError{Reason: reason, Detail: detail, Advice: advice, warning: true}
	}
	const full = "put the authority's intermediates after the leaf (the full chain)"
	if !ended && len(path) == 1 && !c.trusted(chain) {
		issuer := text.IssuerName(last)
		switch {
		case slices.ContainsFunc(chain[1:], func(cert *x509.Certificate) bool { return bytes.Equal(cert.RawSubject, last.RawIssuer) }):
			return warn(
				explain.ReasonIncompleteChain,
				"the certificate called "+issuer+" in the file did not sign the leaf: it has another key",
				full+"; those in the file are of another time",
			)
		case stray != nil:
			return warn(
				explain.ReasonIncompleteChain,
				"the issuer "+issuer+" is not in the file, but "+text.CertName(
					stray,
				)+" is, which did not sign it",
				full,
			)
		case len(last.IssuingCertificateURL) > 0: // a private root that signs servers itself has none
			return warn(
				explain.ReasonIncompleteChain,
				fmt.Sprintf(
					"only the leaf is in the file, not its issuer %s (it is at %s)",
					issuer,
					text.Quoted(last.IssuingCertificateURL[0]),
				),
				full+": fullchain.pem, not cert.pem; browsers hide this, they fetch what lacks",
			)
		}
	}
	switch {
	case ended && len(path) == 1 && !c.trusted(chain):
		return warn(
			explain.ReasonSelfSigned,
			"the certificate "+text.CertName(last)+" is signed with its own key",
			"clients refuse it unless they have it as an authority: have one sign it, for development "+
				"that of tlsconfig/devca",
		)
	case !inOrder:
		return warn(
			explain.ReasonOutOfOrder,
			"each certificate should be followed by its issuer",
			"the right order is "+text.List(path, text.CertName),
		)
	case stray != nil:
		e := warn(
			explain.ReasonInvalidChain,
			text.CertName(stray)+" does not belong to the chain",
			"take it out",
		)
		e.id = explain.IDChainStray
		return e
	}
	return nil
}

// trusted reports whether the system's roots make the chain complete.
func (c checker) trusted(chain []*x509.Certificate) bool {
	roots, err := c.systemRoots()
	if err != nil {
		return false
	}
	options := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: poolOf(chain[1:]),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime:   c.now,
	}
	_, err = chain[0].Verify(options)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	return !unknown
}
