package explain_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// refused returns the explanation of why a client that trusts ca refuses the certificate for
// mail.test.
func refused(t *testing.T, ca *tlstest.CA, cert tls.Certificate) *explain.HandshakeError {
	t.Helper()
	e := failed(t, tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool()}).For("mail.test"), tlstest.Speak(tlstest.Server(cert)))
	if !errors.As(e, new(*tls.CertificateVerificationError)) {
		t.Errorf("%v wraps no *tls.CertificateVerificationError", e)
	}
	return e
}

func TestExplainNameMismatch(t *testing.T) {
	ca := tlstest.NewCA(t)
	e := refused(t, ca, tlstest.Issued(t, ca, "a.test", "b.test", "127.0.0.1"))
	check(t, e, explain.ReasonNameMismatch, `for "a.test", "b.test", "127.0.0.1", not for mail.test`, "ssl_host_name")
	if _, ok := errors.AsType[x509.HostnameError](e); !ok {
		t.Errorf("%v wraps no HostnameError", e)
	}
	check(t, refused(t, ca, tlstest.Issued(t, ca, "1.test", "2.test", "3.test", "4.test", "5.test", "6.test", "7.test")),
		explain.ReasonNameMismatch, `"5.test" and 2 more, not`)
	check(t, refused(t, ca, tlstest.Signed(t, ca, devca.Request{CommonName: "mail.test"})),
		explain.ReasonNameMismatch, `only the common name "mail.test"`, "reissue it with a subjectAltName")
	nobody := refused(t, ca, tlstest.Custom(t, ca, &x509.Certificate{}))
	check(t, nobody, explain.ReasonNameMismatch, "names nobody")
	if nobody.ID != explain.IDNameCommonName { // no other name helps
		t.Errorf("%s", nobody.ID)
	}

	srv := tlstest.Speak(tlstest.Server(tlstest.Issued(t, ca, "mail.test", "*.mail.test")))
	for host, words := range map[string]string{
		"127.0.0.1":     "connect by name",
		"::1":           "connect by name",
		"a.b.mail.test": "one label only",
	} {
		e := failed(t, tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool()}).For(host), srv)
		check(t, e, explain.ReasonNameMismatch, words, "not for "+host)
	}
	e = failed(t, tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool(), ServerName: tlsconfig.NoSNI}).For("evil.test"), srv)
	check(t, e, explain.ReasonNameMismatch, "SNI is off")
}

func TestExplainDates(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(t)
	leaf := func(r devca.Request) tls.Certificate {
		r.Names = []string{"mail.test"}
		return tlstest.Signed(t, ca, r)
	}
	end := now.Add(-32*24*time.Hour - time.Hour)
	check(t, refused(t, ca, leaf(devca.Request{NotAfter: end})),
		explain.ReasonExpired, `the server's certificate "mail.test" ended on `+text.UTC(end), ", 32 days ago", "renew", "clock")
	check(t, refused(t, ca, leaf(devca.Request{NotAfter: now.Add(-90 * time.Minute)})), explain.ReasonExpired, ", 90 minutes ago")
	check(t, refused(t, ca, leaf(devca.Request{NotBefore: now.Add(5*time.Hour + time.Minute)})),
		explain.ReasonNotYetValid, "begins on ", ", in 5 hours", "clock")
	check(t, refused(t, ca, leaf(devca.Request{NotAfter: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)})),
		explain.ReasonExpired, "1600-01-01", "days ago")

	for _, test := range []struct {
		notBefore, notAfter time.Time
		reason              explain.Reason
		word                string
	}{
		{now.Add(-48 * time.Hour), now.Add(-50 * time.Second), explain.ReasonExpired, "seconds ago"},
		{now.Add(30*time.Minute + 30*time.Second), now.Add(time.Hour), explain.ReasonNotYetValid, ", in 30 minutes"},
	} {
		middle := tlstest.Intermediate(t, ca, "Middle", test.notBefore, test.notAfter)
		// Both are valid at one time, only not now.
		cert := tlstest.Signed(t, middle, devca.Request{Names: []string{"mail.test"}, NotBefore: now.Add(-time.Hour)})
		cert.Certificate = append(cert.Certificate, middle.Cert.Raw)
		check(t, refused(t, ca, cert), test.reason, `the intermediate certificate "Middle"`, test.word)
	}
}

func TestExplainFollowsTheClockOfTheConfiguration(t *testing.T) {
	ca := tlstest.NewCA(t)
	later := time.Now().Add(100 * 24 * time.Hour)
	config := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool(), Time: func() time.Time { return later }}).For("mail.test")
	check(t, failed(t, config, tlstest.Speak(tlstest.Server(tlstest.Issued(t, ca, "mail.test")))), explain.ReasonExpired, ", 10 days ago", text.UTC(later))
}

