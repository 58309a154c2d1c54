//go:build linux

package probe_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// What counts for an incomplete chain is that an issuer is missing, not how many certificates there
// are.
func TestIncompleteChain(t *testing.T) {
	t.Parallel()
	from, to := hour()
	ca := tlstest.NewCA(t)
	middle := tlstest.Intermediate(t, ca, "Middle", from, to)
	stranger := tlstest.Intermediate(t, ca, "Stranger", from, to)
	leaf := tlstest.Issued(t, middle, name)
	aia := tlstest.Custom(t, middle, &x509.Certificate{
		DNSNames: []string{name}, IssuingCertificateURL: []string{"http://ca.test/middle.crt"},
	})
	twice := leaf
	twice.Certificate = [][]byte{leaf.Certificate[0], leaf.Certificate[0]}

	for kind, config := range map[string]*tls.Config{
		"leaf alone":           with(aia),
		"another intermediate": with(leaf, stranger),
		"leaf and root":        with(leaf, ca),
		"leaf twice":           with(twice),
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			report := run(t, ca, serve(t, secure(config, nil)))
			want(t, report, explain.IDChainIncomplete, `"Middle"`, "full chain")
		})
	}
	t.Run("complete with what is trusted here", func(t *testing.T) {
		report := run(
			t,
			ca,
			serve(t, secure(with(leaf), nil)),
			func(_ *probe.Target, o *probe.Options) {
				o.Roots.AddCert(middle.Cert)
			},
		)
		wantOnly(t, report, explain.IDChainIncomplete, `"Middle"`, "trusted here", "full chain")
		// It is known to be an intermediate.
		if mend := report.Has(explain.IDChainIncomplete).Mend; strings.Contains(mend, "If ") {
			t.Errorf("%s", mend)
		}
	})
	t.Run("nothing lacks", func(t *testing.T) {
		wantNothing(t, run(t, ca, serve(t, secure(with(leaf, middle), nil))))
	})
}

func TestChains(t *testing.T) {
	t.Parallel()
	from, to := hour()
	ca := tlstest.NewCA(t)
	private := tlstest.NamedCA(t, "Zscaler Root CA")
	template := *tlstest.Intermediate(t, ca, "Only example.org", from, to).Cert
	template.PermittedDNSDomains, template.PermittedDNSDomainsCritical = []string{
		"example.org",
	}, true
	constrained := tlstest.CAOf(t, tlstest.Custom(t, ca, &template))
	noCA := tlstest.CAOf(t, tlstest.Issued(t, ca, name))
	middle := tlstest.Intermediate(t, ca, "Middle", from, to)
	below := tlstest.Intermediate(t, private, "Below", from, to)
	impostor := tlstest.Intermediate(t, ca, "Middle", from, to)
	old := tlstest.Intermediate(t, ca, "Old", from.Add(-time.Hour), from)
	early := tlstest.Intermediate(t, ca, "Early", to, to.Add(time.Hour))

	for _, test := range []struct {
		row    string
		config *tls.Config
		id     explain.ID
		words  []string
	}{
		{"2 self-signed", with(selfSigned(name)), explain.IDCertSelfSigned, []string{"own key"}},
		{"3 private root", with(tlstest.Issued(t, private, name), private),
			explain.IDChainPrivateRoot,
			[]string{"inspects TLS", "Zscaler"}},
		{"3 private root above an intermediate", with(tlstest.Issued(t, below, name), below),
			explain.IDChainPrivateRoot, []string{`leads to "Zscaler Root CA"`, "was not sent"}},
		{"3 private root, which was not sent", with(tlstest.Issued(t, private, name)),
			explain.IDChainUnknownIssuer, []string{`"Zscaler Root CA"`}},
		{"4 expired", with(tlstest.Signed(t, ca,
			devca.Request{Names: []string{name}, NotAfter: from})),
			explain.IDCertExpired, []string{"60 minutes ago", "clock"}},
		{"4 expired intermediate", with(tlstest.Signed(t, old,
			devca.Request{Names: []string{name}}), old),
			explain.IDChainExpired, []string{`"Old"`}},
		{"5 not yet valid", with(tlstest.Signed(t, ca,
			devca.Request{Names: []string{name}, NotBefore: to})),
			explain.IDCertNotYetValid, []string{"clock"}},
		{"5 intermediate not yet valid", with(tlstest.Signed(t, early, devca.Request{
			Names: []string{name}, NotBefore: from, NotAfter: to.Add(time.Hour),
		}), early), explain.IDChainNotYetValid, []string{`"Early"`}},
		{"6 another name", with(tlstest.Issued(t, ca, "a.test", "b.test")), explain.IDNameMismatch,
			[]string{`"a.test", "b.test"`, name}},
		{"8 common name", with(tlstest.Signed(t, ca, devca.Request{CommonName: name})),
			explain.IDNameCommonName, []string{"subjectAltName"}},
		{"9 usage", with(tlstest.Signed(t, ca, devca.Request{Names: []string{name}, Client: true})),
			explain.IDCertUsage, []string{"serverAuth"}},
		{"10 issuer is no authority", with(tlstest.Issued(t, noCA, name), noCA),
			explain.IDChainBrokenIssuer, []string{"no certificate authority"}},
		{"10 issuer has another key", with(tlstest.Issued(t, middle, name), impostor),
			explain.IDChainBrokenIssuer, []string{"another key"}},
		{"11 constraint", with(tlstest.Issued(t, constrained, name), constrained),
			explain.IDChainConstraint, nil},
		{"31 SHA-1", with(sha1Signed(t, ca)), explain.IDCertWeak, []string{"SHA1", "SHA-256"}},
		{"31 short key", with(shortKey(t, ca, 1024)), explain.IDCertWeak, []string{"1024"}},
		{"31 negative serial number", with(negativeSerial(t, ca)), explain.IDCertUnreadable,
			[]string{"negative serial", "x509negativeserial"}},
		{"13 another key at runtime", with(anotherKey(t, ca)), explain.IDKeyNotHeld,
			[]string{"another certificate"}},
	} {
		t.Run(test.row, func(t *testing.T) {
			t.Parallel()
			report := run(t, ca, serve(t, secure(test.config, nil)))
			want(t, report, test.id, test.words...)
			if report.ExitStatus() != probe.ExitFindings {
				t.Errorf("exit status %d", report.ExitStatus())
			}
		})
	}
}

