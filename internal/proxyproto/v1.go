package proxyproto

import (
	"bytes"
	"net/netip"
	"unsafe"
)

// A protocolV1 is a kind of line that version 1 knows, specification section 2.1.
type protocolV1 struct {
	name     string // with the space behind it, where one is required
	network  string
	min, max int // length of the whole line
}

// TCP6 has the limit of all lines, not the 104 bytes of the specification's longest: an address in
// the mixed notation (::ffff:192.0.2.1, which nginx writes) is nowhere ruled out, and can be longer
// than one of plain groups.
var protocolsV1 = [...]protocolV1{
	{
		"TCP4 ",
		"tcp4",
		len("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
		len("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
	},
	{"TCP6 ", "tcp6", len("PROXY TCP6 :: :: 0 0\r\n"), MaxHeaderV1},
	{"UNKNOWN", "", len("PROXY UNKNOWN\r\n"), MaxHeaderV1},
}

var errProtocol = malformed("the protocol is none of TCP4, TCP6 and UNKNOWN")

// matches reports whether data begins such a line, as far as there is data.
func (p *protocolV1) matches(data []byte) bool {
	return begins(data[min(len(data), len(signatureV1)):], p.name)
}

// parseV1 reads a line that begins with signatureV1, as far as there is data. The protocol is
// judged at once, addresses only when the line has ended.
func parseV1(data []byte) (n int, h Header, err error) {
	var protocol *protocolV1
	for i := range protocolsV1 {
		if protocolsV1[i].matches(data) {
			protocol = &protocolsV1[i]
			break
		}
	}
	if protocol == nil {
		return 0, h, errProtocol
	}

	line := data[:min(len(data), protocol.max)]
	fields := len(signatureV1) + len(protocol.name)
	if protocol.network == "" && len(line) > fields && line[fields] != ' ' && line[fields] != '\r' {
		return 0, h, errProtocol
	}
	// A CR or LF on its own ends a line for some and not for others, so there is none anywhere.
	end := bytes.IndexAny(line, "\r\n")
	switch {
	case end >= 0 && line[end] == '\n':
		return 0, h, malformed("LF without CR")
	case end >= 0 && end+1 < len(line) && line[end+1] != '\n':
		return 0, h, malformed("CR without LF")
	case end >= 0 && end+1 < len(line):
		n = end + len("\r\n")
	case len(line) == protocol.max:
		return 0, h, malformed("the line doesn't end")
	default:
		return 0, h, nil
	}

	h.Version = 1
	if protocol.network != "" { // what stands behind UNKNOWN is to be ignored
		h.Network = protocol.network
		h.Source, h.Destination, err = addressesV1(line[fields:end], protocol.network == "tcp4")
	}
	if err != nil {
		return 0, Header{}, err
	}
	return n, h, nil
}

// addressesV1 reads "source destination port port".
func addressesV1(text []byte, is4 bool) (src, dst netip.AddrPort, err error) {
	var fields [4][]byte
	for i := range fields[:3] {
		var found bool
		if fields[i], text, found = bytes.Cut(text, []byte{' '}); !found {
			return src, dst, malformed("a field is missing")
		}
	}
	fields[3] = text

	srcIP, ok1 := addressV1(fields[0], is4)
	dstIP, ok2 := addressV1(fields[1], is4)
	if !ok1 || !ok2 {
		return src, dst, malformed("bad address")
	}
	srcPort, ok1 := portV1(fields[2])
	dstPort, ok2 := portV1(fields[3])
	if !ok1 || !ok2 {
		return src, dst, malformed("bad port")
	}
	return netip.AddrPortFrom(srcIP, srcPort), netip.AddrPortFrom(dstIP, dstPort), nil
}

func addressV1(text []byte, is4 bool) (netip.Addr, bool) {
	// A zone means nothing on another machine.
	if len(text) == 0 || bytes.IndexByte(text, '%') >= 0 {
		return netip.Addr{}, false
	}
	// A string of its own would cost an allocation for each address. This one is gone before the
	// caller can change the bytes: only zones and errors keep text, and there is no zone and the
	// error goes no further.
	ip, err := netip.ParseAddr(unsafe.String(&text[0], len(text)))
	return ip, err == nil && ip.Is4() == is4
}

// portV1 reads a decimal number without leading zeros, which strconv would accept, as it would a
// sign.
func portV1(text []byte) (uint16, bool) {
	if len(text) == 0 || len(text) > len("65535") || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	port := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		port = port*10 + int(c-'0')
	}
	return uint16(port), port < 1<<16
}
