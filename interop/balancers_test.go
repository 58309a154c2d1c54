//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/proxyproto"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A balancer is a HAProxy or an nginx that forwards connections to a backend, beginning with a
// header of the PROXY protocol.
type balancer struct {
	*servers.Process
	t      *testing.T
	addr   string // where it listens, on 127.0.0.1
	socket string // and a Unix socket, with no options
}

// startHAProxy starts a HAProxy. bind and server are the options of its two sides: "ssl crt FILE",
// "send-proxy-v2" and so on.
func startHAProxy(t *testing.T, bind, backend, server string) *balancer {
	t.Helper()
	addr, _ := servers.FreeAddress(t)
	dir := servers.NewFolder(t)
	socket := dir.Path("socket")
	config := fmt.Sprintf(`
defaults
  mode tcp
  timeout connect 30s
  timeout client 30s
  timeout server 30s
  unique-id-format unique-%%cp
listen forward
  bind %s %s
  bind unix@%s
  server backend %s %s
`, addr, bind, socket, backend, server)
	return &balancer{dir.Start(servers.Find(t, "haproxy"), "-db", "-f", dir.Write("haproxy.cfg", config)), t, addr, socket}
}

// startNginx starts an nginx that sends version 1, the only one that it can send. options are those
// of its other side.
func startNginx(t *testing.T, options, backend string) *balancer {
	t.Helper()
	addr, _ := servers.FreeAddress(t)
	dir := servers.NewFolder(t)
	socket := dir.Path("socket")
	config := fmt.Sprintf(`
daemon off;
pid %s/pid;
error_log stderr;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {}
stream {
  server {
    listen %s %s;
    listen unix:%s;
    set_real_ip_from 127.0.0.1;
    proxy_pass %s;
    proxy_protocol on;
  }
}
`, dir.Dir, addr, options, socket, backend)
	return &balancer{dir.Start(servers.Find(t, "nginx"), "-e", "stderr", "-p", dir.Dir, "-c", dir.Write("nginx.conf", config)), t, addr, socket}
}

// dial connects as a client as soon as the balancer listens. Each connection is forwarded, so there
// is no trying before.
func (b *balancer) dial(network, addr string) net.Conn {
	b.t.Helper()
	conn := b.Dial(network, addr)
	patiently(b.t, conn)
	return conn
}

// patiently closes the connection with the test, and until then lets nothing wait on it forever.
func patiently(t *testing.T, conn net.Conn) {
	conn.SetDeadline(time.Now().Add(leaktest.Patience))
	t.Cleanup(func() { conn.Close() })
}

// listen listens as a backend.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// forwarded takes a connection from a balancer and reads the header.
func forwarded(t *testing.T, listener *net.TCPListener) (proxyproto.Header, *bufio.ReadWriter) {
	t.Helper()
	listener.SetDeadline(time.Now().Add(leaktest.Patience))
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	patiently(t, conn)
	r := bufio.NewReaderSize(conn, proxyproto.DefaultLimit)
	var data []byte
	for {
		n, h, err := proxyproto.Parse(data)
		if err != nil {
			t.Fatalf("%v: %q", err, data)
		}
		if n > 0 {
			t.Logf("%q", data)
			h.TLVs = bytes.Clone(h.TLVs)
			r.Discard(n)
			return h, bufio.NewReadWriter(r, bufio.NewWriter(conn))
		}
		if data, err = r.Peek(proxyproto.Want(data)); err != nil {
			t.Fatalf("%v after %q", err, data)
		}
	}
}

