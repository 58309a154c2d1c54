package farside

import (
	"fmt"
	"net/netip"
)

// PerAddress is how many connections a client makes to one address, fewer than there are ports by
// default (32768 to 60999). Further ones go to the same port of the addresses that follow, up to
// addresses of them; see [Address].
const (
	PerAddress = 20_000
	addresses  = 8
)

// Address is where a client's nth connection goes, if the first one goes to addr, which is of IPv4.
func Address(addr string, n int) (string, error) {
	first, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "", fmt.Errorf("farside: %w", err)
	}
	if !first.Addr().Is4() {
		return "", fmt.Errorf("farside: %q is no address of IPv4", addr)
	}
	ip := first.Addr().As4()
	ip[3] += byte(n / PerAddress)
	return netip.AddrPortFrom(netip.AddrFrom4(ip), first.Port()).String(), nil
}
