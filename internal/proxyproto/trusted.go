package proxyproto

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Trusted is the list of those from whom a header is taken. The zero value trusts nobody. It is
// safe for concurrent use.
type Trusted struct {
	prefixes []netip.Prefix // without IPv4-mapped ones
	unix     bool
}

// ParseTrusted reads a list of sources, each an address ("127.0.0.1", "::1"), a network in CIDR
// notation ("10.0.0.0/8"), or "unix" for whoever connects through a Unix socket. IPv4-mapped IPv6
// addresses are IPv4 addresses: "::/0" has none of them, "0.0.0.0/0" has all. A network with bits
// set behind the prefix is an error, for it's not clear what was meant.
func ParseTrusted(sources ...string) (Trusted, error) {
	var t Trusted
	for _, source := range sources {
		if source == "unix" {
			t.unix = true
			continue
		}
		prefix, err := parsePrefix(source)
		if err != nil {
			return Trusted{}, fmt.Errorf("proxyproto: trusted source %q: %w", source, err)
		}
		t.prefixes = append(t.prefixes, prefix)
	}
	return t, nil
}

func parsePrefix(source string) (netip.Prefix, error) {
	if !strings.Contains(source, "/") {
		ip, err := netip.ParseAddr(source)
		if err != nil {
			return netip.Prefix{}, err
		}
		if ip.Zone() != "" {
			return netip.Prefix{}, errors.New("zones are not compared, leave it out")
		}
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(source)
	if err != nil {
		return prefix, err
	}
	if masked := prefix.Masked(); masked != prefix {
		return prefix, fmt.Errorf("bits are set behind the prefix; %s is the network", masked)
	}
	// Of the mapped ones, ::ffff:0:0/96 is the largest network that has no bits behind its prefix.
	if ip := prefix.Addr(); ip.Is4In6() {
		return netip.PrefixFrom(ip.Unmap(), prefix.Bits()-(128-32)), nil
	}
	return prefix, nil
}

// Contains reports whether addr, the connection's own remote address, is one of the trusted
// sources. Ports, zones and the names of Unix sockets don't matter. An address that is neither of
// IP nor of Unix is not trusted.
func (t Trusted) Contains(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.UnixAddr:
		return t.unix
	case interface{ AddrPort() netip.AddrPort }: // *net.TCPAddr, *net.UDPAddr
		ip := a.AddrPort().Addr().Unmap().WithZone("")
		for _, prefix := range t.prefixes {
			if prefix.Contains(ip) {
				return true
			}
		}
	}
	return false
}
