package explain

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/verify"
)

// certificate explains why this side refused the server's certificate.
func (x *explainer) certificate(refused *tls.CertificateVerificationError) finding {
	if errors.Is(refused, verify.ErrNoName) {
		return noName()
	}
	if tooLong, ok := errors.AsType[*verify.ChainTooLongError](refused); ok {
		return finding{
			IDChainTooLong,
			fmt.Sprintf("the chain has %d intermediate certificates, %s allows %d",
				tooLong.Intermediates, setting.VerifyDepth, tooLong.Limit),
			"raise " + setting.VerifyDepth + " if that is how the authority works",
		}
	}
	if _, ok := errors.AsType[x509.SystemRootsError](refused); ok {
		return noRoots()
	}
	chain := refused.UnverifiedCertificates
	if len(chain) == 0 {
		return finding{IDOther, text.Printable(refused.Error(), text.MaxText), ""}
	}
	if mismatch, ok := errors.AsType[x509.HostnameError](refused); ok {
		return x.name(mismatch)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](refused); ok {
		return x.invalid(invalid, chain)
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](refused); ok {
		return x.unknownAuthority(unknown, chain)
	}
	return finding{IDChainInvalid, text.Printable(refused.Err.Error(), text.MaxText), ""}
}

// invalid explains a certificate that breaks a rule.
func (x *explainer) invalid(
	invalid x509.CertificateInvalidError,
	chain []*x509.Certificate,
) finding {
	switch invalid.Reason {
	case x509.Expired:
		// x509 says which one, a platform's verifier always names the first.
		for _, cert := range append([]*x509.Certificate{invalid.Cert}, chain...) {
			if f, ok := x.outdated(cert, chain); ok {
				return f
			}
		}
	case x509.IncompatibleUsage:
		return finding{
			IDCertUsage,
			fmt.Sprintf("the chain of %s is not for TLS servers", text.Describe(chain[0], chain)),
			"reissue it with the extended key usage serverAuth",
		}
	}
	id := IDChainInvalid
	switch invalid.Reason {
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.TooManyConstraints,
		x509.NameConstraintsWithoutSANs, x509.CANotAuthorizedForExtKeyUsage:
		id = IDChainConstraint
	}
	return finding{
		id,
		text.Printable(invalid.Error(), text.MaxText),
		"the authority that issued the chain has to mend it",
	}
}

// outdated explains a certificate whose time is over or has not come.
func (x *explainer) outdated(cert *x509.Certificate, chain []*x509.Certificate) (finding, bool) {
	now := x.now
	clock := "or check this machine's clock, which says " + text.UTC(now)
	switch {
	case now.After(cert.NotAfter):
		return finding{
			above(cert, chain, IDCertExpired, IDChainExpired),
			fmt.Sprintf(
				"%s ended on %s, %s ago",
				text.Describe(cert, chain),
				text.UTC(cert.NotAfter),
				text.Span(cert.NotAfter, now),
			),
			x.orFile("have the server renew it, and load what it renewed, ", "renew it, ") + clock,
		}, true
	case now.Before(cert.NotBefore):
		return finding{
			above(cert, chain, IDCertNotYetValid, IDChainNotYetValid),
			fmt.Sprintf(
				"%s begins on %s, in %s",
				text.Describe(cert, chain),
				text.UTC(cert.NotBefore),
				text.Span(now, cert.NotBefore),
			),
			x.orFile("have the server use", "use") + " one that is valid, " + clock,
		}, true
	}
	return finding{}, false
}

// above returns the one ID for the first certificate of a chain, the other for those above it.
func above(cert *x509.Certificate, chain []*x509.Certificate, first, others ID) ID {
	if cert.Equal(chain[0]) {
		return first
	}
	return others
}

