package proxyproto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// v2 writes a header of version 2 by hand: command and family byte, and what the length counts.
func v2(command, family byte, block ...string) string {
	rest := strings.Join(block, "")
	return signatureV2 + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

// tlv writes a record by hand.
func tlv(typ Type, value string) string {
	return string([]byte{byte(typ), byte(len(value) >> 8), byte(len(value))}) + value
}

func addrs(h Header, source, destination string) Header {
	h.Source, h.Destination = netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	return h
}

const (
	ports4 = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x01\xbb" // 192.0.2.1:1234 to 198.51.100.2:443
	ip6a   = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0a"
	ip6b   = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b"
	ports6 = ip6a + ip6b + "\xff\xff\x00\x00"
)

// path fills an address of AF_UNIX.
func path(s string) string { return s + strings.Repeat("\x00", pathSize-len(s)) }

var tcp4 = addrs(Header{Version: 1, Network: "tcp4"}, "192.0.2.1:1234", "198.51.100.2:443")

func version2(h Header) Header {
	h.Version = 2
	return h
}

func network(h Header, name string) Header {
	h.Network = name
	return h
}

var valid = []struct {
	name      string
	data      string
	want      Header
	canonical bool // Append writes the same bytes
}{
	{"v1, TCP4", "PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n", tcp4, true},
	{"v1, the longest TCP4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
		addrs(tcp4, "255.255.255.255:65535", "255.255.255.255:65535"), true},
	{"v1, the shortest TCP4", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", addrs(tcp4, "0.0.0.0:0", "0.0.0.0:0"), true},
	{"v1, TCP6", "PROXY TCP6 2001:db8::a 2001:db8::b 65535 0\r\n",
		addrs(Header{Version: 1, Network: "tcp6"}, "[2001:db8::a]:65535", "[2001:db8::b]:0"), true},
	{"v1, the longest TCP6 of plain groups", "PROXY TCP6 " + strings.Repeat("FFFF:", 7) + "FFFF " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n",
		addrs(Header{Version: 1, Network: "tcp6"}, "["+strings.Repeat("ffff:", 7)+"ffff]:65535", "["+strings.Repeat("ffff:", 7)+"ffff]:65535"), false},
	{"v1, the shortest TCP6", "PROXY TCP6 :: :: 0 0\r\n", addrs(Header{Version: 1, Network: "tcp6"}, "[::]:0", "[::]:0"), true},
	{"v1, TCP6 with mapped IPv4", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 1 2\r\n",
		addrs(Header{Version: 1, Network: "tcp6"}, "[::ffff:192.0.2.1]:1", "[::ffff:198.51.100.2]:2"), false},
	{"v1, UNKNOWN", "PROXY UNKNOWN\r\n", Header{Version: 1}, true},
	{"v1, UNKNOWN and a space", "PROXY UNKNOWN \r\n", Header{Version: 1}, false},
	{"v1, UNKNOWN with addresses", "PROXY UNKNOWN 192.0.2.1 198.51.100.2 1234 443\r\n", Header{Version: 1}, false},
	{"v1, the longest UNKNOWN", "PROXY UNKNOWN " + strings.Repeat("\xff", 107-len("PROXY UNKNOWN \r\n")) + "\r\n", Header{Version: 1}, false},

	{"v2, TCP over IPv4", v2(0x21, 0x11, ports4), version2(tcp4), true},
	{"v2, UDP over IPv4", v2(0x21, 0x12, ports4), version2(network(tcp4, "udp4")), true},
	{"v2, TCP over IPv6", v2(0x21, 0x21, ports6),
		addrs(Header{Version: 2, Network: "tcp6"}, "[2001:db8::a]:65535", "[2001:db8::b]:0"), true},
	{"v2, UDP over IPv6", v2(0x21, 0x22, ports6),
		addrs(Header{Version: 2, Network: "udp6"}, "[2001:db8::a]:65535", "[2001:db8::b]:0"), true},
	{"v2, Unix stream", v2(0x21, 0x31, path("/run/a.sock"), path("")), Header{Version: 2, Network: "unix", SourcePath: "/run/a.sock"}, true},
	{"v2, Unix datagram, abstract", v2(0x21, 0x32, path("\x00a\x00b"), path("\x00c")),
		Header{Version: 2, Network: "unixgram", SourcePath: "@a\x00b", DestinationPath: "@c"}, true},
	{"v2, Unix, path as long as it gets", v2(0x21, 0x31, path(strings.Repeat("p", 108)), path("/b")),
		Header{Version: 2, Network: "unix", SourcePath: strings.Repeat("p", 108), DestinationPath: "/b"}, true},
	{"v2, Unix, bytes behind the path", v2(0x21, 0x31, path("/a\x00x"), path("/b\x00y")),
		Header{Version: 2, Network: "unix", SourcePath: "/a", DestinationPath: "/b"}, false},

	{"v2, LOCAL", v2(0x20, 0x00), Header{Version: 2, Local: true}, true},
	{"v2, LOCAL with a family and addresses", v2(0x20, 0x11, ports4), Header{Version: 2, Local: true}, false},
	{"v2, LOCAL with a family that there isn't", v2(0x20, 0xff, "abc"), Header{Version: 2, Local: true}, false},
	{"v2, LOCAL with TLVs", v2(0x20, 0x00, tlv(TypeUniqueID, "id")),
		Header{Version: 2, Local: true, TLVs: TLVs(tlv(TypeUniqueID, "id"))}, true},
	{"v2, UNSPEC", v2(0x21, 0x00), Header{Version: 2}, true},
	{"v2, UNSPEC with TLVs", v2(0x21, 0x00, tlv(TypeALPN, "h2")), Header{Version: 2, TLVs: TLVs(tlv(TypeALPN, "h2"))}, true},
	{"v2, UNSPEC with addresses", v2(0x21, 0x00, ports4), Header{Version: 2}, false},
	{"v2, IPv4 over an unspecified transport", v2(0x21, 0x10, ports4), Header{Version: 2}, false},
	{"v2, a stream of an unspecified family", v2(0x21, 0x01, "\x01"), Header{Version: 2}, false},
	{"v2, addresses of unknown size, which read as TLVs", v2(0x21, 0x20, tlv(TypeNoop, "")), Header{Version: 2}, false},
	{"v2, LOCAL with a family, what reads as TLVs", v2(0x20, 0x11, tlv(TypeNoop, "")), Header{Version: 2, Local: true}, false},

	{"v2, TLVs that nobody knows", v2(0x21, 0x11, ports4, tlv(0, ""), tlv(0xea, "\x01vpce-1"), tlv(TypeNoop, "   "), tlv(0xff, "")),
		func() Header {
			h := version2(tcp4)
			h.TLVs = TLVs(tlv(0, "") + tlv(0xea, "\x01vpce-1") + tlv(TypeNoop, "   ") + tlv(0xff, ""))
			return h
		}(), true},
	// Computed by another implementation, bit by bit.
	{"v2, checksum", v2(0x21, 0x11, ports4, tlv(TypeCRC32C, crcOfTest), tlv(TypeNoop, "")), func() Header {
		h := version2(tcp4)
		h.TLVs = TLVs(tlv(TypeCRC32C, crcOfTest) + tlv(TypeNoop, ""))
		return h
	}(), true},
	{"v2, as long as the limit", v2(0x21, 0x11, ports4, tlv(TypeNoop, strings.Repeat("n", DefaultLimit-sizeV2-12-3))), func() Header {
		h := version2(tcp4)
		h.TLVs = TLVs(tlv(TypeNoop, strings.Repeat("n", DefaultLimit-sizeV2-12-3)))
		return h
	}(), true},
}

const crcOfTest = "\xaf\xe7\xe1\x73"

var invalid = []struct {
	name string
	data string
	want error
	at   int // how many bytes are enough to see it
}{
	{"HTTP", "GET / HTTP/1.1\r\n", ErrNotProxy, 1},
	{"TLS", "\x16\x03\x01", ErrNotProxy, 1},
	{"an HTTP request that begins alike", "PROPFIND / HTTP/1.1\r\n", ErrNotProxy, 4},
	{"lower case", "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", ErrNotProxy, 1},
	{"v1, no space", "PROXY\r\n", ErrNotProxy, 6},
	{"v1, a tab", "PROXY\tTCP4", ErrNotProxy, 6},
	{"v1, two spaces", "PROXY  TCP4", ErrMalformed, 7},
	{"v1, no protocol", "PROXY \r\n", ErrMalformed, 7},
	{"v1, another protocol", "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", ErrMalformed, 8},
	{"v1, protocol of another kind", "PROXY TCP5 ", ErrMalformed, 10},
	{"v1, protocol in lower case", "PROXY tcp4 ", ErrMalformed, 7},
	{"v1, protocol and a tab", "PROXY TCP4\t", ErrMalformed, 11},
	{"v1, a word that begins with UNKNOWN", "PROXY UNKNOWNS\r\n", ErrMalformed, 14},
	{"v1, UNKNOWN and LF", "PROXY UNKNOWN\n", ErrMalformed, 14},
	{"v1, UNKNOWN, LF on its own", "PROXY UNKNOWN a\nb\r\n", ErrMalformed, 16},
	{"v1, UNKNOWN, CR on its own", "PROXY UNKNOWN a\rb\r\n", ErrMalformed, 17},
	{"v1, two CR", "PROXY UNKNOWN\r\r\n", ErrMalformed, 15},
	{"v1, LF on its own", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", ErrMalformed, 31},
	{"v1, CR on its own", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rGET", ErrMalformed, 32},
	{"v1, no end", "PROXY UNKNOWN " + strings.Repeat("x", 200), ErrMalformed, 107},
	{"v1, CR as the last byte that may be", "PROXY UNKNOWN " + strings.Repeat("x", 106-14) + "\r\n", ErrMalformed, 107},
	{"v1, TCP4 without end", "PROXY TCP4 1.1.1.1 " + strings.Repeat("1", 200), ErrMalformed, 56},
	{"v1, no addresses", "PROXY TCP4 \r\n", ErrMalformed, 13},
	{"v1, one address", "PROXY TCP4 1.1.1.1\r\n", ErrMalformed, 20},
	{"v1, no ports", "PROXY TCP4 1.1.1.1 1.1.1.1\r\n", ErrMalformed, 28},
	{"v1, one port", "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", ErrMalformed, 30},
	{"v1, three ports", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", ErrMalformed, 34},
	{"v1, a space at the end", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", ErrMalformed, 33},
	{"v1, two spaces between", "PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n", ErrMalformed, 33},
	{"v1, zeros before an octet", "PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n", ErrMalformed, 33},
	{"v1, octet too large", "PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n", ErrMalformed, 34},
	{"v1, three octets", "PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", ErrMalformed, 30},
	{"v1, IPv6 under TCP4", "PROXY TCP4 ::1 1.1.1.1 1 1\r\n", ErrMalformed, 28},
	{"v1, IPv4 under TCP6", "PROXY TCP6 1.1.1.1 ::1 1 1\r\n", ErrMalformed, 28},
	{"v1, a zone", "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", ErrMalformed, 33},
	{"v1, brackets", "PROXY TCP6 [::1] ::1 1 1\r\n", ErrMalformed, 26},
	{"v1, two double colons", "PROXY TCP6 1::1::1 ::1 1 1\r\n", ErrMalformed, 28},
	{"v1, five digits in a group", "PROXY TCP6 ::12345 ::1 1 1\r\n", ErrMalformed, 28},
	{"v1, bad destination", "PROXY TCP4 1.1.1.1 x 1 1\r\n", ErrMalformed, 26},
	{"v1, port too large", "PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", ErrMalformed, 36},
	{"v1, port much too large", "PROXY TCP4 1.1.1.1 1.1.1.1 1 4294967297\r\n", ErrMalformed, 41},
	{"v1, port that is 1 in 64 bits", "PROXY TCP4 1.1.1.1 1.1.1.1 1 18446744073709551617\r\n", ErrMalformed, 51},
	{"v1, zeros before a port", "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", ErrMalformed, 33},
	{"v1, port with a sign", "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", ErrMalformed, 33},
	{"v1, port in letters", "PROXY TCP4 1.1.1.1 1.1.1.1 1 a\r\n", ErrMalformed, 32},
	{"v1, port and a zero byte", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\x00\r\n", ErrMalformed, 33},

	{"v2, other signature", "\r\n\r\n\x00\r\nQUIT\r", ErrNotProxy, 12},
	{"v2, empty line of HTTP", "\r\n\r\nGET /", ErrNotProxy, 5},
	{"v2, version 1", signatureV2 + "\x11", ErrMalformed, 13},
	{"v2, version 3", signatureV2 + "\x31", ErrMalformed, 13},
	{"v2, unassigned command", signatureV2 + "\x22", ErrMalformed, 13},
	{"v2, unassigned family", signatureV2 + "\x21\x41", ErrMalformed, 14},
	{"v2, unassigned transport", signatureV2 + "\x21\x13", ErrMalformed, 14},
	{"v2, shorter than IPv4 addresses", v2(0x21, 0x11, ports4[:11]), ErrMalformed, 16},
	{"v2, shorter than IPv6 addresses", v2(0x21, 0x22, ports6[:35]), ErrMalformed, 16},
	{"v2, shorter than paths", v2(0x21, 0x31, path("/a"), path("/b")[:107]), ErrMalformed, 16},
	{"v2, over the limit", v2(0x21, 0x11, strings.Repeat("x", DefaultLimit-sizeV2+1)), ErrTooLong, 16},
	{"v2, LOCAL over the limit", v2(0x20, 0x00, strings.Repeat("x", 65535)), ErrTooLong, 16},
	{"v2, TLV without length", v2(0x21, 0x11, ports4, "\x01\x00"), ErrMalformed, 30},
	{"v2, TLV over the end", v2(0x21, 0x11, ports4, "\x01\x00\x02h"), ErrMalformed, 32},
	{"v2, second TLV over the end", v2(0x21, 0x11, ports4, tlv(TypeNoop, ""), "\x01\xff\xff"), ErrMalformed, 34},
	{"v2, wrong checksum", v2(0x21, 0x11, ports4, tlv(TypeCRC32C, "\x00\x00\x00\x00")), ErrMalformed, 35},
	{"v2, LOCAL with a wrong checksum", v2(0x20, 0x00, tlv(TypeCRC32C, "\x00\x00\x00\x00")), ErrMalformed, 23},
	{"v2, checksum of 3 bytes", v2(0x21, 0x11, ports4, tlv(TypeCRC32C, "\x00\x00\x00")), ErrMalformed, 34},
	{"v2, checksum of 5 bytes", v2(0x21, 0x11, ports4, tlv(TypeCRC32C, "\x00\x00\x00\x00\x00")), ErrMalformed, 36},
	{"v2, two checksums", v2(0x21, 0x11, ports4, tlv(TypeCRC32C, "\x00\x00\x00\x00"), tlv(TypeCRC32C, "\x00\x00\x00\x00")), ErrMalformed, 42},
	{"v2, unique ID too long", v2(0x21, 0x11, ports4, tlv(TypeUniqueID, strings.Repeat("u", 129))), ErrMalformed, 160},
	{"v2, SSL too short", v2(0x21, 0x11, ports4, tlv(TypeSSL, "\x01\x00\x00\x00")), ErrMalformed, 35},
	{"v2, SSL with a TLV over its end", v2(0x21, 0x11, ports4, tlv(TypeSSL, "\x01\x00\x00\x00\x00"+"\x21\x00\x08TLSv1.3"), tlv(TypeNoop, "")), ErrMalformed, 49},
}

const application = "\r\nPROXY UNKNOWN\r\n\x00 what the application gets"

func TestValidHeaders(t *testing.T) {
	for _, test := range valid {
		t.Run(test.name, func(t *testing.T) {
			n, h, err := Parse([]byte(test.data + application))
			if err != nil || n != len(test.data) || !reflect.DeepEqual(h, test.want) {
				t.Fatalf("%d, %+v, %v; want %d, %+v", n, h, err, len(test.data), test.want)
			}
			again, err := Append([]byte("before"), h)
			if err != nil {
				t.Fatal(err)
			}
			again = bytes.TrimPrefix(again, []byte("before"))
			if test.canonical != (string(again) == test.data) {
				t.Errorf("Append wrote %q; same bytes: %v, want %v", again, !test.canonical, test.canonical)
			}
			if n, back, err := Parse(again); err != nil || n != len(again) || !reflect.DeepEqual(back, h) {
				t.Errorf("after Append: %d, %+v, %v; want %d, %+v", n, back, err, len(again), h)
			}
		})
	}
}

func TestValidHeadersByteForByte(t *testing.T) {
	for _, test := range valid {
		t.Run(test.name, func(t *testing.T) {
			data := []byte(test.data)
			for i := range data {
				// Without capacity, so that a read behind the slice is a panic.
				if n, h, err := Parse(data[:i:i]); n != 0 || err != nil || !reflect.DeepEqual(h, Header{}) {
					t.Fatalf("after %d of %d bytes: %d, %+v, %v", i, len(test.data), n, h, err)
				}
			}
		})
	}
}

func TestInvalidHeadersAreRefusedAtTheFirstByteThatShowsIt(t *testing.T) {
	for _, test := range invalid {
		t.Run(test.name, func(t *testing.T) {
			data := []byte(test.data)
			for i := range len(data) + 1 {
				n, h, err := Parse(data[:i:i])
				if n != 0 || !reflect.DeepEqual(h, Header{}) {
					t.Fatalf("after %d bytes: %d, %+v", i, n, h)
				}
				if i < test.at && err != nil || i >= test.at && !errors.Is(err, test.want) {
					t.Fatalf("after %d of %d bytes: error %v; want %v after %d", i, len(test.data), err, test.want, test.at)
				}
			}
		})
	}
}

func TestErrorsHoldNothingOfThePeer(t *testing.T) {
	for _, test := range invalid {
		_, _, err := Parse([]byte(test.data))
		for _, c := range err.Error() {
			if c < ' ' || c > '~' {
				t.Errorf("%s: %q", test.name, err)
			}
		}
	}
}

// Reading exactly what Want says, a reader comes to the end and not beyond.
func TestWantLeadsToTheEnd(t *testing.T) {
	for _, test := range valid {
		t.Run(test.name, func(t *testing.T) {
			stream := []byte(test.data + application)
			have := 0
			for reads := 1; ; reads++ {
				want := Want(stream[:have:have])
				if want <= have || want > len(test.data) {
					t.Fatalf("after %d of %d bytes it wants %d", have, len(test.data), want)
				}
				have = want
				n, _, err := Parse(stream[:have:have])
				if err != nil {
					t.Fatal(err)
				}
				if n > 0 {
					if n != have || Want(stream) != n {
						t.Errorf("%d bytes, want %d; Want then says %d", n, have, Want(stream))
					}
					break
				}
				if test.want.Version == 2 && reads > 2 {
					t.Fatal("version 2 needs more than three reads")
				}
			}
		})
	}
}

func TestWantOfNothingIsTheShortestHeader(t *testing.T) {
	shortest := MaxHeaderV1
	for _, test := range valid {
		shortest = min(shortest, len(test.data))
	}
	if got := Want(nil); got != shortest {
		t.Errorf("%d, want %d", got, shortest)
	}
}

func TestLimit(t *testing.T) {
	header := []byte(v2(0x21, 0x11, ports4, tlv(TypeNoop, strings.Repeat("n", 65535-12-3))))
	if len(header) != MaxHeaderV2 {
		t.Fatal(len(header))
	}
	if n, h, err := ParseLimit(header, MaxHeaderV2); n != MaxHeaderV2 || h.Network != "tcp4" || err != nil {
		t.Errorf("%d, %q, %v", n, h.Network, err)
	}
	if _, _, err := ParseLimit(header[:16], MaxHeaderV2-1); !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), "65551 bytes, limit 65550") {
		t.Error(err)
	}
	line := []byte("PROXY UNKNOWN\r\n")
	if n, _, err := ParseLimit(line, 0); n != len(line) || err != nil {
		t.Errorf("version 1: %d, %v", n, err)
	}
}

// Appending to what Parse returns overwrites nothing.
func TestSlicesEndWhereTheyShould(t *testing.T) {
	stream := v2(0x21, 0x11, ports4, tlv(TypeALPN, "h2"), tlv(TypeNoop, "n")) + application
	data := []byte(stream)
	_, h, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	alpn, _ := h.TLVs.Get(TypeALPN)
	for _, part := range [][]byte{h.TLVs, alpn} {
		if _ = append(part, 'x'); string(data) != stream {
			t.Errorf("%q", data)
		}
	}
}

// One checksum is right, but which?
func TestTwoChecksums(t *testing.T) {
	for i, at := range []int{sizeV2 + 12 + 3, sizeV2 + 12 + 7 + 3} {
		data := []byte(v2(0x21, 0x11, ports4, strings.Repeat(tlv(TypeCRC32C, "\x00\x00\x00\x00"), 2)))
		binary.BigEndian.PutUint32(data[at:], checksum(data, at))
		if n, h, err := Parse(data); !errors.Is(err, ErrMalformed) {
			t.Errorf("number %d is right: %d, %+v, %v", i, n, h, err)
		}
	}
}

func TestAppendRefusesWhatItCannotExpress(t *testing.T) {
	for name, h := range map[string]Header{
		"no version":                   {},
		"version 3":                    {Version: 3},
		"v1, LOCAL":                    {Version: 1, Local: true},
		"v1, TLVs":                     {Version: 1, TLVs: TLVs(tlv(TypeNoop, ""))},
		"v1, UDP":                      network(tcp4, "udp4"),
		"v1, Unix":                     {Version: 1, Network: "unix"},
		"v1, tcp":                      network(tcp4, "tcp"),
		"v1, no addresses":             {Version: 1, Network: "tcp4"},
		"v1, no destination":           {Version: 1, Network: "tcp4", Source: tcp4.Source},
		"v1, IPv6 in tcp4":             addrs(tcp4, "[2001:db8::1]:1", "192.0.2.1:1"),
		"v2, LOCAL with network":       {Version: 2, Local: true, Network: "tcp4", Source: tcp4.Source, Destination: tcp4.Source},
		"v2, unknown network":          version2(network(tcp4, "sctp4")),
		"v2, no addresses":             {Version: 2, Network: "udp6"},
		"v2, IPv6 in udp4":             version2(addrs(network(tcp4, "udp4"), "192.0.2.1:1", "[2001:db8::1]:1")),
		"v2, path too long":            {Version: 2, Network: "unix", SourcePath: strings.Repeat("p", 109)},
		"v2, abstract name too long":   {Version: 2, Network: "unix", SourcePath: "@" + strings.Repeat("p", 108)},
		"v2, path with zero":           {Version: 2, Network: "unix", DestinationPath: "/a\x00b"},
		"v2, abstract name of nothing": {Version: 2, Network: "unix", DestinationPath: "@"},
		"v2, TLV cut off":              {Version: 2, TLVs: TLVs("\x01\x00")},
		"v2, checksum of 2 bytes":      {Version: 2, TLVs: TLVs(tlv(TypeCRC32C, "ab"))},
		"v2, too long":                 {Version: 2, TLVs: TLVs(tlv(TypeNoop, strings.Repeat("n", 65533)))},
	} {
		out, err := Append([]byte("before"), h)
		if err == nil || string(out) != "before" || !strings.HasPrefix(err.Error(), "proxyproto: ") {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// net.TCPAddr gives IPv4 addresses in either form.
func TestAppendTakesIPv4InEitherForm(t *testing.T) {
	mapped := addrs(Header{Network: "tcp4"}, "[::ffff:192.0.2.1]:1234", "[::ffff:198.51.100.2]:443")
	plain := addrs(Header{Network: "tcp6"}, "192.0.2.1:1234", "[fe80::1%eth0]:443")
	for _, test := range []struct {
		h       Header
		version int
		want    string
	}{
		{mapped, 1, "PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n"},
		{mapped, 2, v2(0x21, 0x11, ports4)},
		{plain, 1, "PROXY TCP6 ::ffff:192.0.2.1 fe80::1 1234 443\r\n"},
		{plain, 2, v2(0x21, 0x21, strings.Repeat("\x00", 10), "\xff\xff\xc0\x00\x02\x01\xfe\x80", strings.Repeat("\x00", 13), "\x01\x04\xd2\x01\xbb")},
	} {
		test.h.Version = test.version
		if got, err := Append(nil, test.h); err != nil || string(got) != test.want {
			t.Errorf("%q, %v; want %q", got, err, test.want)
		}
	}
}

// The header and its checksum come from an HAProxy 2.6.12 with send-proxy-v2 and proxy-v2-options
// crc32c,unique-id.
func TestChecksumOfHAProxy(t *testing.T) {
	header, err := hex.DecodeString(headerOfHAProxy)
	if err != nil {
		t.Fatal(err)
	}
	n, h, err := Parse(header)
	if n != len(header) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for i := range header {
		if i == 13 || i == 28 { // without its family the header tells nothing, without its type the checksum is none
			continue
		}
		header[i] ^= 0x10
		if n, changed, _ := Parse(header); n > 0 {
			t.Errorf("byte %d changed: %+v", i, changed)
		}
		header[i] ^= 0x10
	}
	clear(h.TLVs[3:7])
	if again, err := Append(nil, h); err != nil || hex.EncodeToString(again) != headerOfHAProxy {
		t.Errorf("%x, %v", again, err)
	}
}

const headerOfHAProxy = "0d0a0d0a000d0a515549540a211100277f0000017f000001db24a357" + // addresses
	"0300044f5f6c53" + // checksum
	"0500113132372e302e302e315f32323434315f30" // unique ID

func TestParseAllocatesNothing(t *testing.T) {
	for _, test := range valid {
		if strings.HasPrefix(test.want.Network, "unix") {
			continue
		}
		data := []byte(test.data + application)
		if n := testing.AllocsPerRun(100, func() {
			_, h, _ := Parse(data)
			h.TLVs.Get(TypeSSL)
			Want(data)
		}); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
		if n := testing.AllocsPerRun(100, func() { Parse(data[:len(test.data)-1]) }); n != 0 {
			t.Errorf("%s, incomplete: %v allocations", test.name, n)
		}
	}
}
