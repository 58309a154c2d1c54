package tlsconfig

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
)

// An OptionError says which option can't be honoured, and why. Err may wrap a *CertificateError and an *fs.PathError.
type OptionError struct {
	Option string // the option's name, such as "ssl_cafile"
	Err    error
}

// Error returns one line: the option and the cause.
func (e *OptionError) Error() string {
	return "tlsconfig: " + printable(e.Option, maxText) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// A dialect is one role's options as one system names them. It has every name that the system knows: what can't be had
// is there as well, with a setter that says why.
type dialect struct {
	setters map[string]setter

	// The names under which mistakes are reported that show only when all options are read.
	verifyPeer, caFile, caPath, certFile, keyFile, passphrase, sni string
	keyInCert                                                      bool // the key may be in the certificate's file, with no option for it
}

// A setter stores the value of one option, or says what is wrong with it.
type setter func(*settings, any) error

// settings is what the options of one map ask for, before files are read. Zero and nil are: not given.
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
	sniCerts     []ServerCertificate

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
	// Sorted, so that of two mistakes always the same one is reported.
	for _, name := range slices.Sorted(maps.Keys(options)) {
		set, known := d.setters[name]
		if !known {
			return nil, &OptionError{name, errors.New("no such option")}
		}
		value := options[name]
		if value == nil {
			continue
		}
		if err := set(s, value); err != nil {
			return nil, &OptionError{name, err}
		}
	}
	return s, nil
}

var (
	errServerOption = errors.New("is a server option: a client has no use for it")
	errClientOption = errors.New("is a client option: a server has no use for it")
)

// refuse is the setter of an option that can't be honoured, whatever its value.
func refuse(why error) setter { return func(*settings, any) error { return why } }

// store sets a field.
func store[T any](convert func(any) (T, error), field func(*settings) *T) setter {
	return func(s *settings, value any) (err error) {
		*field(s), err = convert(value)
		return err
	}
}

// storeGiven sets a field for which it matters that the option was given.
func storeGiven[T any](convert func(any) (T, error), field func(*settings) **T) setter {
	return func(s *settings, value any) error {
		converted, err := convert(value)
		*field(s) = &converted
		return err
	}
}

// is reports what an option says, or what holds where it was not given.
func is(option *bool, otherwise bool) bool {
	if option == nil {
		return otherwise
	}
	return *option
}

// versions returns the range of versions, 0 for the default at either end.
func (s *settings) versions() (lowest, highest uint16, err error) {
	if len(s.methods) == 2 {
		if s.minVersion != 0 || s.maxVersion != 0 {
			return 0, 0, &OptionError{"crypto_method", errors.New("says the same as min_proto_version and max_proto_version: give one or the other")}
		}
		return s.methods[0], s.methods[1], nil
	}
	lowest, highest = s.minVersion, s.maxVersion
	switch {
	case lowest == 0 && highest != 0 && highest < tls.VersionTLS12:
		return 0, 0, &OptionError{"max_proto_version", errors.New("is below the floor of TLS 1.2: to go lower, give min_proto_version as well")}
	case highest != 0 && lowest > highest:
		return 0, 0, &OptionError{"min_proto_version", errors.New("is above max_proto_version")}
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
		return "", "", &OptionError{d.certFile, errors.New("a certificate needs its key: set " + d.keyFile + " as well")}
	case s.keyFile != "":
		return "", "", &OptionError{d.keyFile, errors.New("a key needs its certificate: set " + d.certFile + " as well")}
	case s.passphrase != "" && len(s.sniCerts) == 0:
		return "", "", &OptionError{d.passphrase, errors.New("there is no key for it to open: set " + d.keyFile)}
	}
	return "", "", nil
}

// clientConfig reads the files and puts the configuration of a client together.
func (s *settings) clientConfig() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		CipherSuites:           s.suites,
		CurvePreferences:       s.groups,
		NextProtos:             s.protocols,
		SessionTicketsDisabled: s.noTicket,
	}
	lowest, highest, err := s.versions()
	if err != nil {
		return nil, err
	}
	if lowest != 0 {
		config.MinVersion = lowest
	}
	config.MaxVersion = highest
	if s.hostName != nil {
		config.ServerName = serverName(*s.hostName)
	}
	if s.hostName != nil && config.ServerName == "" || !is(s.sniEnabled, true) {
		if s.hostName != nil && *s.hostName != "" {
			return nil, &OptionError{"SNI_enabled", errors.New("is off: then there is no way to verify peer_name in place of the host dialled")}
		}
		config.ServerName = NoSNI
	}
	if err := s.clientFiles(config); err != nil {
		return nil, err
	}
	return config, s.verification(config)
}

