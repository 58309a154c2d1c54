package dialect

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
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

type options = map[string]any

func fromOptions(t testing.TB, o options) *tls.Config {
	t.Helper()
	config, err := SwooleClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestOptionsDefault(t *testing.T) {
	for _, o := range []options{nil, {}, {"ssl_verify_peer": nil, "ssl_cafile": nil, "ssl_protocols": 0}} {
		config := fromOptions(t, o)
		if config.InsecureSkipVerify || config.VerifyConnection != nil || config.RootCAs != nil ||
			config.MinVersion != tls.VersionTLS12 || config.MaxVersion != 0 || config.CipherSuites != nil ||
			config.CurvePreferences != nil || config.ServerName != "" || config.Certificates != nil {
			t.Errorf("%v: got %+v", o, config)
		}
	}
}

func TestOptionsThatAreTaken(t *testing.T) {
	for _, test := range []struct {
		name   string
		value  any
		holds  func(*tls.Config) bool
		reason string
	}{
		{"ssl_verify_peer", false, func(c *tls.Config) bool { return c.InsecureSkipVerify }, "bool"},
		{"ssl_verify_peer", 0, func(c *tls.Config) bool { return c.InsecureSkipVerify }, "0"},
		{"ssl_verify_peer", 1, func(c *tls.Config) bool { return !c.InsecureSkipVerify }, "1"},
		{"ssl_allow_self_signed", true, func(c *tls.Config) bool { return c.VerifyConnection != nil }, ""},
		{"ssl_allow_self_signed", false, func(c *tls.Config) bool { return !c.InsecureSkipVerify }, ""},
		{"ssl_verify_depth", uint8(3), func(c *tls.Config) bool { return c.VerifyConnection != nil }, "uint8"},
		{"ssl_host_name", "Mail.test.", func(c *tls.Config) bool { return c.ServerName == "mail.test" }, ""},
		{"ssl_host_name", "", func(c *tls.Config) bool { return c.ServerName == tlsconfig.NoSNI }, ""},
		{"ssl_host_name", "::1", func(c *tls.Config) bool { return c.ServerName == "::1" }, ""},
		{"ssl_protocols", 96, func(c *tls.Config) bool { return versions(c, tls.VersionTLS12, tls.VersionTLS13) }, "int"},
		{"ssl_protocols", 64., func(c *tls.Config) bool { return versions(c, tls.VersionTLS13, tls.VersionTLS13) }, "float"},
		{"ssl_protocols", int64(32), func(c *tls.Config) bool { return versions(c, tls.VersionTLS12, tls.VersionTLS12) }, ""},
		{"ssl_protocols", 120, func(c *tls.Config) bool { return versions(c, tls.VersionTLS10, tls.VersionTLS13) }, ""},
		{"ssl_ciphers", "ECDHE-RSA-AES128-GCM-SHA256", func(c *tls.Config) bool { return len(c.CipherSuites) == 1 }, ""},
		{"ssl_ecdh_curve", "auto", func(c *tls.Config) bool { return c.CurvePreferences == nil }, ""},
		{"ssl_ecdh_curve", "X25519:prime256v1", func(c *tls.Config) bool {
			return slices.Equal(c.CurvePreferences, []tls.CurveID{tls.X25519, tls.CurveP256})
		}, ""},
		{"ssl_disable_compression", true, func(*tls.Config) bool { return true }, ""},
		{"ssl_compress", false, func(*tls.Config) bool { return true }, ""},
		{"ssl_grease", false, func(*tls.Config) bool { return true }, ""},
		{"ssl_passphrase", "", func(*tls.Config) bool { return true }, ""},
	} {
		config, err := SwooleClient(options{test.name: test.value})
		if err != nil {
			t.Errorf("%s=%v: %v", test.name, test.value, err)
		} else if !test.holds(config) {
			t.Errorf("%s=%v (%s): got %+v", test.name, test.value, test.reason, config)
		}
	}
}

func versions(c *tls.Config, lowest, highest uint16) bool {
	return c.MinVersion == lowest && c.MaxVersion == highest
}

func TestOptionsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		value any
		want  string
	}{
		{"ssl_verify_peer", "false", "want a bool, got string"},
		{"ssl_verify_peer", 2, "want a bool, got int"},
		{"ssl_allow_self_signed", 1.5, "want a bool"},
		{"ssl_verify_depth", "3", "want an integer, got string"},
		{"ssl_verify_depth", -1, "got -1"},
		{"ssl_verify_depth", 1.5, "want an integer that fits"},
		{"ssl_verify_depth", math.NaN(), "want an integer"},
		{"ssl_verify_depth", math.Inf(1), "want an integer"},
		{"ssl_verify_depth", uint64(math.MaxUint64), "want an integer that fits"},
		{"ssl_host_name", 5, "want a string"},
		{"ssl_host_name", ".", "is no host name"},
		{"ssl_host_name", "a b", "is no host name"},
		{"ssl_host_name", "a\x00b", "is no host name"},
		{"ssl_host_name", "bücher.test", "xn--"},
		{"ssl_host_name", strings.Repeat("a", 256), "longer"},
		{"ssl_protocols", 2, "SSLv2"},
		{"ssl_protocols", 4 | 32, "SSLv3"},
		{"ssl_protocols", 32 | 128, "DTLS"},
		{"ssl_protocols", 16 | 64, "hole between TLS 1.1 and TLS 1.3"},
		{"ssl_protocols", 1 | 32, "no protocol (1)"},
		{"ssl_protocols", -1, "SSLv2"},
		{"ssl_protocols", "TLSv1.2", "want an integer"},
		{"ssl_ciphers", []string{"HIGH"}, "OpenSSL cipher list"},
		{"ssl_ciphers", "HIGH:FROB", `"FROB" can't be mapped`},
		{"ssl_ecdh_curve", "X25519:brainpoolP256r1", `"brainpoolP256r1"`},
		{"ssl_ecdh_curve", "", `"" is no group`},
		{"ssl_ecdh_curve", 29, "want a string"},
		{"ssl_disable_compression", false, "no compression"},
		{"ssl_compress", true, "no compression"},
		{"ssl_compress", "no", "want a bool"},
		{"ssl_grease", true, "GREASE"},
		{"ssl_cafile", "", "path is empty"},
		{"ssl_cafile", true, "want a string: a path, got bool"},
		{"ssl_passphrase", 12345, "want a string, got int"},
		{"ssl_passphrase", "secret", "no key for it"},
		{"ssl_cert_file", "a.pem", "set ssl_key_file"},
		{"ssl_key_file", "a.pem", "set ssl_cert_file"},
		{"ssl_dhparam", "dh.pem", "is a server option"},
		{"ssl_prefer_server_ciphers", true, "is a server option"},
		{"ssl_client_cert_file", "ca.pem", "is a server option"},
		{"ssl_sni_certs", options{}, "is a server option"},
		{"ssl_frob", 1, "no such option"},
		{"verify_peer_name", true, "no such option"},
		{"ssl_\n\x1b[31m", 1, "no such option"},
	} {
		config, err := SwooleClient(options{test.name: test.value})
		if err == nil {
			t.Errorf("%s=%v: accepted, %+v", test.name, test.value, config)
			continue
		}
		if option, ok := errors.AsType[*tlsconfig.OptionError](err); !ok || option.Option != test.name {
			t.Errorf("%s=%v: the error does not name the option: %#v", test.name, test.value, err)
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%v: %q does not say %q", test.name, test.value, err, test.want)
		}
		if strings.Contains(err.Error(), "12345") {
			t.Errorf("the passphrase is in the error: %v", err)
		}
		tlstest.CheckLine(t, err.Error())
	}
}

