package dialect

import (
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/internal/verify"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestServerOptionsOfSwoole(t *testing.T) {
	got, err := SwooleServer(options{
		"ssl_cert_file": "cert.pem", "ssl_key_file": "key.pem", "ssl_passphrase": "open",
		"ssl_sni_certs": map[string]any{
			"b.test":   map[string]any{"ssl_cert_file": "b.pem", "ssl_key_file": "b.key", "ssl_passphrase": "b"},
			"*.a.test": map[string]string{"ssl_cert_file": "a.pem", "ssl_key_file": "a.key"},
		},
		"ssl_client_cert_file": "clients.pem", "ssl_cafile": "more.pem", "ssl_capath": "dir", "ssl_verify_peer": true, "ssl_allow_self_signed": 1,
		"ssl_verify_depth": 2, "ssl_protocols": 16 | 32, "ssl_ciphers": "ECDHE-RSA-AES128-GCM-SHA256", "ssl_ecdh_curve": "X25519:prime256v1",
		"ssl_prefer_server_ciphers": true, "ssl_compress": false, "ssl_disable_compression": true, "ssl_dhparam": nil,
	})
	want := tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{
			{CertFile: "cert.pem", KeyFile: "key.pem", Passphrase: "open"},
			{CertFile: "a.pem", KeyFile: "a.key", Passphrase: "open", Names: []string{"*.a.test"}},
			{CertFile: "b.pem", KeyFile: "b.key", Passphrase: "b", Names: []string{"b.test"}},
		},
		ClientCerts: tlsconfig.ClientCertsRequire, ClientCAFiles: []string{"clients.pem", "more.pem"}, ClientCADirs: []string{"dir"}, AllowSelfSignedClients: true,
		ClientVerifyDepth: 2, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, Groups: []tls.CurveID{tls.X25519, tls.CurveP256},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	least := options{"ssl_cert_file": "cert.pem", "ssl_key_file": "key.pem"}
	for _, test := range []struct {
		name  string
		value any
		want  tlsconfig.ClientCerts
	}{
		{"ssl_verify_peer", false, tlsconfig.ClientCertsNone},
		{"ssl_client_cert_file", "clients.pem", tlsconfig.ClientCertsRequest},
		{"ssl_cafile", "clients.pem", tlsconfig.ClientCertsRequest},
	} {
		o := options{test.name: test.value}
		for name, value := range least {
			o[name] = value
		}
		if got, err := SwooleServer(o); err != nil || got.ClientCerts != test.want || got.Tickets.Off || got.StrictSNI {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func TestServerOptionsOfPHP(t *testing.T) {
	var sni map[string]any // as it comes out of a file
	if err := json.Unmarshal([]byte(`{
		"a.test": "a.pem", "*.b.test": {"local_cert": "b.pem", "local_pk": "b.key"}, "c.test": {"local_cert": "c.pem", "passphrase": "c"}
	}`), &sni); err != nil {
		t.Fatal(err)
	}
	pin := strings.Repeat("ab", 32)
	got, err := PHPServer(options{
		"local_cert": "all.pem", "passphrase": "open", "SNI_server_certs": sni, "SNI_enabled": true,
		"verify_peer": true, "verify_peer_name": false, "cafile": "ca.pem", "verify_depth": 3, "peer_fingerprint": options{"sha256": pin},
		"alpn_protocols": "h2,http/1.1", "ciphers": "HIGH:!aNULL", "crypto_method": 120, "ecdh_curve": "auto", "security_level": 1,
		"no_ticket": true, "num_tickets": 0, "honor_cipher_order": true, "single_dh_use": true, "single_ecdh_use": false, "disable_compression": true,
		"capture_peer_cert": true, "capture_peer_cert_chain": false, "reneg_limit": 2, "reneg_window": 300, "min_proto_version": 32,
	})
	if err != nil {
		t.Fatal(err)
	}
	got.CipherSuites = nil
	want := tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{
			{CertFile: "all.pem", KeyFile: "all.pem", Passphrase: "open"},
			{CertFile: "b.pem", KeyFile: "b.key", Passphrase: "open", Names: []string{"*.b.test"}},
			{CertFile: "a.pem", KeyFile: "a.pem", Passphrase: "open", Names: []string{"a.test"}},
			{CertFile: "c.pem", KeyFile: "c.pem", Passphrase: "c", Names: []string{"c.test"}},
		},
		ClientCerts: tlsconfig.ClientCertsRequire, ClientCAFiles: []string{"ca.pem"}, ClientVerifyDepth: 3, ClientFingerprints: []string{pin},
		ALPN: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12, Tickets: tlsconfig.TicketOptions{Off: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	// Without a default only what is named is served.
	got, err = PHPServer(options{"SNI_server_certs": map[string]string{"a.test": "a.pem"}})
	if err != nil || !got.StrictSNI || len(got.Certificates) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, test := range []struct {
		o    options
		want tlsconfig.ClientCerts
	}{
		{options{}, tlsconfig.ClientCertsNone},
		{options{"verify_peer": false, "cafile": "ca.pem", "allow_self_signed": true, "verify_depth": 1}, tlsconfig.ClientCertsNone},
		{options{"cafile": "ca.pem"}, tlsconfig.ClientCertsRequest},
		{options{"verify_peer": true, "capath": "dir"}, tlsconfig.ClientCertsRequire},
	} {
		test.o["local_cert"] = "all.pem"
		if got, err := PHPServer(test.o); err != nil || got.ClientCerts != test.want {
			t.Errorf("%v: %v, %v", test.o, got.ClientCerts, err)
		}
	}
}

func TestServerOptionsOfMapsThatAreRefused(t *testing.T) {
	swoole := options{"ssl_cert_file": "a.pem", "ssl_key_file": "a.key"}
	php := options{"local_cert": "a.pem"}
	server := func(from func(map[string]any) (tlsconfig.ServerOptions, error)) func(options) error {
		return func(o options) error {
			_, err := from(o)
			return err
		}
	}
	client := func(o options) error {
		_, err := PHPClient(o)
		return err
	}
	for _, role := range []struct {
		name  string
		from  func(options) error
		base  options
		tests []struct {
			option string
			value  any
			want   string
		}
	}{
		{"Swoole's server", server(SwooleServer), swoole, []struct {
			option string
			value  any
			want   string
		}{
			{"ssl_host_name", "a.test", "is a client option"},
			{"ssl_grease", false, "is a client option"},
			{"ssl_dhparam", "dh.pem", "no finite-field"},
			{"ssl_prefer_server_ciphers", false, "own order"},
			{"ssl_verify_peer", true, "without the authorities"},
			{"ssl_verify_depth", -1, "0 for no limit"},
			{"ssl_client_cert_file", "", "path is empty"},
			{"ssl_sni_certs", "a.pem", "want a map"},
			{"ssl_sni_certs", options{}, "is empty"},
			{"ssl_sni_certs", options{"a.test": "a.pem"}, `"a.test": want a map`},
			{"ssl_sni_certs", options{"a.test": options{"ssl_cert_file": "a.pem"}}, "want ssl_cert_file and ssl_key_file"},
			{"ssl_sni_certs", options{"a.test": options{"ssl_cert_file": 1}}, "ssl_cert_file: want a string"},
			{"ssl_sni_certs", options{"a.test": options{"local_cert": "a.pem"}}, "local_cert: no such option"},
			{"ssl_sni_certs", options{"*": options{}}, `"*"`},
			{"ssl_protocols", 4, "SSLv3"},
			{"local_cert", "a.pem", "no such option"},
		}},
		{"PHP's server", server(PHPServer), php, []struct {
			option string
			value  any
			want   string
		}{
			{"peer_name", "a.test", "is a client option"},
			{"CN_match", "a.test", "is a client option"},
			{"session_data", "x", "is a client option"},
			{"verify_peer_name", true, "not for a host"},
			{"verify_peer", true, "set cafile"},
			{"peer_fingerprint", strings.Repeat("ab", 32), "needs verify_peer"},
			{"crypto_method", 33, "_SERVER"},
			{"crypto_method", 0, "no protocol"},
			{"crypto_method", 2, "SSLv2"},
			{"crypto_method", 8 | 32, "hole"},
			{"num_tickets", 2, "one ticket"},
			{"honor_cipher_order", false, "own order"},
			{"dh_param", "dh.pem", "Diffie"},
			{"session_cache", true, "tickets"},
			{"session_timeout", 300, "tickets"},
			{"psk_server_cb", func() {}, "has it not"},
			{"max_early_data", 1, "has it not"},
			{"SNI_server_certs", options{"a.test": options{"local_pk": "a.key"}}, "want local_cert"},
			{"ssl_cert_file", "a.pem", "no such option"},
		}},
		{"PHP's client", client, options{}, []struct {
			option string
			value  any
			want   string
		}{
			{"SNI_server_certs", options{}, "is a server option"},
			{"honor_cipher_order", true, "is a server option"},
			{"num_tickets", 1, "is a server option"},
			{"session_data", "x", "by tlsconfig.Client"},
			{"peer_name", "", "is empty"},
			{"peer_name", "a/b", "no host name"},
			{"crypto_method", 120, "_CLIENT"},
			{"crypto_method", 1, "no protocol"},
			{"crypto_method", 129, "DTLS"},
			{"min_proto_version", 32 | 64, "not one version"},
			{"min_proto_version", 4, "SSLv3"},
			{"max_proto_version", 16, "min_proto_version as well"},
			{"security_level", 0, "not go so low"},
			{"security_level", 2, "no security levels"},
			{"alpn_protocols", "", "is empty"},
			{"alpn_protocols", "a,,b", "1 to 255"},
			{"alpn_protocols", []string{"a"}, "want a string"},
			{"peer_fingerprint", strings.Repeat("ab", 16), "MD5"},
			{"peer_fingerprint", "abc", "hexadecimal"},
			{"peer_fingerprint", "abcd", "2 bytes"},
			{"peer_fingerprint", 5, "hexadecimal"},
			{"peer_fingerprint", options{}, "is empty"},
			{"peer_fingerprint", options{"md5": strings.Repeat("ab", 16)}, "MD5"},
			{"peer_fingerprint", options{"sha1": strings.Repeat("ab", 32)}, "sha256"},
			{"peer_fingerprint", options{"sha1": 5}, "want a string"},
			{"disable_compression", false, "CRIME"},
			{"capture_peer_cert", "yes", "want a bool"},
			{"local_pk", "a.key", "set local_cert"},
			{"passphrase", "secret", "no key for it"},
			{"cafile", "/nonexistent", "file missing"},
			{"frob", 1, "no such option"},
		}},
	} {
		for _, test := range role.tests {
			o := options{test.option: test.value}
			for name, value := range role.base {
				if _, given := o[name]; !given {
					o[name] = value
				}
			}
			err := role.from(o)
			e, ok := errors.AsType[*tlsconfig.OptionError](err)
			if !ok || e.Option != test.option || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s, %s=%v: got %v, want %q", role.name, test.option, test.value, err, test.want)
				continue
			}
			tlstest.CheckLine(t, err.Error())
		}
	}

	for name, test := range map[string]struct {
		from   func(options) error
		o      options
		option string
	}{
		"no certificate":      {server(SwooleServer), options{}, "ssl_cert_file"},
		"no key":              {server(SwooleServer), options{"ssl_cert_file": "a.pem"}, "ssl_key_file"},
		"no certificate, PHP": {server(PHPServer), options{}, "local_cert"},
		"SNI off and on":      {server(PHPServer), options{"SNI_enabled": false, "SNI_server_certs": options{"a.test": "a.pem"}}, "SNI_server_certs"},
		"several fingerprints": {server(PHPServer), options{
			"local_cert": "a.pem", "verify_peer": true, "cafile": "ca.pem",
			"peer_fingerprint": options{"sha1": strings.Repeat("ab", 20), "sha256": strings.Repeat("ab", 32)},
		}, "peer_fingerprint"},
		"method and version":      {client, options{"crypto_method": 33, "min_proto_version": 32}, "crypto_method"},
		"versions the wrong way":  {client, options{"min_proto_version": 64, "max_proto_version": 32}, "min_proto_version"},
		"a name and no SNI":       {client, options{"peer_name": "a.test", "SNI_enabled": false}, "SNI_enabled"},
		"no certificate for a pk": {client, options{"local_pk": "a.pem"}, "local_pk"},
	} {
		err := test.from(test.o)
		if e, ok := errors.AsType[*tlsconfig.OptionError](err); !ok || !strings.Contains(err.Error(), test.option) {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
}

func TestClientOptionsOfPHP(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	cafile := tlstest.File(t, "ca.pem", ca.PEM())
	self, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err != nil {
		t.Fatal(err)
	}
	sha1Sum := sha1.Sum(cert.Leaf.Raw)
	good, bad := text.Fingerprint(cert.Leaf.Raw), strings.Repeat("00", 32)
	colons := strings.ToUpper(good[:2]) + ":" + good[2:]
	for _, test := range []struct {
		name string
		o    options
		host string
		cert tls.Certificate
		well bool
	}{
		{"verified", options{"cafile": cafile}, "mail.test", cert, true},
		{"another name", options{"cafile": cafile}, "evil.test", cert, false},
		{"another name, as said", options{"cafile": cafile, "peer_name": "mail.test"}, "evil.test", cert, true},
		{"another name, old option", options{"cafile": cafile, "CN_match": "mail.test"}, "evil.test", cert, true},
		{"no roots", options{"cafile": tlstest.File(t, "other.pem", tlstest.NewCA(t).PEM())}, "mail.test", cert, false},
		{"unverified name", options{"cafile": cafile, "verify_peer_name": false}, "evil.test", cert, true},
		{"unverified name, no SNI", options{"cafile": cafile, "verify_peer_name": false, "SNI_enabled": false}, "evil.test", cert, true},
		{"unverified name, no roots", options{"cafile": tlstest.File(t, "other.pem", tlstest.NewCA(t).PEM()), "verify_peer_name": false}, "evil.test", cert, false},
		{"no SNI", options{"cafile": cafile, "SNI_enabled": false}, "mail.test", cert, true},
		{"no SNI, another name", options{"cafile": cafile, "SNI_enabled": false}, "evil.test", cert, false},
		{"self-signed", options{"allow_self_signed": true}, "mail.test", self, true},
		{"self-signed, another name", options{"allow_self_signed": true}, "evil.test", self, false},
		{"self-signed, any name", options{"allow_self_signed": true, "verify_peer_name": false}, "evil.test", self, true},
		{"pinned", options{"cafile": cafile, "peer_fingerprint": good}, "mail.test", cert, true},
		{"pinned, colons", options{"cafile": cafile, "peer_fingerprint": colons}, "mail.test", cert, true},
		{"pinned, two", options{"cafile": cafile, "peer_fingerprint": options{"sha256": good, "sha1": hex.EncodeToString(sha1Sum[:])}}, "mail.test", cert, true},
		{"pinned, one of two wrong", options{"cafile": cafile, "peer_fingerprint": options{"sha256": good, "sha1": strings.Repeat("00", 20)}}, "mail.test", cert, false},
		{"pinned, another", options{"cafile": cafile, "peer_fingerprint": bad}, "mail.test", cert, false},
		{"pinned alone", options{"verify_peer": false, "verify_peer_name": false, "peer_fingerprint": good}, "evil.test", cert, true},
		{"pinned alone, another", options{"verify_peer": false, "verify_peer_name": false, "peer_fingerprint": bad}, "evil.test", cert, false},
	} {
		base, err := PHPClient(test.o)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		client := tlsconfig.NewClient(base).For(test.host)
		for range 2 { // the second one resumes
			m := tlstest.Meet(t, client, tlstest.Server(test.cert))
			if (m.ClientErr == nil) != test.well {
				t.Errorf("%s: %v", test.name, m.ClientErr)
			}
		}
	}

	config, err := PHPClient(options{
		"crypto_method": 121, "alpn_protocols": "h2,http/1.1", "no_ticket": true, "ecdh_curve": "X25519", "ciphers": "HIGH", "capture_peer_cert": true,
		"max_proto_version": 32, "verify_depth": nil,
	})
	if err != nil || !versions(config, tls.VersionTLS12, tls.VersionTLS12) || len(config.NextProtos) != 2 || !config.SessionTicketsDisabled {
		t.Errorf("%+v, %v", config, err)
	}
	config, err = PHPClient(options{"crypto_method": 9 | 17 | 33}) // TLS 1.0 by name
	if err != nil || !versions(config, tls.VersionTLS10, tls.VersionTLS12) {
		t.Errorf("%+v, %v", config, err)
	}
}

// Chain and name are verified each for itself, as in PHP 8: verify_peer alone switches off the
// first only.
func TestPHPVerifiesChainAndNameEachForItself(t *testing.T) {
	ca, stranger := tlstest.NewCA(t), tlstest.NewCA(t)
	cafile := tlstest.File(t, "ca.pem", ca.PEM())
	gone := devca.Request{Names: []string{"mail.test", "127.0.0.1"}, NotAfter: time.Now().Add(-time.Hour)}
	self, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	both, chain, name, none := options{}, options{"verify_peer_name": false}, options{"verify_peer": false}, options{"verify_peer": false, "verify_peer_name": false}
	selfAllowed := options{"allow_self_signed": true}
	for _, test := range []struct {
		what string
		cert tls.Certificate
		host string
		well []options // the others refuse it
	}{
		{"good", tlstest.Issued(t, ca, "mail.test", "127.0.0.1"), "mail.test", []options{both, chain, name, none, selfAllowed}},
		{"good, by address", tlstest.Issued(t, ca, "mail.test", "127.0.0.1"), "127.0.0.1", []options{both, chain, name, none, selfAllowed}},
		{"another's", tlstest.Issued(t, ca, "mail.test"), "evil.test", []options{chain, none}},
		{"another's, by address", tlstest.Issued(t, ca, "mail.test"), "127.0.0.1", []options{chain, none}},
		{"stranger's", tlstest.Issued(t, stranger, "mail.test"), "mail.test", []options{name, none}},
		{"another's by a stranger", tlstest.Issued(t, stranger, "mail.test"), "evil.test", []options{none}},
		{"expired", tlstest.Signed(t, ca, gone), "mail.test", []options{name, none}},
		{"self-signed", self, "mail.test", []options{name, none, selfAllowed}},
		{"self-signed, by address", self, "127.0.0.1", []options{name, none, selfAllowed}},
		{"another's, self-signed", self, "evil.test", []options{none}},
		{"common name only", tlstest.Signed(t, ca, devca.Request{CommonName: "mail.test"}), "mail.test", []options{chain, none}},
	} {
		for _, o := range []options{both, chain, name, none, selfAllowed} {
			for _, sni := range []bool{true, false} {
				asked := options{"cafile": cafile, "SNI_enabled": sni}
				for option, value := range o {
					asked[option] = value
				}
				base, err := PHPClient(asked)
				if err != nil {
					t.Fatal(err)
				}
				well := slices.ContainsFunc(test.well, func(other options) bool { return reflect.DeepEqual(other, o) })
				client := tlsconfig.NewClient(base).For(test.host)
				for range 2 { // the second one resumes
					m := tlstest.Meet(t, client, tlstest.Server(test.cert))
					if (m.ClientErr == nil) != well {
						t.Errorf("%s, %v: %v", test.what, asked, m.ClientErr)
					}
					if m.ClientErr != nil && !errors.As(m.ClientErr, new(*tls.CertificateVerificationError)) {
						t.Errorf("%s, %v: %T", test.what, asked, m.ClientErr)
					}
				}
			}
		}
	}
	// Whom to verify has to be known: crypto/tls alone doesn't say where it is an address.
	base, err := PHPClient(options{"verify_peer": false})
	if err != nil {
		t.Fatal(err)
	}
	if m := tlstest.Meet(t, base, tlstest.Server(self)); !errors.Is(m.ClientErr, verify.ErrNoName) {
		t.Errorf("without a host: %v", m.ClientErr)
	}
}

// A map of options can be anything that a file may have in it.
func FuzzOptionMaps(f *testing.F) {
	for _, seed := range []string{
		`{"local_cert": "/nonexistent", "crypto_method": 33, "SNI_server_certs": {"*.a.test": {"local_cert": "x"}}}`,
		`{"ssl_cert_file": "/nonexistent", "ssl_protocols": 96, "ssl_sni_certs": {"a": {"ssl_cert_file": "x", "ssl_key_file": "y"}}}`,
		`{"peer_fingerprint": {"sha256": "00"}, "alpn_protocols": "a,b", "peer_name": "x", "min_proto_version": 1e300, "ciphers": "HIGH"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o map[string]any
		if json.Unmarshal(data, &o) != nil {
			return
		}
		for _, d := range []*dialect{swooleClient, swooleServer, phpClient, phpServer} { // no files are read
			s, err := d.parse(o)
			if err == nil {
				_, err = s.serverOptions()
			}
			if err != nil {
				tlstest.CheckLine(t, err.Error())
			}
		}
	})
}

// The way that the whole of it goes, for a service of Swoole's.
func TestServerFromMapToHandshake(t *testing.T) {
	ca := tlstest.NewCA(t)
	certFile, keyFile := tlstest.Pair(t, tlstest.Issued(t, ca, "mail.test"))
	wildCert, wildKey := tlstest.Pair(t, tlstest.Signed(t, ca, devca.Request{Names: []string{"*.wild.test"}, NotAfter: time.Now().Add(time.Hour)}))
	o, err := SwooleServer(options{
		"ssl_cert_file": certFile, "ssl_key_file": keyFile,
		"ssl_sni_certs": options{"*.wild.test": options{"ssl_cert_file": wildCert, "ssl_key_file": wildKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tlsconfig.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mail.test", "a.wild.test"} {
		if m := tlstest.Meet(t, &tls.Config{RootCAs: ca.Pool(), ServerName: name}, s.Config()); m.ClientErr != nil {
			t.Errorf("%s: %v", name, m.ClientErr)
		}
	}
}
