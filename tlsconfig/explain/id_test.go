package explain_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func TestEachIDHasAReason(t *testing.T) {
	seen := map[explain.ID]bool{}
	for _, id := range explain.IDs() {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		reason := id.Reason()
		if reason == "" || reason.ID().Reason() != reason {
			t.Errorf("%s belongs to %q, for which stands %s", id, reason, reason.ID())
		}
	}
	if explain.ID("NO-SUCH").Reason() != "" || explain.Reason("none").ID() != explain.IDOther {
		t.Error("what there is not has an ID or a Reason")
	}
}

// What a server sees of a client that can't agree with it, by ID.
func TestIDsOfAServer(t *testing.T) {
	ca, stranger := tlstest.NewCA(t), tlstest.NamedCA(t, "Stranger")
	server := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	change := func(change func(server, client *tls.Config)) (*tls.Config, *tls.Config) {
		s, c := server.Clone(), &tls.Config{RootCAs: ca.Pool(), ServerName: "mail.test"}
		change(s, c)
		return s, c
	}
	for name, test := range map[string]struct {
		id     explain.ID
		change func(server, client *tls.Config)
	}{
		"root not trusted": {explain.IDCertRefused,
			func(_, c *tls.Config) { c.RootCAs = stranger.Pool() }},
		"versions": {explain.IDVersionNone, func(s, c *tls.Config) {
			s.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
		}},
		"suites": {explain.IDSuitesNone, func(s, c *tls.Config) {
			s.MaxVersion, c.CipherSuites = tls.VersionTLS12,
				[]uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}},
		"groups": {explain.IDGroupsNone, func(s, c *tls.Config) {
			s.CurvePreferences, c.CurvePreferences = []tls.CurveID{tls.CurveP521},
				[]tls.CurveID{tls.X25519}
		}},
		"ALPN": {explain.IDALPNNone, func(s, c *tls.Config) {
			s.NextProtos, c.NextProtos = []string{"imap"}, []string{"http/1.1"}
		}},
		"no client certificate": {explain.IDClientCertRequired, func(s, _ *tls.Config) {
			s.ClientAuth = tls.RequireAnyClientCert
		}},
		"client certificate of another authority": {explain.IDClientCertRefused,
			func(s, c *tls.Config) {
				s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
				mine := tlstest.Issued(t, stranger, "me")
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &mine, nil
				}
			}},
		"no certificate": {explain.IDSNIUnrecognized, func(s, _ *tls.Config) {
			s.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{}, nil
			}
		}},
	} {
		s, c := change(test.change)
		err := explain.Server(tlstest.Meet(t, c, s).ServerErr, "192.0.2.1:1", nil)
		if e, ok := errors.AsType[*explain.HandshakeError](err); !ok || e.ID != test.id ||
			e.Reason != test.id.Reason() {
			t.Errorf("%s: want %s, got %v", name, test.id, err)
		}
	}
	for _, test := range []struct {
		id  explain.ID
		err error
	}{
		{explain.IDClientPlaintext, tls.RecordHeaderError{
			Msg:          "first record does not look like a TLS handshake",
			RecordHeader: [5]byte([]byte("EHLO ")),
		}},
		{explain.IDClientSilent, os.ErrDeadlineExceeded},
		{explain.IDClosed, io.EOF},
		{explain.IDCertRefused, explain.ClearAlert(&net.OpError{Op: "local error",
			Err: errors.New("tls: bad record MAC")}, 48)},
	} {
		err := explain.Server(test.err, "192.0.2.1:1", nil)
		if e, ok := errors.AsType[*explain.HandshakeError](err); !ok || e.ID != test.id {
			t.Errorf("%v: want %s, got %v", test.err, test.id, err)
		}
	}
}

func TestEncryptedHelloRejected(t *testing.T) {
	check(
		t,
		explained(t, &tls.ECHRejectionError{}, nil),
		explain.ReasonECHRejected,
		"take the list out of DNS",
	)
	check(
		t,
		explained(t, &tls.ECHRejectionError{RetryConfigList: []byte{1}}, nil),
		explain.ReasonECHRejected,
		"RetryConfigList",
	)
}

func TestGreetings(t *testing.T) {
	for words, want := range map[string]struct {
		protocol string
		id       explain.ID
	}{
		"220 mail.test ESMTP\r\n":      {"SMTP", explain.IDPortStartTLS},
		"220 ProFTPD\r\n":              {"FTP", explain.IDPortStartTLS},
		"220 hello\r\n":                {"SMTP (or FTP)", explain.IDPortStartTLS},
		"SSH-2.0-x\r\n":                {"SSH", explain.IDPortPlaintext},
		"J\x00\x00\x00\n8.0.36\x00":    {"MySQL", explain.IDPortStartTLS},
		"HTTP/1.1 400 Bad Request\r\n": {"HTTP", explain.IDPortHTTP},
		"554 no\r\n":                   {"SMTP (or FTP)", explain.IDPortRefuses},
		"":                             {"", explain.IDPortPlaintext},
		"\x00\xff":                     {"", explain.IDPortPlaintext},
	} {
		e := explain.Plaintext([]byte(words), "mail.test", nil)
		tlstest.CheckLine(t, e.Error())
		if got := explain.Protocol([]byte(words)); got != want.protocol || e.ID != want.id {
			t.Errorf("%q: %q, %v", words, got, e)
		}
	}
}

func FuzzPlaintext(f *testing.F) {
	f.Add([]byte("220 mail.test ESMTP\r\n"))
	f.Add([]byte("J\x00\x00\x00\n"))
	f.Fuzz(func(t *testing.T, first []byte) {
		e := explain.Plaintext(first, tlstest.Nasty, io.EOF)
		tlstest.CheckLine(t, e.Error())
		if e.Reason != e.ID.Reason() || !errors.Is(e, io.EOF) {
			t.Errorf("%+v", e)
		}
		explain.Protocol(first)
	})
}
