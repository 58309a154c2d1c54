package dialect

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/verify"
	"github.com/whorl-go/whorl/tlsconfig"
)

// phpClient and phpServer have every option of the ssl context of PHP's streams, up to those that
// are new in PHP's development branch.
var phpClient, phpServer = phpDialects()

func phpDialects() (client, server *dialect) {
	names := dialect{
		verifyPeer: "verify_peer", caFile: "cafile", caPath: "capath",
		certFile: "local_cert", keyFile: "local_pk", passphrase: "passphrase", sni: "SNI_server_certs", keyInCert: true,
		nameApart: true,
	}
	c, s := names, names
	peerName := option.StoreGiven(peerName, func(s *settings) **string { return &s.hostName })
	c.setters = option.Table[settings]{
		"peer_name":       peerName,
		"CN_match":        peerName, // the names that peer_name had before PHP 5.6
		"SNI_server_name": peerName,
		"verify_peer_name": option.StoreGiven(
			option.Bool,
			func(s *settings) **bool { return &s.verifyName },
		),
		"peer_fingerprint": option.Store(
			phpFingerprints,
			func(s *settings) *[]string { return &s.fingerprints },
		),
		"crypto_method": option.Store(
			cryptoMethod(1),
			func(s *settings) *[]uint16 { return &s.methods },
		),

		"SNI_server_certs":   option.Refuse[settings](errServerOption),
		"honor_cipher_order": option.Refuse[settings](errServerOption),
		"single_dh_use":      option.Refuse[settings](errServerOption),
		"single_ecdh_use":    option.Refuse[settings](errServerOption),
		"dh_param":           option.Refuse[settings](errServerOption),
		"num_tickets":        option.Refuse[settings](errServerOption),
		"session_data": option.Refuse[settings](
			errors.New(
				"can't be honoured: sessions are kept and resumed by tlsconfig.Client; leave it out",
			),
		),
	}
	s.setters = option.Table[settings]{
		"peer_name":       option.Refuse[settings](errClientOption),
		"CN_match":        option.Refuse[settings](errClientOption),
		"SNI_server_name": option.Refuse[settings](errClientOption),
		"verify_peer_name": option.RefuseIf[settings](
			true,
			"a client's certificate is not for a host; look at ConnectionState.PeerCertificates",
		),
		"peer_fingerprint": option.Store(
			phpFingerprints,
			func(s *settings) *[]string { return &s.fingerprints },
		),
		"crypto_method": option.Store(
			cryptoMethod(0),
			func(s *settings) *[]uint16 { return &s.methods },
		),

		"SNI_server_certs": option.Store(serverNames("local_cert", "local_pk", "passphrase", true),
			func(s *settings) *[]tlsconfig.ServerCertificate { return &s.sniCerts }),
		"honor_cipher_order": option.RefuseIf[settings](false, ownOrder),
		// Crypto/tls never uses a key exchange's key twice.
		"single_dh_use":   option.Ignore[settings](option.Bool),
		"single_ecdh_use": option.Ignore[settings](option.Bool),
		"dh_param":        option.Refuse[settings](errNoDH),
		"num_tickets":     numTickets,
		"session_data":    option.Refuse[settings](errClientOption),
	}
	for name, set := range phpCommon() {
		c.setters[name], s.setters[name] = set, set
	}
	return &c, &s
}

