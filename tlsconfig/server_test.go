package tlsconfig

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// rsaCert returns a certificate with an RSA key.
func rsaCert(t testing.TB, ca *tlstest.CA, bits int, name string) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(80 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestServerChoosesByName(t *testing.T) {
	ca := tlstest.NewCA(t)
	first := tlstest.Issued(t, ca, "first.test", "shared.test")
	second := tlstest.Issued(t, ca, "second.test", "*.wild.test", "shared.test")
	given := tlstest.Issued(t, ca, "given.test", "*.given.test")
	options := ready(first, second, given)
	options.Certificates[2].Names = []string{"*.given.test", "shared.test"}
	options.Tolerate = []explain.Reason{explain.ReasonNameMismatch} // shared.test is not in the third
	s := serve(t, options, nil)

	for _, test := range []struct {
		name string
		want tls.Certificate
	}{
		{"first.test", first},
		{"FIRST.test", first},
		{"second.test", second},
		{"a.wild.test", second},
		{"a.b.wild.test", first}, // one label only
		{"wild.test", first},
		{"a.given.test", given},
		{"given.test", first}, // given names are in place of the certificate's own
		{"shared.test", given},
		{"unknown.test", first},
		{"test", first},
		{"192.0.2.1", first}, // no SNI
	} {
		m := tlstest.Meet(t, &tls.Config{ServerName: test.name, InsecureSkipVerify: true}, s.Config())
		if m.ClientErr != nil || m.ServerErr != nil {
			t.Fatalf("%s: %v, %v", test.name, m.ClientErr, m.ServerErr)
		}
		if got := m.Client.PeerCertificates[0]; !got.Equal(test.want.Leaf) {
			t.Errorf("%s: got the certificate for %q", test.name, got.DNSNames)
		}
	}
	if m := tlstest.Meet(t, trusting(ca, "a.wild.test"), s.Config()); m.ClientErr != nil {
		t.Error(m.ClientErr)
	}
	if got := s.Certificates(); len(got) != 3 || !got[1].Equal(second.Leaf) {
		t.Errorf("Certificates: %v", got)
	}
}

func TestStrictSNI(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := ready(tlstest.Issued(t, ca, "a.test"), tlstest.Issued(t, ca, "b.test"))
	options.StrictSNI = true
	s := serve(t, options, nil)
	config := trusting(ca, "a.test")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if m := tlstest.Meet(t, config, s.Config()); m.ClientErr != nil {
		t.Fatal(m.ClientErr)
	}
	if m := tlstest.Meet(t, config, s.Config()); !m.Client.DidResume {
		t.Fatal("no resumption")
	}
	state, _ := config.ClientSessionCache.Get("a.test")
	for _, name := range []string{"c.test", "192.0.2.1"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			// The session of a name that is served must not open the way for another.
			client := &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			client.ClientSessionCache.Put(name, state)
			m := tlstest.Meet(t, client, s.Config())
			e, ok := errors.AsType[*explain.HandshakeError](explain.Client(m.ClientErr, name, client))
			if !ok || e.Reason != explain.ReasonUnrecognizedName {
				t.Errorf("%s: client: %v", name, m.ClientErr)
			}
			e, ok = errors.AsType[*explain.HandshakeError](explain.Server(m.ServerErr, "", nil))
			if !ok || e.Reason != explain.ReasonUnrecognizedName {
				t.Errorf("%s: server: %v", name, m.ServerErr)
			}
		}
	}
}

func TestServerHasACertificateForEachKindOfClient(t *testing.T) {
	ca := tlstest.NewCA(t)
	ec, rsa := tlstest.Issued(t, ca, "mail.test"), rsaCert(t, ca, 2048, "mail.test")
	s := serve(t, ready(ec, rsa), nil)
	for _, name := range []string{"mail.test", "other.test", "192.0.2.1"} {
		for _, test := range []struct {
			suite uint16
			want  tls.Certificate
		}{
			{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, rsa},
			{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ec},
		} {
			m := tlstest.Meet(t, &tls.Config{
				ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{test.suite},
			}, s.Config())
			if m.ClientErr != nil {
				t.Errorf("%s, %s: %v", name, tls.CipherSuiteName(test.suite), m.ClientErr)
			} else if !m.Client.PeerCertificates[0].Equal(test.want.Leaf) {
				t.Errorf("%s, %s: the other certificate", name, tls.CipherSuiteName(test.suite))
			}
		}
	}
}

