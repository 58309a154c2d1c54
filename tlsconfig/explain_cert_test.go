package tlsconfig

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
)

// refused returns the explanation of why a client that trusts ca refuses the certificate for mail.test.
func refused(t *testing.T, ca *CA, cert tls.Certificate) *HandshakeError {
	t.Helper()
	e := explain(t, NewClient(&tls.Config{RootCAs: ca.Pool()}).For("mail.test"), speak(server(cert)))
	if !errors.As(e, new(*tls.CertificateVerificationError)) {
		t.Errorf("%v wraps no *tls.CertificateVerificationError", e)
	}
	return e
}

func TestExplainNameMismatch(t *testing.T) {
	ca := newCA(t)
	e := refused(t, ca, issued(t, ca, "a.test", "b.test", "127.0.0.1"))
	check(t, e, ReasonNameMismatch, `for "a.test", "b.test", "127.0.0.1", not for mail.test`, "ssl_host_name")
	if _, ok := errors.AsType[x509.HostnameError](e); !ok {
		t.Errorf("%v wraps no HostnameError", e)
	}
	check(t, refused(t, ca, issued(t, ca, "1.test", "2.test", "3.test", "4.test", "5.test", "6.test", "7.test")),
		ReasonNameMismatch, `"5.test" and 2 more, not`)
	check(t, refused(t, ca, signed(t, ca, Request{CommonName: "mail.test"})),
		ReasonNameMismatch, `only the common name "mail.test"`, "reissue it with a subjectAltName")
	check(t, refused(t, ca, custom(t, ca, &x509.Certificate{})), ReasonNameMismatch, "names nobody")

	srv := speak(server(issued(t, ca, "mail.test", "*.mail.test")))
	for host, words := range map[string]string{
		"127.0.0.1":     "connect by name",
		"::1":           "connect by name",
		"a.b.mail.test": "one label only",
	} {
		e := explain(t, NewClient(&tls.Config{RootCAs: ca.Pool()}).For(host), srv)
		check(t, e, ReasonNameMismatch, words, "not for "+host)
	}
	e = explain(t, NewClient(&tls.Config{RootCAs: ca.Pool(), ServerName: NoSNI}).For("evil.test"), srv)
	check(t, e, ReasonNameMismatch, "SNI is off")
}

func TestExplainDates(t *testing.T) {
	now := time.Now()
	ca := newCA(t)
	leaf := func(r Request) tls.Certificate {
		r.Names = []string{"mail.test"}
		return signed(t, ca, r)
	}
	end := now.Add(-32*24*time.Hour - time.Hour)
	check(t, refused(t, ca, leaf(Request{NotAfter: end})),
		ReasonExpired, `the server's certificate "mail.test" ended on `+utc(end), ", 32 days ago", "renew", "clock")
	check(t, refused(t, ca, leaf(Request{NotAfter: now.Add(-90 * time.Minute)})), ReasonExpired, ", 90 minutes ago")
	check(t, refused(t, ca, leaf(Request{NotBefore: now.Add(5*time.Hour + time.Minute)})),
		ReasonNotYetValid, "begins on ", ", in 5 hours", "clock")
	check(t, refused(t, ca, leaf(Request{NotAfter: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)})),
		ReasonExpired, "1600-01-01", "days ago")

	for _, test := range []struct {
		notBefore, notAfter time.Time
		reason              Reason
		word                string
	}{
		{now.Add(-48 * time.Hour), now.Add(-50 * time.Second), ReasonExpired, "seconds ago"},
		{now.Add(30*time.Minute + 30*time.Second), now.Add(time.Hour), ReasonNotYetValid, ", in 30 minutes"},
	} {
		middle := intermediate(t, ca, "Middle", test.notBefore, test.notAfter)
		// Both are valid at one time, only not now.
		cert := signed(t, middle, Request{Names: []string{"mail.test"}, NotBefore: now.Add(-time.Hour)})
		cert.Certificate = append(cert.Certificate, middle.cert.Raw)
		check(t, refused(t, ca, cert), test.reason, `the intermediate certificate "Middle"`, test.word)
	}
}

