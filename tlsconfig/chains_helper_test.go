package tlsconfig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"
)

// A queued is one end of a pipe in memory whose writes don't wait, as those of a socket.
type queued struct {
	net.Conn
	queue chan []byte
}

func pipe() (client, server net.Conn) {
	a, b := net.Pipe()
	return newQueued(a), newQueued(b)
}

func newQueued(conn net.Conn) *queued {
	q := &queued{conn, make(chan []byte, 100)}
	go func() {
		for p := range q.queue {
			conn.Write(p)
		}
		conn.Close()
	}()
	return q
}

func (q *queued) Write(p []byte) (int, error) {
	q.queue <- bytes.Clone(p)
	return len(p), nil
}

func (q *queued) Close() error {
	close(q.queue)
	return nil
}

// meetInMemory is meet where the clock may be synctest's.
func meetInMemory(t testing.TB, client, server *tls.Config) (m meeting) {
	t.Helper()
	near, far := pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer far.Close()
		conn := tls.Server(far, server)
		if m.serverErr = conn.Handshake(); m.serverErr == nil {
			m.server = conn.ConnectionState()
			conn.Write([]byte{'x'})
		}
		io.Copy(io.Discard, far)
	}()
	defer func() {
		near.Close()
		<-served
	}()
	conn := tls.Client(near, client)
	if m.clientErr = conn.Handshake(); m.clientErr == nil {
		_, m.clientErr = io.ReadFull(conn, make([]byte, 1))
		m.client = conn.ConnectionState()
	}
	return m
}

// met is the state of a connection that must succeed.
func met(t testing.TB, config, srv *tls.Config) tls.ConnectionState {
	t.Helper()
	m := meetInMemory(t, config, srv)
	if m.clientErr != nil {
		t.Fatal(m.clientErr)
	}
	return m.client
}

// unresumed is a policy under which all handshakes are full ones.
func unresumed(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, SessionTicketsDisabled: true}
}

// relies reports whether the client would rely on what is remembered of mail.test.
func relies(c *Client) bool { return c.For("mail.test").RootCAs != c.base.RootCAs }

// remembered is what is remembered of mail.test, fresh or not.
func remembered(roots *x509.CertPool) *knownChain {
	verifiedChains.mu.Lock()
	defer verifiedChains.mu.Unlock()
	return verifiedChains.chains[chainKey{roots, "mail.test"}]
}

// chained is a server's certificate with that of its issuer, an intermediate.
func chained(t testing.TB, issuer *CA, request Request) tls.Certificate {
	t.Helper()
	cert := signed(t, issuer, request)
	cert.Certificate = append(cert.Certificate, issuer.cert.Raw)
	return cert
}

// forMail asks for a certificate for mail.test.
func forMail() Request { return Request{Names: []string{"mail.test"}} }

// authority returns an authority that is valid from an hour ago, for that time from now: a root, or an intermediate below another one.
func authority(t testing.TB, above *CA, name string, lasts time.Duration) *CA {
	t.Helper()
	if above != nil {
		return intermediate(t, above, name, time.Now().Add(-time.Hour), time.Now().Add(lasts))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, SerialNumber: big.NewInt(1),
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{cert: cert, key: key}
}

func sameChains(a, b [][]*x509.Certificate) bool {
	return slices.EqualFunc(a, b, func(a, b []*x509.Certificate) bool {
		return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
	})
}
