package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// An OptionError says which option FromOptions can't honour, and why. Err may wrap an *fs.PathError.
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

// clientOptions is what the options of one map ask for, before files are read.
type clientOptions struct {
	// Verification of the server
	skipVerify  bool
	selfSigned  bool
	verifyDepth int // 0: no limit of ours
	hostName    *string
	caFile      string
	caPath      string

	// The client's own certificate
	certFile   string
	keyFile    string
	passphrase string

	// Protocol
	minVersion, maxVersion uint16 // 0: default
	suites                 []uint16
	groups                 []tls.CurveID
}

// clientSetters has a function for each option of a client, that stores its value or says what is wrong with it.
var clientSetters = map[string]func(*clientOptions, any) error{
	"ssl_verify_peer": func(o *clientOptions, value any) error {
		verify, err := boolean(value)
		o.skipVerify = !verify
		return err
	},
	"ssl_allow_self_signed": func(o *clientOptions, value any) (err error) {
		o.selfSigned, err = boolean(value)
		return err
	},
	"ssl_verify_depth": func(o *clientOptions, value any) error {
		depth, err := integer(value)
		if err == nil && (depth < 0 || depth > 100) {
			err = fmt.Errorf("want 1 to 100 intermediate certificates, or 0 for no limit, got %d", depth)
		}
		o.verifyDepth = int(depth)
		return err
	},
	"ssl_host_name": func(o *clientOptions, value any) error {
		name, ok := value.(string)
		if !ok {
			return wantType("a string", value)
		}
		o.hostName = &name
		return checkHostName(name)
	},
	"ssl_cafile":    pathSetter(func(o *clientOptions) *string { return &o.caFile }),
	"ssl_capath":    pathSetter(func(o *clientOptions) *string { return &o.caPath }),
	"ssl_cert_file": pathSetter(func(o *clientOptions) *string { return &o.certFile }),
	"ssl_key_file":  pathSetter(func(o *clientOptions) *string { return &o.keyFile }),
	"ssl_passphrase": func(o *clientOptions, value any) error {
		phrase, ok := value.(string)
		if !ok {
			return wantType("a string", value)
		}
		o.passphrase = phrase
		return nil
	},
	"ssl_ciphers": func(o *clientOptions, value any) (err error) {
		list, ok := value.(string)
		if !ok {
			return wantType("a string: an OpenSSL cipher list", value)
		}
		o.suites, err = parseCiphers(list)
		return err
	},
	"ssl_protocols": func(o *clientOptions, value any) error {
		mask, err := integer(value)
		if err != nil {
			return err
		}
		o.minVersion, o.maxVersion, err = parseProtocols(mask)
		return err
	},
	"ssl_ecdh_curve": func(o *clientOptions, value any) (err error) {
		list, ok := value.(string)
		if !ok {
			return wantType(`a string: "auto" or names with colons between them`, value)
		}
		o.groups, err = parseGroups(list)
		return err
	},
	"ssl_compress": refuseIf(true, "crypto/tls has no compression: it gives secrets away (CRIME, CVE-2012-4929)"),
	"ssl_disable_compression": refuseIf(false,
		"crypto/tls has no compression: it gives secrets away (CRIME, CVE-2012-4929)"),
	"ssl_grease": refuseIf(true, "crypto/tls sends no GREASE values"),
}

var errServerOption = errors.New("is a server option: a client has no use for it")

// serverOnly are the names of Swoole's that make sense on a server alone.
var serverOnly = []string{"ssl_dhparam", "ssl_prefer_server_ciphers", "ssl_client_cert_file", "ssl_sni_certs"}

// IsOption reports whether name is one of Swoole's ssl_* options. Those that FromOptions knows only to refuse are
// among them, so that a caller who passes on what IsOption picks gets the better error.
func IsOption(name string) bool {
	_, ok := clientSetters[name]
	return ok || slices.Contains(serverOnly, name)
}

