// Package development has the certificates of the examples that are looked at with a browser.
package development

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Flags are those of an example that serves in plaintext, and over TLS beside that.
type Flags struct {
	Secure string // the address to serve on over TLS; empty: nowhere
	folder string
}

// DefineFlags defines -secure and -ca. What is for the explanations: the protocols over TLS, a port
// for them, and who has to trust the certificate.
func DefineFlags(flags *flag.FlagSet, protocols string, port int, who string) *Flags {
	f := new(Flags)
	flags.StringVar(&f.Secure, "secure", "", fmt.Sprintf(
		"second `address`, for %s, such as 127.0.0.1:%d", protocols, port))
	flags.StringVar(&f.folder, "ca", "", "`folder` where the development authority of -secure is "+
		"kept; "+who+" have to trust ca.pem in it")
	return f
}

// Certificate checks the flags beside -listen, and makes a certificate as they say. Without -listen
// there is a demonstration, which has a port of its own.
func (f *Flags) Certificate(listen string) (tls.Certificate, *x509.CertPool, error) {
	switch {
	case listen == "" && (f.Secure != "" || f.folder != ""):
		return tls.Certificate{}, nil, program.Usage("-secure and -ca are for -listen")
	case f.folder != "" && f.Secure == "":
		return tls.Certificate{}, nil, program.Usage("-ca is for -secure")
	case listen == "":
		f.Secure = "127.0.0.1:0"
	}
	return Certificate(f.folder)
}

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
