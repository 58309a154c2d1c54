package websocket_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/websocket"
)

// wss has what the server below has: certificates by name, those of clients, ALPN, and files that
// are read again while connections stand.
func TestWSSHasWhatTheServerHas(t *testing.T) {
	ca, err := devca.New("Whorl test CA")
	check(t, err)
	dir := t.TempDir()
	certify := func(file, name string) tlsconfig.ServerCertificate {
		t.Helper()
		cert, err := ca.Issue(name)
		check(t, err)
		at := filepath.Join(dir, file)
		files := tlsconfig.ServerCertificate{CertFile: at + ".pem", KeyFile: at + ".key"}
		check(t, devca.WritePEM(cert, files.CertFile, files.KeyFile))
		return files
	}
	certificates, err := tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{certify("a", "one.test"), certify("b", "two.test")},
		ClientCAPEM:  ca.PEM(),
		ClientCerts:  tlsconfig.ClientCertsRequire,
		ALPN:         []string{"http/1.1"},
	})
	check(t, err)
	type seen struct{ client, asked, proto string }
	opened := make(chan seen, 1)
	config := echoing()
	config.Server = server.Config{Port: server.Port{Certificates: certificates}}
	config.OnOpen = func(_ context.Context, c *websocket.Conn, r *http.Request) {
		state, ok := c.ConnectionState()
		if !ok || r.TLS == nil || !c.Secure() {
			t.Error("no TLS")
		}
		opened <- seen{state.PeerCertificates[0].DNSNames[0], state.ServerName, state.NegotiatedProtocol}
	}
	h := start(t, "tls", config)
	mine, err := ca.Sign(devca.Request{Names: []string{"client.test"}, Client: true})
	check(t, err)
	dial := func(name string, certificates ...tls.Certificate) (*websocket.Conn, error) {
		secure := &tls.Config{
			RootCAs: ca.Pool(), ServerName: name, Certificates: certificates,
			NextProtos: []string{"http/1.1"},
		}
		return websocket.Dial(h.inTime(), h.url("/"), websocket.ClientConfig{
			Client: client.Config{TLS: secure},
		})
	}
	for _, name := range []string{"one.test", "two.test"} {
		c, err := dial(name, mine)
		check(t, err)
		if got, want := receive(t, opened), (seen{"client.test", name, "http/1.1"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		c.Abort()
	}
	if c, err := dial("one.test"); err == nil { // TLS 1.3 tells of it behind the handshake
		c.Abort()
		t.Error("a client without a certificate is let in")
	}
	stands, err := dial("one.test", mine)
	check(t, err)
	defer stands.Abort()
	receive(t, opened)
	certify("a", "new.test")
	if changed, err := certificates.Reload(); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	leaktest.Until(t, "the new certificate is served", func() bool {
		c, err := dial("new.test", mine)
		if err != nil {
			return false
		}
		receive(t, opened)
		c.Abort()
		return true
	})
	push(t, stands, "still")
	h.want(stands, websocket.Text, "still")
}
