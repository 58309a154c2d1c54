package tlsconfig

import (
	"crypto/tls"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
)

func TestDescribe(t *testing.T) {
	ca := tlstest.NewCA(t)
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	srv.NextProtos = []string{"smtp"}
	config := NewClient(&tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"smtp"}}).For("mail.test")
	for _, want := range []Summary{
		{"TLS 1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", "smtp", false},
		{"TLS 1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", "smtp", true},
	} {
		state, err := tlstest.Dial(t, config, tlstest.Speak(srv))
		got := Describe(state)
		if got.CipherSuite == "TLS_CHACHA20_POLY1305_SHA256" {
			got.CipherSuite = want.CipherSuite // a machine without AES instructions
		}
		if err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	for state, want := range map[*tls.ConnectionState]string{
		{}: "no TLS",
		{Version: tls.VersionTLS12, CipherSuite: tls.TLS_RSA_WITH_AES_128_GCM_SHA256}:                                     "TLS 1.2, TLS_RSA_WITH_AES_128_GCM_SHA256",
		{Version: tls.VersionTLS13, CipherSuite: 0x1302, CurveID: tls.X25519, NegotiatedProtocol: "a\n", DidResume: true}: "TLS 1.3, TLS_AES_256_GCM_SHA384, X25519, ALPN a , resumed",
	} {
		if got := Describe(*state).String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
