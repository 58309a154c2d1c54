package dialect

import (
	"crypto/tls"
	"errors"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/tlsconfig"
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
	c.setters = option.Table[settings]{
		"ssl_host_name": option.StoreGiven(
			hostName,
			func(s *settings) **string { return &s.hostName },
		),
		"ssl_grease": option.RefuseIf[settings](
			true,
			"crypto/tls sends no GREASE values",
		),
		"ssl_dhparam":               option.Refuse[settings](errServerOption),
		"ssl_prefer_server_ciphers": option.Refuse[settings](errServerOption),
		"ssl_client_cert_file":      option.Refuse[settings](errServerOption),
		"ssl_sni_certs":             option.Refuse[settings](errServerOption),
	}
	s.setters = option.Table[settings]{
		"ssl_host_name":             option.Refuse[settings](errClientOption),
		"ssl_grease":                option.Refuse[settings](errClientOption),
		"ssl_dhparam":               option.Refuse[settings](errNoDH),
		"ssl_prefer_server_ciphers": option.RefuseIf[settings](false, ownOrder),
		"ssl_client_cert_file": option.Store(
			option.Path,
			func(s *settings) *string { return &s.clientCAFile },
		),
		"ssl_sni_certs": option.Store(
			serverNames("ssl_cert_file", "ssl_key_file", "ssl_passphrase", false),
			func(s *settings) *[]tlsconfig.ServerCertificate { return &s.sniCerts },
		),
	}
	common := option.Table[settings]{
		"ssl_verify_peer": option.StoreGiven(
			option.Bool,
			func(s *settings) **bool { return &s.verifyPeer },
		),
		"ssl_allow_self_signed": option.Store(
			option.Bool,
			func(s *settings) *bool { return &s.selfSigned },
		),
		"ssl_verify_depth": option.Store(
			verifyDepth,
			func(s *settings) *int { return &s.verifyDepth },
		),
		"ssl_cafile": option.Store(
			option.Path,
			func(s *settings) *string { return &s.caFile },
		),
		"ssl_capath": option.Store(
			option.Path,
			func(s *settings) *string { return &s.caPath },
		),
		"ssl_cert_file": option.Store(
			option.Path,
			func(s *settings) *string { return &s.certFile },
		),
		"ssl_key_file": option.Store(
			option.Path,
			func(s *settings) *string { return &s.keyFile },
		),
		"ssl_passphrase": option.Store(
			option.Text,
			func(s *settings) *string { return &s.passphrase },
		),
		"ssl_ciphers": option.Store(
			ciphers,
			func(s *settings) *[]uint16 { return &s.suites },
		),
		"ssl_protocols": option.Store(
			protocolMask,
			func(s *settings) *[]uint16 { return &s.methods },
		),
		"ssl_ecdh_curve": option.Store(
			groups,
			func(s *settings) *[]tls.CurveID { return &s.groups },
		),
		"ssl_compress":            option.RefuseIf[settings](true, noCompression),
		"ssl_disable_compression": option.RefuseIf[settings](false, noCompression),
	}
	for name, set := range common {
		c.setters[name], s.setters[name] = set, set
	}
	return &c, &s
}

const ownOrder = "crypto/tls always goes by its own order of preference"

var errNoDH = errors.New(
	"can't be honoured: crypto/tls has no finite-field Diffie-Hellman, its key exchanges need no parameters; leave it out",
)

// SwooleClient returns the configuration that Swoole's ssl_* options for a client ask for. It reads
// the files they name, so it may block: call it once, off the event loop, and share the result.
// Give that result to tlsconfig.NewClient, which fills in the host.
//
// The option is at its default where it is absent or nil (PHP's null). Integers may be of any
// integer type, or a float64 without a fraction; booleans may be the integers 0 and 1; strings are
// strings. Errors are *tlsconfig.OptionError.
//
//	ssl_verify_peer (true)          false: no verification whatever, as InsecureSkipVerify
//	ssl_allow_self_signed (false)   accept a server that sends one certificate, signed with its own key; dates, name
//	                                and usage are checked nevertheless
//	ssl_host_name (host dialled)    name for SNI and verification; "": no SNI, verified for the host dialled (see tlsconfig.NoSNI)
//	ssl_cafile, ssl_capath          PEM file, directory of PEM files: the only roots, in place of the system's
//	ssl_verify_depth (0)            how many intermediate certificates a chain may have; 0: no limit
//	ssl_cert_file, ssl_key_file     the client's certificate (with intermediates) and key, PEM; both or neither
//	ssl_passphrase                  for an encrypted key: PKCS#8, or traditional PEM (DEK-Info)
//	ssl_ciphers                     OpenSSL's cipher list, for TLS 1.2 and below; Go keeps its own order of preference
//	ssl_protocols (96)              sum of 8 TLS 1.0, 16 TLS 1.1, 32 TLS 1.2, 64 TLS 1.3, without a hole; 0: default
//	ssl_ecdh_curve ("auto")         groups for the key exchange, such as "X25519:prime256v1"; Go keeps its own order
//	ssl_compress, ssl_disable_compression, ssl_grease   only the value that asks for nothing
//
// The configuration for ssl_allow_self_signed has InsecureSkipVerify set: its VerifyConnection does
// the verification, under the name that tlsconfig.Client.For gives it. So
// ConnectionState.VerifiedChains stays empty, and without tlsconfig.Client.For a server dialled by
// address is refused.
func SwooleClient(options map[string]any) (*tls.Config, error) {
	s, err := swooleClient.parse(options)
	if err != nil {
		return nil, err
	}
	return s.clientConfig()
}

// SwooleServer returns the tlsconfig.ServerOptions that Swoole's ssl_* options for a server ask
// for. It reads no file: tlsconfig.NewServer does. Values are as for SwooleClient; errors are
// *tlsconfig.OptionError.
//
//	ssl_cert_file, ssl_key_file     the certificate (with intermediates) and key, PEM; the default one where there is ssl_sni_certs
//	ssl_passphrase                  for encrypted keys, those of ssl_sni_certs without one of their own included
//	ssl_sni_certs                   map of names ("host" or "*.host") to maps with ssl_cert_file, ssl_key_file, ssl_passphrase
//	ssl_client_cert_file            the authorities of the clients' certificates
//	ssl_cafile, ssl_capath          more of them
//	ssl_verify_peer (false)         true: every client must have a certificate. Else it is requested where authorities are given, and
//	                                verified where a client has one
//	ssl_allow_self_signed (false)   take a client's certificate that is signed with its own key as well: it proves nothing about who that is
//	ssl_verify_depth, ssl_ciphers, ssl_protocols, ssl_ecdh_curve, ssl_compress, ssl_disable_compression   as for SwooleClient
//	ssl_prefer_server_ciphers       only true: crypto/tls goes by its own order
//	ssl_dhparam                     refused
//
// With ssl_verify_peer and no authorities Swoole asks nobody for a certificate; here that is an
// error.
func SwooleServer(options map[string]any) (tlsconfig.ServerOptions, error) {
	s, err := swooleServer.parse(options)
	if err != nil {
		return tlsconfig.ServerOptions{}, err
	}
	return s.serverOptions()
}