func TestServerPolicy(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := ready(tlstest.Issued(t, ca, "mail.test"))
	options.ALPN = []string{"b", "a"}
	s := serve(t, options, nil)
	client := func(change func(*tls.Config)) *tls.Config {
		c := trusting(ca, "mail.test")
		change(c)
		return c
	}

	m := tlstest.Meet(t, client(func(c *tls.Config) { c.NextProtos = []string{"a", "b"} }), s.Config())
	if m.ClientErr != nil || m.Client.NegotiatedProtocol != "b" {
		t.Errorf("ALPN: %q, %v", m.Client.NegotiatedProtocol, m.ClientErr)
	}
	if m := tlstest.Meet(t, client(func(*tls.Config) {}), s.Config()); m.ClientErr != nil || m.Client.Version != tls.VersionTLS13 {
		t.Errorf("no ALPN: %v", m.ClientErr)
	}
	if m := tlstest.Meet(t, client(func(c *tls.Config) { c.NextProtos = []string{"c"} }), s.Config()); m.ServerErr == nil {
		t.Error("no common protocol, and accepted")
	}
	old := client(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	if m := tlstest.Meet(t, old, s.Config()); m.ServerErr == nil {
		t.Error("TLS 1.1 was accepted without being asked for")
	}

	options.MinVersion, options.MaxVersion = tls.VersionTLS11, tls.VersionTLS12
	options.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
	options.Groups = []tls.CurveID{tls.CurveP384}
	s = serve(t, options, nil)
	if m := tlstest.Meet(t, old, s.Config()); m.ClientErr != nil || m.Client.Version != tls.VersionTLS11 || m.Client.CipherSuite != options.CipherSuites[0] {
		t.Errorf("asked for: %v, %v", Describe(m.Client), m.ClientErr)
	}
	m = tlstest.Meet(t, client(func(*tls.Config) {}), s.Config())
	if m.ClientErr != nil || m.Client.Version != tls.VersionTLS12 || m.Client.CurveID != tls.CurveP384 {
		t.Errorf("asked for: %v, %v", Describe(m.Client), m.ClientErr)
	}
}

func TestServerClientCertificates(t *testing.T) {
	ca, other := tlstest.NewCA(t), tlstest.NewCA(t)
	now := time.Now()
	below := tlstest.Intermediate(t, other, "below", now.Add(-time.Hour), now.Add(time.Hour))
	me := func(ca *tlstest.CA, change func(*devca.Request)) *tls.Certificate {
		r := devca.Request{Names: []string{"me@client.test"}, Client: true}
		change(&r)
		cert := tlstest.Signed(t, ca, r)
		return &cert
	}
	good := me(other, func(*devca.Request) {})
	long := me(below, func(*devca.Request) {})
	long.Certificate = append(long.Certificate, below.Cert.Raw)
	self, err := devca.SelfSigned(devca.Request{Names: []string{"me@client.test"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]*tls.Certificate{
		"none": nil, "good": good, "long": long, "self": &self,
		"stranger": me(ca, func(*devca.Request) {}),
		"expired":  me(other, func(r *devca.Request) { r.NotAfter = now.Add(-time.Minute) }),
		"server":   me(other, func(r *devca.Request) { r.Client = false }),
	}
	for _, test := range []struct {
		name    string
		mode    ClientCerts
		change  func(*ServerOptions)
		welcome string
	}{
		{"none", ClientCertsNone, nil, "none good long self stranger expired server"},
		{"request", ClientCertsRequest, nil, "none good long"},
		{"require", ClientCertsRequire, nil, "good long"},
		{"depth", ClientCertsRequire, func(o *ServerOptions) { o.ClientVerifyDepth = 1 }, "good long"},
		{"self-signed", ClientCertsRequire, func(o *ServerOptions) { o.AllowSelfSignedClients = true }, "good long self"},
		{"self-signed, request", ClientCertsRequest, func(o *ServerOptions) { o.AllowSelfSignedClients = true }, "none good long self"},
		{"pinned", ClientCertsRequire, func(o *ServerOptions) {
			o.ClientFingerprints = []string{strings.Repeat("00", 32), text.Fingerprint(good.Leaf.Raw), text.Fingerprint(clients["expired"].Leaf.Raw)}
		}, "good"},
		{"pinned and self-signed", ClientCertsRequire, func(o *ServerOptions) {
			o.AllowSelfSignedClients, o.ClientFingerprints = true, []string{text.Fingerprint(self.Leaf.Raw)}
		}, "self"},
	} {
		options := ready(tlstest.Issued(t, ca, "mail.test"))
		options.ClientCerts = test.mode
		if test.mode != ClientCertsNone {
			options.ClientCAPEM = other.PEM()
		}
		if test.change != nil {
			test.change(&options)
		}
		s := serve(t, options, nil)
		for who, cert := range clients {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := trusting(ca, "mail.test")
				client.MaxVersion = version
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				// Without regard to what the server asks for.
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if cert == nil {
						return &tls.Certificate{}, nil
					}
					return cert, nil
				}
				m := tlstest.Meet(t, client, s.Config())
				if welcome := strings.Contains(" "+test.welcome+" ", " "+who+" "); welcome != (m.ServerErr == nil) || welcome != (m.ClientErr == nil) {
					t.Errorf("%s, %s, %s: %v, %v", test.name, who, tls.VersionName(version), m.ServerErr, m.ClientErr)
					continue
				} else if !welcome {
					continue
				}
				m = tlstest.Meet(t, client, s.Config())
				if m.ServerErr != nil || !m.Server.DidResume {
					t.Errorf("%s, %s, %s: second connection: %v, resumed %t", test.name, who, tls.VersionName(version), m.ServerErr, m.Server.DidResume)
				}
				if cert != nil && test.mode != ClientCertsNone && !bytes.Equal(m.Server.PeerCertificates[0].Raw, cert.Certificate[0]) {
					t.Errorf("%s, %s: the resumed session has another client", test.name, who)
				}
			}
		}
	}

	// A chain that is too long.
	lower := tlstest.Intermediate(t, below, "lower", now.Add(-time.Hour), now.Add(time.Hour))
	deep := me(lower, func(*devca.Request) {})
	deep.Certificate = append(deep.Certificate, lower.Cert.Raw, below.Cert.Raw)
	options := ready(tlstest.Issued(t, ca, "mail.test"))
	options.ClientCerts, options.ClientCAPEM, options.ClientVerifyDepth = ClientCertsRequire, other.PEM(), 1
	client := trusting(ca, "mail.test")
	client.Certificates = []tls.Certificate{*deep}
	if m := tlstest.Meet(t, client, serve(t, options, nil).Config()); m.ServerErr == nil || !strings.Contains(m.ServerErr.Error(), "2 intermediate") {
		t.Errorf("depth: %v", m.ServerErr)
	}
}

func TestServerOptionsThatAreRefused(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	for _, test := range []struct {
		option, want string
		change       func(*ServerOptions)
	}{
		{"Certificates", "there is none", func(o *ServerOptions) { o.Certificates = nil }},
		{"Certificates", "certificate 1: it has no certificate", func(o *ServerOptions) { o.Certificates[0].Certificate = nil }},
		{"Certificates", "two forms", func(o *ServerOptions) { o.Certificates[0].CertPEM = []byte("x") }},
		{"Certificates", "the same form", func(o *ServerOptions) { o.Certificates[0].KeyFile = "key.pem" }},
		{"Certificates", "the same form", func(o *ServerOptions) { o.Certificates[0].KeyPEM = []byte("x") }},
		{"Certificates", `"*.test" is no host`, func(o *ServerOptions) { o.Certificates[0].Names = []string{"*.*.test"} }},
		{"Certificates", `"*."`, func(o *ServerOptions) { o.Certificates[0].Names = []string{"*."} }},
		{"Certificates", "is an address", func(o *ServerOptions) { o.Certificates[0].Names = []string{"192.0.2.1"} }},
		{"Certificates", `""`, func(o *ServerOptions) { o.Certificates[0].Names = []string{""} }},
		{"MinVersion", "0x300", func(o *ServerOptions) { o.MinVersion = 0x300 }},
		{"MaxVersion", "0x305", func(o *ServerOptions) { o.MaxVersion = 0x305 }},
		{"MaxVersion", "below MinVersion", func(o *ServerOptions) { o.MaxVersion = tls.VersionTLS11 }},
		{"CipherSuites", "0x0001", func(o *ServerOptions) { o.CipherSuites = []uint16{1} }},
		{"Groups", "group 1", func(o *ServerOptions) { o.Groups = []tls.CurveID{1} }},
		{"ALPN", "1 to 255", func(o *ServerOptions) { o.ALPN = []string{""} }},
		{"ALPN", "twice", func(o *ServerOptions) { o.ALPN = []string{"a", "a"} }},
		{"Tolerate", "key mismatch", func(o *ServerOptions) { o.Tolerate = []explain.Reason{explain.ReasonKeyMismatch} }},
		{"ClientCerts", "want ClientCertsNone", func(o *ServerOptions) { o.ClientCerts = 3 }},
		{"ClientCerts", "rules for", func(o *ServerOptions) { o.ClientCAPEM = ca.PEM() }},
		{"ClientCerts", "nothing to verify", func(o *ServerOptions) { o.ClientCerts = ClientCertsRequire }},
		{"ClientVerifyDepth", "negative", func(o *ServerOptions) {
			o.ClientCerts, o.ClientCAPEM, o.ClientVerifyDepth = ClientCertsRequest, ca.PEM(), -1
		}},
		{"ClientFingerprints", "ClientCertsRequire", func(o *ServerOptions) {
			o.ClientCerts, o.ClientCAPEM, o.ClientFingerprints = ClientCertsRequest, ca.PEM(), []string{"00"}
		}},
		{"ClientFingerprints", "MD5", func(o *ServerOptions) {
			o.ClientCerts, o.ClientCAPEM, o.ClientFingerprints = ClientCertsRequire, ca.PEM(), []string{strings.Repeat("00", 16)}
		}},
		{"Tickets", "are off", func(o *ServerOptions) { o.Tickets = TicketOptions{Off: true, Rotation: time.Hour} }},
		{"Tickets", "one of", func(o *ServerOptions) {
			o.Tickets = TicketOptions{Secret: make([]byte, 32), Keys: make([][32]byte, 1)}
		}},
		{"Tickets", "leave Rotation out", func(o *ServerOptions) { o.Tickets = TicketOptions{Rotation: time.Hour, Keys: make([][32]byte, 1)} }},
		{"Tickets", "31 bytes", func(o *ServerOptions) { o.Tickets.Secret = make([]byte, 31) }},
		{"Tickets", "17 Keys", func(o *ServerOptions) { o.Tickets.Keys = make([][32]byte, 17) }},
		{"Tickets", "1s", func(o *ServerOptions) { o.Tickets.Rotation = time.Second }},
		{"Tickets", "-1h", func(o *ServerOptions) { o.Tickets.Rotation = -time.Hour }},
		{"Tickets", "8760h", func(o *ServerOptions) { o.Tickets.Rotation = 365 * 24 * time.Hour }},
	} {
		options := ready(cert)
		test.change(&options)
		_, err := NewServer(options)
		e, ok := errors.AsType[*OptionError](err)
		if !ok || e.Option != test.option || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want an error of %s with %q", err, test.option, test.want)
			continue
		}
		tlstest.CheckLine(t, err.Error())
	}
}

