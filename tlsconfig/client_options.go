package tlsconfig

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/internal/verify"
)

// ClientOptions say how a client verifies servers, and what it shows them. The zero ClientOptions
// are TLS 1.2 and 1.3, verified against the system's authorities.
type ClientOptions struct {
	// ServerName is the name to ask for and to verify in place of the host that is dialled; NoSNI
	// asks for none.
	ServerName string

	// CAFiles, CADirs (every file in them) and CAPEM have the authorities to trust, as PEM, in
	// place of the system's.
	CAFiles, CADirs []string
	CAPEM           []byte

	// AllowSelfSigned takes a server's certificate as well that is the only one sent, and signed
	// with its own key. Its dates, its name and its usage are checked nevertheless; but anybody can
	// make one.
	AllowSelfSigned bool

	// VerifyDepth is how many intermediate certificates a chain may have; 0: no limit.
	VerifyDepth int

	// Fingerprints, if any, are hashes of certificates in hexadecimal: SHA-256, or SHA-1, SHA-384,
	// SHA-512. The server's must have one of them, besides being verified.
	Fingerprints []string

	// InsecureSkipChain takes certificates whoever has signed them, and in their time or not.
	// InsecureSkipName takes those of other hosts. With both nothing is verified, as with
	// tls.Config.InsecureSkipVerify.
	InsecureSkipChain, InsecureSkipName bool

	// CertFile and KeyFile have the client's own certificate with its intermediates, and the key,
	// see ServerCertificate. Passphrase opens an encrypted key.
	CertFile, KeyFile, Passphrase string

	// ALPN are the application protocols, best first.
	ALPN []string

	// MinVersion and MaxVersion are tls.VersionTLS12 and so on. Default: TLS 1.2, and the newest
	// that crypto/tls has.
	MinVersion, MaxVersion uint16

	// CipherSuites of TLS 1.2 and below, and Groups for the key exchange. Default, and recommended:
	// Go's own choice.
	CipherSuites []uint16
	Groups       []tls.CurveID

	NoTickets bool // every handshake is a full one
}

// Config returns the configuration that the options ask for, for NewClient, which fills in the
// host. It reads the files, so it may block: call it once, off the event loop. Errors are
// *OptionError; what is wrong with a file is a *CertificateError in it.
//
// Where AllowSelfSigned or one of the two InsecureSkips is set the configuration has
// InsecureSkipVerify: its VerifyConnection does what is left of the verification, under the name
// that Client.For gives it. So ConnectionState.VerifiedChains stays empty, and without Client.For a
// server dialled by address is refused.
func (o ClientOptions) Config() (*tls.Config, error) {
	err := checkProtocol(o.MinVersion, o.MaxVersion, o.CipherSuites, o.Groups, o.ALPN)
	if err != nil {
		return nil, err
	}
	switch {
	case o.VerifyDepth < 0:
		return nil, &OptionError{"VerifyDepth", errors.New("is negative")}
	case o.ServerName != NoSNI:
		if err := names.CheckHost(o.ServerName); err != nil {
			return nil, &OptionError{"ServerName", err}
		}
		o.ServerName = names.Server(o.ServerName)
	}
	config := &tls.Config{
		ServerName:             o.ServerName,
		MinVersion:             cmp.Or(o.MinVersion, tls.VersionTLS12),
		MaxVersion:             o.MaxVersion,
		CipherSuites:           slices.Clone(o.CipherSuites),
		CurvePreferences:       slices.Clone(o.Groups),
		NextProtos:             slices.Clone(o.ALPN),
		SessionTicketsDisabled: o.NoTickets,
	}
	if err := o.read(config); err != nil {
		return nil, err
	}
	return config, o.verification(config)
}

// read reads the files.
func (o *ClientOptions) read(config *tls.Config) error {
	authorities, option, err := readAllAuthorities("", o.CAFiles, o.CADirs, o.CAPEM)
	switch {
	case err != nil:
		return &OptionError{option, err}
	case len(authorities) > 0:
		config.RootCAs = poolOf(authorities)
	}
	switch {
	case o.CertFile == "" && o.KeyFile != "":
		return &OptionError{
			"KeyFile", errors.New("needs its certificate: set " + setting.CertFile + " as well"),
		}
	case o.CertFile == "" && o.Passphrase != "":
		return &OptionError{
			"Passphrase", errors.New("there is no key for it to open: set " + setting.KeyFile),
		}
	case o.CertFile == "":
		return nil
	}
	cert, err := loadKeyPair(o.CertFile, cmp.Or(o.KeyFile, o.CertFile), o.Passphrase)
	if err == nil {
		config.Certificates = []tls.Certificate{cert}
		return nil
	}
	option = "CertFile"
	if e, ok := errors.AsType[*CertificateError](err); ok && e.inKey {
		option = "KeyFile"
	}
	return &OptionError{option, err}
}

// verification sets how the server is verified.
func (o *ClientOptions) verification(config *tls.Config) error {
	pins, err := parsePins("Fingerprints", o.Fingerprints)
	if err != nil {
		return err
	}
	check := verify.Verifier{
		Roots:            config.RootCAs,
		AcceptSelfSigned: o.AllowSelfSigned,
		AnyChain:         o.InsecureSkipChain,
		AnyName:          o.InsecureSkipName,
	}
	nothing := o.InsecureSkipChain && o.InsecureSkipName
	// What crypto/tls can't do by itself.
	takeOver := !nothing && (o.InsecureSkipChain || o.InsecureSkipName || o.AllowSelfSigned)
	config.InsecureSkipVerify = nothing || takeOver
	depth := o.VerifyDepth
	if o.InsecureSkipChain {
		depth = 0
	}
	if !takeOver && depth == 0 && len(pins) == 0 {
		return nil
	}
	config.VerifyConnection = func(state tls.ConnectionState) (err error) {
		if takeOver {
			if state.VerifiedChains, err = check.Verify(state); err != nil {
				return err
			}
		}
		if depth > 0 {
			if err := verify.CheckDepth(state, depth); err != nil {
				return err
			}
		}
		if len(pins) > 0 {
			return verify.CheckPins(state, pins)
		}
		return nil
	}
	return nil
}

// parsePins takes the fingerprints of an option.
func parsePins(option string, texts []string) (pins []verify.Pin, err error) {
	for _, text := range texts {
		pin, err := verify.ParsePin(text)
		if err != nil {
			return nil, &OptionError{option, err}
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// readAllAuthorities returns the certificates of all three sources. After an error, which says what
// it is about, option is the name of the source among the options, which begins with prefix.
func readAllAuthorities(
	prefix string, files, dirs []string, pem []byte,
) (all []*x509.Certificate, option string, err error) {
	for _, file := range files {
		certs, err := readAuthorities(file)
		if err != nil {
			return nil, prefix + "CAFiles", err
		}
		all = append(all, certs...)
	}
	for _, dir := range dirs {
		certs, err := readAuthoritiesIn(dir)
		if err != nil {
			return nil, prefix + "CADirs", err
		}
		all = append(all, certs...)
	}
	if len(pem) > 0 {
		certs, err := parseAuthorities(prefix+"CAPEM", pem)
		if err != nil {
			return nil, prefix + "CAPEM", err
		}
		all = append(all, certs...)
	}
	return all, "", nil
}
