//go:build unix

package main

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/proxyproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	t.Parallel()
	exampletest.Demonstration(t, run)
}

func TestHeadersAreRead(t *testing.T) {
	t.Parallel()
	from4, to4 := netip.MustParseAddrPort("192.0.2.1:51234"), netip.MustParseAddrPort("198.51.100.7:443")
	from6, to6 := netip.MustParseAddrPort("[2001:db8::1]:51234"), netip.MustParseAddrPort("[2001:db8::7]:443")
	for name, test := range map[string]struct {
		header             []byte
		network, tls, name string
		from, to           netip.AddrPort
	}{
		"version 1, IPv4":      {header: headerV1(from4, to4), network: "tcp4", from: from4, to: to4},
		"version 1, IPv6":      {header: headerV1(from6, to6), network: "tcp6", from: from6, to: to6},
		"version 2, IPv4":      {headerV2(from4, to4, "TLSv1.2", "a.test"), "tcp4", "TLSv1.2", "a.test", from4, to4},
		"version 2, IPv6":      {headerV2(from6, to6, "TLSv1.3", "b.test"), "tcp6", "TLSv1.3", "b.test", from6, to6},
		"version 2 of its own": {header: localV2()},
	} {
		n, h, err := proxyproto.Parse(append(test.header, "hello"...))
		ssl, _ := h.TLVs.SSL()
		if err != nil || n != len(test.header) || h.Network != test.network || h.Source != test.from || h.Destination != test.to ||
			h.Local != (test.network == "") || ssl.TLVs.Text(proxyproto.TypeSSLVersion) != test.tls || h.TLVs.Text(proxyproto.TypeAuthority) != test.name {
			t.Errorf("%s: %d, %+v, %v", name, n, h, err)
		}
	}
}

func TestServingUntilToldToEnd(t *testing.T) {
	t.Parallel()
	first, _ := exampletest.Serve(t, run, "Server on ", "-trust", "192.0.2.0/24,127.0.0.0/8")
	address, _, _ := strings.Cut(first, ",")
	for header, want := range map[string]string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n": `client 192.0.2.1:1, connected to 192.0.2.2:2, says "hello"`,
		"PROXY UNKNOWN\r\n":                      `a client whose address the balancer doesn't know, says "hello"`,
		"PROXY TCP4 192.0.2.1\r\n":               "",
	} {
		conn, err := net.DialTimeout("tcp", address, exampletest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(exampletest.Patience))
		if _, err := io.WriteString(conn, header+"hello\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); strings.TrimSpace(line) != want {
			t.Errorf("%q: %q, %v; want %q", header, line, err, want)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x": {"-x"},
		"belong together": {"-listen", "127.0.0.1:0"},
		"and -trust":      {"-trust", "127.0.0.1"},
		"10.0.0.1/8":      {"-listen", "127.0.0.1:0", "-trust", "10.0.0.1/8"},
	}, "-listen", "-trust")
}
