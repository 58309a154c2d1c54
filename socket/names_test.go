//go:build linux

package socket_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/dnstest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Whoever asks for a name first may give up: the look-up goes on for the others, and for who asks
// later.
func TestALookupGoesOnWithoutWhoHasAskedForIt(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(co *runtime.Coroutine, s *socket.Socket)
		time time.Duration
	}{
		{"context", func(co *runtime.Coroutine, _ *socket.Socket) { co.Cancel() }, patience},
		{"Close", func(_ *runtime.Coroutine, s *socket.Socket) { s.Close() }, patience},
		{"Cancel", func(_ *runtime.Coroutine, s *socket.Socket) { s.Cancel(socket.WriteEvent) }, patience},
		{"time-out", func(*runtime.Coroutine, *socket.Socket) {}, soon},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			r := resolves(t, func(ctx context.Context, _ string) ([]netip.Addr, error) {
				close(asked) // once
				<-answer
				return addresses("192.0.2.1"), ctx.Err()
			})
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s := fresh(t, "tcp")
				s.SetTimeouts(socket.Timeouts{Connect: c.time})
				first := start(ctx, func(ctx context.Context) {
					if err := s.Connect(ctx, "mail.test:25"); err == nil {
						t.Error("connected")
					}
				})
				await(ctx, func() { <-asked })
				var others runtime.WaitGroup
				for range 10 {
					others.Go(ctx, func(ctx context.Context) {
						mustLookup(ctx, t, "mail.test", "192.0.2.1")
					})
				}
				c.end(first, s)
				first.Join(ctx)
				close(answer)
				others.Wait(ctx)
				mustLookup(ctx, t, "mail.test", "192.0.2.1")
				r.wantAsked(t, 1)
			})
		})
	}
}

// A look-up ends with the runtime of who has asked first. Those of another runtime ask again.
func TestALookupEndsWithItsRuntime(t *testing.T) {
	asked := make(chan struct{}, 2)
	r := resolves(t, nil)
	r.answer = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		if r.asked.Load() > 1 {
			return addresses("192.0.2.1"), nil
		}
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		other, err := runtime.New()
		if err == nil {
			err = other.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		other.Go(func(ctx context.Context) {
			_, err := socket.Lookup(ctx, "tcp", "mail.test", patience)
			done <- err
		})
		await(ctx, func() { <-asked })
		waits := start(ctx, func(ctx context.Context) {
			mustLookup(ctx, t, "mail.test", "192.0.2.1")
		})
		await(ctx, func() { other.Shutdown(context.Background()) })
		waits.Join(ctx)
		wantError(t, "of the runtime that has ended", <-done, runtime.ErrShutdown)
		r.wantAsked(t, 2)
	})
}

// What a resolver does wrong reaches all who want the name, and is not remembered.
func TestAResolverThatDoesntReturn(t *testing.T) {
	cause := errors.New("on purpose")
	for _, c := range []struct {
		name string
		fail func()
		want error
	}{
		{"panic", func() { panic(cause) }, cause},
		{"Goexit", goruntime.Goexit, runtime.ErrGoexit},
	} {
		t.Run(c.name, func(t *testing.T) {
			others := make(chan struct{})
			r := resolves(t, func(context.Context, string) ([]netip.Addr, error) {
				<-others
				c.fail()
				return nil, nil
			})
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				var all runtime.WaitGroup
				for range 10 {
					all.Go(ctx, func(ctx context.Context) {
						wantError(t, c.name, fresh(t, "tcp").Connect(ctx, "mail.test:25"), c.want)
					})
				}
				close(others)
				all.Wait(ctx)
				r.wantAsked(t, 1)
				r.answer = always("192.0.2.1")
				mustLookup(ctx, t, "mail.test", "192.0.2.1")
			}, runtime.WithLogger(zap.NewNop()))
		})
	}
}

// A resolver that takes no notice of its context holds up nobody for longer than a look-up may
// take.
func TestALookupHasATimeLimit(t *testing.T) {
	defer socket.LimitLookups(soon)()
	release, released := make(chan struct{}), make(chan struct{})
	resolves(t, func(ctx context.Context, host string) ([]netip.Addr, error) {
		if host == "stuck.test" {
			<-release
			close(released)
		} else {
			<-ctx.Done()
		}
		return nil, ctx.Err()
	})
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, host := range []string{"stuck.test", "slow.test"} {
			s := fresh(t, "tcp")
			s.SetTimeouts(socket.Timeouts{}) // no end
			err := s.Connect(ctx, host+":25")
			dns, ok := errors.AsType[*net.DNSError](err)
			if !ok || !dns.IsTimeout || dns.Name != host || socket.Code(err) != 712 {
				t.Errorf("error is %v, code %d", err, socket.Code(err))
			}
		}
		close(release)
		await(ctx, func() { <-released })
	})
}

func TestAwaitsDontHoldUpNames(t *testing.T) {
	resolves(t, always("192.0.2.1"))
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		release := make(chan struct{})
		var slow runtime.WaitGroup
		for range 3 { // more than the pool has room for
			slow.Go(ctx, func(ctx context.Context) { await(ctx, func() { <-release }) })
		}
		mustLookup(ctx, t, "mail.test", "192.0.2.1")
		close(release)
		slow.Wait(ctx)
	}, runtime.WithAwaitLimit(2))
}

