package devca_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestIssuedCertificates(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test", "*.mail.test.", "127.0.0.1", "fe80::1%eth0", "me@mail.test")
	leaf := cert.Leaf
	if leaf.Subject.CommonName != "mail.test" || len(leaf.DNSNames) != 2 || len(leaf.IPAddresses) != 2 ||
		len(leaf.EmailAddresses) != 1 || leaf.IsCA || leaf.SerialNumber.Sign() <= 0 {
		t.Errorf("got %+v", leaf)
	}
	for _, host := range []string{"mail.test", "a.mail.test", "127.0.0.1", "fe80::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days != 90 {
		t.Errorf("valid for %v days, want 90", days)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.PEM()) || !pool.Equal(ca.Pool()) {
		t.Error("PEM and Pool differ")
	}
	chain, key, err := devca.EncodePEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(chain, key); err != nil {
		t.Error(err)
	}
	if _, _, err := devca.EncodePEM(tls.Certificate{}); err == nil {
		t.Error("a certificate without a key was encoded")
	}
}

func TestRequests(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(t)
	for _, r := range []devca.Request{
		{},
		{Names: []string{""}},
		{Names: []string{"bücher.test"}},
		{Names: []string{"a.test"}, NotBefore: now, NotAfter: now.Add(-time.Hour)},
	} {
		if _, err := ca.Sign(r); err == nil {
			t.Errorf("%+v was signed", r)
		}
	}
	past := tlstest.Signed(t, ca, devca.Request{Names: []string{"a.test"}, NotAfter: now.Add(-time.Hour)}).Leaf
	if !past.NotBefore.Before(past.NotAfter) {
		t.Errorf("from %v to %v", past.NotBefore, past.NotAfter)
	}
	client := tlstest.Signed(t, ca, devca.Request{CommonName: "me", Client: true}).Leaf
	if client.Subject.CommonName != "me" || len(client.ExtKeyUsage) != 1 || client.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("got %+v", client)
	}
	long := tlstest.Signed(t, ca, devca.Request{Names: []string{strings.Repeat("a", 60) + ".test"}}).Leaf
	if long.Subject.CommonName != "" {
		t.Errorf("common name %q is too long", long.Subject.CommonName)
	}
}

func TestCAConcurrently(t *testing.T) {
	ca := tlstest.NewCA(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			cert, err := ca.Issue("mail.test")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool()}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