func TestExplainUnknownAuthority(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(t)
	own, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, refused(t, ca, own), explain.ReasonSelfSigned, "signed with its own key", "ssl_allow_self_signed")

	other := tlstest.NamedCA(t, "Corporate Root")
	cert := tlstest.Issued(t, other, "mail.test")
	check(t, refused(t, ca, cert), explain.ReasonUnknownAuthority, "one certificate", `"Corporate Root"`, "ssl_cafile", "full chain")
	cert.Certificate = append(cert.Certificate, other.Cert.Raw)
	check(t, refused(t, ca, cert), explain.ReasonUnknownAuthority, `ends at the root "Corporate Root"`, "inspects TLS")

	middle := tlstest.Intermediate(t, other, "Middle", now.Add(-time.Hour), now.Add(time.Hour))
	cert = tlstest.Issued(t, middle, "mail.test")
	cert.Certificate = append(cert.Certificate, middle.Cert.Raw)
	e := refused(t, ca, cert)
	check(t, e, explain.ReasonUnknownAuthority, `leads to "Corporate Root"`, "was not sent")
	if e.ID != explain.IDChainPrivateRoot || strings.Contains(e.Advice, "intermediate") {
		t.Errorf("the full chain without its root is %s: %s", e.ID, e.Advice)
	}
	// An intermediate that says where its issuer is may be below another one.
	template := *middle.Cert
	template.IssuingCertificateURL = []string{"http://ca.test/root.crt"}
	middle = tlstest.CAOf(t, tlstest.Custom(t, other, &template))
	cert = tlstest.Issued(t, middle, "mail.test")
	cert.Certificate = append(cert.Certificate, middle.Cert.Raw)
	e = refused(t, ca, cert)
	check(t, e, explain.ReasonUnknownAuthority, `"http://ca.test/root.crt"`,
		"one more intermediate")
	if e.ID != explain.IDChainPrivateRoot {
		t.Errorf("%s", e.ID)
	}

	// The issuer's name is known, its key is not.
	check(t, refused(t, ca, tlstest.Issued(t, tlstest.NewCA(t), "mail.test")), explain.ReasonUnknownAuthority, "possibly because of", "ECDSA")
}

func TestExplainIncompleteChain(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(t)
	middle := tlstest.Intermediate(t, ca, "Middle", now.Add(-time.Hour), now.Add(time.Hour))
	cert := tlstest.Custom(t, middle, &x509.Certificate{
		DNSNames: []string{"mail.test"}, IssuingCertificateURL: []string{"http://ca.test/middle.crt"},
	})
	check(t, refused(t, ca, cert), explain.ReasonIncompleteChain, "only its own certificate", `"Middle"`,
		`"http://ca.test/middle.crt"`, "full chain")

	cert = tlstest.Issued(t, middle, "mail.test")
	cert.Certificate = append(cert.Certificate, ca.Cert.Raw) // leaf and root, nothing between
	check(t, refused(t, ca, cert), explain.ReasonIncompleteChain, "2 certificates", `"Middle"`)
}

// Of a file nobody says that a server has sent it, or that a server has to be reconfigured.
func TestFile(t *testing.T) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca, other := tlstest.NewCA(t), tlstest.NamedCA(t, "Corporate Root")
	middle := tlstest.Intermediate(t, other, "Middle", from, to)
	full := tlstest.Issued(t, middle, "mail.test")
	full.Certificate = append(full.Certificate, middle.Cert.Raw)
	rooted := tlstest.Issued(t, other, "mail.test")
	rooted.Certificate = append(rooted.Certificate, other.Cert.Raw)
	stranger := tlstest.Issued(t, middle, "mail.test")
	stranger.Certificate = append(stranger.Certificate,
		tlstest.Intermediate(t, ca, "Middle", from, to).Cert.Raw)
	for name, cert := range map[string]tls.Certificate{
		"unknown issuer": tlstest.Issued(t, other, "mail.test"), "private root": full,
		"with its root": rooted, "another key": stranger,
		"incomplete": tlstest.Custom(t, middle, &x509.Certificate{
			DNSNames:              []string{"mail.test"},
			IssuingCertificateURL: []string{"http://ca.test/m.crt"},
		}),
		"expired": tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"},
			NotAfter: from}),
		"early": tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"},
			NotBefore: to}),
		"another name": tlstest.Issued(t, ca, "a.test"),
		"nobody":       tlstest.Custom(t, ca, &x509.Certificate{}),
	} {
		sent := refused(t, ca, cert)
		config := &tls.Config{RootCAs: ca.Pool()}
		e := explain.File(sent.Err, "mail.test", config).(*explain.HandshakeError)
		words := strings.ReplaceAll(e.Detail+"; "+e.Advice, "the server's certificate", "")
		if e.ID != sent.ID || e.Advice == "" || strings.Contains(words, "server") ||
			strings.Contains(words, "sent") {
			t.Errorf("%s: %s: %s; %s", name, e.ID, e.Detail, e.Advice)
		}
	}
}

