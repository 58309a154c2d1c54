//go:build linux

package probe_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func taken(choices []probe.Choice, name string) probe.Taken {
	for _, choice := range choices {
		if choice.Name == name {
			return choice.Taken
		}
	}
	return ""
}

func TestOffersOfAGoodServer(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	config.NextProtos = []string{"http/1.1"}
	report := run(t, ca, serve(t, secure(config, nil)))
	wantNothing(t, report)
	o := report.Offers
	for _, test := range []struct {
		choices []probe.Choice
		name    string
		want    probe.Taken
	}{
		{o.Versions, "TLS 1.3", probe.Yes},
		{o.Versions, "TLS 1.2", probe.Yes},
		{o.Versions, "TLS 1.1", probe.No},
		{o.Versions, "TLS 1.0", probe.No},
		{o.Versions, "SSL 3.0", probe.Untested},
		{o.Suites, "TLS_AES_128_GCM_SHA256", probe.Yes},
		{o.Suites, "TLS_AES_256_GCM_SHA384", probe.Untested},
		{o.Suites, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", probe.Yes},
		{o.Suites, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", probe.Yes},
		{o.Suites, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", probe.No},
		{o.Suites, "TLS_RSA_WITH_RC4_128_SHA", probe.No},
		{o.Groups, "X25519MLKEM768", probe.Yes},
		{o.Groups, "X25519", probe.Yes},
		{o.Groups, "CurveP256", probe.Yes},
		{o.ALPN, "h2", probe.No},
		{o.ALPN, "http/1.1", probe.Yes},
	} {
		if got := taken(test.choices, test.name); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if o.Groups[0].Name != "X25519MLKEM768" || o.Resumption != probe.Yes || o.Staple.Sent ||
		o.WithoutSNI != "the same certificate" || o.ClientCertificate.Asked {
		t.Errorf("%+v", o)
	}
	if report.Session.Version != "TLS 1.3" || report.Session.Group != "X25519MLKEM768" {
		t.Errorf("%+v", report.Session)
	}
}

func TestOffersOfAnOldServer(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := &tls.Config{
		Certificates: []tls.Certificate{shortKey(t, ca, 2048)}, MinVersion: tls.VersionTLS10,
		MaxVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
		CurvePreferences: []tls.CurveID{tls.CurveP256},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA,
			tls.TLS_RSA_WITH_RC4_128_SHA,
		},
	}
	report := run(t, ca, serve(t, secure(config, nil)))
	want(t, report, probe.IDVersionOld, "TLS 1.1 and TLS 1.0", "RFC 8996")
	want(t, report, probe.IDVersionNo13)
	want(t, report, probe.IDSuiteWeak, "TLS_RSA_WITH_RC4_128_SHA")
	want(t, report, probe.IDSuiteNoFS, "TLS_RSA_WITH_AES_128_CBC_SHA")
	want(t, report, probe.IDGroupNoPQ)
	want(t, report, probe.IDNoResumption)
	if got := taken(report.Offers.Groups, "CurveP256"); got != probe.Yes {
		t.Errorf("P-256: %q", got)
	}
	if got := taken(report.Offers.Groups, "X25519"); got != probe.No {
		t.Errorf("X25519: %q", got)
	}
}

// OpenSSL's servers take no group of TLS 1.2 alone that isn't that of their certificate.
func TestGroupsOfAServerThatWantsItsCertificatesCurve(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	config.MaxVersion = tls.VersionTLS12
	config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	strict := config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedCurves, tls.CurveP256) {
			return strict, nil
		}
		return nil, errors.New("no suite fits")
	}
	report := run(t, ca, serve(t, secure(config, nil)))
	wantNothing(t, report)
	for group, want := range map[string]probe.Taken{
		"X25519": probe.Yes, "CurveP256": probe.Yes, "CurveP384": probe.Untested,
		"X25519MLKEM768": probe.No,
	} {
		if got := taken(report.Offers.Groups, group); got != want {
			t.Errorf("%s: %s, want %s", group, got, want)
		}
	}
}

// A session that the client has not got, or can't offer, says nothing of the server.
func TestResumption(t *testing.T) {
	t.Parallel()
	from, _ := hour()
	ca, stranger := tlstest.NewCA(t), tlstest.NamedCA(t, "Stranger")
	other := tlstest.Signed(t, stranger, devca.Request{Names: []string{"me"}, Client: true})
	shows := func(_ *probe.Target, o *probe.Options) { o.Certificate = &other }
	cert := tlstest.Issued(t, ca, name)
	for kind, test := range map[string]struct {
		cert   tls.Certificate
		change func(*tls.Config)
		shows  func(*probe.Target, *probe.Options)
		want   probe.Taken
	}{
		"resumes": {cert, func(*tls.Config) {}, nil, probe.Yes},
		"no tickets": {cert, func(c *tls.Config) {
			c.SessionTicketsDisabled = true
		}, nil, probe.No},
		"certificate that has ended": {
			tlstest.Signed(t, ca, devca.Request{Names: []string{name}, NotAfter: from}),
			func(*tls.Config) {}, nil, probe.Untested},
		"client certificate required": {cert, func(c *tls.Config) {
			c.ClientAuth = tls.RequireAnyClientCert
		}, nil, probe.Untested},
		"client certificate withheld": {cert, func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
		}, shows, probe.Untested},
		"client certificate refused": {cert, func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		}, shows, probe.Untested},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(kind+", "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				config := with(test.cert)
				config.MinVersion, config.MaxVersion = version, version
				test.change(config)
				change := test.shows
				if change == nil {
					change = func(*probe.Target, *probe.Options) {}
				}
				report := run(t, ca, serve(t, secure(config, nil)), change)
				if got := report.Offers.Resumption; got != test.want ||
					(report.Has(probe.IDNoResumption) != nil) != (test.want == probe.No) {
					t.Errorf("%s: %s", got, summary(report))
				}
				// Whoever is refused later than this was understood until then.
				choices := report.Offers.Versions
				if got := taken(choices, tls.VersionName(version)); got != probe.Yes {
					t.Errorf("%s: %s", tls.VersionName(version), got)
				}
			})
		}
	}
}

