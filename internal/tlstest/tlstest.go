// Package tlstest is what the tests of tlsconfig and its parts share: two sides that meet, and
// certificates of all kinds.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Dial connects a client with that configuration to a server that does what serve says, over TCP on
// the loopback. It returns the client's state and the error of its handshake, or else of its first
// Read: that is where a TLS 1.3 client hears of a server's objections, and where it gets its
// session.
func Dial(t testing.TB, config *tls.Config, serve func(net.Conn)) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(30 * time.Second))
		serve(raw)
	}()

	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	defer func() {
		raw.Close()
		<-served
	}()
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return conn.ConnectionState(), err
}

// Speak returns a server for dial: it shakes hands, sends one byte and waits for the client to
// leave.
func Speak(config *tls.Config) func(net.Conn) {
	return func(raw net.Conn) {
		conn := tls.Server(raw, config)
		if conn.Handshake() != nil {
			// The alert has to arrive before the reset that unread data causes.
			raw.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, raw)
			return
		}
		conn.Write([]byte{'x'})
		io.Copy(io.Discard, conn)
	}
}

// Server is the configuration of a server with that certificate.
func Server(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// CA is an authority whose certificate and key a test can have its way with.
type CA struct {
	*devca.CA
	Cert *x509.Certificate // its own certificate
	Key  *ecdsa.PrivateKey // that signs
}

// NewCA returns a new root.
func NewCA(t testing.TB) *CA {
	t.Helper()
	return NamedCA(t, "Whorl Test CA")
}

// NamedCA returns a new root of that name.
func NamedCA(t testing.TB, name string) *CA {
	t.Helper()
	ca, err := devca.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return CAOf(t, ca.KeyPair())
}

// CAOf returns the authority that a certificate with its key is.
func CAOf(t testing.TB, pair tls.Certificate) *CA {
	t.Helper()
	ca, err := devca.FromKeyPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{CA: ca, Cert: pair.Leaf, Key: pair.PrivateKey.(*ecdsa.PrivateKey)}
}

// Issued returns a certificate for the names.
func Issued(t testing.TB, ca *CA, names ...string) tls.Certificate {
	t.Helper()
	return Signed(t, ca, devca.Request{Names: names})
}

// Signed returns the certificate of a request.
func Signed(t testing.TB, ca *CA, request devca.Request) tls.Certificate {
	t.Helper()
	cert, err := ca.Sign(request)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Custom returns a certificate made from a template, for what Request can't say.
func Custom(t testing.TB, ca *CA, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	template.SerialNumber = big.NewInt(7)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Intermediate returns an authority below ca, valid in that time.
func Intermediate(t testing.TB, ca *CA, name string, notBefore, notAfter time.Time) *CA {
	t.Helper()
	made := Custom(t, ca, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	})
	return CAOf(t, made)
}

// File writes a file for the test and returns its path.
func File(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Pair writes a certificate and its key and returns the two paths.
func Pair(t testing.TB, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	chain, key, err := devca.EncodePEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	return File(t, "cert.pem", chain), File(t, "key.pem", key)
}

// CheckLine fails the test unless text is one bounded line without anything that could harm a
// terminal.
func CheckLine(t testing.TB, text string) {
	t.Helper()
	if len(text) > 3000 {
		t.Errorf("message of %d bytes: %.200s…", len(text), text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("not printable at %d: %q", i, text)
	}
}

// A Meeting is what a handshake came to on both sides.
type Meeting struct {
	Client, Server       tls.ConnectionState // what each side has agreed on
	ClientErr, ServerErr error               // what each side has returned
}

// Meet makes one connection between the two. The error of the client may be that of its first Read.
func Meet(t testing.TB, client, server *tls.Config) (m Meeting) {
	t.Helper()
	m.Client, m.ClientErr = Dial(t, client, func(raw net.Conn) {
		conn := tls.Server(raw, server)
		if m.ServerErr = conn.Handshake(); m.ServerErr != nil {
			// The alert has to arrive before the reset that unread data causes.
			raw.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, raw)
			return
		}
		m.Server = conn.ConnectionState()
		conn.Write([]byte{'x'})
		io.Copy(io.Discard, conn)
	})
	return m
}

// Nasty is a name that does harm where it is printed as it is.
const Nasty = "evil\r\n\x1b[31m\u202e\"; run rm -rf\x00 ünï\xff "
