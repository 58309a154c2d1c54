package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// Addresses that were looked up are remembered for a minute, a thousand names at most.
const (
	resolveExpiry   = 60 * time.Second
	resolveCapacity = 1000
)

// resolver is the cache of names. One caller looks a name up, the others who want it wait for that.
type resolver struct {
	mu    sync.Mutex
	names map[string]*resolved // guarded by mu

	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	now    func() time.Time
}

type resolved struct {
	done    runtime.WaitGroup // 1 while the look-up is under way
	ips     []netip.Addr      // before done is 0, of the one who looks up
	err     error
	expires time.Time
}

var names = resolver{lookup: net.DefaultResolver.LookupNetIP, now: time.Now}

// lookup returns the addresses of host that the network admits, in the order in which to try them.
func lookup(ctx context.Context, n *network, host string, deadline runtime.Deadline) ([]netip.Addr, error) {
	var ips []netip.Addr
	if host == "" {
		ips = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else if ip, err := netip.ParseAddr(host); err == nil {
		ips = []netip.Addr{ip.Unmap()}
	} else if ips, err = names.resolve(ctx, host, deadline); err != nil {
		return nil, err
	}
	admitted := make([]netip.Addr, 0, len(ips))
	for _, ip := range ips {
		if n.admits(ip) {
			admitted = append(admitted, ip)
		}
	}
	if len(admitted) == 0 {
		return nil, &net.AddrError{Err: "no address of the network " + n.name, Addr: host}
	}
	return interleave(admitted), nil
}

// interleave orders addresses so that the families alternate, beginning with the family of the first (RFC 8305, section 4).
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

func (r *resolver) resolve(ctx context.Context, host string, deadline runtime.Deadline) ([]netip.Addr, error) {
	for {
		entry, mine := r.entry(host)
		if mine {
			r.settle(ctx, host, entry, deadline)
			return entry.ips, entry.err
		}
		if err := waitUntil(ctx, &entry.done, deadline); err != nil {
			return nil, err
		}
		// If whoever asked ran out of time or was cancelled, that says nothing about the name.
		if entry.err == nil || !errors.Is(entry.err, runtime.ErrTimeout) && !errors.Is(entry.err, context.Canceled) &&
			!errors.Is(entry.err, context.DeadlineExceeded) {
			return entry.ips, entry.err
		}
	}
}

// settle looks a name up for all who want it. They are let go in any case, also when the look-up panics or its coroutine is ended by force.
func (r *resolver) settle(ctx context.Context, host string, entry *resolved, deadline runtime.Deadline) {
	entry.err = context.Canceled
	defer func() {
		entry.expires = r.now().Add(resolveExpiry)
		if entry.err != nil {
			r.forget(host, entry)
		}
		entry.done.Done()
	}()
	entry.ips, entry.err = r.ask(ctx, host, deadline)
}

// entry returns what is known of a name; mine means that it isn't known and the caller has to look it up.
func (r *resolver) entry(host string) (entry *resolved, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry = r.names[host]; entry != nil && (entry.done.Count() > 0 || r.now().Before(entry.expires)) {
		return entry, false
	}
	if r.names == nil {
		r.names = make(map[string]*resolved)
	}
	for other := range r.names {
		if len(r.names) < resolveCapacity {
			break
		}
		delete(r.names, other) // any one: the map's order is random
	}
	entry = new(resolved)
	entry.done.Add(1)
	r.names[host] = entry
	return entry, true
}

func (r *resolver) forget(host string, entry *resolved) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[host] == entry {
		delete(r.names, host)
	}
}

// ask looks a name up on a goroutine of Await.
func (r *resolver) ask(ctx context.Context, host string, deadline runtime.Deadline) ([]netip.Addr, error) {
	ctx, cancel := withDeadline(ctx, deadline)
	defer cancel()
	ips, err := runtime.Await(ctx, func() ([]netip.Addr, error) { return r.lookup(ctx, "ip", host) })
	if err != nil {
		if ctx.Err() == context.DeadlineExceeded && deadline.Passed() {
			err = runtime.ErrTimeout
		}
		return nil, err
	}
	for i, ip := range ips {
		ips[i] = ip.Unmap()
	}
	return ips, nil
}

// withDeadline gives a context the deadline too.
func withDeadline(ctx context.Context, deadline runtime.Deadline) (context.Context, context.CancelFunc) {
	if deadline == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, deadline.Until())
}

func waitUntil(ctx context.Context, group *runtime.WaitGroup, deadline runtime.Deadline) error {
	ctx, cancel := withDeadline(ctx, deadline)
	defer cancel()
	err := group.Wait(ctx)
	if err == context.DeadlineExceeded && deadline.Passed() {
		return runtime.ErrTimeout
	}
	return err
}

// resolveCode returns Swoole's codes for names that were not found.
func resolveCode(err error) (int, bool) {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return 0, false
	}
	if dns.IsTimeout {
		return 712, true // SW_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT
	}
	return 711, true // SW_ERROR_DNSLOOKUP_RESOLVE_FAILED
}

// FlushNames forgets all names that were looked up.
func FlushNames() {
	names.mu.Lock()
	defer names.mu.Unlock()
	clear(names.names)
}
