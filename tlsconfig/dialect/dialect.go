package dialect

import (
	"cmp"
	"crypto/tls"
	"errors"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/internal/verify"
	"github.com/whorl-go/whorl/tlsconfig"
)

// A dialect is one role's options as one system names them. It has every name that the system
// knows: what can't be had is there as well, with a setter that says why.
type dialect struct {
	setters option.Table[settings]

	// The names under which mistakes are reported that show only when all options are read.
	verifyPeer, caFile, caPath, certFile, keyFile, passphrase, sni string
	// The key may be in the certificate's file, with no option for it.
	keyInCert bool
	// The name is verified also where the chain is not.
	nameApart bool
}

func optionError(name, why string) error { return ofOption(name, errors.New(why)) }

func ofOption(name string, err error) error {
	return &tlsconfig.OptionError{Option: name, Err: err}
}

// settings is what the options of one map ask for, before files are read. Zero and nil are: not
// given.
type settings struct {
	dialect *dialect

	// Verification of the peer
	verifyPeer, verifyName *bool
	selfSigned             bool
	verifyDepth            int // 0: no limit of ours
	hostName               *string
	sniEnabled             *bool
	caFile, caPath         string
	fingerprints           []string

	// This side's own certificate
	certFile, keyFile, passphrase string

	// A server's
	clientCAFile string
	sniCerts     []tlsconfig.ServerCertificate

	// Protocol
	methods                []uint16 // lowest and highest version, of a bit mask
	minVersion, maxVersion uint16
	suites                 []uint16
	groups                 []tls.CurveID
	protocols              []string // ALPN
	noTicket               bool
}

// parse stores the values of all options. An option that is nil (PHP's null) is not given.
func (d *dialect) parse(options map[string]any) (*settings, error) {
	s := &settings{dialect: d}
	if err := d.setters.Set(s, options, ofOption); err != nil {
		return nil, err
	}
	return s, nil
}

var (
	errServerOption = errors.New("is a server option: a client has no use for it")
	errClientOption = errors.New("is a client option: a server has no use for it")
)

// versions returns the range of versions, 0 for the default at either end.
func (s *settings) versions() (lowest, highest uint16, err error) {
	if len(s.methods) == 2 {
		if s.minVersion != 0 || s.maxVersion != 0 {
			return 0, 0, optionError(
				"crypto_method",
				"says the same as min_proto_version and max_proto_version: give one or the other",
			)
		}
		return s.methods[0], s.methods[1], nil
	}
	lowest, highest = s.minVersion, s.maxVersion
	switch {
	case lowest == 0 && highest != 0 && highest < tls.VersionTLS12:
		return 0, 0, optionError(
			"max_proto_version",
			"is below the floor of TLS 1.2: to go lower, give min_proto_version as well",
		)
	case highest != 0 && lowest > highest:
		return 0, 0, optionError("min_proto_version", "is above max_proto_version")
	}
	return lowest, highest, nil
}

// ownCertificate returns the certificate's file and the key's, both empty if there is none.
func (s *settings) ownCertificate() (certFile, keyFile string, err error) {
	d := s.dialect
	switch {
	case s.certFile != "" && s.keyFile != "":
		return s.certFile, s.keyFile, nil
	case s.certFile != "" && d.keyInCert:
		return s.certFile, s.certFile, nil
	case s.certFile != "":
		return "", "", optionError(
			d.certFile,
			"a certificate needs its key: set "+d.keyFile+" as well",
		)
	case s.keyFile != "":
		return "", "", optionError(
			d.keyFile,
			"a key needs its certificate: set "+d.certFile+" as well",
		)
	case s.passphrase != "" && len(s.sniCerts) == 0:
		return "", "", optionError(d.passphrase, "there is no key for it to open: set "+d.keyFile)
	}
	return "", "", nil
}

// clientConfig reads the files and puts the configuration of a client together.
func (s *settings) clientConfig() (*tls.Config, error) {
	d := s.dialect
	o := tlsconfig.ClientOptions{
		AllowSelfSigned:   s.selfSigned,
		VerifyDepth:       s.verifyDepth,
		InsecureSkipChain: !option.Is(s.verifyPeer, true),
		InsecureSkipName:  !option.Is(s.verifyName, option.Is(s.verifyPeer, true) || d.nameApart),
		ALPN:              s.protocols,
		CipherSuites:      s.suites,
		Groups:            s.groups,
		NoTickets:         s.noTicket,
		Passphrase:        s.passphrase,
	}
	var err error
	if o.MinVersion, o.MaxVersion, err = s.versions(); err != nil {
		return nil, err
	}
	if s.hostName != nil {
		o.ServerName = *s.hostName
	}
	if s.hostName != nil && *s.hostName == "" || !option.Is(s.sniEnabled, true) {
		if o.ServerName != "" {
			return nil, optionError(
				"SNI_enabled",
				"is off: then there is no way to verify peer_name in place of the host dialled",
			)
		}
		o.ServerName = tlsconfig.NoSNI
	}
	if s.caFile != "" {
		o.CAFiles = []string{s.caFile}
	}
	if s.caPath != "" {
		o.CADirs = []string{s.caPath}
	}
	if o.CertFile, o.KeyFile, err = s.ownCertificate(); err != nil {
		return nil, err
	}
	if len(s.fingerprints) == 1 {
		o.Fingerprints = s.fingerprints
	}
	config, err := o.Config()
	if err != nil {
		return nil, d.renamed(err)
	}
	if len(s.fingerprints) > 1 {
		return config, checkEach(config, s.fingerprints)
	}
	return config, nil
}

