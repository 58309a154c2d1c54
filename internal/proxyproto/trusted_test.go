package proxyproto

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

type otherAddr struct{}

func (otherAddr) Network() string { return "other" }
func (otherAddr) String() string  { return "127.0.0.1:1" }

func tcp(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func TestTrusted(t *testing.T) {
	unix := &net.UnixAddr{Name: "@", Net: "unix"}
	for _, test := range []struct {
		sources string
		addr    net.Addr
		want    bool
	}{
		{"", tcp("127.0.0.1:1"), false},
		{"", unix, false},
		{"127.0.0.1", tcp("127.0.0.1:1"), true},
		{"127.0.0.1", tcp("127.0.0.2:1"), false},
		{"127.0.0.1", tcp("[::ffff:127.0.0.1]:1"), true},
		{"127.0.0.1", tcp("[::7f00:1]:1"), false},
		{"127.0.0.1", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		{"127.0.0.1", &net.UDPAddr{IP: net.IP{127, 0, 0, 1}}, true},
		{"127.0.0.1", otherAddr{}, false},
		{"127.0.0.1", nil, false},
		{"127.0.0.1", (*net.TCPAddr)(nil), false},
		{"127.0.0.1", &net.TCPAddr{}, false},
		{"127.0.0.1", unix, false},
		{"::ffff:127.0.0.1", tcp("127.0.0.1:1"), true},
		{"::ffff:127.0.0.1", tcp("[::ffff:127.0.0.1]:1"), true},
		{"10.0.0.0/8", tcp("10.255.0.1:1"), true},
		{"10.0.0.0/8", tcp("11.0.0.1:1"), false},
		{"::ffff:10.0.0.0/104", tcp("10.255.0.1:1"), true},
		{"::ffff:10.0.0.0/104", tcp("[::ffff:10.255.0.1]:1"), true},
		{"::ffff:10.0.0.0/104", tcp("11.0.0.1:1"), false},
		{"::ffff:0.0.0.0/96", tcp("203.0.113.1:1"), true},
		{"0.0.0.0/0", tcp("[::ffff:203.0.113.1]:1"), true},
		{"0.0.0.0/0", tcp("[2001:db8::1]:1"), false},
		{"::/0", tcp("[2001:db8::1]:1"), true},
		{"::/0", tcp("203.0.113.1:1"), false},
		{"::/0", tcp("[::ffff:203.0.113.1]:1"), false},
		{"::1", tcp("[::1]:1"), true},
		{"::1", tcp("[::2]:1"), false},
		{"fe80::/10", tcp("[fe80::1%eth0]:1"), true},
		{"fe80::1", tcp("[fe80::1%eth0]:1"), true},
		{"2001:db8::/32", tcp("[2001:db8:1::1]:1"), true},
		{"10.0.0.0/8 ::1 192.0.2.0/24", tcp("192.0.2.77:1"), true},
		{"10.0.0.0/8 ::1 192.0.2.0/24", tcp("192.0.3.77:1"), false},
		{"unix", unix, true},
		{"unix", &net.UnixAddr{}, true},
		{"unix", tcp("127.0.0.1:1"), false},
	} {
		trusted, err := ParseTrusted(strings.Fields(test.sources)...)
		if err != nil {
			t.Errorf("%s: %v", test.sources, err)
			continue
		}
		if got := trusted.Contains(test.addr); got != test.want {
			t.Errorf("%q contains %v: %v", test.sources, test.addr, got)
		}
	}
}

func TestTrustedSourcesThatAreNone(t *testing.T) {
	for source, want := range map[string]string{
		"":                   "unable to parse IP",
		"localhost":          "unable to parse IP",
		"Unix":               "unable to parse IP",
		"127.0.0.1:80":       "unexpected character",
		"10.0.0.0/33":        "prefix length out of range",
		"10.0.0.0/":          "bad bits",
		"10.0.0.0/08":        "bad bits",
		"10.1.2.3/8":         "10.0.0.0/8 is the network",
		"2001:db8::1/32":     "2001:db8::/32 is the network",
		"::ffff:10.0.0.0/95": "bits are set behind the prefix",
		"fe80::1%eth0":       "zones",
		"fe80::%eth0/64":     "zones",
		" 10.0.0.0/8":        "unexpected character",
	} {
		trusted, err := ParseTrusted("127.0.0.1", source)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "proxyproto: trusted source \"") {
			t.Errorf("%q: %v, want %s", source, err, want)
		}
		if trusted.Contains(tcp("127.0.0.1:1")) {
			t.Errorf("%q: a list that is not valid trusts somebody", source)
		}
	}
}

func TestContainsAllocatesNothing(t *testing.T) {
	trusted, err := ParseTrusted("10.0.0.0/8", "::1", "192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	addr := tcp("192.0.2.1:1")
	if n := testing.AllocsPerRun(100, func() { trusted.Contains(addr) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
