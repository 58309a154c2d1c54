package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/phpvalue"
)

// phpClient and phpServer have every option of the ssl context of PHP's streams, up to those that are new in PHP's
// development branch.
var phpClient, phpServer = phpDialects()

func phpDialects() (client, server *dialect) {
	names := dialect{
		verifyPeer: "verify_peer", caFile: "cafile", caPath: "capath",
		certFile: "local_cert", keyFile: "local_pk", passphrase: "passphrase", sni: "SNI_server_certs", keyInCert: true,
	}
	c, s := names, names
	peerName := storeGiven(peerName, func(s *settings) **string { return &s.hostName })
	c.setters = map[string]setter{
		"peer_name":        peerName,
		"CN_match":         peerName, // the names that peer_name had before PHP 5.6
		"SNI_server_name":  peerName,
		"verify_peer_name": storeGiven(phpvalue.Bool, func(s *settings) **bool { return &s.verifyName }),
		"peer_fingerprint": store(phpFingerprints, func(s *settings) *[]string { return &s.fingerprints }),
		"crypto_method":    store(cryptoMethod(1), func(s *settings) *[]uint16 { return &s.methods }),

		"SNI_server_certs":   refuse(errServerOption),
		"honor_cipher_order": refuse(errServerOption),
		"single_dh_use":      refuse(errServerOption),
		"single_ecdh_use":    refuse(errServerOption),
		"dh_param":           refuse(errServerOption),
		"num_tickets":        refuse(errServerOption),
		"session_data":       refuse(errors.New("can't be honoured: sessions are kept and resumed by Client; leave it out")),
	}
	s.setters = map[string]setter{
		"peer_name":        refuse(errClientOption),
		"CN_match":         refuse(errClientOption),
		"SNI_server_name":  refuse(errClientOption),
		"verify_peer_name": refuseIf(true, "a client's certificate is not for a host; look at ConnectionState.PeerCertificates"),
		"peer_fingerprint": store(phpFingerprints, func(s *settings) *[]string { return &s.fingerprints }),
		"crypto_method":    store(cryptoMethod(0), func(s *settings) *[]uint16 { return &s.methods }),

		"SNI_server_certs": store(serverNames("local_cert", "local_pk", "passphrase", true),
			func(s *settings) *[]ServerCertificate { return &s.sniCerts }),
		"honor_cipher_order": refuseIf(false, ownOrder),
		"single_dh_use":      always(phpvalue.Bool), // crypto/tls never uses a key exchange's key twice
		"single_ecdh_use":    always(phpvalue.Bool),
		"dh_param":           refuse(errNoDH),
		"num_tickets":        numTickets,
		"session_data":       refuse(errClientOption),
	}
	for name, set := range phpCommon() {
		c.setters[name], s.setters[name] = set, set
	}
	return &c, &s
}

// phpCommon are the options of both roles.
func phpCommon() map[string]setter {
	session := refuse(errors.New("can't be honoured: crypto/tls has no cache of sessions on servers, only tickets, and clients resume " +
		"by themselves; leave it out"))
	missing := refuse(errors.New("can't be honoured: crypto/tls has it not"))
	return map[string]setter{
		"verify_peer":       storeGiven(phpvalue.Bool, func(s *settings) **bool { return &s.verifyPeer }),
		"allow_self_signed": store(phpvalue.Bool, func(s *settings) *bool { return &s.selfSigned }),
		"verify_depth":      store(verifyDepth, func(s *settings) *int { return &s.verifyDepth }),
		"cafile":            store(phpvalue.Path, func(s *settings) *string { return &s.caFile }),
		"capath":            store(phpvalue.Path, func(s *settings) *string { return &s.caPath }),
		"local_cert":        store(phpvalue.Path, func(s *settings) *string { return &s.certFile }),
		"local_pk":          store(phpvalue.Path, func(s *settings) *string { return &s.keyFile }),
		"passphrase":        store(phpvalue.Text, func(s *settings) *string { return &s.passphrase }),
		"ciphers":           store(ciphers, func(s *settings) *[]uint16 { return &s.suites }),
		"security_level":    securityLevel,
		"min_proto_version": store(protoVersion, func(s *settings) *uint16 { return &s.minVersion }),
		"max_proto_version": store(protoVersion, func(s *settings) *uint16 { return &s.maxVersion }),
		"ecdh_curve":        store(groups, func(s *settings) *[]tls.CurveID { return &s.groups }),
		"alpn_protocols":    store(alpnProtocols, func(s *settings) *[]string { return &s.protocols }),
		"SNI_enabled":       storeGiven(phpvalue.Bool, func(s *settings) **bool { return &s.sniEnabled }),
		"no_ticket":         store(phpvalue.Bool, func(s *settings) *bool { return &s.noTicket }),

		// What the connection's state always has.
		"capture_peer_cert":       always(phpvalue.Bool),
		"capture_peer_cert_chain": always(phpvalue.Bool),
		"capture_session_meta":    always(phpvalue.Bool),

		"disable_compression": refuseIf(false, noCompression),

		// Limits on something that crypto/tls never does as a server, and that is off on its clients.
		"reneg_limit":          always(phpvalue.Int),
		"reneg_window":         always(phpvalue.Int),
		"reneg_limit_callback": func(*settings, any) error { return nil },

		"session_new_cb":     session,
		"session_get_cb":     session,
		"session_remove_cb":  session,
		"session_cache":      session,
		"session_cache_size": session,
		"session_timeout":    session,
		"session_id_context": session,
		"psk_client_cb":      missing,
		"psk_server_cb":      missing,
		"psk_identity_hint":  missing,
		"early_data":         missing,
		"early_data_cb":      missing,
		"max_early_data":     missing,
	}
}

