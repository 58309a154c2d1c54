package proxyproto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

const (
	versionCommandLocal = 0x20
	versionCommandProxy = 0x21

	maxFamily    = 3 // AF_UNIX
	maxTransport = 2 // DGRAM

	pathSize = 108 // of an address of AF_UNIX
)

// A layout says how the addresses are written that a family byte stands for, specification section
// 2.2.
type layout struct {
	family  byte // address family and transport
	network string
	size    int // of both addresses with their ports
}

var layouts = [...]layout{
	{0x11, "tcp4", 2*4 + 2*2},
	{0x21, "tcp6", 2*16 + 2*2},
	{0x12, "udp4", 2*4 + 2*2},
	{0x22, "udp6", 2*16 + 2*2},
	{0x31, "unix", 2 * pathSize},
	{0x32, "unixgram", 2 * pathSize},
}

// layoutOf returns nil for the bytes by which one half or both are unspecified.
func layoutOf(family byte) *layout {
	for i := range layouts {
		if layouts[i].family == family {
			return &layouts[i]
		}
	}
	return nil
}

// parseV2 reads a header that begins with signatureV2, as far as there is data. Each byte of the
// fixed part is judged when it comes, the rest when it is complete.
func parseV2(data []byte, limit int) (n int, h Header, err error) {
	if len(data) > 12 && data[12] != versionCommandLocal && data[12] != versionCommandProxy {
		return 0, h, malformed(fmt.Sprintf("version %d, command %d", data[12]>>4, data[12]&15))
	}
	local := len(data) > 12 && data[12] == versionCommandLocal
	// LOCAL comes with whatever family.
	if len(data) > 13 && !local && (data[13]>>4 > maxFamily || data[13]&15 > maxTransport) {
		return 0, h, malformed(fmt.Sprintf("address family %d, transport %d", data[13]>>4, data[13]&15))
	}
	if len(data) < sizeV2 {
		return 0, h, nil
	}
	size := sizeV2 + int(binary.BigEndian.Uint16(data[14:]))
	if size > limit {
		return 0, h, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLong, size, limit)
	}
	var addresses *layout
	if !local {
		addresses = layoutOf(data[13])
	}
	if addresses != nil && size < sizeV2+addresses.size {
		return 0, h, malformed("shorter than its addresses")
	}
	if len(data) < size {
		return 0, h, nil
	}

	header := data[:size:size]
	h = Header{Version: 2, Local: local}
	switch {
	case addresses != nil:
		h.Network = addresses.network
		h.readAddresses(header[sizeV2:][:addresses.size])
		h.TLVs = TLVs(header[sizeV2+addresses.size:])
	case data[13] == 0 && TLVs(header[sizeV2:]).wellFormed():
		// Here addresses may stand before the TLVs, of unknown size. Most senders put none there,
		// so if the whole reads as TLVs it is taken for them. All else has to be skipped: there is
		// no telling what it is.
		h.TLVs = TLVs(header[sizeV2:])
	}
	if len(h.TLVs) == 0 {
		h.TLVs = nil
		return size, h, nil
	}
	if err := h.TLVs.verify(header); err != nil {
		return 0, Header{}, err
	}
	return size, h, nil
}

// readAddresses reads the block of h.Network.
func (h *Header) readAddresses(block []byte) {
	half := (len(block) - 4) / 2
	switch len(block) {
	case 2 * pathSize:
		h.SourcePath, h.DestinationPath = pathOf(block[:pathSize]), pathOf(block[pathSize:])
		return
	case 2*4 + 4, 2*16 + 4:
		src, _ := netip.AddrFromSlice(block[:half])
		dst, _ := netip.AddrFromSlice(block[half : 2*half])
		h.Source = netip.AddrPortFrom(src, binary.BigEndian.Uint16(block[2*half:]))
		h.Destination = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(block[2*half+2:]))
	}
}

// pathOf reads sun_path, see unix(7). A path ends at the first zero byte. A name in the abstract
// namespace begins with one and may contain more, but the length that it has there doesn't come
// with the header.
func pathOf(field []byte) string {
	if field[0] != 0 {
		path, _, _ := bytes.Cut(field, []byte{0})
		return string(path)
	}
	name := bytes.TrimRight(field[1:], "\x00")
	if len(name) == 0 {
		return ""
	}
	return "@" + string(name)
}
