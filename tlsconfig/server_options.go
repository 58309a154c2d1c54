package tlsconfig

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// ServerOptions say what a Server is to be like. Only Certificates is required.
type ServerOptions struct {
	// Certificates are what the server shows for the names that clients ask for (SNI). The first
	// one is the default, for clients that ask for no name or an unknown one. Several for one name,
	// an ECDSA and an RSA one for example, are tried in their order: a client gets the first that
	// it can use.
	Certificates []ServerCertificate

	// StrictSNI refuses clients that ask for no name, or for one without a certificate, with the
	// alert unrecognized_name.
	StrictSNI bool

	// ClientCerts says whether clients show certificates. Those that do are verified: a certificate
	// that does not lead to one of the authorities in ClientCAFiles, ClientCADirs (every file in
	// them) and ClientCAPEM ends the handshake. The system's authorities play no part in it.
	ClientCerts   ClientCerts
	ClientCAFiles []string
	ClientCADirs  []string
	ClientCAPEM   []byte

	// ClientVerifyDepth is how many intermediate certificates a client's chain may have; 0: no
	// limit.
	ClientVerifyDepth int

	// AllowSelfSignedClients takes certificates as well that are signed with their own key. They
	// prove nothing about who the client is, only that it is the one of that certificate: compare
	// it with a known one, by ClientFingerprints or in the program.
	AllowSelfSignedClients bool

	// ClientFingerprints, if any, are hashes of certificates in hexadecimal: SHA-256, or SHA-1,
	// SHA-384, SHA-512. A client's must have one of them, besides being verified. Needs
	// ClientCertsRequire.
	ClientFingerprints []string

	// ALPN are the application protocols, best first, such as "h2", "http/1.1". A client that
	// offers others only is refused; one that offers none is not.
	ALPN []string

	// MinVersion and MaxVersion are tls.VersionTLS12 and so on. Default: TLS 1.2, and the newest
	// that crypto/tls has.
	MinVersion, MaxVersion uint16

	// CipherSuites of TLS 1.2 and below, and Groups for the key exchange. Default, and recommended:
	// Go's own choice.
	CipherSuites []uint16
	Groups       []tls.CurveID

	Tickets TicketOptions

	// Tolerate are the reasons to warn about only, where NewServer and Reload would refuse a
	// certificate: explain.ReasonExpired, explain.ReasonNotYetValid, explain.ReasonNameMismatch,
	// explain.ReasonWrongUsage, explain.ReasonWeak.
	Tolerate []explain.Reason
}

// A ServerCertificate is a certificate with its key, in one of three forms: files, PEM, or
// ready-made.
type ServerCertificate struct {
	// CertFile has the server's certificate and after it its intermediates, as PEM. KeyFile has the
	// key: PKCS#8, PKCS#1 or SEC 1; default: CertFile.
	CertFile, KeyFile string

	// CertPEM and KeyPEM are the same in memory.
	CertPEM, KeyPEM []byte

	// Passphrase opens an encrypted key.
	Passphrase string

	// Certificate is a ready one, as CA.Issue makes it.
	Certificate *tls.Certificate

	// Names are what clients ask for to get this certificate: "mail.example.com", "*.example.com"
	// (for one label). Default: the names that are in it. Given names go before those that are in
	// certificates, full names before wildcards.
	Names []string
}

// label is how errors call the certificate.
func (c *ServerCertificate) label(i int) string {
	return cmp.Or(c.CertFile, "certificate "+strconv.Itoa(i+1))
}

// ClientCerts says whether a server asks its clients for certificates.
type ClientCerts int

const (
	ClientCertsNone    ClientCerts = iota // they are not asked
	ClientCertsRequest                    // asked; a client without one is let in
	ClientCertsRequire                    // asked; a client without one is refused
)