// name explains a certificate that is for others.
func (x *explainer) name(mismatch x509.HostnameError) finding {
	cert, host := mismatch.Certificate, mismatch.Host
	hosts := text.Hosts(cert)
	id := IDNameMismatch
	detail := fmt.Sprintf(
		"the certificate is for %s, not for %s",
		text.List(hosts, text.Quoted),
		text.Printable(host, text.MaxText),
	)
	const reissue = "reissue it with a subjectAltName"
	advice := x.orFile("connect by one of these names, set "+setting.ServerName+" to it, or have "+
		"the server send another certificate", reissue+" for this name, or use another certificate")
	switch {
	case len(hosts) == 0 && cert.Subject.CommonName != "":
		detail = fmt.Sprintf(
			"the certificate has no alternative names, only the common name %s, which is not looked at",
			text.Quoted(cert.Subject.CommonName),
		)
		id, advice = IDNameCommonName, reissue
	case len(hosts) == 0:
		detail = "the certificate names nobody"
		id, advice = IDNameCommonName, reissue
	case net.ParseIP(host) != nil && len(cert.IPAddresses) == 0:
		id = IDNameAddress
		advice = x.orFile("connect by name, or set "+setting.ServerName+" to the name to verify",
			"reissue it with the address as a subjectAltName, or have clients connect by name")
	case wildcardTooShort(cert.DNSNames, host):
		id = IDNameWildcard
		advice = "a wildcard stands for one label only: reissue the certificate with this name"
	case x.config.ServerName == names.NoSNI:
		id = IDNameNoSNI
		advice = "SNI is off, so the server may have sent its default certificate: switch it on"
	}
	return finding{id, detail, advice}
}

// wildcardTooShort reports whether host is below one of the wildcards, but more than one label.
func wildcardTooShort(patterns []string, host string) bool {
	for _, pattern := range patterns[:min(len(patterns), 100)] {
		if domain, ok := strings.CutPrefix(pattern, "*"); ok && len(domain) > 1 &&
			strings.HasSuffix(strings.ToLower(host), strings.ToLower(domain)) {
			return true
		}
	}
	return false
}

// unknownAuthority tells apart the ways in which a chain may lead nowhere. What counts is not how
// many certificates were sent but where the path from the server's own one ends.
func (x *explainer) unknownAuthority(
	unknown x509.UnknownAuthorityError,
	chain []*x509.Certificate,
) finding {
	if x.systemRootsEmpty() {
		return noRoots()
	}
	leaf := chain[0]
	path, ended := verify.Path(chain)
	if ended && len(path) == 1 {
		return finding{
			IDCertSelfSigned,
			fmt.Sprintf("%s is signed with its own key", text.Describe(leaf, chain)),
			"trust it by " + setting.Roots + ", or for tests by " + setting.AllowSelfSigned,
		}
	}
	for i, cert := range path {
		switch {
		case verify.WeakSignature(cert) && !(ended && i == len(path)-1):
			return finding{
				IDCertWeak,
				fmt.Sprintf("%s is signed by %s, which is not accepted any more",
					text.Describe(cert, chain), cert.SignatureAlgorithm),
				"have it reissued with SHA-256",
			}
		case i > 0 && !maySign(cert):
			return finding{
				IDChainBrokenIssuer,
				fmt.Sprintf("%s is no certificate authority, but has signed %s",
					text.Describe(cert, chain), text.CertName(path[i-1])),
				"have the certificate issued by an authority, and " +
					x.orFile("the server send that one's chain", "put that one's chain behind it"),
			}
		}
	}
	if ended {
		root := path[len(path)-1]
		return finding{
			IDChainPrivateRoot,
			fmt.Sprintf(
				"the chain ends at the root %s, which is not trusted here%s%s",
				text.CertName(root),
				inspects(root),
				hint(unknown),
			),
			"if that is a root of your own, or of a network that inspects TLS, trust it by " +
				setting.Roots,
		}
	}
	return x.openEnd(unknown, chain, path)
}

// maySign reports whether cert is an authority's. RFC 5280, section 4.2.1.9 and 4.2.1.3.
func maySign(cert *x509.Certificate) bool {
	return cert.BasicConstraintsValid && cert.IsCA &&
		(cert.KeyUsage == 0 || cert.KeyUsage&x509.KeyUsageCertSign != 0)
}

