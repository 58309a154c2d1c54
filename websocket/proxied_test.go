package websocket_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/websocket"
)

// Behind a trusted proxy the client's address is what it says, and nobody else is believed.
func TestForwarded(t *testing.T) {
	for _, c := range []struct{ proxies, header, want string }{
		{"", "X-Forwarded-For: 192.0.2.1", "127.0.0.1"},
		{"127.0.0.1", "X-Forwarded-For: 192.0.2.1", "192.0.2.1"},
		{"127.0.0.1", "X-Forwarded-For: 6.6.6.6, 192.0.2.1", "192.0.2.1"},
		{"127.0.0.1 10.0.0.0/8", "X-Forwarded-For: 192.0.2.1, 10.1.1.1", "192.0.2.1"},
		{"127.0.0.1", `Forwarded: for="[2001:db8::1]:4711";proto=https`, "2001:db8::1"},
		{"127.0.0.1", "X-Forwarded-For: nonsense", "127.0.0.1"},
		{"127.0.0.1", "Forwarded: for=6.6.6.6, proto=http", "127.0.0.1"},
		{"127.0.0.1", "Forwarded: for=6.6.6.6\r\nForwarded: proto=http", "127.0.0.1"},
		{"127.0.0.1", `Forwarded: for=192.0.2.1;host="a,for=6.6.6.6"`, "192.0.2.1"},
		{"127.0.0.1", `Forwarded: for=192.0.2.1;host="a;for=6.6.6.6"`, "192.0.2.1"},
		{"127.0.0.1", `Forwarded: x=", for=192.0.2.1;host=",for=6.6.6.6"`, "127.0.0.1"},
		{"127.0.0.1", `Forwarded: for=192.0.2.1;host="a\",for=6.6.6.6"`, "127.0.0.1"},
		{"127.0.0.1", `Forwarded: for="6.6.6.6, for=192.0.2.1`, "127.0.0.1"},
		{"127.0.0.1", "Forwarded: for=192.0.2.1;for=6.6.6.6", "127.0.0.1"},
		{"127.0.0.1", "Forwarded: , by=_x;For=192.0.2.1;, ", "192.0.2.1"},
		{"127.0.0.1", "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.1", "127.0.0.1"},
		{"127.0.0.1", "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1", "192.0.2.1"},
	} {
		addresses := make(chan string, 1)
		config := echoing()
		config.TrustedProxies = strings.Fields(c.proxies)
		config.OnOpen = func(_ context.Context, c *websocket.Conn, r *http.Request) {
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			if other, _, _ := net.SplitHostPort(r.RemoteAddr); other != host {
				t.Errorf("%s, %s", host, other)
			}
			addresses <- host
		}
		h := start(t, "tcp", config)
		r := h.connect()
		r.send("GET / HTTP/1.1\r\n" + handshakeLines + c.header + "\r\n\r\n")
		if got := receive(t, addresses); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// Whether the client has TLS, the trusted proxy says that has it as a client, and nobody else.
func TestForwardedProto(t *testing.T) {
	const two = "127.0.0.1 10.0.0.1"
	for _, c := range []struct {
		network, proxies, header string
		want                     bool
	}{
		{"tcp", "127.0.0.1", "X-Other: a", false},
		{"tls", "127.0.0.1", "X-Other: a", true},
		{"tls", "", "X-Forwarded-Proto: http", true},
		{"tcp", "", "X-Forwarded-Proto: https", false},
		{"tcp", "10.0.0.1", "Forwarded: proto=https", false},
		{"tcp", "127.0.0.1", "X-Forwarded-Proto: https", true},
		{"tcp", "127.0.0.1", "X-Forwarded-Proto: WSS\r\nX-Forwarded-For: 192.0.2.1", true},
		{"tcp", "127.0.0.1", "X-Forwarded-Proto: http", false},
		{"tcp", "127.0.0.1", "X-Forwarded-Proto: https, http", false},
		{"tcp", "127.0.0.1", "X-Forwarded-Proto: http, https", true},
		{"tcp", "127.0.0.1", "Forwarded: proto=http, for=192.0.2.1;Proto=\"https\"", true},
		{"tcp", "127.0.0.1", "Forwarded: for=192.0.2.1;proto=http\r\nX-Forwarded-Proto: https", false},
		{"tcp", "127.0.0.1", "Forwarded: for=6.6.6.6;proto=https, for=192.0.2.1", false},
		{"tcp", "127.0.0.1", "Forwarded: for=192.0.2.1\r\nX-Forwarded-Proto: https", false},
		{"tcp", "127.0.0.1", `Forwarded: proto=http;host="a;proto=https"`, false},
		{"tcp", two, "Forwarded: for=192.0.2.1;proto=http, for=10.0.0.1;proto=https", false},
		{"tcp", two, "Forwarded: for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", true},
		{"tcp", two, "Forwarded: for=_hidden;proto=http, for=10.0.0.1;proto=https", false},
		{"tcp", two, "Forwarded: for=6.6.6.6;proto=https, for=192.0.2.1;proto=http, " +
			"for=10.0.0.1;proto=https", false},
		{"tcp", two, "X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n" +
			"X-Forwarded-Proto: http, https", false},
		{"tcp", two, "X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\nX-Forwarded-Proto: https", true},
		{"tcp", "127.0.0.1", `Forwarded: proto="https, proto=http`, false},
	} {
		secure := make(chan bool, 1)
		config := echoing()
		config.TrustedProxies = strings.Fields(c.proxies)
		config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) {
			secure <- c.Secure()
		}
		h := start(t, c.network, config)
		r := h.connect()
		r.send("GET / HTTP/1.1\r\n" + handshakeLines + c.header + "\r\n\r\n")
		if got := receive(t, secure); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A balancer that passes bytes on tells where the client is by the PROXY protocol.
func TestProxyProtocol(t *testing.T) {
	addresses := make(chan string, 1)
	config := echoing()
	config.Server.ProxyProtocol = []string{"127.0.0.1"}
	config.OnOpen = func(_ context.Context, c *websocket.Conn, r *http.Request) {
		addresses <- c.RemoteAddr().String() + " " + r.RemoteAddr
	}
	h := start(t, "tcp", config)
	r := h.connect()
	r.send("PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\nGET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if got := receive(t, addresses); got != "192.0.2.1:4711 192.0.2.1:4711" {
		t.Error(got)
	}
}
