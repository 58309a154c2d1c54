package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A setup is what a server and its client are configured with: at first all is well, and then a
// fault changes something.
type setup struct {
	folder       string
	root, issuer *devca.CA

	chain   tls.Certificate // for cert.pem and key.pem
	server  tlsconfig.ServerOptions
	client  tlsconfig.ClientOptions
	network string      // of the server's address
	scheme  string      // of the client's URL
	anyway  *tls.Config // what is served although the check refuses it; nil: nothing
}

// A fault is one of those that make wss fail.
type fault struct {
	name  string
	means string
	bring func(s *setup) error
}

// faults are those of -fault, in the order of the README.
var faults = []fault{
	{"incomplete-chain", "cert.pem lacks the intermediate certificate", func(s *setup) error {
		s.chain.Certificate = s.chain.Certificate[:1]
		return s.write()
	}},
	{"wrong-key", "key.pem is another certificate's", func(s *setup) error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		s.chain.PrivateKey = key
		// Package tls doesn't look, either, when it is given a certificate like this.
		s.anyway = &tls.Config{Certificates: []tls.Certificate{s.chain}}
		return s.write()
	}},
	{"no-cipher", "server and client have no cipher suite in common", func(s *setup) error {
		s.server.MaxVersion = tls.VersionTLS12 // TLS 1.3 can't be without
		s.server.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		s.client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
		return s.write()
	}},
	{"no-version", "the server wants TLS 1.3, and the client doesn't know it", func(s *setup) error {
		s.server.MinVersion, s.client.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
		return s.write()
	}},
	{"expired", "the certificate has run out", func(s *setup) error {
		return s.reissue(devca.Request{
			Names:     names,
			NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
			NotAfter:  time.Date(2020, 3, 31, 0, 0, 0, 0, time.UTC),
		})
	}},
	{"not-yet-valid", "its time has not begun, or a clock is wrong", func(s *setup) error {
		return s.reissue(devca.Request{
			Names:     names,
			NotBefore: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
			NotAfter:  time.Date(2100, 3, 31, 0, 0, 0, 0, time.UTC),
		})
	}},
	{"wrong-name", "the certificate is for another host", func(s *setup) error {
		return s.reissue(devca.Request{Names: []string{"other.example"}})
	}},
	{"self-signed", "no authority has signed the certificate", func(s *setup) (err error) {
		if s.chain, err = devca.SelfSigned(devca.Request{Names: names}); err != nil {
			return err
		}
		return s.write()
	}},
	{"swapped", "cert.pem is given as the key, and key.pem as the certificate", func(s *setup) error {
		files := &s.server.Certificates[0]
		files.CertFile, files.KeyFile = files.KeyFile, files.CertFile
		return s.write()
	}},
	{"wrong-parameters", "the least version of TLS is above the greatest", func(s *setup) error {
		s.server.MinVersion, s.server.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
		return s.write()
	}},
	{"missing", "there is no cert.pem", func(s *setup) error { return nil }},
	{"unreadable", "key.pem can't be read", func(s *setup) error {
		if err := s.write(); err != nil {
			return err
		}
		// Root may read everything but this.
		if err := os.Remove(s.path("key.pem")); err != nil {
			return err
		}
		return os.Mkdir(s.path("key.pem"), 0o700)
	}},
	{"ws-to-wss", "the client says ws:// where wss is served", func(s *setup) error {
		s.scheme = "ws"
		return s.write()
	}},
	{"wss-to-ws", "the client says wss:// where ws is served", func(s *setup) error {
		s.network = "tcp"
		return s.write()
	}},
}

// names are the server's.
var names = []string{"localhost", "127.0.0.1"}

// newSetup makes an authority, an intermediate one, and a certificate. They are written by write.
func newSetup(folder string) (*setup, error) {
	root, err := devca.New("Whorl example root")
	if err != nil {
		return nil, err
	}
	s := &setup{folder: folder, root: root, network: "tls", scheme: "wss"}
	if s.issuer, err = intermediate(root); err != nil {
		return nil, err
	}
	s.server.Certificates = []tlsconfig.ServerCertificate{
		{CertFile: s.path("cert.pem"), KeyFile: s.path("key.pem")},
	}
	s.client.CAPEM = root.PEM()
	return s, s.issue(devca.Request{Names: names})
}

func (s *setup) path(name string) string { return filepath.Join(s.folder, name) }

// issue makes the certificate, with the intermediate one behind it. It says where that is to be
// had, as those of public authorities do.
func (s *setup) issue(request devca.Request) error {
	issued, err := s.issuer.Sign(request)
	if err != nil {
		return err
	}
	issuer := s.issuer.KeyPair()
	leaf := *issued.Leaf
	leaf.IssuingCertificateURL = []string{"http://ca.example/intermediate.der"}
	der, err := x509.CreateCertificate(
		rand.Reader, &leaf, issuer.Leaf, leaf.PublicKey, issuer.PrivateKey,
	)
	s.chain = tls.Certificate{
		Certificate: [][]byte{der, issuer.Certificate[0]}, PrivateKey: issued.PrivateKey,
	}
	return err
}

// reissue is issue and write, and has the check warn only, so that the client gets to see it.
func (s *setup) reissue(request devca.Request) error {
	s.server.Tolerate = []explain.Reason{explain.ReasonExpired, explain.ReasonNotYetValid}
	if err := s.issue(request); err != nil {
		return err
	}
	return s.write()
}

func (s *setup) write() error {
	return devca.WritePEM(s.chain, s.path("cert.pem"), s.path("key.pem"))
}

// intermediate makes an authority that another one has signed.
func intermediate(root *devca.CA) (*devca.CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	pair := root.KeyPair()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		Subject:               pkix.Name{CommonName: "Whorl example intermediate"},
		NotBefore:             pair.Leaf.NotBefore,
		NotAfter:              pair.Leaf.NotAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(
		rand.Reader, template, pair.Leaf, key.Public(), pair.PrivateKey,
	)
	if err != nil {
		return nil, err
	}
	return devca.FromKeyPair(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}
