package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
)

// A clock is moved by the test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func emptyRoots() (*x509.CertPool, error) { return x509.NewCertPool(), nil }

// serve returns a Server, with the clock if there is one.
func serve(t testing.TB, options ServerOptions, c *clock) *Server {
	t.Helper()
	now := time.Now
	if c != nil {
		now = c.read
	}
	s, err := newServer(options, now, emptyRoots)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ready returns options with these certificates.
func ready(certs ...tls.Certificate) (o ServerOptions) {
	for _, cert := range certs {
		o.Certificates = append(o.Certificates, ServerCertificate{Certificate: &cert})
	}
	return o
}

func trusting(ca *tlstest.CA, name string) *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), ServerName: name}
}