// openEnd explains a path the last certificate of which has an issuer that was not sent.
func (x *explainer) openEnd(
	unknown x509.UnknownAuthorityError,
	chain, path []*x509.Certificate,
) finding {
	sendChain := x.orFile("have the server send its intermediates too (the full chain, its own "+
		"certificate first)", "put the intermediates behind the certificate (the full chain)")
	sent, has := x.orFile("was not sent", "is not in the file"), x.orFile("the server sent",
		"the file has")
	last := path[len(path)-1]
	issuer, at := text.IssuerName(last), ""
	if len(last.IssuingCertificateURL) > 0 {
		at = " (it is at " + text.Quoted(last.IssuingCertificateURL[0]) + ")"
	}
	namesake := slices.ContainsFunc(chain, func(cert *x509.Certificate) bool {
		return cert != last && bytes.Equal(cert.RawSubject, last.RawIssuer)
	})
	switch {
	case namesake:
		return finding{
			IDChainBrokenIssuer,
			fmt.Sprintf(
				"%s a certificate called %s, which did not sign %s: it has another key%s",
				has, issuer, text.CertName(last), hint(unknown),
			),
			sendChain + ", those of the time when the certificate was issued",
		}
	case len(path) > 1:
		// Above an intermediate there is the root, mostly: it need not be sent.
		advice := "if that is a root of your own, trust it by " + setting.Roots
		if at != "" {
			advice += "; if it is one more intermediate, " + sendChain
		}
		return finding{
			IDChainPrivateRoot,
			fmt.Sprintf("the chain leads to %s%s, which %s and is not trusted here%s", issuer, at,
				sent, hint(unknown)),
			advice,
		}
	case at != "":
		return finding{
			IDChainIncomplete,
			fmt.Sprintf("%s %s, but not the certificate of the issuer %s%s", has,
				count(len(chain)), issuer, at),
			sendChain + "; browsers hide this, they fetch what lacks",
		}
	case len(chain) > 1:
		return finding{
			IDChainIncomplete,
			fmt.Sprintf("%s %s, but not the one of the issuer %s", has, count(len(chain)), issuer),
			sendChain,
		}
	}
	// A private root that signs servers itself looks the same as a forgotten intermediate.
	return finding{
		IDChainUnknownIssuer,
		fmt.Sprintf("%s one certificate, its issuer %s is not trusted here%s", has, issuer,
			hint(unknown)),
		"if that is a root of your own, trust it by " + setting.Roots +
			"; if it is an intermediate, " + sendChain,
	}
}

// inspectors are makers of boxes that put their own root in place of everybody's.
var inspectors = []string{
	"Zscaler", "Fortinet", "Palo Alto", "Netskope", "Sophos", "Cisco Umbrella", "Blue Coat",
	"Symantec Web", "Check Point", "WatchGuard", "Barracuda", "Kaspersky", "Avast", "ESET",
	"Bitdefender", "mitmproxy", "Charles Proxy", "Fiddler", "Burp", "PortSwigger",
}

// inspects says so if a root is that of a box that inspects TLS.
func inspects(root *x509.Certificate) string {
	name := strings.ToLower(root.Subject.String())
	for _, maker := range inspectors {
		if strings.Contains(name, strings.ToLower(maker)) {
			return " (the network inspects TLS: this is a root of " + maker + ")"
		}
	}
	return ""
}

func noRoots() finding {
	return finding{
		IDRootsNone,
		"this machine has no trusted certificate authorities",
		"install the ca-certificates package (small container images lack it), or set " +
			setting.Roots,
	}
}

// hint returns what x509 suspects, if it found an issuer and had to reject it.
func hint(unknown x509.UnknownAuthorityError) string {
	_, suspicion, ok := strings.Cut(unknown.Error(), "(possibly because of ")
	if !ok {
		return ""
	}
	return " (possibly because of " + text.Printable(suspicion, text.MaxText)
}

func count(certificates int) string {
	if certificates == 1 {
		return "only its own certificate"
	}
	return fmt.Sprintf("%d certificates", certificates)
}
