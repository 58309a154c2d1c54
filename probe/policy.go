package probe

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A Policy is a set of rules that a server may be held to.
type Policy string

// The policies: Mozilla's guidelines, version 6.0 (ssl-config.mozilla.org/guidelines/6.0.json).
// Nothing is said of HSTS, and of what crypto/tls can't offer.
const (
	NoPolicy            Policy = ""
	MozillaIntermediate Policy = "mozilla-intermediate"
	MozillaModern       Policy = "mozilla-modern"
)

// rules are what a policy allows.
type rules struct {
	versions, suites, groups []string
	keys                     []string // without a number: at least 2048 bits
	signatures               []x509.SignatureAlgorithm
	lifetime                 time.Duration
}

const day = 24 * time.Hour

var (
	suites13 = []string{
		"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
	}
	suites12 = []string{
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	}
	mozillaGroups = []string{"X25519MLKEM768", "X25519", "CurveP256", "CurveP384"}
	signedByECDSA = []x509.SignatureAlgorithm{
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	}
)

var policies = map[Policy]rules{
	MozillaIntermediate: {
		versions: []string{"TLS 1.2", "TLS 1.3"}, suites: slices.Concat(suites13, suites12),
		groups: mozillaGroups, keys: []string{"ECDSA P-256", "ECDSA P-384", "RSA"},
		signatures: append([]x509.SignatureAlgorithm{x509.SHA256WithRSA}, signedByECDSA...),
		lifetime:   366 * day,
	},
	MozillaModern: {
		versions: []string{"TLS 1.3"}, suites: suites13, groups: mozillaGroups,
		keys: []string{"ECDSA P-256", "ECDSA P-384"}, signatures: signedByECDSA, lifetime: 90 * day,
	},
}

func (p Policy) check() error {
	if _, ok := policies[p]; !ok && p != NoPolicy {
		return wrong("Policy", fmt.Errorf("%q: want %s or %s", string(p), MozillaIntermediate,
			MozillaModern))
	}
	return nil
}

// policy holds the server to the policy.
func (p *prober) policy(s *session) {
	if p.options.Policy == NoPolicy || p.report.Offers == nil {
		return
	}
	began := time.Now()
	p.report.step(layerPolicy, string(p.options.Policy), p.options.Policy.judge(
		p.report.Offers, s.state.PeerCertificates[0],
	), began)
}

// judge returns in what the server does not keep to the policy.
func (p Policy) judge(o *Offers, leaf *x509.Certificate) (findings []Finding) {
	allowed := policies[p]
	add := func(id explain.ID, evidence, mend string) {
		findings = append(findings, Finding{id, Error, layerPolicy, evidence, mend})
	}
	for _, rule := range []struct {
		id      explain.ID
		taken   []Choice
		allowed []string
		what    string
		nginx   string
	}{
		{IDPolicyVersion, o.Versions, allowed.versions, "versions", nginxVersions(allowed)},
		{IDPolicySuite, o.Suites, allowed.suites, "suites", nginxSuites(allowed)},
		{IDPolicyGroup, o.Groups, allowed.groups, "groups", nginxGroups(allowed)},
	} {
		var beyond []string
		for _, choice := range rule.taken {
			if choice.Taken == Yes && !slices.Contains(rule.allowed, choice.Name) {
				beyond = append(beyond, choice.Name)
			}
		}
		if len(beyond) > 0 {
			add(rule.id, fmt.Sprintf("the server takes %s, which %s doesn't allow",
				strings.Join(beyond, ", "), p),
				fmt.Sprintf("Restrict the server's %s to %s (nginx: %s).", rule.what,
					strings.Join(rule.allowed, ", "), rule.nginx))
		}
	}
	key := keyOf(leaf)
	if bits, isRSA := 0, slices.Contains(allowed.keys, "RSA"); !slices.Contains(allowed.keys, key) {
		n, _ := fmt.Sscanf(key, "RSA %d", &bits)
		if !isRSA || n == 0 || bits < 2048 {
			add(IDPolicyKey, "the certificate's key is "+key, "Make a new key, one of "+
				strings.Join(allowed.keys, ", ")+", and have a certificate issued for it.")
		}
	}
	if !slices.Contains(allowed.signatures, leaf.SignatureAlgorithm) {
		add(IDPolicySigned, "the certificate is signed by "+leaf.SignatureAlgorithm.String(),
			"Have the certificate issued by an authority that signs as the policy wants it.")
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > allowed.lifetime+day {
		add(IDPolicyLifetime, fmt.Sprintf("the certificate is valid for %d days, %s allows %d",
			life/day, p, allowed.lifetime/day), "Have shorter certificates issued, automatically.")
	}
	if len(leaf.OCSPServer) > 0 && !o.Staple.Sent {
		add(IDPolicyStaple, "no staple of OCSP is sent, and the certificate's authority has OCSP",
			"Switch OCSP stapling on.")
	}
	return findings
}

// nginxVersions, nginxSuites and nginxGroups are what a policy allows in the words of nginx, which
// for suites and groups are those of OpenSSL.
func nginxVersions(allowed rules) string {
	line := "ssl_protocols"
	for _, version := range allowed.versions {
		line += " " + strings.Replace(version, "TLS ", "TLSv", 1)
	}
	return line
}

func nginxSuites(allowed rules) string {
	var names []string
	for _, suite := range allowed.suites {
		if !slices.Contains(suites13, suite) {
			names = append(names, openSSLSuite.Replace(suite))
		}
	}
	if names == nil {
		return nginxVersions(allowed) // those of TLS 1.3 are all allowed
	}
	return "ssl_ciphers " + strings.Join(names, ":")
}

func nginxGroups(allowed rules) string {
	names := make([]string, len(allowed.groups))
	for i, group := range allowed.groups {
		names[i] = openSSLGroup.Replace(group)
	}
	return "ssl_ecdh_curve " + strings.Join(names, ":")
}

// What makes OpenSSL's names of IANA's.
var (
	openSSLSuite = strings.NewReplacer("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305",
		"TLS_", "", "_WITH_", "-", "AES_", "AES", "_", "-")
	openSSLGroup = strings.NewReplacer("CurveP256", "prime256v1", "CurveP384", "secp384r1")
)
