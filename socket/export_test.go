//go:build linux

package socket

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"reflect"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/internal/sched"
)

// FakeNames has names that no other Resolver is set for looked up by a test, until restore. No name
// is remembered from before, nor afterwards.
func FakeNames(fake Resolver, now func() time.Time) (restore func()) {
	nowBefore, before := names.now, names.byDefault
	set := func(now func() time.Time, byDefault func() Resolver) {
		names.mu.Lock()
		defer names.mu.Unlock()
		names.now, names.byDefault = now, byDefault
		clear(names.known)
	}
	set(now, func() Resolver { return fake })
	return func() { set(nowBefore, before) }
}

// MaxLookups is how many look-ups run at a time.
const MaxLookups = maxLookups

// LimitLookups sets how long a look-up may take, until restore.
func LimitLookups(limit time.Duration) (restore func()) {
	before := names.limit
	names.limit = limit
	return func() { names.limit = before }
}

// KnownNames returns how many names are remembered.
func KnownNames() int {
	names.mu.Lock()
	defer names.mu.Unlock()
	return len(names.known)
}

// Lookup is what Connect calls.
func Lookup(ctx context.Context, networkName, host string, timeout time.Duration) ([]netip.Addr, error) {
	n, err := networkOf(networkName)
	if err != nil {
		return nil, err
	}
	ips, _, err := lookup(ctx, n, names.byDefault(), host, sched.DeadlineAfter(timeout))
	return ips, err
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
	return f.waitWrite(ctx, errNoBuffers, sched.DeadlineAfter(timeout))
}

// FakeRoots has the system's roots read by load, as if nobody had wanted them yet, until restore,
// which waits for load.
func FakeRoots(load func()) (restore func()) {
	before := systemRoots.load
	set := func(load func()) {
		if systemRoots.loading != nil {
			systemRoots.loading.Wait(context.Background())
		}
		systemRoots.load, systemRoots.loading = load, nil
		systemRoots.loaded.Store(false)
	}
	set(load)
	return func() { set(before) }
}

// HeldByTLS returns how many bytes a compact connection holds of what it couldn't open yet.
func HeldByTLS(s *Socket) int {
	t := s.secure.Load()
	if !t.using.CompareAndSwap(0, resting) { // not by enter, which is no silence
		return -1
	}
	defer t.using.Store(0)
	if in := t.compacted().in; in != nil {
		return cap(in.raw.buf)
	}
	return 0
}

// WipedAfterRest puts a compact connection to rest and closes it, at once, and reports whether it
// is wiped then.
func WipedAfterRest() bool {
	t := &secure{fd: new(fd), compactible: &compactible{list: new(quiet)}}
	t.state.Store(new(compactTLS))
	var both sync.WaitGroup
	both.Go(func() { t.toRest() })
	both.Go(t.doom)
	both.Wait()
	return t.wiped
}

// PutToRest does at once what is done with a connection that is quiet, and reports whether it is
// compact then. One goroutine at a time may call it.
func PutToRest(s *Socket) bool {
	t := s.secure.Load()
	if t == nil || t.compactible == nil || t.given {
		return false
	}
	t.toRest()
	return t.compacted() != nil
}

// SecretsOf returns a look at the secrets that are kept for a connection: whether there are any.
func SecretsOf(s *Socket) func() bool {
	t := s.secure.Load()
	if k := t.compacted(); k != nil {
		return func() bool { return hasSecrets(t, &k.State) }
	}
	capture := t.link.capture
	return func() bool { return hasSecrets(t, capture) }
}

// SecretsOfHandshake is SecretsOf for what crypto/tls has for a connection during its handshake.
func SecretsOfHandshake(conn net.Conn) func() bool {
	capture := conn.(*link).capture
	return func() bool { return hasSecrets(nil, capture) }
}

// hasSecrets keeps out whoever is within TLS, and looks at fields.
func hasSecrets(t *secure, of any) bool {
	if t != nil {
		for !t.using.CompareAndSwap(0, resting) {
			goruntime.Gosched()
		}
		defer t.using.Store(0)
	}
	fields := reflect.ValueOf(of).Elem()
	if _, ok := of.(*compact.Capture); ok {
		return !fields.FieldByName("client").FieldByName("secret").IsZero() ||
			!fields.FieldByName("server").FieldByName("secret").IsZero()
	}
	keys := fields.FieldByName("keys").Bytes()
	return !bytes.Equal(keys, make([]byte, len(keys)))
}

// WipeSecrets does at once what is done when a connection has ended.
func WipeSecrets(s *Socket) { s.secure.Load().doom() }

// EndOfLoop does what is done at the end of the loop. On the loop.
func EndOfLoop(s *Socket) { s.conn.Load().LoopEnded() }

// Queued is how much was sent and the kernel hasn't taken.
func Queued(s *Socket) int { return (*inner)(s).Queued() }