// clientFiles reads what the options of a client name.
func (s *settings) clientFiles(config *tls.Config) error {
	d := s.dialect
	roots, err := s.authorities()
	if err != nil {
		return err
	}
	config.RootCAs = roots
	certFile, keyFile, err := s.ownCertificate()
	if err != nil || certFile == "" {
		return err
	}
	cert, err := loadKeyPair(certFile, keyFile, s.passphrase)
	if err == nil {
		config.Certificates = []tls.Certificate{cert}
		return nil
	}
	option := d.certFile
	if e, ok := errors.AsType[*CertificateError](err); ok && e.inKey {
		option = d.keyFile
	}
	return &OptionError{option, err}
}

// verification sets how the server is verified.
func (s *settings) verification(config *tls.Config) error {
	var pins []pin
	for _, text := range s.fingerprints {
		p, err := parsePin(text)
		if err != nil {
			return &OptionError{"peer_fingerprint", err}
		}
		pins = append(pins, p)
	}
	verify := is(s.verifyPeer, true)
	anyName := !is(s.verifyName, true)
	// Where crypto/tls can't express it, VerifyConnection does the whole verification.
	takeOver := verify && (s.selfSigned || anyName)
	config.InsecureSkipVerify = !verify || takeOver

	depth := s.verifyDepth
	if !verify {
		depth = 0
	}
	if !takeOver && depth == 0 && len(pins) == 0 {
		return nil
	}
	check := verifier{roots: config.RootCAs, acceptSelfSigned: s.selfSigned, anyName: anyName}
	config.VerifyConnection = func(state tls.ConnectionState) (err error) {
		if takeOver {
			if state.VerifiedChains, err = check.verify(state); err != nil {
				return err
			}
		}
		if depth > 0 {
			if err := checkDepth(state, depth); err != nil {
				return err
			}
		}
		for _, p := range pins { // all of them: they are one certificate's, by several functions
			if err := checkPins(state, []pin{p}); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// authorities returns the pool of cafile and capath, nil if neither is given.
func (s *settings) authorities() (*x509.CertPool, error) {
	if s.caFile == "" && s.caPath == "" {
		return nil, nil
	}
	var all []*x509.Certificate
	if s.caFile != "" {
		certs, err := readAuthorities(s.caFile)
		if err != nil {
			return nil, &OptionError{s.dialect.caFile, err}
		}
		all = certs
	}
	if s.caPath != "" {
		certs, err := readAuthoritiesIn(s.caPath)
		if err != nil {
			return nil, &OptionError{s.dialect.caPath, err}
		}
		all = append(all, certs...)
	}
	return poolOf(all), nil
}

// serverOptions puts the options of a server together.
func (s *settings) serverOptions() (ServerOptions, error) {
	d := s.dialect
	o := ServerOptions{
		CipherSuites:           s.suites,
		Groups:                 s.groups,
		ALPN:                   s.protocols,
		AllowSelfSignedClients: s.selfSigned,
		ClientVerifyDepth:      s.verifyDepth,
		ClientFingerprints:     s.fingerprints,
		Tickets:                TicketOptions{Off: s.noTicket},
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
		o.Certificates = append(o.Certificates, ServerCertificate{CertFile: certFile, KeyFile: keyFile, Passphrase: s.passphrase})
	}
	if len(s.sniCerts) > 0 && !is(s.sniEnabled, true) {
		return o, &OptionError{d.sni, errors.New("contradicts SNI_enabled, which is off")}
	}
	for _, cert := range s.sniCerts {
		cert.Passphrase = cmp.Or(cert.Passphrase, s.passphrase)
		o.Certificates = append(o.Certificates, cert)
	}
	o.StrictSNI = certFile == "" && len(s.sniCerts) > 0
	if len(o.Certificates) == 0 {
		return o, &OptionError{d.certFile, errors.New("is missing: a server needs a certificate")}
	}
	return o, s.clientCertificates(&o)
}

// clientCertificates sets what is asked of the clients.
func (s *settings) clientCertificates(o *ServerOptions) error {
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
	case is(s.verifyPeer, false) && !authorities:
		return &OptionError{d.verifyPeer, errors.New("can't be honoured without the authorities whose certificates clients may have: set " + d.caFile +
			"; the system's are for servers")}
	case is(s.verifyPeer, false):
		o.ClientCerts = ClientCertsRequire
	case authorities && (s.verifyPeer == nil || s.clientCAFile != ""):
		o.ClientCerts = ClientCertsRequest
	default: // none is asked for, so that there is nothing to check it by
		o.ClientCAFiles, o.ClientCADirs, o.ClientVerifyDepth, o.AllowSelfSignedClients = nil, nil, 0, false
	}
	switch {
	case len(o.ClientFingerprints) > 0 && o.ClientCerts != ClientCertsRequire:
		return &OptionError{"peer_fingerprint", errors.New("needs " + d.verifyPeer + ": no client is required to have a certificate")}
	case len(o.ClientFingerprints) > 1:
		return &OptionError{"peer_fingerprint", errors.New("give one function for the clients' certificates")}
	}
	return nil
}
