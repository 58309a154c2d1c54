package proxy

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxName is the longest host name in bytes: SOCKS5 counts it in one byte. Names of the DNS end at
// 253 anyway.
const maxName = 255

// A target is the far end of the tunnel. It is validated once, here, so that no byte of it can end
// a line or a field of either protocol.
type target struct {
	addr netip.Addr // valid if the host is an IP address
	name string     // the host otherwise; resolved by the proxy
	port uint16
}

// parseTarget reads host:port; an IPv6 address stands in brackets. The errors don't quote s: people
// do write user:password@host, and a password must not travel on in an error.
func parseTarget(s string) (target, error) {
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		return target{}, errors.New("proxy: target is not host:port")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return target{}, errors.New("proxy: port of the target is not a number from 1 to 65535")
	}

	addr, err := netip.ParseAddr(host)
	if strings.HasPrefix(s, "[") != addr.Is6() {
		return target{}, errors.New(
			"proxy: brackets in the target hold something else than an IPv6 address",
		)
	}
	if err == nil {
		if addr.Zone() != "" {
			return target{}, errors.New("proxy: a zone of the target means nothing to another host")
		}
		// ::ffff:192.0.2.1 is how some programs write 192.0.2.1, not another host. Dialling treats
		// it so, too.
		return target{addr: addr.Unmap(), port: uint16(port)}, nil
	}

	if host == "" || len(host) > maxName {
		return target{}, errors.New("proxy: host of the target is not 1 to 255 bytes long")
	}
	if strings.ContainsFunc(host, notInName) {
		return target{}, errors.New(
			"proxy: host of the target is not a host name (international names need their xn-- form)",
		)
	}
	return target{name: host, port: uint16(port)}, nil
}

// notInName reports whether r is outside what host names are made of. The underscore is not in RFC
// 1123, but is in use.
func notInName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z',
		'A' <= r && r <= 'Z',
		'0' <= r && r <= '9',
		r == '-',
		r == '.',
		r == '_':
		return false
	}
	return true
}

// authority is the target in the form of RFC 9112 section 3.2.3: host:port, with brackets around
// IPv6.
func (t target) authority() string {
	host := t.name
	if t.addr.IsValid() {
		host = t.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(t.port)))
}