func TestEveryOptionOfSwooleIsKnown(t *testing.T) {
	names := strings.Fields(`ssl_verify_peer ssl_allow_self_signed ssl_host_name ssl_cafile ssl_capath ssl_verify_depth
		ssl_cert_file ssl_key_file ssl_passphrase ssl_ciphers ssl_protocols ssl_ecdh_curve ssl_dhparam
		ssl_prefer_server_ciphers ssl_compress ssl_disable_compression ssl_client_cert_file ssl_sni_certs ssl_grease`)
	for _, name := range names {
		if swooleClient.setters[name] == nil || swooleServer.setters[name] == nil {
			t.Errorf("%s is unknown", name)
		}
	}
	if n := len(swooleClient.setters); n != len(names) || len(swooleServer.setters) != n {
		t.Errorf("%d options are known, want %d", n, len(names))
	}
}

func TestSelfSignedIsAcceptedOnlyAsAsked(t *testing.T) {
	now := time.Now()
	own := func(r devca.Request) tls.Certificate {
		cert, err := devca.SelfSigned(r)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	ca := tlstest.NewCA(t)
	good := own(devca.Request{Names: []string{"mail.test", "127.0.0.1"}})
	withRoot := tlstest.Issued(t, ca, "mail.test")
	withRoot.Certificate = append(withRoot.Certificate, ca.Cert.Raw)
	extra := good
	extra.Certificate = [][]byte{good.Certificate[0], ca.Cert.Raw}
	forged := tlstest.Custom(t, &tlstest.CA{Cert: &x509.Certificate{Subject: good.Leaf.Subject, RawSubject: good.Leaf.RawSubject}, Key: ca.Key},
		&x509.Certificate{Subject: good.Leaf.Subject, DNSNames: []string{"mail.test"}})
	for _, test := range []struct {
		name string
		host string
		cert tls.Certificate
		ok   bool
	}{
		{"self-signed", "mail.test", good, true},
		{"self-signed, address", "127.0.0.1", good, true},
		{"another name", "evil.test", good, false},
		{"another address", "127.0.0.2", good, false},
		{"expired", "mail.test", own(devca.Request{Names: []string{"mail.test"}, NotAfter: now.Add(-time.Hour)}), false},
		{"not yet valid", "mail.test", own(devca.Request{Names: []string{"mail.test"}, NotBefore: now.Add(time.Hour)}), false},
		{"for clients", "mail.test", own(devca.Request{Names: []string{"mail.test"}, Client: true}), false},
		{"private root, chain", "mail.test", withRoot, false},
		{"private root, leaf only", "mail.test", tlstest.Issued(t, ca, "mail.test"), false},
		{"more than one certificate", "mail.test", extra, false},
		{"issuer is subject, other key", "mail.test", forged, false},
	} {
		for _, hostName := range []any{nil, ""} {
			base := fromOptions(t, options{"ssl_allow_self_signed": true, "ssl_host_name": hostName})
			_, err := tlstest.Dial(t, tlsconfig.NewClient(base).For(test.host), tlstest.Speak(tlstest.Server(test.cert)))
			if (err == nil) != test.ok {
				t.Errorf("%s: got %v", test.name, err)
			}
			if err != nil && !errors.As(err, new(*tls.CertificateVerificationError)) {
				t.Errorf("%s: got %T, want a *tls.CertificateVerificationError", test.name, err)
			}
		}
		if _, err := tlstest.Dial(t, tlsconfig.NewClient(fromOptions(t, nil)).For(test.host), tlstest.Speak(tlstest.Server(test.cert))); err == nil {
			t.Errorf("%s: accepted without being asked", test.name)
		}
	}

	// A certificate from a trusted authority is as good as ever.
	cafile := tlstest.File(t, "ca.pem", ca.PEM())
	base := fromOptions(t, options{"ssl_allow_self_signed": true, "ssl_cafile": cafile})
	if _, err := tlstest.Dial(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(tlstest.Server(tlstest.Issued(t, ca, "mail.test")))); err != nil {
		t.Errorf("trusted authority: %v", err)
	}
	// Without the host from Client.For there is nothing to check an address against.
	if _, err := tlstest.Dial(t, base, tlstest.Speak(tlstest.Server(good))); !errors.Is(err, verify.ErrNoName) {
		t.Errorf("without Client.For: got %v, want verify.ErrNoName", err)
	}
}

func TestVerifyDepthCountsIntermediates(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(t)
	one := tlstest.Intermediate(t, ca, "one", now.Add(-time.Hour), now.Add(time.Hour))
	two := tlstest.Intermediate(t, one, "two", now.Add(-time.Hour), now.Add(time.Hour))
	cert := tlstest.Issued(t, two, "mail.test")
	cert.Certificate = append(cert.Certificate, two.Cert.Raw, one.Cert.Raw)
	cafile := tlstest.File(t, "ca.pem", ca.PEM())
	for depth, ok := range []bool{0: true, 1: false, 2: true, 3: true} {
		for _, lax := range []bool{false, true} {
			base := fromOptions(t, options{"ssl_verify_depth": depth, "ssl_cafile": cafile, "ssl_allow_self_signed": lax})
			config := tlsconfig.NewClient(base).For("mail.test")
			for range 2 { // the second time by resumption, unless it was refused
				_, err := tlstest.Dial(t, config, tlstest.Speak(tlstest.Server(cert)))
				if (err == nil) != ok {
					t.Errorf("depth %d: %v", depth, err)
				}
			}
		}
	}
}

func TestRootsReplaceTheSystems(t *testing.T) {
	ca, other := tlstest.NewCA(t), tlstest.NewCA(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"12345678.0": ca.PEM(), "other.crl": []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), "README": []byte("hello"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink("12345678.0", filepath.Join(dir, "link.pem"))
	os.Symlink("nowhere", filepath.Join(dir, "dangling.pem"))
	os.Mkdir(filepath.Join(dir, "folder"), 0o700)

	both := append(append([]byte("text before\n"), other.PEM()...), ca.PEM()...)
	for _, o := range []options{
		{"ssl_cafile": tlstest.File(t, "both.pem", both)},
		{"ssl_capath": dir},
		{"ssl_cafile": tlstest.File(t, "other.pem", other.PEM()), "ssl_capath": dir},
	} {
		config := tlsconfig.NewClient(fromOptions(t, o)).For("mail.test")
		if _, err := tlstest.Dial(t, config, tlstest.Speak(tlstest.Server(tlstest.Issued(t, ca, "mail.test")))); err != nil {
			t.Errorf("%v: %v", o, err)
		}
	}
	config := tlsconfig.NewClient(fromOptions(t, options{"ssl_capath": dir})).For("mail.test")
	if _, err := tlstest.Dial(t, config, tlstest.Speak(tlstest.Server(tlstest.Issued(t, other, "mail.test")))); err == nil {
		t.Error("an authority that is not in the directory was trusted")
	}
}

func TestRootsThatCannotBeRead(t *testing.T) {
	_, key := tlstest.Pair(t, tlstest.Issued(t, tlstest.NewCA(t), "mail.test"))
	for _, test := range []struct{ option, path, want string }{
		{"ssl_cafile", "/nonexistent/ca.pem", "/nonexistent/ca.pem"},
		{"ssl_cafile", t.TempDir(), "is a directory"},
		{"ssl_cafile", tlstest.File(t, "empty.pem", nil), "the file is empty"},
		{"ssl_cafile", tlstest.File(t, "text.pem", []byte("hello")), "not PEM"},
		{"ssl_cafile", tlstest.File(t, "der.pem", tlstest.NewCA(t).Cert.Raw), "looks like DER"},
		{"ssl_cafile", key, `type "PRIVATE KEY"`},
		{"ssl_cafile", tlstest.File(t, "broken.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), "certificate 1 in the file"},
		{"ssl_capath", "/nonexistent", "/nonexistent"},
		{"ssl_capath", key, "not a directory"},
		{"ssl_capath", t.TempDir(), "no file in it has a certificate"},
	} {
		checkOptionError(t, options{test.option: test.path}, test.option, test.want)
	}
	_, err := SwooleClient(options{"ssl_cafile": "/nonexistent"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no fs.ErrNotExist", err)
	}
	secret := tlstest.File(t, "secret.pem", tlstest.NewCA(t).PEM())
	if os.Chmod(secret, 0); os.Geteuid() != 0 {
		checkOptionError(t, options{"ssl_cafile": secret}, "ssl_cafile", "permission denied (as user")
	}
}

// checkOptionError fails the test unless SwooleClient fails with an error for that option that says
// what is wanted.
func checkOptionError(t *testing.T, o options, option, want string) {
	t.Helper()
	_, err := SwooleClient(o)
	got, ok := errors.AsType[*tlsconfig.OptionError](err)
	if !ok || got.Option != option || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: got %v, want an error of %s with %q", o, err, option, want)
		return
	}
	tlstest.CheckLine(t, err.Error())
}

func TestClientCertificateIsSent(t *testing.T) {
	ca := tlstest.NewCA(t)
	certFile, keyFile := tlstest.Pair(t, tlstest.Signed(t, ca, devca.Request{Names: []string{"me@mail.test"}, Client: true}))
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	srv.ClientAuth, srv.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	base := fromOptions(t, options{
		"ssl_cafile": tlstest.File(t, "ca.pem", ca.PEM()), "ssl_cert_file": certFile, "ssl_key_file": keyFile,
	})
	if _, err := tlstest.Dial(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv)); err != nil {
		t.Error(err)
	}
}

func TestKeyPairMistakes(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	certFile, keyFile := tlstest.Pair(t, cert)
	otherCert, otherKey := tlstest.Pair(t, tlstest.Issued(t, ca, "other.test"))
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	wrongOrder := tlstest.File(t, "order.pem", append(ca.PEM(), read(certFile)...))
	pkcs8 := tlstest.File(t, "pkcs8.pem", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	broken := tlstest.File(t, "broken.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	brokenKey := tlstest.File(t, "brokenkey.pem", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	for _, test := range []struct{ cert, key, option, want string }{
		{"/nonexistent", keyFile, "ssl_cert_file", "/nonexistent"},
		{certFile, "/nonexistent", "ssl_key_file", "/nonexistent"},
		{keyFile, certFile, "ssl_cert_file", "are swapped"},
		{keyFile, keyFile, "ssl_cert_file", "no certificate"},
		{certFile, certFile, "ssl_key_file", `type "CERTIFICATE"`},
		{certFile, otherKey, "ssl_key_file", text.Fingerprint(cert.Leaf.RawSubjectPublicKeyInfo)},
		{otherCert, keyFile, "ssl_key_file", text.Fingerprint(cert.Leaf.RawSubjectPublicKeyInfo)},
		{wrongOrder, keyFile, "ssl_key_file", "put that one first"},
		{certFile, pkcs8, "ssl_key_file", "openssl pkey"},
		{broken, keyFile, "ssl_cert_file", "certificate 1 in the file"},
		{certFile, brokenKey, "ssl_key_file", "asn1"},
		{tlstest.File(t, "text.pem", []byte("hello")), keyFile, "ssl_cert_file", "not PEM"},
	} {
		checkOptionError(t, options{"ssl_cert_file": test.cert, "ssl_key_file": test.key}, test.option, test.want)
	}
}

func TestKeyEncodings(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	certFile, _ := tlstest.Pair(t, cert)
	sec1, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	plain := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{5, 0}})
	//lint:ignore SA1019 Deprecated for new files; the test needs an old one.
	locked, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", sec1, []byte("open sesame"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	lockedFile := tlstest.File(t, "locked.pem", append(parameters, pem.EncodeToMemory(locked)...))

	for _, o := range []options{
		{"ssl_key_file": tlstest.File(t, "sec1.pem", plain)},
		{"ssl_key_file": tlstest.File(t, "params.pem", append(parameters, plain...))},
		{"ssl_key_file": tlstest.File(t, "unneeded.pem", plain), "ssl_passphrase": "not needed"},
		{"ssl_key_file": lockedFile, "ssl_passphrase": "open sesame"},
	} {
		o["ssl_cert_file"] = certFile
		if got := fromOptions(t, o).Certificates; len(got) != 1 || got[0].Leaf == nil {
			t.Errorf("%v: got %v", o, got)
		}
	}
	o := options{"ssl_cert_file": certFile, "ssl_key_file": lockedFile}
	checkOptionError(t, o, "ssl_key_file", "set the passphrase (ssl_passphrase)")
	for i := range 300 { // some wrong phrases leave a padding that looks right
		o := maps.Clone(o)
		o["ssl_passphrase"] = strings.Repeat("x", i+1)
		checkOptionError(t, o, "ssl_key_file", "ssl_passphrase")
	}

	locked.Headers["DEK-Info"] = "FROB-CBC,00"
	o["ssl_key_file"], o["ssl_passphrase"] = tlstest.File(t, "frob.pem", pem.EncodeToMemory(locked)), "x"
	checkOptionError(t, o, "ssl_key_file", "unknown encryption mode")
}
