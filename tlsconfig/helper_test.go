package tlsconfig

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
)

// dial connects a client with that configuration to a server that does what serve says, over TCP on the loopback. It
// returns the client's state and the error of its handshake, or else of its first Read: that is where a TLS 1.3 client
// hears of a server's objections, and where it gets its session.
func dial(t testing.TB, config *tls.Config, serve func(net.Conn)) (tls.ConnectionState, error) {
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

// speak returns a server for dial: it shakes hands, sends one byte and waits for the client to leave.
func speak(config *tls.Config) func(net.Conn) {
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

func server(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func newCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA("Whorl Test CA")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issued(t testing.TB, ca *CA, names ...string) tls.Certificate {
	t.Helper()
	return signed(t, ca, Request{Names: names})
}

func signed(t testing.TB, ca *CA, request Request) tls.Certificate {
	t.Helper()
	cert, err := ca.Sign(request)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// custom returns a certificate made from a template, for what Request can't say.
func custom(t testing.TB, ca *CA, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	template.SerialNumber = big.NewInt(7)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// intermediate returns an authority below ca, valid in that time.
func intermediate(t testing.TB, ca *CA, name string, notBefore, notAfter time.Time) *CA {
	t.Helper()
	made := custom(t, ca, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	})
	return &CA{cert: made.Leaf, key: made.PrivateKey.(*ecdsa.PrivateKey)}
}

// file writes a file for the test and returns its path.
func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair writes a certificate and its key and returns the two paths.
func pair(t testing.TB, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	chain, key, err := EncodePEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "cert.pem", chain), file(t, "key.pem", key)
}

// checkLine fails the test unless text is one bounded line without anything that could harm a terminal.
func checkLine(t testing.TB, text string) {
	t.Helper()
	if len(text) > 3000 {
		t.Errorf("message of %d bytes: %.200s…", len(text), text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("not printable at %d: %q", i, text)
	}
}

// newKey returns the key of a certificate that custom made.
func newKey(t testing.TB, cert tls.Certificate) *ecdsa.PrivateKey {
	t.Helper()
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("key is a %T", cert.PrivateKey)
	}
	return key
}
