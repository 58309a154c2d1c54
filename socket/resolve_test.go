//go:build linux

package socket_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// resolver is a name server of a test.
type resolver struct {
	t      testing.TB
	asked  atomic.Int64
	now    atomic.Int64 // seconds
	answer func(ctx context.Context, host string) ([]netip.Addr, error)
}

// resolves has names looked up by answer for the rest of the test.
func resolves(t testing.TB, answer func(ctx context.Context, host string) ([]netip.Addr, error)) *resolver {
	r := &resolver{t: t, answer: answer}
	t.Cleanup(socket.FakeNames(r, func() time.Time { return time.Unix(r.now.Load(), 0) }))
	return r
}

// LookupNetIP makes it a socket.Resolver.
func (r *resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	r.asked.Add(1)
	if network != "ip" {
		r.t.Errorf("asked for addresses of %q", network)
	}
	return r.answer(ctx, host)
}

// addresses makes addresses of a list.
func addresses(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// always answers with the same addresses.
func always(list ...string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) { return addresses(list...), nil }
}

func (r *resolver) wantAsked(t testing.TB, want int64) {
	t.Helper()
	if got := r.asked.Load(); got != want {
		t.Errorf("asked %d times, want %d", got, want)
	}
}

// mustLookup looks a name up that has one address.
func mustLookup(ctx context.Context, t testing.TB, host, want string) {
	t.Helper()
	ips, err := socket.Lookup(ctx, "tcp", host, patience)
	if err != nil || len(ips) != 1 || ips[0].String() != want {
		t.Errorf("%s is %v, %v; want %s", host, ips, err, want)
	}
}

func TestManyWhoWantANameAskOnce(t *testing.T) {
	release := make(chan struct{})
	r := resolves(t, func(context.Context, string) ([]netip.Addr, error) {
		<-release
		return addresses("192.0.2.1"), nil
	})
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		var all runtime.WaitGroup
		for i := range 50 {
			all.Go(ctx, func(ctx context.Context) {
				callers[i%len(callers)].call(ctx, func(ctx context.Context) { mustLookup(ctx, t, "mail.test", "192.0.2.1") })
			})
		}
		close(release)
		all.Wait(ctx)
		r.wantAsked(t, 1)
		if socket.KnownNames() != 1 {
			t.Errorf("%d names are known", socket.KnownNames())
		}
	}, runtime.WithLoops(2))
}

func TestNamesAreForgotten(t *testing.T) {
	r := resolves(t, always("192.0.2.1"))
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		mustLookup(ctx, t, "mail.test", "192.0.2.1")
		r.answer = always("192.0.2.2")
		r.now.Store(59)
		mustLookup(ctx, t, "mail.test", "192.0.2.1")
		r.wantAsked(t, 1)
		r.now.Store(60)
		mustLookup(ctx, t, "mail.test", "192.0.2.2")
		r.wantAsked(t, 2)
		r.now.Store(119)
		mustLookup(ctx, t, "mail.test", "192.0.2.2")
		r.wantAsked(t, 2)
		socket.FlushNames()
		mustLookup(ctx, t, "mail.test", "192.0.2.2")
		r.wantAsked(t, 3)
	})
}

func TestTheNumberOfKnownNamesIsBounded(t *testing.T) {
	r := resolves(t, always("192.0.2.1"))
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for i := range 1100 {
			mustLookup(ctx, t, fmt.Sprintf("host%d.test", i), "192.0.2.1")
			if n := socket.KnownNames(); n > 1000 {
				t.Fatalf("%d names are known", n)
			}
		}
		if n := socket.KnownNames(); n != 1000 {
			t.Errorf("%d names are known", n)
		}
		r.wantAsked(t, 1100)
		mustLookup(ctx, t, "host1099.test", "192.0.2.1")
		r.wantAsked(t, 1100)
	})
}

func TestFailuresAreNotRemembered(t *testing.T) {
	failure := &net.DNSError{Err: "no such host", Name: "mail.test", IsNotFound: true}
	r := resolves(t, func(context.Context, string) ([]netip.Addr, error) { return nil, failure })
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for range 2 {
			err := fresh(t, "tcp").Connect(ctx, "mail.test:25")
			wantOp(t, err, "connect", "tcp", "mail.test:25")
			wantError(t, "Connect", err, failure)
			if code := socket.Code(err); code != 711 {
				t.Errorf("code is %d", code)
			}
		}
		r.wantAsked(t, 2)
		r.answer = always("192.0.2.1")
		mustLookup(ctx, t, "mail.test", "192.0.2.1")
		r.wantAsked(t, 3)

		// A name that has no address of the network is known all the same.
		_, err := socket.Lookup(ctx, "tcp6", "mail.test", 0)
		if address := new(net.AddrError); !errors.As(err, &address) || address.Addr != "mail.test" {
			t.Errorf("error is %v", err)
		}
		r.wantAsked(t, 3)
		r.answer = always("2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "192.0.2.2")
		ips, err := socket.Lookup(ctx, "tcp", "both.test", 0)
		if want := addresses("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"); !slices.Equal(ips, want) || err != nil {
			t.Errorf("got %v, %v, want %v", ips, err, want)
		}
		r.answer = always()
		_, err = socket.Lookup(ctx, "tcp", "nothing.test", 0)
		if address := new(net.AddrError); !errors.As(err, &address) {
			t.Errorf("error is %v", err)
		}
	})
}