// renamed gives an error of tlsconfig about an option the name that it has here.
func (d *dialect) renamed(err error) error {
	e, ok := errors.AsType[*tlsconfig.OptionError](err)
	if !ok {
		return err
	}
	name, ok := map[string]string{"CAFiles": d.caFile, "CADirs": d.caPath, "CertFile": d.certFile, "KeyFile": d.keyFile}[e.Option]
	if !ok {
		return err
	}
	return &tlsconfig.OptionError{Option: name, Err: e.Err}
}

// checkEach has a connection fail unless all fingerprints fit: they are one certificate's, by
// several functions.
func checkEach(config *tls.Config, fingerprints []string) error {
	var pins []verify.Pin
	for _, text := range fingerprints {
		pin, err := verify.ParsePin(text)
		if err != nil {
			return &tlsconfig.OptionError{Option: "peer_fingerprint", Err: err}
		}
		pins = append(pins, pin)
	}
	next := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if next != nil {
			if err := next(state); err != nil {
				return err
			}
		}
		for i := range pins {
			if err := verify.CheckPins(state, pins[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// serverOptions puts the options of a server together.
func (s *settings) serverOptions() (tlsconfig.ServerOptions, error) {
	d := s.dialect
	o := tlsconfig.ServerOptions{
		CipherSuites:           s.suites,
		Groups:                 s.groups,
		ALPN:                   s.protocols,
		AllowSelfSignedClients: s.selfSigned,
		ClientVerifyDepth:      s.verifyDepth,
		ClientFingerprints:     s.fingerprints,
		Tickets:                tlsconfig.TicketOptions{Off: s.noTicket},
	}
	var err error
	if o.MinVersion, o.MaxVersion, err = s.versions(); err != nil {
		return o, err
	}
	certFile, keyFile, err := s.ownCertificate()
	if err != nil {
		return o, err
	}
	if certFile != "" {
		o.Certificates = append(
			o.Certificates,
			tlsconfig.ServerCertificate{
				CertFile:   certFile,
				KeyFile:    keyFile,
				Passphrase: s.passphrase,
			},
		)
	}
	if len(s.sniCerts) > 0 && !option.Is(s.sniEnabled, true) {
		return o, optionError(d.sni, "contradicts SNI_enabled, which is off")
	}
	for _, cert := range s.sniCerts {
		cert.Passphrase = cmp.Or(cert.Passphrase, s.passphrase)
		o.Certificates = append(o.Certificates, cert)
	}
	o.StrictSNI = certFile == "" && len(s.sniCerts) > 0
	if len(o.Certificates) == 0 {
		return o, optionError(d.certFile, "is missing: a server needs a certificate")
	}
	return o, s.clientCertificates(&o)
}

// clientCertificates sets what is asked of the clients.
func (s *settings) clientCertificates(o *tlsconfig.ServerOptions) error {
	d := s.dialect
	for _, file := range []string{s.clientCAFile, s.caFile} {
		if file != "" {
			o.ClientCAFiles = append(o.ClientCAFiles, file)
		}
	}
	if s.caPath != "" {
		o.ClientCADirs = []string{s.caPath}
	}
	authorities := len(o.ClientCAFiles)+len(o.ClientCADirs) > 0
	switch {
	case option.Is(s.verifyPeer, false) && !authorities:
		return optionError(
			d.verifyPeer,
			"can't be honoured without the authorities whose certificates clients may have: set "+d.caFile+
				"; the system's are for servers",
		)
	case option.Is(s.verifyPeer, false):
		o.ClientCerts = tlsconfig.ClientCertsRequire
	case authorities && (s.verifyPeer == nil || s.clientCAFile != ""):
		o.ClientCerts = tlsconfig.ClientCertsRequest
	default: // none is asked for, so that there is nothing to check it by
		o.ClientCAFiles, o.ClientCADirs, o.ClientVerifyDepth, o.AllowSelfSignedClients = nil, nil, 0, false
	}
	switch {
	case len(o.ClientFingerprints) > 0 && o.ClientCerts != tlsconfig.ClientCertsRequire:
		return optionError(
			"peer_fingerprint",
			"needs "+d.verifyPeer+": no client is required to have a certificate",
		)
	case len(o.ClientFingerprints) > 1:
		return optionError("peer_fingerprint", "give one function for the clients' certificates")
	}
	return nil
}
