package tlsconfig

import (
	"cmp"
	"crypto/x509"
	"errors"
	"time"
)

// Inspect reads a certificate's files, or its PEM, and returns all that is wrong with them, where
// NewServer stops at the first: what keeps a server from using them, what clients refuse, and what
// only some of them stumble over (Warning). Chain is what could be read of the certificates, the
// server's own first. Roots are what a chain may end at without being sent; nil: the system's.
//
// It reads files, so it may block: call it off the event loop.
func Inspect(
	cert ServerCertificate, roots *x509.CertPool,
) (chain []*x509.Certificate, problems []*CertificateError) {
	add := func(err error) bool {
		if e, ok := errors.AsType[*CertificateError](err); ok {
			problems = append(problems, e)
		}
		return err != nil
	}
	p := pemPair{
		cert: cert.CertPEM, key: cert.KeyPEM, certFile: cert.label(0),
		keyFile: cmp.Or(cert.KeyFile, cert.label(0)), passphrase: cert.Passphrase,
	}
	var keyErr error
	if cert.CertFile != "" {
		var err error
		if p.cert, err = readFile(p.certFile); add(err) {
			return nil, problems
		}
		p.key = p.cert
		if p.keyFile != p.certFile {
			p.key, keyErr = readFile(p.keyFile)
		}
	}
	chain, err := p.chain()
	if add(err) {
		return nil, problems
	}
	if !add(keyErr) {
		if key, err := p.parseKey(); !add(err) {
			add(p.matches(key, chain))
		}
	}
	return chain, append(problems, inspector(roots).chain(p.certFile, chain, cert.Names)...)
}

// InspectChain does for a chain what Inspect does for a file. Names are the hosts that it is for;
// none: its own. File is how the problems call it.
func InspectChain(
	file string, chain []*x509.Certificate, names []string, roots *x509.CertPool,
) []*CertificateError {
	return inspector(roots).chain(file, chain, names)
}

func inspector(roots *x509.CertPool) checker {
	c := checker{now: time.Now(), systemRoots: x509.SystemCertPool}
	if roots != nil {
		c.systemRoots = func() (*x509.CertPool, error) { return roots, nil }
	}
	return c
}
