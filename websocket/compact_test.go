package websocket_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket"
)

// Both ends of a wss connection become compact when they are quiet, go on with messages of any
// size, and become so again.
func TestCompactTLS(t *testing.T) {
	compact := socket.CompactTLS{After: 10 * time.Millisecond}
	config := echoing()
	config.Server = server.Config{Port: server.Port{CompactTLS: compact}}
	h := start(t, "tls", config)
	secure, _ := certified()
	before, _ := socket.Compact()
	client := websocket.ClientConfig{}
	client.Client.TLS, client.Client.CompactTLS = secure, compact
	c := h.dial("/", client)
	for _, text := range []string{"first", strings.Repeat("x", 100_000), "third"} {
		leaktest.Until(t, "both ends are compact", func() bool {
			now, _ := socket.Compact()
			return now == before+2
		})
		push(t, c, text)
		if m, err := c.Recv(h.inTime()); err != nil || string(m.Data) != text {
			t.Fatalf("%.20q, %v", m.Data, err)
		}
	}
	if cs, ok := c.ConnectionState(); !ok || cs.Version != tls.VersionTLS13 ||
		len(cs.PeerCertificates) > 0 {
		t.Errorf("%v, %+v", ok, cs)
	}
	check(t, c.Close(websocket.StatusNormal, ""))
	leaktest.Until(t, "both have ended", func() bool {
		now, _ := socket.Compact()
		return now == before
	})
}
