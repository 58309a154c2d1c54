package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/whorl-go/whorl/internal/unix"
)

// network is what kind of socket a name such as "tcp4" stands for.
type network struct {
	name   string
	family int // AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC for both of the first
	kind   int // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
}

// networks are all there are. Sockets point to them.
var networks = [...]network{
	{"tcp", unix.AF_UNSPEC, unix.SOCK_STREAM},
	{"tcp4", unix.AF_INET, unix.SOCK_STREAM},
	{"tcp6", unix.AF_INET6, unix.SOCK_STREAM},
	{"udp", unix.AF_UNSPEC, unix.SOCK_DGRAM},
	{"udp4", unix.AF_INET, unix.SOCK_DGRAM},
	{"udp6", unix.AF_INET6, unix.SOCK_DGRAM},
	{"unix", unix.AF_UNIX, unix.SOCK_STREAM},
	{"unixgram", unix.AF_UNIX, unix.SOCK_DGRAM},
	{"unixpacket", unix.AF_UNIX, unix.SOCK_SEQPACKET},
}

func networkOf(name string) (*network, error) {
	for i := range networks {
		if networks[i].name == name {
			return &networks[i], nil
		}
	}
	return nil, net.UnknownNetworkError(name)
}

func (n *network) tcp() bool { return n.kind == unix.SOCK_STREAM && n.family != unix.AF_UNIX }

// stream is whether the socket carries a stream of bytes and not packets.
func (n *network) stream() bool { return n.kind == unix.SOCK_STREAM }

// admits reports whether an address is of the network's family.
func (n *network) admits(ip netip.Addr) bool {
	switch n.family {
	case unix.AF_INET:
		return ip.Is4()
	case unix.AF_INET6:
		return ip.Is6()
	}
	return true
}

// splitHostPort takes an address apart. Ports are numbers from 0 to 65535, or names of services in
// /etc/services.
func splitHostPort(n *network, address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, &codedError{err, codeBadPort}
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err == nil {
		return host, uint16(number), nil
	}
	if errors.Is(err, strconv.ErrRange) || service == "" ||
		strings.Trim(service, "+-0123456789") == "" {
		return "", 0, addressError(codeBadPort, "invalid port", address)
	}
	named, err := net.LookupPort(n.name, service) // reads a file that is cached; no DNS
	if err != nil {
		return "", 0, &codedError{err, codeBadPort}
	}
	return host, uint16(named), nil
}

// unixSockaddr makes the address of a Unix socket. A name that begins with "@" is in the abstract
// namespace, which only Linux has.
func unixSockaddr(path string) (unix.Sockaddr, error) {
	longest := 107
	if runtime.GOOS != "linux" {
		longest = 103
		if strings.HasPrefix(path, "@") {
			return nil, fmt.Errorf("%s: there is no abstract namespace on %s: %w",
				path, runtime.GOOS, syscall.EAFNOSUPPORT)
		}
	}
	if len(path) > longest {
		return nil, fmt.Errorf("%w: %d bytes", ErrPathTooLong, len(path))
	}
	return &unix.SockaddrUnix{Name: path}, nil
}

func inetSockaddr(a netip.AddrPort) (unix.Sockaddr, int, error) {
	ip := a.Addr()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}, unix.AF_INET, nil
	}
	to := &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		if number, err := strconv.ParseUint(zone, 10, 32); err == nil {
			to.ZoneId = uint32(number)
		} else if device, err := net.InterfaceByName(zone); err == nil {
			to.ZoneId = uint32(device.Index)
		} else {
			return nil, 0, addressError(codeBadIPv6, "unknown IPv6 zone", a.String())
		}
	}
	return to, unix.AF_INET6, nil
}

// addrOf makes a net.Addr of a kernel's address.
func (n *network) addrOf(sa unix.Sockaddr) net.Addr {
	if a, ok := sa.(*unix.SockaddrUnix); ok {
		return &net.UnixAddr{Name: a.Name, Net: n.name}
	}
	a := addrPortOf(sa)
	switch {
	case !a.IsValid():
		return nil
	case n.kind == unix.SOCK_DGRAM:
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

// addrPortOf returns an IP address and port; not valid for other addresses.
func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(a.ZoneId), 10))
		}
		return netip.AddrPortFrom(ip, uint16(a.Port))
	}
	return netip.AddrPort{}
}
