package verify

import (
	"crypto"
	// To recognise a certificate that is known already; nobody can make another with its hash.
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// A Pin is the hash of a certificate that is expected.
type Pin struct {
	Name string // of the function: "sha256"
	Sum  []byte // of the certificate in DER
	hash func(der []byte) []byte
}

// ParsePin takes a hash in hexadecimal, with or without colons. Its length tells the function.
func ParsePin(text string) (Pin, error) {
	sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		return Pin{}, errors.New("want the hash of a certificate in hexadecimal")
	}
	p := Pin{Sum: sum}
	switch len(sum) {
	case crypto.SHA1.Size():
		p.Name, p.hash = "sha1", func(der []byte) []byte { s := sha1.Sum(der); return s[:] }
	case sha256.Size:
		p.Name, p.hash = "sha256", func(der []byte) []byte { s := sha256.Sum256(der); return s[:] }
	case sha512.Size384:
		p.Name, p.hash = "sha384", func(der []byte) []byte { s := sha512.Sum384(der); return s[:] }
	case sha512.Size:
		p.Name, p.hash = "sha512", func(der []byte) []byte { s := sha512.Sum512(der); return s[:] }
	case crypto.MD5.Size():
		return Pin{}, errors.New(
			"MD5 can't be honoured: two certificates with one MD5 can be made; take SHA-256",
		)
	default:
		return Pin{}, fmt.Errorf(
			"a hash of %d bytes is by no function that is known here: take SHA-256",
			len(sum),
		)
	}
	return p, nil
}

func (p Pin) fits(cert *x509.Certificate) bool {
	return subtle.ConstantTimeCompare(p.hash(cert.Raw), p.Sum) == 1
}

// A pinError says that the peer's certificate is none of those expected.
type pinError struct{ got string }

func (e *pinError) Error() string {
	return "tlsconfig: the certificate is not the one expected: its SHA-256 is " + e.got
}

// CheckPins returns an error unless the peer's certificate has one of the hashes.
func CheckPins(state tls.ConnectionState, pins []Pin) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New(
			"tlsconfig: the peer sent no certificate, but its fingerprint is to be checked",
		)
	}
	cert := state.PeerCertificates[0]
	if slices.ContainsFunc(pins, func(p Pin) bool { return p.fits(cert) }) {
		return nil
	}
	return &tls.CertificateVerificationError{
		UnverifiedCertificates: state.PeerCertificates,
		Err:                    &pinError{text.Fingerprint(cert.Raw)},
	}
}
