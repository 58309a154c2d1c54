// Package verify does the parts of a verification that crypto/tls has no settings for.
package verify

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/internal/names"
)

// ErrNoName is the cause where a certificate should be verified and it is not known for whom.
var ErrNoName = errors.New(
	"tlsconfig: no server name to verify: use the configuration that Client.For returns",
)

// A Verifier does what crypto/tls does by itself, for the cases that its own check can't express:
// no SNI, a single self-signed certificate, a chain without a name. It runs as VerifyConnection
// under InsecureSkipVerify or RequireAnyClientCert, on resumed connections too.
type Verifier struct {
	Roots            *x509.CertPool   // nil: the system's
	Now              func() time.Time // nil: time.Now
	AcceptSelfSigned bool             // what is signed with its own key
	// AnyChain: whoever has signed the certificate, and whenever it is valid; only its name is
	// checked.
	AnyChain bool
	AnyName  bool // whomever the certificate is for
	Client   bool // the certificate is a client's, which is for no host
}

// Verify returns the chains from the peer's certificate to a root, of which there is at least one
// but for AnyChain, after checking that a server's certificate is for state.ServerName, that it may
// be used in its role, and the dates of all. Errors are *tls.CertificateVerificationError, as
// crypto/tls has it.
func (v Verifier) Verify(state tls.ConnectionState) ([][]*x509.Certificate, error) {
	sent := state.PeerCertificates
	refuse := func(err error) error {
		return &tls.CertificateVerificationError{UnverifiedCertificates: sent, Err: err}
	}
	if len(sent) == 0 {
		return nil, refuse(errors.New("tlsconfig: the peer sent no certificate"))
	}
	name := state.ServerName
	switch {
	case v.Client || v.AnyName:
		name = "" // x509 takes it for "any name will do"
	case name == "" || name == names.NoSNI:
		return nil, refuse(ErrNoName)
	}

	if v.AnyChain {
		if err := sent[0].VerifyHostname(name); err != nil {
			return nil, refuse(err)
		}
		return nil, nil
	}
	options := x509.VerifyOptions{
		Roots:         v.Roots,
		DNSName:       name,
		Intermediates: x509.NewCertPool(),
	}
	if v.Client {
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if v.Now != nil {
		options.CurrentTime = v.Now()
	}
	for _, cert := range sent[1:] {
		options.Intermediates.AddCert(cert)
	}
	chains, err := sent[0].Verify(options)
	if err == nil {
		return chains, nil
	}

	// Only the missing authority is forgiven. With the certificate as its own root, dates, name and
	// usage are checked as for any other.
	unknown, ok := errors.AsType[x509.UnknownAuthorityError](err)
	if v.AcceptSelfSigned && ok && len(sent) == 1 && unknown.Cert == sent[0] &&
		SelfSigned(sent[0]) {
		options.Roots = x509.NewCertPool()
		options.Roots.AddCert(sent[0])
		chains, err = sent[0].Verify(options)
		if err == nil {
			return chains, nil
		}
	}
	return nil, refuse(err)
}

// SelfSigned reports whether cert is signed with its own key. CheckSignatureFrom would ask for a CA
// as well, which a self-signed server certificate rarely is.
func SelfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) &&
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// A ChainTooLongError says that every chain has more intermediates than ssl_verify_depth allows.
type ChainTooLongError struct {
	Intermediates, Limit int // of the shortest chain, and how many it may have
}

// Error gives both numbers.
func (e *ChainTooLongError) Error() string {
	return fmt.Sprintf(
		"tlsconfig: the shortest chain has %d intermediate certificates, ssl_verify_depth allows %d",
		e.Intermediates,
		e.Limit,
	)
}

// CheckDepth returns an error unless one of the chains has at most limit certificates between the
// server's and the root. That is OpenSSL's count: X509_VERIFY_PARAM_set_depth(3), neither end is
// counted.
func CheckDepth(state tls.ConnectionState, limit int) error {
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
		Err:                    &ChainTooLongError{Intermediates: shortest, Limit: limit},
	}
}
