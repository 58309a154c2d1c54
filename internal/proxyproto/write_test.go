package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// Writers of headers, for tests only: what is written has to say the same when it is read.

// Append appends the header to dst, in the version that it names, and returns the whole. A checksum
// (TypeCRC32C) among the TLVs is filled in. An error says what can't be expressed: addresses that
// don't fit the network, a network or TLVs that version 1 doesn't know, TLVs that Parse would
// refuse. Then dst is returned as it was. A header that is longer than [DefaultLimit] is written;
// whether the receiver takes it is another question.
func Append(dst []byte, h Header) ([]byte, error) {
	var out []byte
	var err error
	switch h.Version {
	case 1:
		out, err = appendV1(dst, h)
	case 2:
		out, err = appendV2(dst, h)
	default:
		err = fmt.Errorf("there is no version %d", h.Version)
	}
	if err != nil {
		return dst, fmt.Errorf("proxyproto: %w", err)
	}
	return out, nil
}

// endpoints returns the addresses in the form that the network is written with.
func (h *Header) endpoints() (src, dst netip.AddrPort, err error) {
	if src, err = endpoint(h.Network, h.Source); err != nil {
		return src, dst, fmt.Errorf("source: %w", err)
	}
	if dst, err = endpoint(h.Network, h.Destination); err != nil {
		return src, dst, fmt.Errorf("destination: %w", err)
	}
	return src, dst, nil
}

// endpoint turns IPv4 into IPv4-mapped addresses and back, as the network wants: a net.TCPAddr
// holds IPv4 in either form.
func endpoint(network string, a netip.AddrPort) (netip.AddrPort, error) {
	ip := a.Addr().Unmap()
	switch {
	case !ip.IsValid():
		return a, errors.New("no address")
	case network[3] == '6':
		ip = netip.AddrFrom16(ip.As16()) // without zone
	case !ip.Is4():
		return a, fmt.Errorf("%s is no address of %s", ip, network)
	}
	return netip.AddrPortFrom(ip, a.Port()), nil
}

func appendV1(dst []byte, h Header) ([]byte, error) {
	if h.Local || len(h.TLVs) > 0 {
		return nil, errors.New("version 1 has neither LOCAL nor TLVs")
	}
	for _, p := range protocolsV1 {
		if p.network != h.Network {
			continue
		}
		dst = append(append(dst, signatureV1...), p.name...)
		if p.network != "" {
			from, to, err := h.endpoints()
			if err != nil {
				return nil, err
			}
			dst = append(from.Addr().AppendTo(dst), ' ')
			dst = append(to.Addr().AppendTo(dst), ' ')
			dst = append(strconv.AppendUint(dst, uint64(from.Port()), 10), ' ')
			dst = strconv.AppendUint(dst, uint64(to.Port()), 10)
		}
		return append(dst, "\r\n"...), nil
	}
	return nil, fmt.Errorf("version 1 doesn't know the network %q", h.Network)
}

func appendV2(dst []byte, h Header) ([]byte, error) {
	start := len(dst)
	dst = append(dst, signatureV2...)
	switch {
	case h.Local && h.Network != "":
		return nil, fmt.Errorf("LOCAL has no network, and this is %q", h.Network)
	case h.Local:
		dst = append(dst, versionCommandLocal, 0, 0, 0)
	case h.Network == "":
		dst = append(dst, versionCommandProxy, 0, 0, 0)
	default:
		var err error
		if dst, err = h.appendAddresses(dst); err != nil {
			return nil, err
		}
	}
	sum, err := h.TLVs.inspect()
	if err != nil {
		return nil, err
	}
	if sum >= 0 {
		sum += len(dst)
	}
	dst = append(dst, h.TLVs...)
	size := len(dst) - start
	if size > MaxHeaderV2 {
		return nil, fmt.Errorf("%d bytes are too long for a header", size)
	}
	binary.BigEndian.PutUint16(dst[start+14:], uint16(size-sizeV2))
	if sum >= 0 {
		binary.BigEndian.PutUint32(dst[sum:], checksum(dst[start:], sum-start))
	}
	return dst, nil
}

// appendAddresses appends what stands between signature and TLVs. The length is left for later.
func (h *Header) appendAddresses(dst []byte) ([]byte, error) {
	for _, l := range layouts {
		if l.network != h.Network {
			continue
		}
		dst = append(dst, versionCommandProxy, l.family, 0, 0)
		if l.size == 2*pathSize {
			return appendPaths(dst, h.SourcePath, h.DestinationPath)
		}
		from, to, err := h.endpoints()
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
		dst = binary.BigEndian.AppendUint16(dst, from.Port())
		return binary.BigEndian.AppendUint16(dst, to.Port()), nil
	}
	return nil, fmt.Errorf("version 2 doesn't know the network %q", h.Network)
}

func appendPaths(dst []byte, paths ...string) ([]byte, error) {
	for _, path := range paths {
		var field [pathSize]byte
		if n := copy(field[:], path); n < len(path) {
			return nil, fmt.Errorf("a path of %d bytes is too long", len(path))
		}
		if field[0] == '@' {
			field[0] = 0
		}
		if pathOf(field[:]) != path {
			return nil, fmt.Errorf("the path %q can't be expressed", path)
		}
		dst = append(dst, field[:]...)
	}
	return dst, nil
}

// AppendTLV appends a record to dst. It fails for a value of more than 65,535 bytes, and then
// returns dst as it was.
func AppendTLV(dst TLVs, typ Type, value []byte) (TLVs, error) {
	if len(value) >= 1<<16 {
		return dst, fmt.Errorf("proxyproto: a value of %d bytes is too long for a TLV", len(value))
	}
	dst = binary.BigEndian.AppendUint16(append(dst, byte(typ)), uint16(len(value)))
	return append(dst, value...), nil
}

// Append appends the value of a record of TypeSSL to dst, for AppendTLV.
func (s SSL) Append(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(dst, s.Client), s.Verify), s.TLVs...)
}
