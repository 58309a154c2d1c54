package farside

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Identity says with which certificate a server shows who it is, and whom it wants to know of its
// clients.
type Identity struct {
	// PEM; empty: a certificate of a development CA that is made for this run
	CertFile, KeyFile string
	Names             []string // that the development CA's certificate is for
	CAOut             string   // where to write that CA's certificate; empty: nowhere

	ClientAuth bool   // clients have to show a certificate
	ClientCA   string // of which authority, PEM; empty: the development CA
	ClientOut  string // where to write a client's certificate of the development CA, and its key
}

// DefaultNames are those of this machine.
var DefaultNames = []string{"localhost", "127.0.0.1", "::1"}

// Config makes the server's TLS configuration. It reads and writes the files.
func (id *Identity) Config() (*tls.Config, error) {
	if (id.CertFile == "") != (id.KeyFile == "") {
		return nil, errors.New("a certificate and its key come together")
	}
	if id.ClientOut != "" && !id.ClientAuth {
		return nil,
			errors.New("a client's certificate is written, but clients are not asked for it")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var ca *devca.CA
	if id.CertFile == "" || id.ClientAuth && id.ClientCA == "" {
		var err error
		if ca, err = devca.New("whorl bench development CA"); err != nil {
			return nil, err
		}
	}
	cert, err := id.certificate(ca)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{cert}
	if id.ClientAuth {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if config.ClientCAs, err = id.clientRoots(ca); err != nil {
			return nil, err
		}
	}
	return config, id.write(ca)
}

func (id *Identity) certificate(ca *devca.CA) (tls.Certificate, error) {
	if id.CertFile != "" {
		return tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
	}
	names := id.Names
	if len(names) == 0 {
		names = DefaultNames
	}
	return ca.Issue(names...)
}

func (id *Identity) clientRoots(ca *devca.CA) (*x509.CertPool, error) {
	if id.ClientCA == "" {
		return ca.Pool(), nil
	}
	data, err := os.ReadFile(id.ClientCA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: no certificates in PEM", id.ClientCA)
	}
	return pool, nil
}

// write writes what clients need.
func (id *Identity) write(ca *devca.CA) error {
	if id.CAOut != "" {
		if ca == nil || id.CertFile != "" {
			return errors.New("there is no development CA to write: the certificate is of " +
				"another one")
		}
		if err := os.WriteFile(id.CAOut, ca.PEM(), 0o644); err != nil {
			return err
		}
	}
	if id.ClientOut == "" {
		return nil
	}
	if id.ClientCA != "" {
		return errors.New("there is no development CA to issue a client's certificate: clients " +
			"are known to another one")
	}
	cert, err := ca.Sign(devca.Request{CommonName: "whorl bench client", Client: true})
	if err != nil {
		return err
	}
	chain, key, err := devca.EncodePEM(cert)
	if err != nil {
		return err
	}
	return os.WriteFile(id.ClientOut, append(chain, key...), 0o600)
}
