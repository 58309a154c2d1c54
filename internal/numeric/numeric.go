// Package numeric finds the address that a name stands for where only one can be used: of a
// listener.
package numeric

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/runtime"
)

// Host returns the address of a host, that of IPv4 first if there are several, as package net does.
func Host(ctx context.Context, network, host string) (netip.Addr, error) {
	if host == "" {
		return netip.IPv6Unspecified(), nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, nil
	}
	family := "ip" + strings.TrimLeft(network, "tcpud")
	name, err := dialing.ASCII(host)
	if err != nil {
		return netip.Addr{}, err
	}
	ips, err := runtime.Await(ctx, func() ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, family, name)
	})
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			return ip.Unmap(), nil
		}
	}
	return ips[0], nil
}