// FromOptions returns the configuration that Swoole's ssl_* options for a client ask for. It reads the files they
// name, so it may block: call it once, off the event loop, and share the result. Give that result to NewClient, which
// fills in the host.
//
// The option is at its default where it is absent or nil (PHP's null). Integers may be of any integer type, or a
// float64 without a fraction; booleans may be the integers 0 and 1; strings are strings. Errors are *OptionError.
//
//	ssl_verify_peer (true)          false: no verification whatever, as InsecureSkipVerify
//	ssl_allow_self_signed (false)   accept a server that sends one certificate, signed with its own key; dates, name
//	                                and usage are checked nevertheless
//	ssl_host_name (host dialled)    name for SNI and verification; "": no SNI, verified for the host dialled (see NoSNI)
//	ssl_cafile, ssl_capath          PEM file, directory of PEM files: the only roots, in place of the system's
//	ssl_verify_depth (0)            how many intermediate certificates a chain may have; 0: no limit
//	ssl_cert_file, ssl_key_file     the client's certificate (with intermediates) and key, PEM; both or neither
//	ssl_passphrase                  for a key encrypted as traditional PEM (DEK-Info); encrypted PKCS#8 can't be read
//	ssl_ciphers                     OpenSSL's cipher list, for TLS 1.2 and below; Go keeps its own order of preference
//	ssl_protocols (96)              sum of 8 TLS 1.0, 16 TLS 1.1, 32 TLS 1.2, 64 TLS 1.3, without a hole; 0: default
//	ssl_ecdh_curve ("auto")         groups for the key exchange, such as "X25519:prime256v1"; Go keeps its own order
//	ssl_compress, ssl_disable_compression, ssl_grease   only the value that asks for nothing
//
// The configuration for ssl_allow_self_signed has InsecureSkipVerify set: its VerifyConnection does the verification,
// under the name that Client.For gives it. So ConnectionState.VerifiedChains stays empty, and without Client.For a
// server dialled by address is refused.
func FromOptions(options map[string]any) (*tls.Config, error) {
	var o clientOptions
	// Sorted, so that of two mistakes always the same one is reported.
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		set, known := clientSetters[name]
		switch {
		case slices.Contains(serverOnly, name):
			return nil, &OptionError{Option: name, Err: errServerOption}
		case !known:
			return nil, &OptionError{Option: name, Err: errors.New("no such option")}
		case value == nil:
			continue
		}
		if err := set(&o, value); err != nil {
			return nil, &OptionError{Option: name, Err: err}
		}
	}
	return o.config()
}

// config reads the files and puts the configuration together.
func (o *clientOptions) config() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:       tls.VersionTLS12,
		CipherSuites:     o.suites,
		CurvePreferences: o.groups,
	}
	if o.minVersion != 0 {
		config.MinVersion, config.MaxVersion = o.minVersion, o.maxVersion
	}
	if o.hostName != nil {
		if config.ServerName = serverName(*o.hostName); config.ServerName == "" {
			config.ServerName = NoSNI
		}
	}

	var err error
	if config.RootCAs, err = loadRoots(o.caFile, o.caPath); err != nil {
		return nil, err
	}
	if config.Certificates, err = o.certificates(); err != nil {
		return nil, err
	}

	depth := o.verifyDepth
	switch {
	case o.skipVerify:
		config.InsecureSkipVerify = true
	case o.selfSigned:
		check := verifier{roots: config.RootCAs, acceptSelfSigned: true}
		config.InsecureSkipVerify = true // VerifyConnection does it all
		config.VerifyConnection = func(state tls.ConnectionState) (err error) {
			if state.VerifiedChains, err = check.verify(state); err != nil || depth == 0 {
				return err
			}
			return checkDepth(state, depth)
		}
	case depth > 0:
		config.VerifyConnection = func(state tls.ConnectionState) error { return checkDepth(state, depth) }
	}
	return config, nil
}

// certificates returns the client's own certificate, if any.
func (o *clientOptions) certificates() ([]tls.Certificate, error) {
	switch {
	case o.certFile != "" && o.keyFile != "":
		cert, err := loadKeyPair(o.certFile, o.keyFile, o.passphrase)
		if err != nil {
			return nil, err
		}
		return []tls.Certificate{cert}, nil
	case o.certFile != "":
		return nil, &OptionError{"ssl_cert_file", errors.New("a certificate needs its key: set ssl_key_file as well")}
	case o.keyFile != "":
		return nil, &OptionError{"ssl_key_file", errors.New("a key needs its certificate: set ssl_cert_file as well")}
	case o.passphrase != "":
		return nil, &OptionError{"ssl_passphrase", errors.New("there is no key for it to open: set ssl_key_file")}
	}
	return nil, nil
}
