package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// sources are addresses to connect from, one after the other. The zero value leaves the choice to
// the kernel.
type sources struct {
	first netip.Addr
	count int
}

// maxSources bounds a range that is given, not how many of it are used.
const maxSources = 1 << 24

// AutoSource has a run that holds many connections to a loopback address use as many loopback
// addresses as it needs.
const AutoSource = "auto"

// parseSources parses an IPv4 or IPv6 address, a prefix ("127.0.0.0/8") or a range
// ("127.0.0.2-127.0.0.99"). Of an IPv4 prefix, the first and the last address, which are no host's,
// are left out. Empty and "auto" are no sources.
func parseSources(text string) (sources, error) {
	if text == "" || text == AutoSource {
		return sources{}, nil
	}
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return sources{}, fmt.Errorf("source %q: not a prefix of addresses", text)
		}
		return ofPrefix(prefix.Masked()), nil
	}
	low, high, isRange := strings.Cut(text, "-")
	first, err := netip.ParseAddr(low)
	last := first
	if err == nil && isRange {
		last, err = netip.ParseAddr(high)
	}
	if err != nil || first.Is4() != last.Is4() || first.Zone() != "" {
		return sources{},
			fmt.Errorf("source %q: want an address, first-last, or a prefix such as 127.0.0.0/8",
				text)
	}
	s := sources{first: first, count: 1}
	if isRange {
		n, err := distance(first, last)
		if err != nil {
			return sources{}, fmt.Errorf("source %q: %w", text, err)
		}
		s.count = n
	}
	return s, nil
}

func ofPrefix(p netip.Prefix) sources {
	bits := p.Addr().BitLen() - p.Bits()
	s := sources{first: p.Addr(), count: maxSources}
	if bits < 24 {
		s.count = 1 << bits
	}
	if p.Addr().Is4() && bits >= 2 {
		s.first = s.first.Next()
		s.count -= 2
	}
	return s
}

// distance returns how many addresses there are from first to last.
func distance(first, last netip.Addr) (int, error) {
	a, b := first.As16(), last.As16()
	if last.Less(first) {
		return 0, errors.New("the last address is before the first")
	}
	if string(a[:8]) != string(b[:8]) {
		return 0, errors.New("too many addresses")
	}
	n := binary.BigEndian.Uint64(b[8:]) - binary.BigEndian.Uint64(a[8:])
	if n >= maxSources {
		return 0, errors.New("too many addresses")
	}
	return int(n) + 1, nil
}

// at returns the address for the i-th connection, with port 0, to bind to; empty: don't.
func (s sources) at(i int64) string {
	if s.count == 0 {
		return ""
	}
	return netip.AddrPortFrom(s.address(int(i%int64(s.count))), 0).String()
}

func (s sources) address(i int) netip.Addr {
	b := s.first.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+uint64(i))
	return netip.AddrFrom16(b).WithZone(s.first.Zone()).Unmap()
}

// localPorts returns how many ports the kernel chooses local ports from.
func localPorts() int {
	const otherwise = 28232
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) != 2 {
		return otherwise
	}
	low, err1 := strconv.Atoi(fields[0])
	high, err2 := strconv.Atoi(fields[1])
	if err1 != nil || err2 != nil || high < low {
		return otherwise
	}
	return high - low + 1
}

// spread returns the sources for so many connections at a time to one address. Those that were
// given are all used, in turn. Of those that the run may take itself there are as few as will do:
// an address is good for half of the local ports, as the search for a free one becomes slow after
// that.
func (o *Options) spread(connections int64, to netip.AddrPort, ports int) (sources, error) {
	s, err := parseSources(o.Source)
	if err != nil {
		return s, err
	}
	comfortable := int64(max(1, ports/2))
	if o.Source == AutoSource && to.Addr().IsLoopback() && to.Addr().Is4() &&
		connections > comfortable {
		s = ofPrefix(netip.MustParsePrefix("127.0.0.0/8"))
		s.count = int(min(int64(s.count), (connections+comfortable-1)/comfortable))
	}
	if s.count > 0 && s.first.Is4() != to.Addr().Is4() {
		return s, fmt.Errorf("source %s: of another family than the target's address %s",
			o.Source, to.Addr())
	}
	if capacity := int64(max(1, s.count)) * int64(ports); connections > capacity {
		return s, &LimitError{
			What: fmt.Sprintf("%d connections from %d source addresses", connections,
				max(1, s.count)),
			Why: fmt.Sprintf("each address has %d local ports (net.ipv4.ip_local_port_range)",
				ports),
			How: "give more source addresses with --source, such as 127.0.0.0/8 for a server " +
				"on this machine",
		}
	}
	return s, nil
}