// The options are the caller's: what is changed in them later must not reach the server.
func TestServerKeepsItsOptions(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := ready(tlstest.Issued(t, ca, "mail.test"))
	options.ALPN = []string{"a"}
	s := serve(t, options, nil)
	options.ALPN[0] = "b"
	options.Certificates[0] = ServerCertificate{}
	if _, err := s.Reload(); err != nil {
		t.Error(err)
	}
	client := trusting(ca, "mail.test")
	client.NextProtos = []string{"a"}
	if m := tlstest.Meet(t, client, s.Config()); m.ClientErr != nil {
		t.Error(m.ClientErr)
	}
}

// The authorities of clients may be in several places, all of which count.
func TestClientAuthoritiesFromEverywhere(t *testing.T) {
	ca := tlstest.NewCA(t)
	var authorities []*tlstest.CA
	for _, name := range []string{"File", "Other file", "Folder", "PEM"} {
		authorities = append(authorities, tlstest.NamedCA(t, name))
	}
	dir := t.TempDir()
	write(t, dir+"/a.pem", authorities[2].PEM())
	write(t, dir+"/README", []byte("hello"))
	options := ready(tlstest.Issued(t, ca, "mail.test"))
	options.ClientCerts = ClientCertsRequire
	options.ClientCAFiles = []string{tlstest.File(t, "a.pem", authorities[0].PEM()), tlstest.File(t, "b.pem", authorities[1].PEM())}
	options.ClientCADirs, options.ClientCAPEM = []string{dir}, authorities[3].PEM()
	s := serve(t, options, nil)
	for _, authority := range authorities {
		client := trusting(ca, "mail.test")
		client.Certificates = []tls.Certificate{tlstest.Signed(t, authority, devca.Request{Names: []string{"me@client.test"}, Client: true})}
		if m := tlstest.Meet(t, client, s.Config()); m.ClientErr != nil || m.ServerErr != nil {
			t.Errorf("%s: %v", authority.Cert.Subject, m.ServerErr)
		}
	}
	for _, change := range []func(*ServerOptions){
		func(o *ServerOptions) { o.ClientCAFiles = []string{"/nonexistent"} },
		func(o *ServerOptions) { o.ClientCADirs = []string{t.TempDir()} },
		func(o *ServerOptions) { o.ClientCAPEM = []byte("hello") },
	} {
		bad := options
		change(&bad)
		if _, err := NewServer(bad); err == nil {
			t.Error("bad authorities were taken")
		} else if _, ok := errors.AsType[*CertificateError](err); !ok {
			t.Errorf("%v is no *CertificateError", err)
		}
	}
}

