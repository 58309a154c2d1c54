package explain_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig"
)

// What mends it is said of what each side takes, on both sides.
func TestAdviceForVersions(t *testing.T) {
	ca := tlstest.NewCA(t)
	type versions struct{ lowest, highest uint16 }
	const (
		v10, v11 = tls.VersionTLS10, tls.VersionTLS11
		v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	)
	for _, test := range []struct {
		server, client versions
		inLog, ofDial  string // of the server, of the client
		unsafe         bool
	}{
		{versions{v13, 0}, versions{0, v12},
			"have the client use TLS 1.3, or let this server take TLS 1.2 by MinVersion",
			"let this side offer TLS 1.3 as well by MaxVersion", false},
		{versions{0, v12}, versions{v13, 0},
			"let this server take TLS 1.3 by MaxVersion (ssl_protocols), or have the client use " +
				"TLS 1.2",
			"or let this side offer TLS 1.2 as well by MinVersion", false},
		{versions{0, 0}, versions{v10, v11},
			"have the client use TLS 1.2 or 1.3; to go below TLS 1.2 is possible by MinVersion",
			"let this side offer TLS 1.2 and 1.3 by MaxVersion", true},
		{versions{v13, 0}, versions{v10, v11},
			"have the client use TLS 1.3; to go below TLS 1.2", "by MaxVersion", true},
		{versions{v11, v11}, versions{v10, v10}, "have the client use TLS 1.1", "by MaxVersion",
			false},
		{versions{v10, v11}, versions{0, 0},
			"let this server take TLS 1.2 by MaxVersion (ssl_protocols), or have the client use " +
				"TLS 1.0 or 1.1",
			"have the server take TLS 1.2 or 1.3; to go below", false},
	} {
		options := ready(tlstest.Issued(t, ca, "mail.test"))
		options.MinVersion, options.MaxVersion = test.server.lowest, test.server.highest
		server := serve(t, options).Config()
		client := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool(),
			MinVersion: test.client.lowest, MaxVersion: test.client.highest}).For("mail.test")
		m := tlstest.Meet(t, client, server)
		logged := explainedServer(t, m.ServerErr, server).Advice
		dialled := explained(t, m.ClientErr, client).Advice
		if !strings.Contains(logged, test.inLog) || !strings.Contains(dialled, test.ofDial) ||
			strings.Contains(logged, "unsafe") != test.unsafe {
			t.Errorf("server %v, client %v:\n%s\n%s", test.server, test.client, logged, dialled)
		}
	}
}
