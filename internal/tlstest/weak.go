package tlstest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// tinyKey signs as crypto/rsa won't: with 512 bits.
type tinyKey struct {
	public  rsa.PublicKey
	private *big.Int
}

func (k *tinyKey) Public() crypto.PublicKey { return &k.public }

// Sign is RSASSA-PKCS1-v1_5 with SHA-256, RFC 8017, section 8.2.1.
func (k *tinyKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
		0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	message := append(prefix, digest...)
	padded := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, k.public.Size()-len(message)-3)...)
	m := new(big.Int).SetBytes(append(append(padded, 0), message...))
	return m.Exp(m, k.private, k.public.N).FillBytes(make([]byte, k.public.Size())), nil
}

// Tiny returns a certificate for a key of RSA with 512 bits. It is for TLS 1.2 only.
func Tiny(t testing.TB, ca *CA, names ...string) tls.Certificate {
	t.Helper()
	const e = 65537
	key := &tinyKey{public: rsa.PublicKey{E: e}}
	for one := big.NewInt(1); key.private == nil || key.public.N.BitLen() != 512; {
		p, err := rand.Prime(rand.Reader, 256)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, 256)
		if err != nil {
			t.Fatal(err)
		}
		key.public.N = new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(p.Sub(p, one), q.Sub(q, one))
		key.private = new(big.Int).ModInverse(big.NewInt(e), phi)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// SHA1 is a connection of a server that says that it signs the handshake by SHA-1, which nobody
// offers any more. The server has to be one of TLS 1.2 with an ECDSA key and the group X25519.
type SHA1 struct{ net.Conn }

// Write changes the algorithm behind the server's share, RFC 8422, section 5.4.
func (c SHA1) Write(p []byte) (int, error) {
	const share = "\x03\x00\x1d\x20"
	if i := bytes.Index(p, []byte(share)); i >= 0 && i+len(share)+34 < len(p) {
		p = bytes.Clone(p)
		copy(p[i+len(share)+32:], "\x02\x03") // ecdsa_sha1
	}
	return c.Conn.Write(p)
}
