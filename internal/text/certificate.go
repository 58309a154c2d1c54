package text

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Describe returns the role of a certificate in the chain that the server sent, and its name.
func Describe(cert *x509.Certificate, chain []*x509.Certificate) string {
	role := "the intermediate certificate "
	switch {
	case cert.Equal(chain[0]):
		role = "the server's certificate "
	case bytes.Equal(cert.RawIssuer, cert.RawSubject):
		role = "the root certificate "
	}
	return role + CertName(cert)
}

// CertName returns a name by which a person knows the certificate.
func CertName(cert *x509.Certificate) string {
	switch {
	case cert.Subject.CommonName != "":
		return Quoted(cert.Subject.CommonName)
	case len(cert.DNSNames) > 0:
		return Quoted(cert.DNSNames[0])
	case len(cert.IPAddresses) > 0:
		return Quoted(cert.IPAddresses[0].String())
	case len(cert.Subject.Organization) > 0:
		return Quoted(cert.Subject.Organization[0])
	}
	return "(without a name)"
}

// IssuerName returns a name by which a person knows the issuer of a certificate.
func IssuerName(cert *x509.Certificate) string {
	switch {
	case cert.Issuer.CommonName != "":
		return Quoted(cert.Issuer.CommonName)
	case len(cert.Issuer.Organization) > 0:
		return Quoted(cert.Issuer.Organization[0])
	}
	return "(without a name)"
}

// Hosts returns the hosts that a certificate is for.
func Hosts(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// UTC returns a time as it is printed: to the second, and the same on every machine.
func UTC(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Span returns how long it is from one time to a later one, roughly. A time.Duration would overflow
// at 292 years.
func Span(from, to time.Time) string {
	seconds := to.Unix() - from.Unix()
	switch {
	case seconds < 2*60:
		return fmt.Sprintf("%d seconds", seconds)
	case seconds < 2*60*60:
		return fmt.Sprintf("%d minutes", seconds/60)
	case seconds < 2*24*60*60:
		return fmt.Sprintf("%d hours", seconds/3600)
	}
	return fmt.Sprintf("%d days", seconds/86400)
}

const maxListed = 5 // entries of a list in a message

// List returns at most maxListed of the values, and how many more there are.
func List[T any](values []T, name func(T) string) string {
	var b strings.Builder
	for i, value := range values {
		if i == maxListed {
			fmt.Fprintf(&b, " and %d more", len(values)-maxListed)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name(value))
	}
	return b.String()
}

// Fingerprint returns the SHA-256 of a certificate or of a key, in hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