// checked returns a copy of the options with the defaults filled in.
func (o ServerOptions) checked() (ServerOptions, error) {
	if len(o.Certificates) == 0 {
		return o, &OptionError{"Certificates", errNoCertificate}
	}
	o.Certificates = slices.Clone(o.Certificates)
	for i := range o.Certificates {
		if err := o.Certificates[i].check(); err != nil {
			return o, &OptionError{
				"Certificates",
				fmt.Errorf("%s: %w", o.Certificates[i].label(i), err),
			}
		}
	}
	if err := checkProtocol(o.MinVersion, o.MaxVersion, o.CipherSuites, o.Groups, o.ALPN); err != nil {
		return o, err
	}
	o.MinVersion = cmp.Or(o.MinVersion, tls.VersionTLS12)
	for _, reason := range o.Tolerate {
		switch reason {
		case explain.ReasonExpired,
			explain.ReasonNotYetValid,
			explain.ReasonNameMismatch,
			explain.ReasonWrongUsage,
			explain.ReasonWeak:
		default:
			return o, &OptionError{"Tolerate", fmt.Errorf("%q can't be tolerated", string(reason))}
		}
	}
	o.CipherSuites, o.Groups, o.ALPN = slices.Clone(
		o.CipherSuites,
	), slices.Clone(
		o.Groups,
	), slices.Clone(
		o.ALPN,
	)
	o.ClientCAFiles, o.ClientCADirs = slices.Clone(o.ClientCAFiles), slices.Clone(o.ClientCADirs)
	o.ClientCAPEM, o.Tolerate = slices.Clone(o.ClientCAPEM), slices.Clone(o.Tolerate)
	var err error
	o.Tickets, err = o.Tickets.checked()
	return o, err
}

// checkProtocol refuses what crypto/tls does not have, in the options of both roles.
func checkProtocol(
	lowest, highest uint16,
	suites []uint16,
	groups []tls.CurveID,
	alpn []string,
) error {
	lowest = cmp.Or(lowest, tls.VersionTLS12)
	for _, v := range []struct {
		name    string
		version uint16
	}{{"MinVersion", lowest}, {"MaxVersion", cmp.Or(highest, tls.VersionTLS13)}} {
		if v.version < tls.VersionTLS10 || v.version > tls.VersionTLS13 {
			return &OptionError{
				v.name,
				fmt.Errorf("crypto/tls does not have version %#x", v.version),
			}
		}
	}
	if highest != 0 && highest < lowest {
		return &OptionError{
			"MaxVersion",
			fmt.Errorf(
				"%s is below MinVersion, which is %s",
				tls.VersionName(highest),
				tls.VersionName(lowest),
			),
		}
	}
	known := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	for _, id := range suites {
		if !slices.ContainsFunc(
			known,
			func(suite *tls.CipherSuite) bool { return suite.ID == id },
		) {
			return &OptionError{
				"CipherSuites",
				fmt.Errorf("crypto/tls does not have suite %#04x", id),
			}
		}
	}
	for _, id := range groups {
		switch id {
		case tls.X25519,
			tls.CurveP256,
			tls.CurveP384,
			tls.CurveP521,
			tls.X25519MLKEM768,
			tls.SecP256r1MLKEM768,
			tls.SecP384r1MLKEM1024:
		default:
			return &OptionError{"Groups", fmt.Errorf("crypto/tls does not have group %d", id)}
		}
	}
	if err := names.CheckProtocols(alpn); err != nil {
		return &OptionError{"ALPN", err}
	}
	return nil
}