func TestExplainFollowsTheClockOfTheConfiguration(t *testing.T) {
	ca := newCA(t)
	later := time.Now().Add(100 * 24 * time.Hour)
	config := NewClient(&tls.Config{RootCAs: ca.Pool(), Time: func() time.Time { return later }}).For("mail.test")
	check(t, explain(t, config, speak(server(issued(t, ca, "mail.test")))), ReasonExpired, ", 10 days ago", utc(later))
}

func TestExplainUnknownAuthority(t *testing.T) {
	now := time.Now()
	ca := newCA(t)
	own, err := SelfSigned(Request{Names: []string{"mail.test"}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, refused(t, ca, own), ReasonSelfSigned, "signed with its own key", "ssl_allow_self_signed")

	other, err := NewCA("Corporate Root")
	if err != nil {
		t.Fatal(err)
	}
	cert := issued(t, other, "mail.test")
	check(t, refused(t, ca, cert), ReasonUnknownAuthority, "one certificate", `"Corporate Root"`, "ssl_cafile", "full chain")
	cert.Certificate = append(cert.Certificate, other.cert.Raw)
	check(t, refused(t, ca, cert), ReasonUnknownAuthority, `ends at the root "Corporate Root"`, "inspects TLS")

	middle := intermediate(t, other, "Middle", now.Add(-time.Hour), now.Add(time.Hour))
	cert = issued(t, middle, "mail.test")
	cert.Certificate = append(cert.Certificate, middle.cert.Raw)
	check(t, refused(t, ca, cert), ReasonUnknownAuthority, `leads to "Corporate Root"`)

	// The issuer's name is known, its key is not.
	check(t, refused(t, ca, issued(t, newCA(t), "mail.test")), ReasonUnknownAuthority, "possibly because of", "ECDSA")
}

func TestExplainIncompleteChain(t *testing.T) {
	now := time.Now()
	ca := newCA(t)
	middle := intermediate(t, ca, "Middle", now.Add(-time.Hour), now.Add(time.Hour))
	cert := custom(t, middle, &x509.Certificate{
		DNSNames: []string{"mail.test"}, IssuingCertificateURL: []string{"http://ca.test/middle.crt"},
	})
	check(t, refused(t, ca, cert), ReasonIncompleteChain, "only its own certificate", `"Middle"`,
		`"http://ca.test/middle.crt"`, "full chain")

	cert = issued(t, middle, "mail.test")
	cert.Certificate = append(cert.Certificate, ca.cert.Raw) // leaf and root, nothing between
	check(t, refused(t, ca, cert), ReasonIncompleteChain, "2 certificates", `"Middle"`)
}

func TestExplainUsageAndConstraints(t *testing.T) {
	now := time.Now()
	ca := newCA(t)
	cert := signed(t, ca, Request{Names: []string{"mail.test"}, Client: true})
	check(t, refused(t, ca, cert), ReasonWrongUsage, "serverAuth")

	made := intermediate(t, ca, "Only example.org", now.Add(-time.Hour), now.Add(time.Hour))
	template := *made.cert
	template.PermittedDNSDomains, template.PermittedDNSDomainsCritical = []string{"example.org"}, true
	constrained := custom(t, ca, &template)
	made.cert = constrained.Leaf
	made.key = newKey(t, constrained)
	cert = issued(t, made, "mail.test")
	cert.Certificate = append(cert.Certificate, made.cert.Raw)
	check(t, refused(t, ca, cert), ReasonInvalidChain, "not authorized to sign for this name")

	middle := intermediate(t, ca, "Middle", now.Add(-time.Hour), now.Add(time.Hour))
	middle2 := intermediate(t, middle, "Middle 2", now.Add(-time.Hour), now.Add(time.Hour))
	cert = issued(t, middle2, "mail.test")
	cert.Certificate = append(cert.Certificate, middle2.cert.Raw, middle.cert.Raw)
	base := fromOptions(t, options{"ssl_verify_depth": 1, "ssl_cafile": file(t, "ca.pem", ca.PEM())})
	e := explain(t, NewClient(base).For("mail.test"), speak(server(cert)))
	check(t, e, ReasonInvalidChain, "2 intermediate certificates, ssl_verify_depth allows 1")
}

func TestExplainErrorsOfTheCaller(t *testing.T) {
	ca := newCA(t)
	mine := errors.New("not pinned")
	base := &tls.Config{RootCAs: ca.Pool(), VerifyConnection: func(tls.ConnectionState) error { return mine }}
	e := explain(t, NewClient(base).For("mail.test"), speak(server(issued(t, ca, "mail.test"))))
	check(t, e, ReasonOther, "not pinned")
	check(t, explained(t, &tls.CertificateVerificationError{Err: mine}, nil), ReasonOther)
	check(t, explained(t, &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{ca.cert}, Err: mine}, nil),
		ReasonInvalidChain, "not pinned")
	check(t, explained(t, &tls.CertificateVerificationError{Err: x509.SystemRootsError{Err: mine}}, nil), ReasonNoRoots)
}

