package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
)

// maxSignatures is how many signatures Path checks, as crypto/x509 does: a peer that sends many
// certificates of one name must not buy much time with them.
const maxSignatures = 100

// Path returns the certificates from the first one of chain upwards, each signed by the next, and
// whether the last one is signed with its own key. It goes by names and signatures alone: what is
// weak, too old or no authority is on the path nevertheless.
func Path(chain []*x509.Certificate) (path []*x509.Certificate, ended bool) {
	last := chain[0]
	path = append(path, last)
	left := maxSignatures
	for {
		if bytes.Equal(last.RawIssuer, last.RawSubject) && signedBy(last, last) {
			return path, true
		}
		next := slices.IndexFunc(chain, func(cert *x509.Certificate) bool {
			if !bytes.Equal(cert.RawSubject, last.RawIssuer) ||
				slices.ContainsFunc(path, cert.Equal) || left == 0 {
				return false
			}
			left--
			return signedBy(last, cert)
		})
		if next < 0 {
			return path, false
		}
		last = chain[next]
		path = append(path, last)
	}
}

// signedBy goes by the signature alone: that SHA-1 is refused is told elsewhere.
func signedBy(cert, issuer *x509.Certificate) bool {
	err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	_, insecure := errors.AsType[x509.InsecureAlgorithmError](err)
	return err == nil || insecure
}

// WeakSignature reports whether cert is signed in a way that clients refuse.
func WeakSignature(cert *x509.Certificate) bool {
	switch cert.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return true
	}
	return false
}
