package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// A Resolver looks names up; *net.Resolver is one.
//
// LookupNetIP returns the addresses of a host, of both families; network is "ip". It is called on a
// goroutine of its own, by many at once, and may block. ctx ends after thirty seconds and with the
// runtime, not with the Connect that wants the name: others may want it too. It must not wait for
// another look-up by Connect, which may be queued behind it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// SetResolver says whom Connect asks for names; nil, as at first, is net.DefaultResolver, as it is
// at the time. It must come before Connect.
//
// What a resolver has answered is remembered for a minute for those that ask the same one, unless
// its type can't be compared, as a function's can't.
func (s *Socket) SetResolver(r Resolver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toOpen().resolver = r
}

// resolver returns whom to ask.
func (s *Socket) resolver() Resolver {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening != nil && s.opening.resolver != nil {
		return s.opening.resolver
	}
	return names.byDefault()
}

// lookup returns the addresses of host that the network admits, in the order in which to try them.
// name is what they are remembered as, nil if nobody had to be asked.
func lookup(ctx context.Context, n *network, r Resolver, host string, deadline sched.Deadline) (
	ips []netip.Addr, name *resolved, err error,
) {
	code := codeBadHost
	if host == "" {
		ips = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else if ip, err := netip.ParseAddr(host); err == nil {
		ips = []netip.Addr{ip.Unmap()}
		if ip.Unmap().Is4() {
			code = codeBadIPv6
		}
	} else {
		code = codeNotFound
		if name, err = names.resolve(ctx, nameKey{r, host}, deadline); err != nil {
			return nil, nil, err
		}
		ips = name.ips
	}
	admitted := make([]netip.Addr, 0, len(ips))
	for _, ip := range ips {
		if n.admits(ip) {
			admitted = append(admitted, ip)
		}
	}
	if len(admitted) == 0 {
		return nil, name, addressError(code, "no address of the network "+n.name, host)
	}
	return interleave(admitted), name, nil
}

// interleave orders addresses so that the families alternate, beginning with the family of the
// first (RFC 8305, section 4).
func interleave(ips []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, ip := range ips {
		if ip.Is4() == ips[0].Is4() {
			first = append(first, ip)
		} else {
			second = append(second, ip)
		}
	}
	mixed := make([]netip.Addr, 0, len(ips))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			mixed = append(mixed, first[i])
		}
		if i < len(second) {
			mixed = append(mixed, second[i])
		}
	}
	return mixed
}

// waitUntil waits for a group, no longer than until the deadline.
func waitUntil(ctx context.Context, group *runtime.WaitGroup, deadline sched.Deadline) error {
	cancel := context.CancelFunc(func() {})
	if deadline != 0 {
		ctx, cancel = context.WithTimeout(ctx, deadline.Until())
	}
	defer cancel()
	err := group.Wait(ctx)
	if err == context.DeadlineExceeded && deadline.Passed() {
		return runtime.ErrTimeout
	}
	return err
}

// outdated reports whether a Connect that has failed with err, at all the addresses of a name,
// gives reason to ask for them again: nothing can be said of them if it was called off.
func outdated(err error) bool {
	return err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed)
}

// FlushNames forgets all names that were looked up.
func FlushNames() {
	names.mu.Lock()
	defer names.mu.Unlock()
	clear(names.known)
}