// The system's roots are read once in a process, so that a machine without any needs a process of its own.
func TestExplainNoRoots(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the trust store can be pointed elsewhere on Linux only")
	}
	if !childtest.Alone(t, "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent") {
		return
	}
	config := NewClient(nil).For("mail.test")
	e := explain(t, config, speak(server(issued(t, newCA(t), "mail.test"))))
	check(t, e, ReasonNoRoots, "ca-certificates")
}

func TestNamesForPeople(t *testing.T) {
	issuer := &x509.Certificate{}
	for _, test := range []struct {
		cert *x509.Certificate
		want string
	}{
		{&x509.Certificate{Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"b"}}, `"a"`},
		{&x509.Certificate{DNSNames: []string{"b", "c"}}, `"b"`},
		{&x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, `"192.0.2.1"`},
		{&x509.Certificate{Subject: pkix.Name{Organization: []string{"Org\n"}}}, `"Org\n"`},
		{&x509.Certificate{}, "(without a name)"},
	} {
		if got := certName(test.cert); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		issuer.Issuer = test.cert.Subject
		if got := issuerName(issuer); test.cert.DNSNames == nil && test.cert.IPAddresses == nil && got != test.want {
			t.Errorf("issuer: got %s, want %s", got, test.want)
		}
	}
}

const nasty = "evil\r\n\x1b[31m\u202e\"; run rm -rf\x00 ünï\xff "

func TestHostileNames(t *testing.T) {
	ca := newCA(t)
	evilCA, err := NewCA(strings.ToValidUTF8(nasty+strings.Repeat("long ", 1000), "?"))
	if err != nil {
		t.Fatal(err)
	}
	ascii := strings.Map(func(r rune) rune { return r & 0x7f }, nasty)
	for _, template := range []*x509.Certificate{
		{Subject: pkix.Name{CommonName: strings.ToValidUTF8(nasty, "?")}},
		{Subject: pkix.Name{CommonName: strings.ToValidUTF8(nasty, "?")}, DNSNames: []string{ascii, strings.Repeat(ascii, 500)}},
		{DNSNames: []string{"mail.test"}, IssuingCertificateURL: []string{ascii + strings.Repeat("x", 5000)}},
		{DNSNames: []string{"mail.test"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
			Subject: pkix.Name{CommonName: strings.Repeat("€", 4000), Organization: []string{ascii}}},
	} {
		for _, issuer := range []*CA{ca, evilCA} {
			copied := *template
			cert := custom(t, issuer, &copied)
			cert.Certificate = append(cert.Certificate, issuer.cert.Raw)
			for _, trusted := range []*CA{newCA(t), {cert: issuer.cert}, {cert: evilCA.cert}} {
				config := NewClient(&tls.Config{RootCAs: trusted.Pool()}).For("mail.test")
				if _, err := dial(t, config, speak(server(cert))); err != nil {
					explained(t, err, config) // checks that it is one harmless line
				}
			}
		}
	}
}

func TestTenThousandNames(t *testing.T) {
	ca := newCA(t)
	template := &x509.Certificate{}
	for i := range 10000 {
		template.DNSNames = append(template.DNSNames, fmt.Sprintf("%d.test", i))
	}
	template.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
	e := refused(t, ca, custom(t, ca, template))
	check(t, e, ReasonNameMismatch, `"0.test", "1.test", "2.test", "3.test", "4.test" and 9996 more`)
	if len(e.Error()) > 500 {
		t.Errorf("%d bytes: %v", len(e.Error()), e)
	}
}
