//go:build linux

package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/whorl-go/whorl/server"
)

// header returns the header that a proxy sends for a client. Version 2 tells the name that the
// client has asked for, mail.test.
func header(t testing.TB, version int, client string) string {
	t.Helper()
	source := netip.MustParseAddrPort(client)
	destination, family := netip.MustParseAddrPort("192.0.2.99:443"), byte(4)
	if source.Addr().Is6() {
		destination, family = netip.MustParseAddrPort("[2001:db8::99]:443"), 6
	}
	if version == 1 {
		return fmt.Sprintf("PROXY TCP%d %s %s %d %d\r\n",
			family, source.Addr(), destination.Addr(), source.Port(), destination.Port())
	}
	body := append(source.Addr().AsSlice(), destination.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, source.Port())
	body = binary.BigEndian.AppendUint16(body, destination.Port())
	body = append(body, "\x02\x00\x09mail.test"...)
	text := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21"), map[byte]byte{4: 0x11, 6: 0x21}[family])
	return string(append(binary.BigEndian.AppendUint16(text, uint16(len(body))), body...))
}

// tell is a handler that tells a client who it is, and echoes.
func tell(ctx context.Context, c *server.Conn) {
	c.Send(ctx, describe(c))
	echo(ctx, c)
}

func describe(c *server.Conn) []byte {
	p := c.Proxied()
	if p == nil {
		return fmt.Appendf(nil, "%v direct\n", c.RemoteAddr())
	}
	return fmt.Appendf(nil, "%v %v v%d local %v %s\n", c.RemoteAddr(), c.LocalAddr(), p.Version, p.Local, p.Authority)
}

// telling is tell in both styles.
func telling() map[string]server.Port {
	return map[string]server.Port{
		"handler":   {Handle: tell},
		"callbacks": {OnReceive: echoBack, OnConnect: func(ctx context.Context, c *server.Conn) { c.Send(ctx, describe(c)) }},
	}
}

func TestProxiedConnections(t *testing.T) {
	for name, test := range map[string]struct{ header, want string }{
		"v1":      {header(t, 1, "192.0.2.1:1234"), "192.0.2.1:1234 192.0.2.99:443 v1 local false \n"},
		"v1 IPv6": {header(t, 1, "[2001:db8::1]:1234"), "[2001:db8::1]:1234 [2001:db8::99]:443 v1 local false \n"},
		"v2":      {header(t, 2, "192.0.2.1:1234"), "192.0.2.1:1234 192.0.2.99:443 v2 local false mail.test\n"},
		"v2 IPv6": {header(t, 2, "[2001:db8::1]:1234"), "[2001:db8::1]:1234 [2001:db8::99]:443 v2 local false mail.test\n"},
		"unknown": {"PROXY UNKNOWN\r\n", "%s %s v1 local false \n"},
		"local":   {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "%s %s v2 local true \n"},
	} {
		for style, port := range telling() {
			for _, network := range []string{"tcp", "tls"} {
				for _, pieces := range []string{"at once", "byte by byte"} {
					t.Run(name+"/"+style+"/"+network+"/"+pieces, func(t *testing.T) {
						port.ProxyProtocol, port.TLS = []string{"127.0.0.0/8"}, serverTLS()
						h, l := start(t, network, server.Config{Port: port})
						raw := dial(t, l)
						conn := raw
						want := test.want
						if name == "unknown" || name == "local" {
							want = fmt.Sprintf(want, raw.LocalAddr(), raw.RemoteAddr())
						}
						text := test.header
						if network == "tls" {
							conn = tlsOver(raw)
						} else {
							text += "hello" // behind the header, in the same segment
						}
						if pieces == "at once" {
							write(t, raw, text)
						} else {
							write(t, dribble{raw}, text)
						}
						if network == "tls" {
							write(t, conn, "hello")
						}
						expect(t, conn, want)
						expect(t, conn, "hello")
						conn.Close()
						h.settled()
					})
				}
			}
		}
	}
}

// Who is not trusted is served as it is: a header is its first words.
func TestHeaderOfAStranger(t *testing.T) {
	for style, port := range telling() {
		t.Run(style, func(t *testing.T) {
			port.ProxyProtocol = []string{"127.0.0.9"}
			_, l := start(t, "tcp", server.Config{Port: port})
			conn := dial(t, l, "127.0.0.8")
			write(t, conn, header(t, 1, "192.0.2.1:1234"))
			expect(t, conn, conn.LocalAddr().String()+" direct\n")
			expect(t, conn, header(t, 1, "192.0.2.1:1234"))
			proxied := dial(t, l, "127.0.0.9")
			write(t, proxied, header(t, 1, "192.0.2.1:1234"))
			expect(t, proxied, "192.0.2.1:1234 192.0.2.99:443 v1 local false \n")
		})
	}
}

// A proxy on a Unix socket.
func TestProxyOnAUnixSocket(t *testing.T) {
	for style, port := range telling() {
		t.Run(style, func(t *testing.T) {
			port.ProxyProtocol = []string{"unix"}
			h, l := start(t, "unix", server.Config{Port: port, MaxPerAddress: 1})
			conn := dial(t, l)
			write(t, conn, header(t, 2, "192.0.2.1:1234"))
			expect(t, conn, "192.0.2.1:1234 192.0.2.99:443 v2 local false mail.test\n")
			second := dial(t, l)
			write(t, second, header(t, 2, "192.0.2.1:1235"))
			expectEnd(t, second)
			conn.Close()
			h.settled()
		})
	}
}

// A trusted source that sends no header, a wrong one, or none in time is dropped.
func TestMissingAndMalformedHeaders(t *testing.T) {
	for name, sent := range map[string]string{
		"no header":    "GET / HTTP/1.1\r\n\r\n",
		"malformed v1": "PROXY TCP4 nowhere 192.0.2.1 1 2\r\n",
		"malformed v2": "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c012345678901",
		"half":         "PROXY TCP4 192.0",
		"nothing":      "",
		"TLS":          hello(t),
	} {
		t.Run(name, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				port.ProxyProtocol, port.HandshakeTimeout = []string{"127.0.0.1"}, 300*time.Millisecond
				port.OnConnect = func(context.Context, *server.Conn) { t.Error("OnConnect") }
				rejected := make(chan error, 1)
				port.OnReject = func(_ context.Context, _ *server.Conn, reason error) { rejected <- reason }
				h, l := start(t, "tcp", server.Config{Port: port})
				conn := dial(t, l)
				write(t, conn, sent)
				expectEnd(t, conn)
				if receive(t, rejected) == nil {
					t.Error("no reason")
				}
				h.settled()
			})
		})
	}
}

// MaxPerAddress counts the clients behind the proxy, not the proxy.
func TestMaxPerAddressBehindAProxy(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		eachStyle(t, func(t *testing.T, port server.Port) {
			port.ProxyProtocol, port.TLS = []string{"127.0.0.1"}, serverTLS()
			h, l := start(t, network, server.Config{Port: port, MaxPerAddress: 1})
			for i := range 5 {
				raw := dial(t, l)
				write(t, raw, header(t, 1+i%2, fmt.Sprintf("192.0.2.%d:1234", i)))
				conn := raw
				if network == "tls" {
					conn = tlsOver(raw)
				}
				trip(t, conn, "hello")
			}
			again := dial(t, l)
			write(t, again, header(t, 2, "192.0.2.3:9999"))
			if _, err := io.ReadAll(again); err == nil {
				t.Log("closed")
			}
			if st := h.Stats(); st.Refused != 1 {
				t.Errorf("%+v", st)
			}
			h.Close()
			h.settled()
		})
	}
}
