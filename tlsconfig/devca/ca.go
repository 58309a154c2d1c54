// Package devca is a certificate authority for development and tests.
//
// New makes an authority in memory that issues certificates, among them expired and not yet valid
// ones, and such by which a client shows who it is. SelfSigned makes a certificate without an
// authority. WritePEM writes either to files.
//
//	ca, err := devca.New("Development CA")
//	if err != nil {
//		return err
//	}
//	cert, err := ca.Issue("mail.test", "127.0.0.1")
//	if err != nil {
//		return err
//	}
//	ofServer := &tls.Config{Certificates: []tls.Certificate{cert}}
//	ofClient := &tls.Config{RootCAs: ca.Pool(), ServerName: "mail.test"}
//
// Certificates follow RFC 5280. Production needs another authority: nothing here keeps a key safe
// or revokes anything.
package devca

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	caLifetime   = 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
	// Certificates begin this long before they are made, for machines whose clocks differ.
	clockSkew = time.Hour
)

// A CA is a certificate authority for development and tests. It lives in memory: its key is written
// nowhere unless the program does so, and then its certificates are worth something only while the
// process runs. All methods may be called concurrently.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A Request says what a certificate is to be like. The zero value of each field is the usual case.
type Request struct {
	// Names are what the certificate is for: DNS names ("mail.test", "*.test"), IP addresses,
	// e-mail addresses.
	Names []string

	// CommonName is a name for people to read. It is the first of Names if empty, where that fits.
	// TLS clients do not look at it.
	CommonName string

	// NotBefore and NotAfter are the first and the last second in which the certificate is valid.
	// Default: from an hour ago for 90 days. Both may be in the past, or in the future.
	NotBefore, NotAfter time.Time

	// Client makes a certificate by which a client shows who it is, instead of one for servers.
	Client bool
}

// New returns a new authority of that name, valid for a year, with an ECDSA P-256 key.
func New(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("devca: new CA: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("devca: new CA: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// FromKeyPair returns the authority that a certificate with its key is: one from KeyPair that was
// kept, or any other whose key is ECDSA.
func FromKeyPair(pair tls.Certificate) (*CA, error) {
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("devca: a key of type %T: want ECDSA", pair.PrivateKey)
	}
	if len(pair.Certificate) == 0 {
		return nil, errors.New("devca: there is no certificate in the pair")
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("devca: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// KeyPair returns the authority's certificate with its key: to sign what a Request can't say, or to
// keep the authority with WritePEM and have it back with FromKeyPair.
func (ca *CA) KeyPair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{ca.cert.Raw}, PrivateKey: ca.key, Leaf: ca.cert}
}

// Issue returns a server's certificate for the names, with its key: ECDSA P-256. Names are as in
// Request.
func (ca *CA) Issue(names ...string) (tls.Certificate, error) {
	return ca.Sign(Request{Names: names})
}

// Sign returns the certificate that the request describes, with its key. The root is not part of
// the chain in it, as servers leave it out.
func (ca *CA) Sign(request Request) (tls.Certificate, error) {
	return issue(request, ca.cert, ca.key)
}

// Pool returns a pool with the authority's certificate alone, for RootCAs or ClientCAs. It is a new
// one each time.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// PEM returns the authority's certificate, for ssl_cafile, or for curl --cacert.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// SelfSigned returns a certificate that is signed with its own key instead of by an authority.
func SelfSigned(request Request) (tls.Certificate, error) {
	return issue(request, nil, nil)
}

// EncodePEM returns a certificate's chain and its key as the PEM that ssl_cert_file and
// ssl_key_file, and most servers, read. The key is not encrypted.
func EncodePEM(cert tls.Certificate) (chain, key []byte, err error) {
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("devca: encode key: %w", err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// WritePEM writes a certificate's chain and its key to two files, or to one if both are the same,
// for the owner alone to read. Each is written beside its place and then moved there, so that
// whoever reads one, tlsconfig.Server.Reload for instance, never finds half of it.
func WritePEM(cert tls.Certificate, certFile, keyFile string) error {
	chain, key, err := EncodePEM(cert)
	if err != nil {
		return err
	}
	if certFile == keyFile {
		return replaceFile(certFile, append(chain, key...))
	}
	if err := replaceFile(keyFile, key); err != nil {
		return err
	}
	return replaceFile(certFile, chain)
}

func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("devca: write PEM: %w", err)
	}
	_, err = f.Write(data)
	if err := cmp.Or(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("devca: write PEM: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("devca: write PEM: %w", err)
	}
	return nil
}

// issue makes a key and a certificate for it. Without a parent the certificate is signed with that
// key.
func issue(
	request Request,
	parent *x509.Certificate,
	parentKey *ecdsa.PrivateKey,
) (tls.Certificate, error) {
	template, err := request.template(time.Now())
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("devca: issue certificate: %w", err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	leaf, err := sign(template, parent, key.Public(), parentKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("devca: issue certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// template returns what is to be signed.
func (r Request) template(now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.CommonName},
		NotBefore:             r.NotBefore,
		NotAfter:              r.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, // and no CA
	}
	if r.Client {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = now.Add(-clockSkew)
		if !t.NotAfter.IsZero() && t.NotAfter.Before(now) {
			t.NotBefore = t.NotAfter.Add(-leafLifetime) // an expired one was asked for
		}
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = t.NotBefore.Add(leafLifetime)
	}
	if t.NotAfter.Before(t.NotBefore) {
		return nil, errors.New("devca: issue certificate: NotAfter is before NotBefore")
	}

	if len(r.Names) == 0 && r.CommonName == "" {
		return nil, errors.New("devca: issue certificate: no names")
	}
	for _, name := range r.Names {
		addr, err := netip.ParseAddr(name)
		switch {
		case err == nil:
			t.IPAddresses = append(t.IPAddresses, net.IP(addr.Unmap().WithZone("").AsSlice()))
		case name == "":
			return nil, errors.New("devca: issue certificate: a name is empty")
		case strings.Contains(name, "@"):
			t.EmailAddresses = append(t.EmailAddresses, name)
		default:
			t.DNSNames = append(t.DNSNames, strings.TrimSuffix(name, "."))
		}
	}
	// RFC 5280, Appendix A: ub-common-name is 64.
	if r.CommonName == "" && len(r.Names[0]) <= 64 {
		t.Subject.CommonName = r.Names[0]
	}
	return t, nil
}

// sign returns the certificate, parsed, with a random serial number.
func sign(
	template, parent *x509.Certificate, public crypto.PublicKey, key *ecdsa.PrivateKey,
) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1)) // RFC 5280, Section 4.1.2.2: positive
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