func TestTheNumberOfLookupsIsBounded(t *testing.T) {
	var running, most atomic.Int64
	release := make(chan struct{})
	r := resolves(t, func(context.Context, string) ([]netip.Addr, error) {
		for n := running.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-release
		running.Add(-1)
		return addresses("192.0.2.1"), nil
	})
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		var all runtime.WaitGroup
		const names = 2*socket.MaxLookups + 10
		for i := range names {
			all.Go(ctx, func(ctx context.Context) {
				mustLookup(ctx, t, fmt.Sprintf("host%d.test", i), "192.0.2.1")
			})
		}
		until(ctx, func() bool { return running.Load() == socket.MaxLookups })
		close(release)
		all.Wait(ctx)
		r.wantAsked(t, names)
		if n := most.Load(); n != socket.MaxLookups {
			t.Errorf("%d look-ups ran at a time", n)
		}
	})
}

// A name whose addresses can't be connected to is asked for again at once: it may have been moved.
func TestAConnectThatFailsForgetsTheName(t *testing.T) {
	r := resolves(t, nil)
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.LocalAddr().String())
		mute, stop := full(t, "127.0.0.3:"+port)
		defer stop()
		if !strings.HasPrefix(mute, "127.0.0.3:") {
			t.Fatal(mute)
		}
		for _, list := range [][]string{
			{"127.0.0.2"}, {"127.0.0.2", "127.0.0.4"}, {"127.0.0.3"}, {"127.0.0.3", "127.0.0.2"},
		} {
			socket.FlushNames()
			asked := r.asked.Load()
			r.answer = always(list...)
			s := fresh(t, "tcp")
			s.SetTimeouts(socket.Timeouts{Connect: 10 * soon})
			if err := s.Connect(ctx, "moved.test:"+port); err == nil {
				t.Fatalf("connected to %v", list)
			}
			r.answer = always("127.0.0.1")
			for range 2 {
				s := fresh(t, "tcp")
				if err := s.Connect(ctx, "moved.test:"+port); err != nil {
					t.Errorf("after %v: %v", list, err)
				}
				s.Close()
			}
			r.wantAsked(t, asked+2)
		}

		// Who calls his Connect off has learnt nothing of the address.
		r.answer = always("127.0.0.3")
		for _, end := range []func(co *runtime.Coroutine, s *socket.Socket){
			func(co *runtime.Coroutine, _ *socket.Socket) { co.Cancel() },
			func(_ *runtime.Coroutine, s *socket.Socket) { s.Close() },
			func(_ *runtime.Coroutine, s *socket.Socket) { s.Cancel(socket.WriteEvent) },
		} {
			mustLookup(ctx, t, "slow.test", "127.0.0.3")
			asked := r.asked.Load()
			s := fresh(t, "tcp")
			co := start(ctx, func(ctx context.Context) { s.Connect(ctx, "slow.test:"+port) })
			for range 10 {
				runtime.Yield(ctx)
			}
			end(co, s)
			co.Join(ctx)
			s.Close()
			mustLookup(ctx, t, "slow.test", "127.0.0.3")
			r.wantAsked(t, asked)
		}
	})
}

// resolverFunc can't be compared with others of its type.
type resolverFunc func(host string) []netip.Addr

func (f resolverFunc) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return f(host), nil
}

// counted can be compared.
type counted struct {
	asked int
	ips   []netip.Addr
}

func (c *counted) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	c.asked++
	return c.ips, nil
}

// What different resolvers say of a name is told apart.
func TestEachResolverHasItsNames(t *testing.T) {
	r := resolves(t, always("127.0.0.2"))
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.LocalAddr().String())
		asked := 0
		function := resolverFunc(func(string) []netip.Addr { asked++; return addresses("127.0.0.1") })
		good := &counted{ips: addresses("::ffff:127.0.0.1")}
		alsoGood := &counted{ips: addresses("127.0.0.1")}
		for range 3 {
			for _, resolver := range []socket.Resolver{good, alsoGood, function} {
				s := fresh(t, "tcp")
				s.SetResolver(resolver)
				if err := s.Connect(ctx, "mail.test:"+port); err != nil {
					t.Error(err)
				}
				s.Close()
			}
			mustLookup(ctx, t, "mail.test", "127.0.0.2")
		}
		if good.asked != 1 || alsoGood.asked != 1 || asked != 3 {
			t.Errorf("asked %d, %d, %d times", good.asked, alsoGood.asked, asked)
		}
		if good.ips[0] != addresses("::ffff:127.0.0.1")[0] {
			t.Errorf("the resolver's own addresses were changed: %v", good.ips)
		}
		r.wantAsked(t, 1)

		s := fresh(t, "tcp")
		s.SetResolver(good)
		s.SetResolver(nil)
		if err := s.Connect(ctx, "mail.test:"+port); err == nil {
			t.Error("asked a resolver that was taken away")
		}
	})
}

// A program may replace net.DefaultResolver whenever it likes.
func TestTheDefaultResolverMayBeReplaced(t *testing.T) {
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before; socket.FlushNames() }()
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, ip := range addresses("192.0.2.1", "192.0.2.2") {
			known := map[string]string{"default.test": ip.String()}
			net.DefaultResolver = dnstest.Resolver(t, known)
			ips, err := socket.Lookup(ctx, "tcp", "default.test", patience)
			if err != nil || len(ips) != 1 || ips[0] != ip {
				t.Errorf("got %v, %v; want %v", ips, err, ip)
			}
		}
	})
}