// phpCommon are the options of both roles.
func phpCommon() option.Table[settings] {
	session := option.Refuse[settings](
		errors.New(
			"can't be honoured: crypto/tls has no cache of sessions on servers, only tickets, and clients resume " +
				"by themselves; leave it out",
		),
	)
	missing := option.Refuse[settings](errors.New("can't be honoured: crypto/tls has it not"))
	return option.Table[settings]{
		"verify_peer": option.StoreGiven(
			option.Bool,
			func(s *settings) **bool { return &s.verifyPeer },
		),
		"allow_self_signed": option.Store(
			option.Bool,
			func(s *settings) *bool { return &s.selfSigned },
		),
		"verify_depth": option.Store(
			verifyDepth,
			func(s *settings) *int { return &s.verifyDepth },
		),
		"cafile": option.Store(
			option.Path,
			func(s *settings) *string { return &s.caFile },
		),
		"capath": option.Store(
			option.Path,
			func(s *settings) *string { return &s.caPath },
		),
		"local_cert": option.Store(
			option.Path,
			func(s *settings) *string { return &s.certFile },
		),
		"local_pk": option.Store(
			option.Path,
			func(s *settings) *string { return &s.keyFile },
		),
		"passphrase": option.Store(
			option.Text,
			func(s *settings) *string { return &s.passphrase },
		),
		"ciphers": option.Store(
			ciphers,
			func(s *settings) *[]uint16 { return &s.suites },
		),
		"security_level": securityLevel,
		"min_proto_version": option.Store(
			protoVersion,
			func(s *settings) *uint16 { return &s.minVersion },
		),
		"max_proto_version": option.Store(
			protoVersion,
			func(s *settings) *uint16 { return &s.maxVersion },
		),
		"ecdh_curve": option.Store(
			groups,
			func(s *settings) *[]tls.CurveID { return &s.groups },
		),
		"alpn_protocols": option.Store(
			alpnProtocols,
			func(s *settings) *[]string { return &s.protocols },
		),
		"SNI_enabled": option.StoreGiven(
			option.Bool,
			func(s *settings) **bool { return &s.sniEnabled },
		),
		"no_ticket": option.Store(
			option.Bool,
			func(s *settings) *bool { return &s.noTicket },
		),

		// What the connection's state always has.
		"capture_peer_cert":       option.Ignore[settings](option.Bool),
		"capture_peer_cert_chain": option.Ignore[settings](option.Bool),
		"capture_session_meta":    option.Ignore[settings](option.Bool),

		"disable_compression": option.RefuseIf[settings](false, noCompression),

		// Limits on something that crypto/tls never does as a server, and that is off on its
		// clients.
		"reneg_limit":          option.Ignore[settings](option.Int),
		"reneg_window":         option.Ignore[settings](option.Int),
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

// PHPClient returns the configuration that the ssl context options of PHP's streams ask for in a
// client. It reads the files they name, so it may block: call it once, off the event loop, and give
// the result to tlsconfig.NewClient. Values are as for SwooleClient; errors are
// *tlsconfig.OptionError.
//
//	verify_peer (true)           the chain; false takes certificates whoever has signed them, and in their time or not
//	verify_peer_name (true)      the name, also where verify_peer is false: nothing is verified only if both are
//	allow_self_signed (false), verify_depth
//	peer_name (the host)         also named CN_match and SNI_server_name
//	cafile, capath               in place of the system's roots
//	local_cert, local_pk         the client's certificate and key; the key may be in local_cert's file
//	passphrase
//	peer_fingerprint             hex by SHA-1 or SHA-256 (by length), or a map of "sha1", "sha256", "sha384", "sha512" to hex; MD5 is refused
//	ciphers, ecdh_curve          as ssl_ciphers and ssl_ecdh_curve of SwooleClient
//	crypto_method                a sum of STREAM_CRYPTO_METHOD_*_CLIENT; the one for any version means TLS 1.2 and 1.3 here
//	min_proto_version, max_proto_version   STREAM_CRYPTO_PROTO_*
//	alpn_protocols               a list with commas
//	SNI_enabled (true), no_ticket (false), disable_compression (only true), security_level (only 1)
//	capture_peer_cert, capture_peer_cert_chain, capture_session_meta   are taken: the connection's state always has them
//
// The other options are errors that say why. So are those of servers.
func PHPClient(options map[string]any) (*tls.Config, error) {
	s, err := phpClient.parse(options)
	if err != nil {
		return nil, err
	}
	return s.clientConfig()
}

// PHPServer returns the tlsconfig.ServerOptions that the ssl context options of PHP's streams ask
// for in a server. It reads no file: tlsconfig.NewServer does. Values are as for SwooleClient;
// errors are *tlsconfig.OptionError. Options that are not listed are as for PHPClient.
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
func PHPServer(options map[string]any) (tlsconfig.ServerOptions, error) {
	s, err := phpServer.parse(options)
	if err != nil {
		return tlsconfig.ServerOptions{}, err
	}
	return s.serverOptions()
}

func numTickets(s *settings, value any) error {
	n, err := option.Int(value)
	switch {
	case err != nil:
		return err
	case n != 0 && n != 1:
		return fmt.Errorf("%d can't be honoured: crypto/tls sends one ticket, or none", n)
	}
	s.noTicket = s.noTicket || n == 0
	return nil
}

// securityLevel takes the level whose demands crypto/tls meets by itself: no MD5, no keys that can
// be broken.
func securityLevel(_ *settings, value any) error {
	level, err := option.Int(value)
	switch {
	case err != nil:
		return err
	case level == 0:
		return errors.New(
			"0 can't be honoured: crypto/tls does not go so low; ask for old versions by min_proto_version, for weak suites by ciphers",
		)
	case level != 1:
		return fmt.Errorf(
			"%d can't be honoured: crypto/tls has no security levels; say ciphers, min_proto_version and ecdh_curve",
			level,
		)
	}
	return nil
}

// phpFingerprints takes a hexadecimal hash, or several of the same certificate by the names of
// their functions.
func phpFingerprints(value any) ([]string, error) {
	if hash, ok := value.(string); ok {
		_, err := verify.ParsePin(hash)
		return []string{hash}, err
	}
	byName, err := option.Map(value)
	if err != nil {
		return nil, option.WantType("a hexadecimal string, or a map of functions to such", value)
	}
	if len(byName) == 0 {
		return nil, errors.New("the map is empty")
	}
	var hashes []string
	for _, name := range sortedKeys(byName) {
		hash, err := option.Text(byName[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text.Quoted(name), err)
		}
		p, err := verify.ParsePin(hash)
		if err == nil && p.Name != name {
			err = fmt.Errorf("want a hash by that function, got one by %s", p.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text.Quoted(name), err)
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}