// Faults of different layers are all found.
func TestAllFaultsOfACertificate(t *testing.T) {
	t.Parallel()
	ca, private := tlstest.NewCA(t), tlstest.NamedCA(t, "Own Root")
	cert := tlstest.Signed(t, private, devca.Request{
		Names: []string{"other.test"}, NotAfter: time.Now().Add(-time.Hour), Client: true,
	})
	report := run(t, ca, serve(t, secure(with(cert, private), nil)))
	for _, id := range []explain.ID{
		explain.IDChainPrivateRoot, explain.IDCertExpired, explain.IDNameMismatch,
		explain.IDCertUsage,
	} {
		want(t, report, id)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	port := serve(t, secure(with(tlstest.Issued(t, ca, "*.mail.test", name)), nil))
	as := func(name string) func(*probe.Target, *probe.Options) {
		return func(target *probe.Target, _ *probe.Options) { target.ServerName = name }
	}
	wantNothing(t, run(t, ca, port))
	wantNothing(t, run(t, ca, port, as("a.mail.test")))
	wantOnly(t, run(t, ca, port, as("a.b.mail.test")), explain.IDNameWildcard, "one label")
	wantOnly(
		t,
		run(
			t,
			ca,
			port,
			func(target *probe.Target, _ *probe.Options) { target.Host = "127.0.0.1" },
		),
		explain.IDNameAddress,
		"127.0.0.1",
		"connect by name"[1:],
	)
}

func TestExpiresSoon(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	cert := tlstest.Signed(t, ca, devca.Request{
		Names: []string{name}, NotBefore: time.Now().Add(-80 * 24 * time.Hour),
		NotAfter: time.Now().Add(10*24*time.Hour + time.Minute),
	})
	wantOnly(t, run(t, ca, serve(t, secure(with(cert), nil))), probe.IDExpiresSoon, "in 10 days")
}

func TestCertificatesAreDescribed(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	cert := tlstest.Custom(t, ca, &x509.Certificate{
		Subject:  pkix.Name{CommonName: tlstest.Nasty[:4]},
		DNSNames: []string{name}, IPAddresses: nil,
	})
	report := run(t, ca, serve(t, secure(with(cert), nil)))
	if len(report.Certificates) != 1 {
		t.Fatal(report.Certificates)
	}
	got := report.Certificates[0]
	if got.Subject != "CN=evil" || got.Issuer != "CN=Whorl Test CA" || got.Key != "ECDSA P-256" ||
		got.Signature != "ECDSA-SHA256" || len(got.Names) != 1 || got.Names[0] != name || got.CA {
		t.Errorf("%+v", got)
	}
}

// anotherKey is a certificate with a key that isn't its own.
func anotherKey(t *testing.T, ca *tlstest.CA) tls.Certificate {
	cert := tlstest.Issued(t, ca, name)
	cert.PrivateKey = tlstest.Issued(t, ca, name).PrivateKey
	return cert
}

// sha1Signed is a certificate whose signature says that it is by SHA-1. Nobody looks whether it is.
func sha1Signed(t *testing.T, ca *tlstest.CA) tls.Certificate {
	cert := tlstest.Issued(t, ca, name)
	sha256 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
	sha1 := []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01}
	der := cert.Certificate[0]
	if bytes.Count(der, sha256) != 2 {
		t.Fatal("the certificate is not as this test thinks")
	}
	// Each is two bytes shorter, and what it is in: the algorithm, the body, the certificate.
	i := bytes.Index(der, sha256)
	der = append(append(append([]byte{}, der[:i]...), sha1...), der[i+len(sha256):]...)
	der[i-1]--
	i = bytes.LastIndex(der, sha256)
	der = append(append(append([]byte{}, der[:i]...), sha1...), der[i+len(sha256):]...)
	der[i-1]--
	shorten(der, 0, 2)
	shorten(der, 4, 1)
	if parsed, err := x509.ParseCertificate(der); err != nil ||
		parsed.SignatureAlgorithm != x509.ECDSAWithSHA1 {
		t.Fatal(err)
	}
	cert.Certificate, cert.Leaf = [][]byte{der}, nil
	return cert
}

// shorten takes n off the length of the sequence, of more than 255 bytes, that begins at i.
func shorten(der []byte, i, n int) {
	length := int(der[i+2])<<8 | int(der[i+3]) - n
	der[i+2], der[i+3] = byte(length>>8), byte(length)
}

// negativeSerial is a certificate whose serial number is negative.
func negativeSerial(t *testing.T, ca *tlstest.CA) tls.Certificate {
	cert := tlstest.Custom(t, ca, &x509.Certificate{DNSNames: []string{name}})
	der := bytes.Replace(cert.Certificate[0], []byte{2, 1, 7}, []byte{2, 1, 0x87}, 1)
	cert.Certificate, cert.Leaf = [][]byte{der}, nil
	return cert
}

// shortKey is a certificate for an RSA key of so many bits.
func shortKey(t *testing.T, ca *tlstest.CA, bits int) tls.Certificate {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	from, to := hour()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{name}, NotBefore: from, NotAfter: to,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
