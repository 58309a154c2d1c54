package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/phpvalue"
)

const noCompression = "crypto/tls has no compression: it gives secrets away (CRIME, CVE-2012-4929)"

// swooleClient and swooleServer have every ssl_* option of Swoole's.
var swooleClient, swooleServer = swooleDialects()

func swooleDialects() (client, server *dialect) {
	names := dialect{
		verifyPeer: "ssl_verify_peer", caFile: "ssl_cafile", caPath: "ssl_capath",
		certFile: "ssl_cert_file", keyFile: "ssl_key_file", passphrase: "ssl_passphrase", sni: "ssl_sni_certs",
	}
	c, s := names, names
	c.setters = map[string]setter{
		"ssl_host_name":             storeGiven(hostName, func(s *settings) **string { return &s.hostName }),
		"ssl_grease":                refuseIf(true, "crypto/tls sends no GREASE values"),
		"ssl_dhparam":               refuse(errServerOption),
		"ssl_prefer_server_ciphers": refuse(errServerOption),
		"ssl_client_cert_file":      refuse(errServerOption),
		"ssl_sni_certs":             refuse(errServerOption),
	}
	s.setters = map[string]setter{
		"ssl_host_name":             refuse(errClientOption),
		"ssl_grease":                refuse(errClientOption),
		"ssl_dhparam":               refuse(errNoDH),
		"ssl_prefer_server_ciphers": refuseIf(false, ownOrder),
		"ssl_client_cert_file":      store(phpvalue.Path, func(s *settings) *string { return &s.clientCAFile }),
		"ssl_sni_certs": store(serverNames("ssl_cert_file", "ssl_key_file", "ssl_passphrase", false),
			func(s *settings) *[]ServerCertificate { return &s.sniCerts }),
	}
	for name, set := range map[string]setter{
		"ssl_verify_peer":         storeGiven(phpvalue.Bool, func(s *settings) **bool { return &s.verifyPeer }),
		"ssl_allow_self_signed":   store(phpvalue.Bool, func(s *settings) *bool { return &s.selfSigned }),
		"ssl_verify_depth":        store(verifyDepth, func(s *settings) *int { return &s.verifyDepth }),
		"ssl_cafile":              store(phpvalue.Path, func(s *settings) *string { return &s.caFile }),
		"ssl_capath":              store(phpvalue.Path, func(s *settings) *string { return &s.caPath }),
		"ssl_cert_file":           store(phpvalue.Path, func(s *settings) *string { return &s.certFile }),
		"ssl_key_file":            store(phpvalue.Path, func(s *settings) *string { return &s.keyFile }),
		"ssl_passphrase":          store(phpvalue.Text, func(s *settings) *string { return &s.passphrase }),
		"ssl_ciphers":             store(ciphers, func(s *settings) *[]uint16 { return &s.suites }),
		"ssl_protocols":           store(protocolMask, func(s *settings) *[]uint16 { return &s.methods }),
		"ssl_ecdh_curve":          store(groups, func(s *settings) *[]tls.CurveID { return &s.groups }),
		"ssl_compress":            refuseIf(true, noCompression),
		"ssl_disable_compression": refuseIf(false, noCompression),
	} {
		c.setters[name], s.setters[name] = set, set
	}
	return &c, &s
}

const ownOrder = "crypto/tls always goes by its own order of preference"

var errNoDH = errors.New("can't be honoured: crypto/tls has no finite-field Diffie-Hellman, its key exchanges need no parameters; leave it out")

// IsOption reports whether name is one of Swoole's ssl_* options, of a client or of a server. Those that are known only
// to be refused are among them, so that a caller who passes on what IsOption picks gets the better error.
func IsOption(name string) bool {
	_, ok := swooleClient.setters[name]
	return ok
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
//	ssl_passphrase                  for an encrypted key: PKCS#8, or traditional PEM (DEK-Info)
//	ssl_ciphers                     OpenSSL's cipher list, for TLS 1.2 and below; Go keeps its own order of preference
//	ssl_protocols (96)              sum of 8 TLS 1.0, 16 TLS 1.1, 32 TLS 1.2, 64 TLS 1.3, without a hole; 0: default
//	ssl_ecdh_curve ("auto")         groups for the key exchange, such as "X25519:prime256v1"; Go keeps its own order
//	ssl_compress, ssl_disable_compression, ssl_grease   only the value that asks for nothing
//
// The configuration for ssl_allow_self_signed has InsecureSkipVerify set: its VerifyConnection does the verification,
// under the name that Client.For gives it. So ConnectionState.VerifiedChains stays empty, and without Client.For a
// server dialled by address is refused.
func FromOptions(options map[string]any) (*tls.Config, error) {
	s, err := swooleClient.parse(options)
	if err != nil {
		return nil, err
	}
	return s.clientConfig()
}

// ServerFromOptions returns the ServerOptions that Swoole's ssl_* options for a server ask for. It reads no file:
// NewServer does. Values are as for FromOptions; errors are *OptionError.
//
//	ssl_cert_file, ssl_key_file     the certificate (with intermediates) and key, PEM; the default one where there is ssl_sni_certs
//	ssl_passphrase                  for encrypted keys, those of ssl_sni_certs without one of their own included
//	ssl_sni_certs                   map of names ("host" or "*.host") to maps with ssl_cert_file, ssl_key_file, ssl_passphrase
//	ssl_client_cert_file            the authorities of the clients' certificates
//	ssl_cafile, ssl_capath          more of them
//	ssl_verify_peer (false)         true: every client must have a certificate. Else it is requested where authorities are given, and
//	                                verified where a client has one
//	ssl_allow_self_signed (false)   take a client's certificate that is signed with its own key as well: it proves nothing about who that is
//	ssl_verify_depth, ssl_ciphers, ssl_protocols, ssl_ecdh_curve, ssl_compress, ssl_disable_compression   as for FromOptions
//	ssl_prefer_server_ciphers       only true: crypto/tls goes by its own order
//	ssl_dhparam                     refused
//
// With ssl_verify_peer and no authorities Swoole asks nobody for a certificate; here that is an error.
func ServerFromOptions(options map[string]any) (ServerOptions, error) {
	s, err := swooleServer.parse(options)
	if err != nil {
		return ServerOptions{}, err
	}
	return s.serverOptions()
}

// refuseIf accepts only the boolean that asks for nothing.
func refuseIf(asks bool, why string) setter {
	return func(_ *settings, value any) error {
		b, err := phpvalue.Bool(value)
		if err == nil && b == asks {
			err = fmt.Errorf("%t can't be honoured: %s", b, why)
		}
		return err
	}
}
