package text

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"
)

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
		if got := CertName(test.cert); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		issuer.Issuer = test.cert.Subject
		if got := IssuerName(issuer); test.cert.DNSNames == nil && test.cert.IPAddresses == nil && got != test.want {
			t.Errorf("issuer: got %s, want %s", got, test.want)
		}
	}
}
