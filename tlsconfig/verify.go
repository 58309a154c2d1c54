package tlsconfig

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// errNoName is the cause where a certificate should be verified and it is not known for whom.
var errNoName = errors.New("tlsconfig: no server name to verify: use the configuration that Client.For returns")

// A verifier does what crypto/tls does by itself, for the cases that its own check can't express: no SNI, a single
// self-signed certificate, a chain without a name. It runs as VerifyConnection under InsecureSkipVerify or
// RequireAnyClientCert, on resumed connections too.
type verifier struct {
	roots            *x509.CertPool   // nil: the system's
	now              func() time.Time // nil: time.Now
	acceptSelfSigned bool
	anyName          bool // whomever the certificate is for
	client           bool // the certificate is a client's, which is for no host
}

// verify returns the chains from the peer's certificate to a root, of which there is at least one, after checking that
// a server's certificate is for state.ServerName, that it may be used in its role, and the dates of all. Errors are
// *tls.CertificateVerificationError, as crypto/tls has it.
func (v verifier) verify(state tls.ConnectionState) ([][]*x509.Certificate, error) {
	sent := state.PeerCertificates
	refuse := func(err error) error {
		return &tls.CertificateVerificationError{UnverifiedCertificates: sent, Err: err}
	}
	if len(sent) == 0 {
		return nil, refuse(errors.New("tlsconfig: the peer sent no certificate"))
	}
	name := state.ServerName
	switch {
	case v.client || v.anyName:
		name = "" // x509 takes it for "any name will do"
	case name == "" || name == NoSNI:
		return nil, refuse(errNoName)
	}

	options := x509.VerifyOptions{
		Roots:         v.roots,
		DNSName:       name,
		Intermediates: x509.NewCertPool(),
	}
	if v.client {
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if v.now != nil {
		options.CurrentTime = v.now()
	}
	for _, cert := range sent[1:] {
		options.Intermediates.AddCert(cert)
	}
	chains, err := sent[0].Verify(options)
	if err == nil {
		return chains, nil
	}

	// Only the missing authority is forgiven. With the certificate as its own root, dates, name and usage are checked
	// as for any other.
	unknown, ok := errors.AsType[x509.UnknownAuthorityError](err)
	if v.acceptSelfSigned && ok && len(sent) == 1 && unknown.Cert == sent[0] && selfSigned(sent[0]) {
		options.Roots = x509.NewCertPool()
		options.Roots.AddCert(sent[0])
		chains, err = sent[0].Verify(options)
		if err == nil {
			return chains, nil
		}
	}
	return nil, refuse(err)
}

// selfSigned reports whether cert is signed with its own key. CheckSignatureFrom would ask for a CA as well, which a
// self-signed server certificate rarely is.
func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) &&
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// A chainTooLongError says that every chain has more intermediates than ssl_verify_depth allows.
type chainTooLongError struct {
	intermediates, limit int
}

func (e *chainTooLongError) Error() string {
	return fmt.Sprintf("tlsconfig: the shortest chain has %d intermediate certificates, ssl_verify_depth allows %d",
		e.intermediates, e.limit)
}

// checkDepth returns an error unless one of the chains has at most limit certificates between the server's and the
// root. That is OpenSSL's count: X509_VERIFY_PARAM_set_depth(3), neither end is counted.
func checkDepth(state tls.ConnectionState, limit int) error {
	shortest := -1
	for _, chain := range state.VerifiedChains {
		intermediates := max(len(chain)-2, 0)
		if intermediates <= limit {
			return nil
		}
		if shortest < 0 || intermediates < shortest {
			shortest = intermediates
		}
	}
	return &tls.CertificateVerificationError{
		UnverifiedCertificates: state.PeerCertificates,
		Err:                    &chainTooLongError{intermediates: shortest, limit: limit},
	}
}