// While a name server doesn't answer, the loop goes on, and all that ends Connect ends it.
func TestConnectIsEndedWhileANameIsLookedUp(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
		code int
		time time.Duration
		end  func(s *socket.Socket, cancel context.CancelFunc) bool
	}{
		{"by its time-out", runtime.ErrTimeout, 110, soon, func(*socket.Socket, context.CancelFunc) bool { return true }},
		{"by the context", context.Canceled, 125, patience, func(_ *socket.Socket, cancel context.CancelFunc) bool { cancel(); return true }},
		{"by Cancel", socket.ErrCanceled, 125, patience,
			func(s *socket.Socket, _ context.CancelFunc) bool { return s.Cancel(socket.WriteEvent) }},
		{"by Close", net.ErrClosed, 9, patience, func(s *socket.Socket, _ context.CancelFunc) bool { return s.Close() == nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := resolves(t, func(ctx context.Context, _ string) ([]netip.Addr, error) {
				<-ctx.Done()
				return nil, &net.DNSError{Err: ctx.Err().Error(), Name: "mail.test", UnwrapErr: ctx.Err(), IsTimeout: true}
			})
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				for i, from := range callers {
					// A look-up goes on without who has asked for it.
					address := fmt.Sprintf("mail%d.test:25", i)
					s := fresh(t, "tcp")
					s.SetTimeouts(socket.Timeouts{Connect: c.time})
					limited, cancel := context.WithCancel(ctx)
					waits := start(ctx, func(ctx context.Context) {
						from.call(ctx, func(ctx context.Context) {
							if from.name != "coroutine" { // the others have contexts of their own
								ctx = limited
							}
							err := s.Connect(ctx, address)
							wantError(t, from.name, err, c.want)
							if code := socket.Code(err); code != c.code {
								t.Errorf("code is %d", code)
							}
							sleepsFully(ctx, t)
						})
					})
					for turns := 0; turns < 10 || r.asked.Load() <= int64(i); turns++ {
						runtime.Yield(ctx)
					}
					if from.name == "coroutine" {
						cancel()
						cancel = waits.Cancel
					}
					until(ctx, func() bool { return c.end(s, cancel) })
					waits.Join(ctx)
					cancel()
					if s.Cancel(socket.WriteEvent) {
						t.Error("somebody waits still")
					}
					s.Close()
				}
			}, runtime.WithLoops(2))
		})
	}
}

// The time-out of a name server is told apart from that of Connect.
func TestANameServerThatTimesOut(t *testing.T) {
	resolves(t, func(context.Context, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "i/o timeout", Name: "mail.test", IsTimeout: true}
	})
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		err := fresh(t, "tcp").Connect(ctx, "mail.test:25")
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() || socket.Code(err) != 712 || errors.Is(err, runtime.ErrTimeout) {
			t.Errorf("error is %v, code %d", err, socket.Code(err))
		}
	})
}

func TestAddressesAreNotLookedUp(t *testing.T) {
	r := resolves(t, nil)
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, c := range []struct {
			network, host string
			want          []netip.Addr // nil: an error
		}{
			{"tcp", "192.0.2.1", addresses("192.0.2.1")},
			{"tcp", "::1", addresses("::1")},
			{"tcp", "::ffff:192.0.2.1", addresses("192.0.2.1")},
			{"tcp6", "fe80::1%lo", addresses("fe80::1%lo")},
			{"tcp4", "::1", nil},
			{"tcp6", "192.0.2.1", nil},
			{"udp6", "::ffff:192.0.2.1", nil},
			{"tcp", "", addresses("127.0.0.1", "::1")},
			{"tcp4", "", addresses("127.0.0.1")},
			{"tcp6", "", addresses("::1")},
		} {
			ips, err := socket.Lookup(ctx, c.network, c.host, 0)
			if !slices.Equal(ips, c.want) || (err == nil) != (c.want != nil) {
				t.Errorf("%s %q: %v, %v", c.network, c.host, ips, err)
			}
		}
	})
	r.wantAsked(t, 0)
}

func TestAddressesAreInterleaved(t *testing.T) {
	for _, c := range []struct{ have, want string }{
		{"::1", "::1"},
		{"1.1.1.1 2.2.2.2", "1.1.1.1 2.2.2.2"},
		{"::1 ::2 ::3", "::1 ::2 ::3"},
		{"::1 ::2 1.1.1.1", "::1 1.1.1.1 ::2"},
		{"::1 ::2 ::3 1.1.1.1 2.2.2.2", "::1 1.1.1.1 ::2 2.2.2.2 ::3"},
		{"1.1.1.1 ::1 ::2 ::3", "1.1.1.1 ::1 ::2 ::3"},
		{"1.1.1.1 2.2.2.2 ::1", "1.1.1.1 ::1 2.2.2.2"},
		{"1.1.1.1 ::1 2.2.2.2 ::2", "1.1.1.1 ::1 2.2.2.2 ::2"},
	} {
		var got []string
		for _, ip := range socket.Interleave(addresses(strings.Fields(c.have)...)) {
			got = append(got, ip.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.have, got, c.want)
		}
	}
}

func TestPortsMayBeNamed(t *testing.T) {
	for _, c := range []struct {
		address, host string
		port          uint16
	}{
		{"mail.test:smtp", "mail.test", 25}, {"[::1]:https", "::1", 443}, {":65535", "", 65535}, {"a:0", "a", 0}, {"a:00025", "a", 25},
	} {
		host, port, err := socket.SplitHostPort(c.address)
		if host != c.host || port != c.port || err != nil {
			t.Errorf("%s: %q, %d, %v", c.address, host, port, err)
		}
	}
}