// NewServer with the roots and the clock of the machine.
func TestNewServer(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Custom(t, ca, &x509.Certificate{DNSNames: []string{"mail.test"}, IssuingCertificateURL: []string{"http://ca.test/"}})
	s, err := NewServer(ready(cert))
	if err != nil {
		t.Fatal(err)
	}
	if w := s.Warnings(); len(w) != 1 || w[0].Reason != explain.ReasonIncompleteChain {
		t.Errorf("%v", w)
	}
	if m := tlstest.Meet(t, trusting(ca, "mail.test"), s.Config()); m.ClientErr != nil {
		t.Error(m.ClientErr)
	}
}

func BenchmarkServerChoosesByName(b *testing.B) {
	ca := tlstest.NewCA(b)
	var certs []tls.Certificate
	for i := range 100 {
		certs = append(certs, tlstest.Issued(b, ca, strings.Repeat("a", i+1)+".test"))
	}
	s := serve(b, ready(certs...), nil)
	hello := &tls.ClientHelloInfo{ServerName: strings.Repeat("a", 50) + ".test"}
	b.ReportAllocs()
	for b.Loop() {
		config, err := s.Config().GetConfigForClient(hello)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := config.GetCertificate(hello); err != nil {
			b.Fatal(err)
		}
	}
}