// exchange has the client say a line and the server answer it, which shows that the header has the
// right length.
func exchange(t *testing.T, client net.Conn, server *bufio.ReadWriter) {
	t.Helper()
	if _, err := io.WriteString(client, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := server.ReadString('\n'); line != "hello\n" {
		t.Fatalf("the server got %q, %v", line, err)
	}
	server.WriteString("welcome\n")
	if err := server.Flush(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(client).ReadString('\n'); line != "welcome\n" {
		t.Fatalf("the client got %q, %v", line, err)
	}
}

// expectEndpoints checks that the header tells the client's own addresses.
func expectEndpoints(t *testing.T, h proxyproto.Header, client net.Conn) {
	t.Helper()
	source, destination := client.LocalAddr().(*net.TCPAddr).AddrPort(), client.RemoteAddr().(*net.TCPAddr).AddrPort()
	if h.Network != "tcp4" || h.Source != source || h.Destination != destination {
		t.Errorf("%s, from %s to %s; want tcp4, from %s to %s", h.Network, h.Source, h.Destination, source, destination)
	}
}

func TestHeaderFromHAProxy(t *testing.T) {
	for _, test := range []struct {
		server  string
		version int
		tlvs    []proxyproto.Type
	}{
		{"send-proxy", 1, nil},
		{"send-proxy-v2", 2, nil},
		{"send-proxy-v2 proxy-v2-options crc32c,unique-id", 2, []proxyproto.Type{proxyproto.TypeCRC32C, proxyproto.TypeUniqueID}},
		{"send-proxy-v2-ssl proxy-v2-options crc32c", 2, []proxyproto.Type{proxyproto.TypeCRC32C, proxyproto.TypeSSL}},
	} {
		t.Run(test.server, func(t *testing.T) {
			backend := listen(t)
			haproxy := startHAProxy(t, "", backend.Addr().String(), test.server)
			client := haproxy.dial("tcp", haproxy.addr)
			h, server := forwarded(t, backend)
			exchange(t, client, server)
			expectEndpoints(t, h, client)
			var types []proxyproto.Type
			for typ := range h.TLVs.All() {
				types = append(types, typ)
			}
			if h.Version != test.version || h.Local || !reflect.DeepEqual(types, test.tlvs) {
				t.Errorf("version %d, local %v, TLVs %v; want version %d, TLVs %v", h.Version, h.Local, types, test.version, test.tlvs)
			}
			if id, ok := h.TLVs.Get(proxyproto.TypeUniqueID); ok && string(id) != fmt.Sprintf("unique-%d", h.Source.Port()) {
				t.Errorf("unique ID %q", id)
			}
			if ssl, _ := h.TLVs.SSL(); ssl.Client != 0 || ssl.Verified() {
				t.Errorf("%+v of a client without TLS", ssl)
			}
		})
	}
}

// For a client without addresses HAProxy says the same as for itself, so LOCAL is no sign of a
// health check.
func TestUnixClientOfHAProxy(t *testing.T) {
	for server, want := range map[string]proxyproto.Header{
		"send-proxy":    {Version: 1},
		"send-proxy-v2": {Version: 2, Local: true},
	} {
		t.Run(server, func(t *testing.T) {
			backend := listen(t)
			haproxy := startHAProxy(t, "", backend.Addr().String(), server)
			client := haproxy.dial("unix", haproxy.socket)
			h, server := forwarded(t, backend)
			exchange(t, client, server)
			if !reflect.DeepEqual(h, want) {
				t.Errorf("%+v, want %+v", h, want)
			}
		})
	}
}

func TestTLSClientOfHAProxy(t *testing.T) {
	ca, other := servers.NewCA(t), servers.NewCA(t)
	request := devca.Request{CommonName: "a client of the tests", Client: true}
	dir := servers.NewFolder(t)
	dir.Certify(ca)
	chain, key, err := devca.EncodePEM(servers.Sign(t, ca, devca.Request{Names: []string{"localhost"}}))
	if err != nil {
		t.Fatal(err)
	}
	both := dir.Write("both.pem", string(chain)+string(key))
	bind := fmt.Sprintf("ssl crt %s ca-file %s verify optional crt-ignore-err all ca-ignore-err all alpn h2,http/1.1", both, dir.Path("ca.pem"))

	for _, test := range []struct {
		name       string
		config     *tls.Config
		client     byte
		verified   bool
		version    string
		alpn       string
		commonName string
	}{
		{"TLS 1.3", &tls.Config{NextProtos: []string{"http/1.1"}}, proxyproto.ClientSSL, false, "TLSv1.3", "http/1.1", ""},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, proxyproto.ClientSSL, false, "TLSv1.2", "", ""},
		{"certificate", &tls.Config{Certificates: []tls.Certificate{servers.Sign(t, ca, request)}},
			proxyproto.ClientSSL | proxyproto.ClientCertConn | proxyproto.ClientCertSession, true, "TLSv1.3", "", request.CommonName},
		{"certificate of somebody else", &tls.Config{Certificates: []tls.Certificate{servers.Sign(t, other, request)}},
			proxyproto.ClientSSL | proxyproto.ClientCertConn | proxyproto.ClientCertSession, false, "TLSv1.3", "", request.CommonName},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := listen(t)
			haproxy := startHAProxy(t, bind, backend.Addr().String(), "send-proxy-v2-ssl-cn proxy-v2-options ssl-cipher,cert-sig,cert-key,authority,crc32c")
			test.config.RootCAs, test.config.ServerName = ca.Pool(), "localhost"
			conn := haproxy.dial("tcp", haproxy.addr)
			client := tls.Client(conn, test.config)
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			h, server := forwarded(t, backend)
			exchange(t, client, server)
			expectEndpoints(t, h, conn)

			ssl, ok := h.TLVs.SSL()
			if !ok || ssl.Client != test.client || ssl.Verified() != test.verified {
				t.Errorf("flags %d, verified %v, code %d; want %d, %v", ssl.Client, ssl.Verified(), ssl.Verify, test.client, test.verified)
			}
			cipher := ssl.TLVs.Text(proxyproto.TypeSSLCipher)
			if agreed := tls.CipherSuiteName(client.ConnectionState().CipherSuite); strings.HasPrefix(test.version, "TLSv1.3") && cipher != agreed {
				t.Errorf("cipher %q, want %q", cipher, agreed)
			} else if cipher == "" {
				t.Error("no cipher")
			}
			for _, text := range []struct{ name, got, want string }{
				{"TLS version", ssl.TLVs.Text(proxyproto.TypeSSLVersion), test.version},
				{"common name", ssl.TLVs.Text(proxyproto.TypeSSLCommonName), test.commonName},
				{"authority", h.TLVs.Text(proxyproto.TypeAuthority), "localhost"},
				{"ALPN", h.TLVs.Text(proxyproto.TypeALPN), test.alpn},
			} {
				if text.got != text.want {
					t.Errorf("%s %q, want %q", text.name, text.got, text.want)
				}
			}
			if ssl.TLVs.Text(proxyproto.TypeSSLSigAlg) == "" || ssl.TLVs.Text(proxyproto.TypeSSLKeyAlg) == "" {
				t.Errorf("no algorithms of the certificate in %q", ssl.TLVs)
			}
		})
	}
}

