//go:build unix

package main

import (
	"crypto/tls"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

// In full, both sides say what is wrong, and what mends it.
func TestFaultsInFull(t *testing.T) {
	for name, want := range map[string][]string{
		"incomplete-chain": {
			"only the leaf is in the file", "fullchain.pem, not cert.pem",
			"the server sent only its own certificate", "have the server send its intermediates too",
			"see that the full chain is sent",
		},
		"wrong-key": {
			"the key is another certificate's", "use the key that the certificate was requested with",
			"the server does not hold the key of the certificate it sent", "the key may be another certificate's",
		},
		"no-cipher": {
			"it found no common parameters", "drop the restriction of CipherSuites",
			"no common cipher suite; the client offered TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "or serve a certificate of the other kind",
		},
		"no-version": {
			"offered was TLS 1.2 only", "let this side offer TLS 1.3 as well", "the client offered only TLS 1.2",
		},
		"expired": {
			"cert.pem: expired: the server's certificate \"localhost\" ended on 2020-03-31", "have the server renew it",
			"or check this machine's clock", "see that the full chain is sent, covers the name that the client asks for, and has not run out",
		},
		"not-yet-valid": {"begins on 2100-01-01", "have the server use one that is valid"},
		"wrong-name":    {"the certificate is for \"other.example\", not for localhost", "connect by one of these names"},
		"self-signed": {
			"have one sign it", "the server's certificate \"localhost\" is signed with its own key",
			"trust it by RootCAs (ssl_cafile)",
		},
		"swapped":          {"the certificate's file has the key", "exchange the two"},
		"wrong-parameters": {"option MaxVersion: TLS 1.2 is below MinVersion, which is TLS 1.3"},
		"missing":          {"cert.pem: file missing", "correct the path"},
		"unreadable":       {"key.pem: file unreadable: is a directory"},
		"ws-to-wss":        {"it may want wss", "the client doesn't speak TLS"},
		"wss-to-ws":        {"the server speaks plaintext HTTP", "TLS, where there is none"},
	} {
		var out strings.Builder
		leaktest.Check(t, run(t.Context(), []string{"-fault", name}, &out))
		for _, words := range want {
			if !strings.Contains(out.String(), words) {
				t.Errorf("-fault %s: %s\nwant %q", name, &out, words)
			}
		}
	}
}

func TestCertificatesOfFiles(t *testing.T) {
	s, err := newSetup(t.TempDir())
	leaktest.Check(t, err)
	leaktest.Check(t, s.write())
	address, stop := exampletest.Serve(t, run, "Echo on ", "-cert", s.path("cert.pem"), "-key", s.path("key.pem"))
	c, err := websocket.Dial(runtimetest.Start(t).Context(), address, websocket.ClientConfig{
		Client: client.Config{TLS: &tls.Config{RootCAs: s.root.Pool()}},
	})
	leaktest.Check(t, err)
	defer c.Abort()
	c.Push([]byte("hello"), websocket.Text)
	m, err := c.Recv(t.Context())
	if want := c.LocalAddr().String() + " says: hello"; string(m.Data) != want || err != nil {
		t.Errorf("%q, %v; want %q", m.Data, err, want)
	}
	stop()
}

func TestFlags(t *testing.T) {
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":           {"-x"},
		"-listen wants":             {"-listen", "127.0.0.1:0"},
		"are for -listen":           {"-cert", "x"},
		"-key is for -cert":         {"-listen", "127.0.0.1:0", "-behind", "127.0.0.1", "-key", "x"},
		"exclude each other":        {"-listen", "127.0.0.1:0", "-behind", "127.0.0.1", "-fault", "expired"},
		"must be one of incomplete": {"-fault", "bad luck"},
		"file missing":              {"-listen", "127.0.0.1:0", "-cert", "/nowhere/cert.pem"},
		"\"proxy\"":                 {"-listen", "127.0.0.1:0", "-behind", "proxy"},
	}, "-listen", "-cert", "-key", "-behind", "-fault")
}