// ClientFromPHP returns the configuration that the ssl context options of PHP's streams ask for in a client. It reads
// the files they name, so it may block: call it once, off the event loop, and give the result to NewClient. Values are
// as for FromOptions; errors are *OptionError.
//
//	verify_peer (true), verify_peer_name (true), allow_self_signed (false), verify_depth
//	peer_name (the host)         also named CN_match and SNI_server_name
//	cafile, capath               in place of the system's roots
//	local_cert, local_pk         the client's certificate and key; the key may be in local_cert's file
//	passphrase
//	peer_fingerprint             hex by SHA-1 or SHA-256 (by length), or a map of "sha1", "sha256", "sha384", "sha512" to hex; MD5 is refused
//	ciphers, ecdh_curve          as ssl_ciphers and ssl_ecdh_curve of FromOptions
//	crypto_method                a sum of STREAM_CRYPTO_METHOD_*_CLIENT; the one for any version means TLS 1.2 and 1.3 here
//	min_proto_version, max_proto_version   STREAM_CRYPTO_PROTO_*
//	alpn_protocols               a list with commas
//	SNI_enabled (true), no_ticket (false), disable_compression (only true), security_level (only 1)
//	capture_peer_cert, capture_peer_cert_chain, capture_session_meta   are taken: the connection's state always has them
//
// The other options are errors that say why. So are those of servers.
func ClientFromPHP(options map[string]any) (*tls.Config, error) {
	s, err := phpClient.parse(options)
	if err != nil {
		return nil, err
	}
	return s.clientConfig()
}

// ServerFromPHP returns the ServerOptions that the ssl context options of PHP's streams ask for in a server. It reads
// no file: NewServer does. Values are as for FromOptions; errors are *OptionError. Options that are not listed are as
// for ClientFromPHP.
//
//	local_cert, local_pk         the default certificate
//	SNI_server_certs             map of names ("host" or "*.host") to a path, or to a map with local_cert, local_pk, passphrase. Without local_cert
//	                             only these names are served
//	verify_peer (unset)          true: every client must have a certificate from cafile or capath; false: none is asked for; unset: one is asked for where
//	                             authorities are given
//	peer_fingerprint             of the client's certificate; needs verify_peer
//	alpn_protocols               a client that has none of them is refused; PHP goes on without
//	num_tickets                  0 or 1
//	honor_cipher_order           only true
//	single_dh_use, single_ecdh_use, reneg_limit, reneg_window   are taken: keys are never used twice, and nothing is renegotiated
func ServerFromPHP(options map[string]any) (ServerOptions, error) {
	s, err := phpServer.parse(options)
	if err != nil {
		return ServerOptions{}, err
	}
	return s.serverOptions()
}

// always is the setter of an option whose every value is honoured without doing anything.
func always[T any](convert func(any) (T, error)) setter {
	return func(_ *settings, value any) error {
		_, err := convert(value)
		return err
	}
}

func numTickets(s *settings, value any) error {
	n, err := phpvalue.Int(value)
	switch {
	case err != nil:
		return err
	case n != 0 && n != 1:
		return fmt.Errorf("%d can't be honoured: crypto/tls sends one ticket, or none", n)
	}
	s.noTicket = s.noTicket || n == 0
	return nil
}

// securityLevel takes the level whose demands crypto/tls meets by itself: no MD5, no keys that can be broken.
func securityLevel(_ *settings, value any) error {
	level, err := phpvalue.Int(value)
	switch {
	case err != nil:
		return err
	case level == 0:
		return errors.New("0 can't be honoured: crypto/tls does not go so low; ask for old versions by min_proto_version, for weak suites by ciphers")
	case level != 1:
		return fmt.Errorf("%d can't be honoured: crypto/tls has no security levels; say ciphers, min_proto_version and ecdh_curve", level)
	}
	return nil
}

// phpFingerprints takes a hexadecimal hash, or several of the same certificate by the names of their functions.
func phpFingerprints(value any) ([]string, error) {
	if text, ok := value.(string); ok {
		_, err := parsePin(text)
		return []string{text}, err
	}
	byName, err := mapOf(value)
	if err != nil {
		return nil, phpvalue.WantType("a hexadecimal string, or a map of functions to such", value)
	}
	if len(byName) == 0 {
		return nil, errors.New("the map is empty")
	}
	var texts []string
	for _, name := range sortedKeys(byName) {
		text, err := phpvalue.Text(byName[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quoted(name), err)
		}
		p, err := parsePin(text)
		if err == nil && p.name != name {
			err = fmt.Errorf("want a hash by that function, got one by %s", p.name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quoted(name), err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}