func TestHealthCheckOfHAProxyIsLocal(t *testing.T) {
	for _, test := range []struct {
		server  string
		version int
	}{
		{"send-proxy-v2 check", 2},
		{"send-proxy-v2 proxy-v2-options crc32c check", 2},
	} {
		t.Run(test.server, func(t *testing.T) {
			backend := listen(t)
			startHAProxy(t, "", backend.Addr().String(), test.server)
			h, _ := forwarded(t, backend)
			if h.Version != test.version || !h.Local || h.Network != "" {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestHeaderFromNginx(t *testing.T) {
	backend := listen(t)
	nginx := startNginx(t, "", backend.Addr().String())
	client := nginx.dial("tcp", nginx.addr)
	h, server := forwarded(t, backend)
	exchange(t, client, server)
	expectEndpoints(t, h, client)
	if h.Version != 1 || h.Local {
		t.Errorf("%+v", h)
	}

	// Version 1 has no words for a Unix socket.
	client = nginx.dial("unix", nginx.socket)
	h, server = forwarded(t, backend)
	exchange(t, client, server)
	if !reflect.DeepEqual(h, proxyproto.Header{Version: 1}) {
		t.Errorf("%+v", h)
	}
}

// What our tests take for a header is one for others, and what others make of it is read: a
// balancer in front of the balancer is played by the test.
func TestHeaderForABalancer(t *testing.T) {
	from4, to4 := netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("198.51.100.2:443")
	from6, to6 := netip.MustParseAddrPort("[2001:db8::a]:65535"), netip.MustParseAddrPort("[2001:db8::b]:1")
	const uniqueID = "\x05\x00\x02id"
	headers := map[string]struct {
		proxyproto.Header
		text string
	}{
		"v1, IPv4": {proxyproto.Header{Network: "tcp4", Source: from4, Destination: to4},
			"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n"},
		"v1, IPv6": {proxyproto.Header{Network: "tcp6", Source: from6, Destination: to6},
			"PROXY TCP6 2001:db8::a 2001:db8::b 65535 1\r\n"},
		"v1, UNKNOWN": {proxyproto.Header{}, "PROXY UNKNOWN\r\n"},
		"v2, IPv4": {proxyproto.Header{Network: "tcp4", Source: from4, Destination: to4},
			headerV2(0x11, from4, to4, "")},
		"v2, IPv6": {proxyproto.Header{Network: "tcp6", Source: from6, Destination: to6},
			headerV2(0x21, from6, to6, "")},
		"v2, IPv4 with checksum": {proxyproto.Header{Network: "tcp4", Source: from4, Destination: to4},
			withChecksum(headerV2(0x11, from4, to4, uniqueID+"\x03\x00\x04\x00\x00\x00\x00"))},
		"v2, LOCAL": {proxyproto.Header{}, signatureV2 + "\x20\x00\x00\x00"},
	}
	for _, test := range []struct {
		name  string
		start func(t *testing.T, backend string) *balancer
		// nginx replaces only the source, and tells its own address as the destination. Next to an
		// IPv6 client it writes an IPv4 address under TCP6, which the specification rules out.
		sourceOnly bool
	}{
		{"HAProxy, v1", func(t *testing.T, backend string) *balancer {
			return startHAProxy(t, "accept-proxy", backend, "send-proxy")
		}, false},
		{"HAProxy, v2", func(t *testing.T, backend string) *balancer {
			return startHAProxy(t, "accept-proxy", backend, "send-proxy-v2")
		}, false},
		{"nginx", func(t *testing.T, backend string) *balancer { return startNginx(t, "proxy_protocol", backend) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := listen(t)
			balancer := test.start(t, backend.Addr().String())
			for name, sent := range headers {
				if test.sourceOnly && sent.Network == "tcp6" {
					continue
				}
				t.Run(name, func(t *testing.T) {
					client := balancer.dial("tcp", balancer.addr)
					if _, err := io.WriteString(client, sent.text); err != nil {
						t.Fatal(err)
					}
					h, server := forwarded(t, backend)
					exchange(t, client, server)
					switch {
					case sent.Network == "":
						expectEndpoints(t, h, client)
					case h.Network != sent.Network || h.Source != sent.Source || !test.sourceOnly && h.Destination != sent.Destination:
						t.Errorf("%s, from %s to %s; want %s, from %s to %s", h.Network, h.Source, h.Destination, sent.Network, sent.Source, sent.Destination)
					}
				})
			}
		})
	}

	t.Run("HAProxy refuses a wrong checksum", func(t *testing.T) {
		backend := listen(t)
		haproxy := startHAProxy(t, "accept-proxy", backend.Addr().String(), "send-proxy")
		client := haproxy.dial("tcp", haproxy.addr)
		data := []byte(headers["v2, IPv4 with checksum"].text)
		data[len(data)-1] ^= 1
		if _, err := client.Write(data); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

const signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"

// headerV2 is a header of version 2 with the command PROXY.
func headerV2(family byte, from, to netip.AddrPort, tlvs string) string {
	body := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, from.Port())
	body = binary.BigEndian.AppendUint16(body, to.Port())
	body = append(body, tlvs...)
	fixed := append([]byte(signatureV2), 0x21, family)
	return string(binary.BigEndian.AppendUint16(fixed, uint16(len(body)))) + string(body)
}

// withChecksum puts the checksum of a header into its last four bytes, which are zeros.
func withChecksum(header string) string {
	sum := crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli))
	return string(binary.BigEndian.AppendUint32([]byte(header[:len(header)-4]), sum))
}
