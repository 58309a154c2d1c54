// Package development has the certificates of the examples that are looked at with a browser.
package development

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Certificate makes a certificate for this machine, from the authority for development in a folder.
// It makes that when it isn't there: so it is the same at the next start, and a browser that has
// been told to trust it connects again. Without a folder there is a new one each time.
func Certificate(folder string) (certificate tls.Certificate, roots *x509.CertPool, err error) {
	ca, err := authority(folder)
	if err == nil {
		certificate, err = ca.Issue("localhost", "127.0.0.1", "::1")
	}
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return certificate, ca.Pool(), nil
}

func authority(folder string) (*devca.CA, error) {
	if folder == "" {
		return devca.New("Whorl example CA")
	}
	certFile, keyFile := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca-key.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil:
		return devca.FromKeyPair(pair)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	ca, err := devca.New("Whorl example CA")
	if err == nil {
		err = os.MkdirAll(folder, 0o700)
	}
	if err == nil {
		err = devca.WritePEM(ca.KeyPair(), certFile, keyFile)
	}
	return ca, err
}
