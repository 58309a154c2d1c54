//go:build linux

package socket

import (
	"context"
	"net/netip"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// FakeNames has names looked up by a test, until restore. No name is remembered from before, nor afterwards.
func FakeNames(lookup func(ctx context.Context, network, host string) ([]netip.Addr, error), now func() time.Time) (restore func()) {
	before := [...]any{names.lookup, names.now}
	FlushNames()
	names.lookup, names.now = lookup, now
	return func() {
		names.lookup = before[0].(func(context.Context, string, string) ([]netip.Addr, error))
		names.now = before[1].(func() time.Time)
		FlushNames()
	}
}

// KnownNames returns how many names are remembered.
func KnownNames() int {
	names.mu.Lock()
	defer names.mu.Unlock()
	return len(names.names)
}

// Lookup is what Connect calls.
func Lookup(ctx context.Context, networkName, host string, timeout time.Duration) ([]netip.Addr, error) {
	n, err := networkOf(networkName)
	if err != nil {
		return nil, err
	}
	return lookup(ctx, n, host, runtime.DeadlineAfter(timeout))
}

// SplitHostPort is splitHostPort of a TCP network.
func SplitHostPort(address string) (host string, port uint16, err error) {
	return splitHostPort(&network{name: "tcp"}, address)
}

var Interleave = interleave

// WaitNoBuffers waits as a sender does when the kernel has no buffers.
func (s *Socket) WaitNoBuffers(ctx context.Context, timeout time.Duration) error {
	f, err := s.acquire(writing)
	if err != nil {
		return err
	}
	defer f.leave(writing)
	return f.waitWrite(ctx, errNoBuffers, runtime.DeadlineAfter(timeout))
}