func TestExplainUsageAndConstraints(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(t)
	cert := tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, Client: true})
	check(t, refused(t, ca, cert), explain.ReasonWrongUsage, "serverAuth")

	made := tlstest.Intermediate(t, ca, "Only example.org", now.Add(-time.Hour), now.Add(time.Hour))
	template := *made.Cert
	template.PermittedDNSDomains, template.PermittedDNSDomainsCritical = []string{"example.org"}, true
	constrained := tlstest.Custom(t, ca, &template)
	made = tlstest.CAOf(t, constrained)
	cert = tlstest.Issued(t, made, "mail.test")
	cert.Certificate = append(cert.Certificate, made.Cert.Raw)
	check(t, refused(t, ca, cert), explain.ReasonInvalidChain, "not authorized to sign for this name")

	middle := tlstest.Intermediate(t, ca, "Middle", now.Add(-time.Hour), now.Add(time.Hour))
	middle2 := tlstest.Intermediate(t, middle, "Middle 2", now.Add(-time.Hour), now.Add(time.Hour))
	cert = tlstest.Issued(t, middle2, "mail.test")
	cert.Certificate = append(cert.Certificate, middle2.Cert.Raw, middle.Cert.Raw)
	base, err := tlsconfig.ClientOptions{VerifyDepth: 1, CAPEM: ca.PEM()}.Config()
	if err != nil {
		t.Fatal(err)
	}
	e := failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(tlstest.Server(cert)))
	check(t, e, explain.ReasonInvalidChain, "2 intermediate certificates, ssl_verify_depth allows 1")
}

func TestExplainErrorsOfTheCaller(t *testing.T) {
	ca := tlstest.NewCA(t)
	mine := errors.New("not pinned")
	base := &tls.Config{RootCAs: ca.Pool(), VerifyConnection: func(tls.ConnectionState) error { return mine }}
	e := failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(tlstest.Server(tlstest.Issued(t, ca, "mail.test"))))
	check(t, e, explain.ReasonOther, "not pinned")
	check(t, explained(t, &tls.CertificateVerificationError{Err: mine}, nil), explain.ReasonOther)
	check(t, explained(t, &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{ca.Cert}, Err: mine}, nil),
		explain.ReasonInvalidChain, "not pinned")
	check(t, explained(t, &tls.CertificateVerificationError{Err: x509.SystemRootsError{Err: mine}}, nil), explain.ReasonNoRoots)
}

// The system's roots are read once in a process, so that a machine without any needs a process of
// its own.
func TestExplainNoRoots(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the trust store can be pointed elsewhere on Linux only")
	}
	if !childtest.Alone(t, "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent") {
		return
	}
	config := tlsconfig.NewClient(nil).For("mail.test")
	e := failed(t, config, tlstest.Speak(tlstest.Server(tlstest.Issued(t, tlstest.NewCA(t), "mail.test"))))
	check(t, e, explain.ReasonNoRoots, "ca-certificates")
}

func TestHostileNames(t *testing.T) {
	ca := tlstest.NewCA(t)
	evilCA := tlstest.NamedCA(t, strings.ToValidUTF8(tlstest.Nasty+strings.Repeat("long ", 1000), "?"))
	ascii := strings.Map(func(r rune) rune { return r & 0x7f }, tlstest.Nasty)
	for _, template := range []*x509.Certificate{
		{Subject: pkix.Name{CommonName: strings.ToValidUTF8(tlstest.Nasty, "?")}},
		{Subject: pkix.Name{CommonName: strings.ToValidUTF8(tlstest.Nasty, "?")}, DNSNames: []string{ascii, strings.Repeat(ascii, 500)}},
		{DNSNames: []string{"mail.test"}, IssuingCertificateURL: []string{ascii + strings.Repeat("x", 5000)}},
		{DNSNames: []string{"mail.test"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
			Subject: pkix.Name{CommonName: strings.Repeat("€", 4000), Organization: []string{ascii}}},
	} {
		for _, issuer := range []*tlstest.CA{ca, evilCA} {
			copied := *template
			cert := tlstest.Custom(t, issuer, &copied)
			cert.Certificate = append(cert.Certificate, issuer.Cert.Raw)
			for _, trusted := range []*tlstest.CA{tlstest.NewCA(t), issuer, evilCA} {
				config := tlsconfig.NewClient(&tls.Config{RootCAs: trusted.Pool()}).For("mail.test")
				if _, err := tlstest.Dial(t, config, tlstest.Speak(tlstest.Server(cert))); err != nil {
					explained(t, err, config) // checks that it is one harmless line
				}
			}
		}
	}
}

func TestTenThousandNames(t *testing.T) {
	ca := tlstest.NewCA(t)
	template := &x509.Certificate{}
	for i := range 10000 {
		template.DNSNames = append(template.DNSNames, fmt.Sprintf("%d.test", i))
	}
	template.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
	e := refused(t, ca, tlstest.Custom(t, ca, template))
	check(t, e, explain.ReasonNameMismatch, `"0.test", "1.test", "2.test", "3.test", "4.test" and 9996 more`)
	if len(e.Error()) > 500 {
		t.Errorf("%d bytes: %v", len(e.Error()), e)
	}
}