// check fills in the key's place, and refuses two forms at once.
func (c *ServerCertificate) check() error {
	forms := 0
	for _, given := range []bool{c.CertFile != "", len(c.CertPEM) > 0, c.Certificate != nil} {
		if given {
			forms++
		}
	}
	switch {
	case forms == 0:
		return errors.New("it has no certificate: set CertFile, CertPEM or Certificate")
	case forms > 1:
		return errors.New("it is there in two forms: set one of CertFile, CertPEM and Certificate")
	case c.KeyFile != "" && c.CertFile == "", len(c.KeyPEM) > 0 && len(c.CertPEM) == 0:
		return errors.New("certificate and key have to be given in the same form")
	}
	c.KeyFile = cmp.Or(c.KeyFile, c.CertFile)
	if len(c.KeyPEM) == 0 {
		c.KeyPEM = c.CertPEM
	}
	c.CertPEM, c.KeyPEM, c.Names = slices.Clone(
		c.CertPEM,
	), slices.Clone(
		c.KeyPEM,
	), slices.Clone(
		c.Names,
	)
	for _, name := range c.Names {
		if err := names.CheckPattern(name); err != nil {
			return err
		}
	}
	return nil
}

const (
	defaultRotation = 12 * time.Hour
	minRotation     = time.Minute
	maxRotation     = 7 * 24 * time.Hour // crypto/tls resumes no session that is older
	minSecret       = 32
)

// TicketOptions are about session tickets (RFC 8446, section 4.6.1): what a client comes back with
// to be spared the full handshake. Whoever has the keys can decrypt the tickets, and under TLS 1.2
// so the sessions that were made with them. That is why keys change.
//
// The default is right for one process: random keys that change and are never written anywhere.
// Processes that serve the same clients give the same Secret, or the same Keys, so that each
// resumes the others' sessions. A session is never resumed under another policy for client
// certificates than the one it was made under: keys are bound to it.
type TicketOptions struct {
	Off bool // no tickets: every handshake is a full one

	// Rotation is how long a key encrypts new tickets: a minute to seven days, default 12 hours.
	// The three keys before it are kept to decrypt older ones. Processes that share a Secret need
	// the same Rotation, and clocks that differ by less.
	Rotation time.Duration

	// Secret, or what is in SecretFile without the white space around it, is what keys are derived
	// from, along with the time. At least 32 bytes, random ("openssl rand -hex 32"). Who gets hold
	// of it has the keys of the past as well: change it now and then. SecretFile is read again by
	// Reload.
	Secret     []byte
	SecretFile string

	// Keys are for processes that get theirs from elsewhere: the first is for new tickets, all are
	// to decrypt. They don't change by themselves, see Server.SetTicketKeys. What crypto/tls gets
	// is derived from them, so that other programs can't resume the sessions.
	Keys [][32]byte
}

func (t TicketOptions) checked() (TicketOptions, error) {
	wrong := func(text string) (TicketOptions, error) { return t, &OptionError{"Tickets", errors.New(text)} }
	given := 0
	for _, is := range []bool{len(t.Secret) > 0, t.SecretFile != "", len(t.Keys) > 0} {
		if is {
			given++
		}
	}
	switch {
	case t.Off && (given > 0 || t.Rotation != 0):
		return wrong("are off, and yet there is something to make their keys of")
	case given > 1:
		return wrong("set one of Secret, SecretFile and Keys")
	case len(t.Keys) > 0 && t.Rotation != 0:
		return wrong("Keys don't change by themselves: leave Rotation out, and call SetTicketKeys")
	case len(t.Secret) > 0 && len(t.Secret) < minSecret:
		return wrong(
			fmt.Sprintf("Secret has %d bytes, it needs %d at least", len(t.Secret), minSecret),
		)
	case len(t.Keys) > maxTicketKeys:
		return wrong(fmt.Sprintf("there are %d Keys; %d are the most", len(t.Keys), maxTicketKeys))
	case t.Rotation != 0 && (t.Rotation < minRotation || t.Rotation > maxRotation):
		return wrong(
			fmt.Sprintf("Rotation is %v; it can be %v to %v", t.Rotation, minRotation, maxRotation),
		)
	}
	t.Rotation = cmp.Or(t.Rotation, defaultRotation)
	t.Secret, t.Keys = slices.Clone(t.Secret), slices.Clone(t.Keys)
	return t, nil
}