func TestWithoutSNI(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	own, other := tlstest.Issued(t, ca, name), tlstest.Issued(t, ca, "default.test")
	config := &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == "" {
				return &other, nil
			}
			return &own, nil
		},
	}
	report := run(t, ca, serve(t, secure(config, nil)))
	wantNothing(t, report)
	if got := report.Offers.WithoutSNI; got != `another certificate, "default.test"` {
		t.Error(got)
	}
	strict := with(tlstest.Issued(t, ca, name))
	strict.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == "" {
			return &tls.Config{}, nil
		}
		return nil, nil
	}
	want(t, run(t, ca, serve(t, secure(strict, nil))), probe.IDSNIRequired, "unrecognized name")
}

func TestStaples(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	now := time.Now()
	leaf := tlstest.Issued(t, ca, name)
	staple := func(status int, next time.Time) []byte {
		response, err := ocsp.CreateResponse(ca.Cert, ca.Cert, ocsp.Response{
			Status: status, SerialNumber: leaf.Leaf.SerialNumber,
			ThisUpdate: now.Add(-2 * time.Hour),
			NextUpdate: next, RevokedAt: now.Add(-time.Hour),
		}, ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	with := func(cert tls.Certificate, staple []byte) *probe.Report {
		cert.OCSPStaple = staple
		return run(t, ca, serve(t, secure(tlstest.Server(cert), nil)))
	}
	good := with(leaf, staple(ocsp.Good, now.Add(time.Hour)))
	wantNothing(t, good)
	if s := good.Offers.Staple; !s.Sent || s.Status != "good" || s.NextUpdate == nil {
		t.Errorf("%+v", s)
	}
	wantOnly(
		t,
		with(leaf, staple(ocsp.Good, now.Add(-time.Hour))),
		probe.IDStapleStale,
		"60 minutes ago",
	)
	wantOnly(
		t,
		with(leaf, staple(ocsp.Revoked, now.Add(time.Hour))),
		probe.IDStapleRevoked,
		"revoked",
	)
	wantOnly(t, with(leaf, staple(ocsp.Unknown, now.Add(time.Hour))), probe.IDStapleInvalid)
	wantOnly(t, with(leaf, []byte("junk")), probe.IDStapleInvalid)
	promised := tlstest.Custom(t, ca, &x509.Certificate{
		DNSNames: []string{name}, ExtraExtensions: []pkix.Extension{{
			Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5},
		}},
	})
	wantOnly(t, with(promised, nil), probe.IDStapleMissing, "must-staple")
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	hold := func(config *tls.Config, policy probe.Policy) *probe.Report {
		return run(t, ca, serve(t, secure(config, nil)), func(_ *probe.Target, o *probe.Options) {
			o.Policy = policy
		})
	}
	good := with(tlstest.Issued(t, ca, name))
	good.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256}
	good.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	wantNothing(t, hold(good, probe.MozillaIntermediate))
	want(t, hold(good, probe.MozillaModern), probe.IDPolicyVersion, "TLS 1.2", "Restrict")
	modern := good.Clone()
	modern.MinVersion = tls.VersionTLS13
	wantNothing(t, hold(modern, probe.MozillaModern))

	from := time.Now().Add(-time.Hour)
	long := tlstest.Signed(t, ca, devca.Request{
		Names: []string{name}, NotBefore: from, NotAfter: from.Add(400 * 24 * time.Hour),
	})
	report := hold(with(long), probe.MozillaIntermediate)
	want(t, report, probe.IDPolicyLifetime, "400 days")
	want(t, report, probe.IDPolicyGroup, "CurveP521")
	want(t, report, probe.IDPolicySuite, "CBC")
	nginx := func(report *probe.Report, id explain.ID) string {
		_, line, _ := strings.Cut(report.Has(id).Mend, "(nginx: ")
		line, _, _ = strings.Cut(line, ")")
		return line
	}
	// Who pastes it keeps to the policy.
	option, list, _ := strings.Cut(nginx(report, probe.IDPolicySuite), " ")
	pasted, err := dialect.SwooleClient(map[string]any{option: list})
	if err != nil || option != "ssl_ciphers" {
		t.Fatal(option, list, err)
	}
	kept := with(tlstest.Issued(t, ca, name))
	kept.CurvePreferences, kept.CipherSuites = good.CurvePreferences, pasted.CipherSuites
	wantNothing(t, hold(kept, probe.MozillaIntermediate))
	if len(pasted.CipherSuites) != 6 {
		t.Errorf("%q: %d suites", list, len(pasted.CipherSuites))
	}
	if got := nginx(report, probe.IDPolicyGroup); got !=
		"ssl_ecdh_curve X25519MLKEM768:X25519:prime256v1:secp384r1" {
		t.Error(got)
	}
	strict := hold(good, probe.MozillaModern)
	for _, id := range []explain.ID{probe.IDPolicySuite, probe.IDPolicyVersion} {
		if got := nginx(strict, id); got != "ssl_protocols TLSv1.3" {
			t.Error(id, got)
		}
	}
	rsa := hold(tlstest.Server(shortKey(t, ca, 2048)), probe.MozillaModern)
	want(t, rsa, probe.IDPolicyKey, "RSA 2048")
	if rsa.ExitStatus() != probe.ExitFindings {
		t.Error("a server against the policy is fine")
	}
	if _, err := probe.Run(t.Context(), probe.Target{Host: name, Port: 1}, probe.Options{
		Policy: "mine",
	}); err == nil {
		t.Error("an unknown policy is taken")
	}
}
