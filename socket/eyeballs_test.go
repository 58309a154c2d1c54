//go:build linux

package socket_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// attemptDelay is how long an address has before the next one is tried beside it.
const attemptDelay = 250 * time.Millisecond

// A street has several houses of one number: loopback addresses with the same port, at which
// somebody listens, nobody does, or nobody answers.
type street struct {
	name      string // resolves to all of them, in order
	listeners map[string]*socket.Socket
	close     func()
}

// newStreet makes one of houses: "live 127.0.0.2", "silent 127.0.0.3", "refusing ::1".
func newStreet(ctx context.Context, t testing.TB, houses ...string) *street {
	t.Helper()
	s := &street{listeners: make(map[string]*socket.Socket)}
	port, release := portOfAll(t)
	closers := []func(){release}
	var all []string
	for _, house := range houses {
		kind, ip, _ := strings.Cut(house, " ")
		all = append(all, ip)
		at := net.JoinHostPort(ip, port)
		switch kind {
		case "live":
			l, err := socket.Listen(ctx, "tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			s.listeners[ip] = l
			closers = append(closers, func() { l.Abort() })
		case "silent":
			_, stop := full(t, at)
			closers = append(closers, stop)
		case "refusing":
			// Nobody can listen there: the port is the street's.
		default:
			t.Fatalf("what is a %s?", house)
		}
	}
	s.close = func() {
		for _, c := range closers {
			c()
		}
	}
	s.name = "street.test:" + port
	resolves(t, always(all...))
	return s
}

// portOfAll returns a port that nobody else has at any address, until release is called. The
// street's houses may be bound to it all the same, as all of them, and this one, have SO_REUSEADDR,
// and this one doesn't listen.
func portOfAll(t testing.TB) (port string, release func()) {
	t.Helper()
	number, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		unix.SetsockoptInt(number, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0),
		unix.SetsockoptInt(number, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(number, new(unix.SockaddrInet6)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	bound, err := unix.Getsockname(number)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(bound.(*unix.SockaddrInet6).Port), func() { unix.Close(number) }
}

// settles waits until n more descriptors are open than before.
func settles(ctx context.Context, t testing.TB, before, n int) {
	t.Helper()
	begun := time.Now()
	until(ctx, func() bool { return descriptorCount(t) == before+n || time.Since(begun) > patience })
	if got := descriptorCount(t); got != before+n {
		t.Fatalf("%d descriptors more than before are open, want %d: %v", got-before, n, descriptors(t.(*testing.T)))
	}
}

func descriptorCount(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestTheNextAddressIsTriedBesideASilentOne(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		at := newStreet(ctx, t, "silent 127.0.0.2", "live 127.0.0.3", "refusing 127.0.0.4")
		defer at.close()
		before := descriptorCount(t)
		var all runtime.WaitGroup
		var sockets []*socket.Socket
		for _, from := range callers {
			s := fresh(t, "tcp")
			s.SetTimeouts(socket.Timeouts{Connect: 2 * patience}) // it isn't time that ends attempts
			sockets = append(sockets, s)
			all.Go(ctx, func(ctx context.Context) {
				from.call(ctx, func(ctx context.Context) {
					begun := time.Now()
					if err := s.Connect(ctx, at.name); err != nil {
						t.Errorf("%s: %v", from.name, err)
						return
					}
					if took := time.Since(begun); took < attemptDelay {
						t.Errorf("%s: the first address had only %v", from.name, took)
					}
					sleepsFully(ctx, t)
				})
			})
		}
		all.Wait(ctx)
		settles(ctx, t, before, len(sockets)) // the attempts that have lost are closed
		accepted := make(map[string]*socket.Socket)
		for range sockets {
			server, err := at.listeners["127.0.0.3"].Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			accepted[server.RemoteAddr().String()] = server
		}
		for _, s := range sockets {
			server := accepted[s.LocalAddr().String()]
			talk(ctx, t, s, server)
			server.Abort()
			s.Abort()
		}
	}, runtime.WithLoops(2))
}

// Each of forty addresses refuses; if each cost a quarter of a second, that would take longer than
// there is.
func TestTheNextAddressIsTriedAtOnceAfterARefusal(t *testing.T) {
	var houses []string
	for i := range 40 {
		houses = append(houses, fmt.Sprintf("refusing 127.0.0.%d", 100+i))
	}
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		at := newStreet(ctx, t, append(houses, "live 127.0.0.2")...)
		defer at.close()
		for _, from := range callers {
			from.call(ctx, func(ctx context.Context) {
				s := fresh(t, "tcp")
				s.SetTimeouts(socket.Timeouts{Connect: 40 * attemptDelay})
				if err := s.Connect(ctx, at.name); err != nil {
					t.Errorf("%s: %v", from.name, err)
				} else if got := s.RemoteAddr().String(); !strings.HasPrefix(got, "127.0.0.2:") {
					t.Errorf("connected to %s", got)
				}
				s.Abort()
			})
		}
	}, runtime.WithLoops(2))
}

func TestBothFamiliesAreTried(t *testing.T) {
	for _, c := range []struct {
		network string
		houses  []string
		want    string // where it is connected to
	}{
		{"tcp", []string{"refusing ::1", "live 127.0.0.1"}, "127.0.0.1"},
		{"tcp", []string{"refusing 127.0.0.1", "live ::1"}, "::1"},
		{"tcp", []string{"live ::1", "live 127.0.0.1"}, "::1"},
		{"tcp", []string{"live 127.0.0.1", "live ::1"}, "127.0.0.1"},
		{"tcp4", []string{"live ::1", "live 127.0.0.1"}, "127.0.0.1"},
		{"tcp6", []string{"live 127.0.0.1", "live ::1"}, "::1"},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			at := newStreet(ctx, t, c.houses...)
			defer at.close()
			s := fresh(t, c.network)
			if err := s.Connect(ctx, at.name); err != nil {
				t.Errorf("%s %q: %v", c.network, c.houses, err)
			} else if host, _, _ := net.SplitHostPort(s.RemoteAddr().String()); host != c.want {
				t.Errorf("%s %q: connected to %s", c.network, c.houses, host)
			}
			s.Abort()
		}, runtime.WithLoops(1))
	}
}

// If none answers, the error is that of the address that was preferred, whenever it came.
func TestTheErrorIsThatOfTheFirstAddress(t *testing.T) {
	for _, c := range []struct {
		houses []string
		time   time.Duration
		want   error
	}{
		{[]string{"refusing 127.0.0.2", "refusing 127.0.0.3"}, patience, syscall.ECONNREFUSED},
		{[]string{"refusing 127.0.0.2", "silent 127.0.0.3"}, soon, syscall.ECONNREFUSED},
		{[]string{"silent 127.0.0.2", "refusing 127.0.0.3"}, soon, runtime.ErrTimeout},
		{[]string{"silent 127.0.0.2", "refusing 127.0.0.3"}, attemptDelay + 100*time.Millisecond, runtime.ErrTimeout},
		{[]string{"silent 127.0.0.2", "silent 127.0.0.3", "silent 127.0.0.4"}, soon, runtime.ErrTimeout},
		{[]string{"silent 127.0.0.2", "silent 127.0.0.3", "silent 127.0.0.4"}, attemptDelay + soon, runtime.ErrTimeout},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			at := newStreet(ctx, t, c.houses...)
			defer at.close()
			before := descriptorCount(t)
			s := fresh(t, "tcp")
			s.SetTimeouts(socket.Timeouts{Connect: c.time})
			begun := time.Now()
			err := s.Connect(ctx, at.name)
			wantError(t, strings.Join(c.houses, ", "), err, c.want)
			wantOp(t, err, "connect", "tcp", at.name)
			if took := time.Since(begun); c.want == runtime.ErrTimeout && took < c.time {
				t.Errorf("%v, after %v", err, took)
			}
			settles(ctx, t, before, 0)
		})
	}
}

func TestAllAttemptsAreEnded(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
		end  func(s *socket.Socket, cancel context.CancelFunc)
	}{
		{"by the context", context.Canceled, func(_ *socket.Socket, cancel context.CancelFunc) { cancel() }},
		{"by Cancel", socket.ErrCanceled, func(s *socket.Socket, _ context.CancelFunc) {
			if !s.Cancel(socket.WriteEvent) {
				t.Error("Cancel says that nobody waits")
			}
		}},
		{"by Close", net.ErrClosed, func(s *socket.Socket, _ context.CancelFunc) { s.Close() }},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			at := newStreet(ctx, t, "silent 127.0.0.2", "silent 127.0.0.3", "silent 127.0.0.4")
			defer at.close()
			before := descriptorCount(t)
			var all runtime.WaitGroup
			var sockets []*socket.Socket
			cancels := make(chan context.CancelFunc, 1)
			var ends []func()
			for _, from := range callers {
				s := fresh(t, "tcp")
				s.SetTimeouts(socket.Timeouts{Connect: 2 * patience})
				sockets = append(sockets, s)
				all.Go(ctx, func(ctx context.Context) {
					from.call(ctx, func(ctx context.Context) {
						ctx, cancel := context.WithCancel(ctx)
						defer cancel()
						cancels <- cancel
						wantError(t, c.name+", "+from.name, s.Connect(ctx, at.name), c.want)
						sleepsFully(ctx, t)
					})
				})
				await(ctx, func() {
					cancel := <-cancels
					ends = append(ends, func() { c.end(s, cancel) })
				})
			}
			until(ctx, func() bool { return descriptorCount(t) >= before+2*len(sockets) }) // each waits for two addresses, or more
			for _, end := range ends {
				end()
			}
			all.Wait(ctx)
			settles(ctx, t, before, 0)
			for _, s := range sockets {
				if s.Cancel(socket.WriteEvent) {
					t.Error("somebody waits still")
				}
				if c.want == net.ErrClosed {
					continue
				}
				live := listening(ctx, t, "tcp")
				if err := s.Connect(ctx, live.LocalAddr().String()); err != nil {
					t.Errorf("again: %v", err)
				}
				live.Abort()
				s.Abort()
			}
		}, runtime.WithLoops(2))
	}
}

// A loop that is held up makes several attempts succeed: one is taken, the others are closed.
func TestAttemptsThatComeTooLateAreClosed(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		at := newStreet(ctx, t, "live 127.0.0.2", "live 127.0.0.3", "live 127.0.0.4")
		defer at.close()
		before := descriptorCount(t)
		s := fresh(t, "tcp")
		onGoroutine(ctx, func(ctx context.Context) {
			held := make(chan struct{})
			start(ctx, func(context.Context) {
				close(held)
				for begun := time.Now(); time.Since(begun) < 2*attemptDelay+attemptDelay/2; {
				}
			})
			<-held
			if err := s.Connect(ctx, at.name); err != nil {
				t.Error(err)
			}
		})
		settles(ctx, t, before, 1)
		host, _, _ := net.SplitHostPort(s.RemoteAddr().String())
		for ip, l := range at.listeners {
			l.SetTimeouts(socket.Timeouts{Read: soon})
			for {
				server, err := l.Accept(ctx)
				if err != nil {
					break // there is no more
				}
				if ip != host { // the rival's end
					if _, err := server.Recv(ctx, make([]byte, 1)); err == nil || errors.Is(err, runtime.ErrTimeout) {
						t.Errorf("the connection to %s, beside that to %s, is open: %v", ip, host, err)
					}
				} else {
					talk(ctx, t, s, server)
				}
				server.Abort()
			}
		}
		s.Abort()
	}, runtime.WithLoops(1), runtime.WithLogger(zap.NewNop()))
}

// An attempt that succeeds at the moment when Connect is given up is closed. That moment is short,
// so it is looked for in many of them.
func TestAttemptsThatSucceedAtTheEndAreClosed(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		at := newStreet(ctx, t, "live 127.0.0.2", "live 127.0.0.3")
		defer at.close()
		for _, l := range at.listeners {
			start(ctx, func(ctx context.Context) {
				for server, err := l.Accept(ctx); err == nil; server, err = l.Accept(ctx) {
					server.Close()
				}
			})
		}
		before := descriptorCount(t)
		takes := time.Millisecond
		for range 2000 {
			connecting, cancel := context.WithCancel(ctx)
			after := rand.N(2 * takes)
			begin, canceled := make(chan struct{}), make(chan struct{})
			peers.Go(func() {
				<-begin
				for begun := time.Now(); time.Since(begun) < after; {
				}
				cancel()
				close(canceled)
			})
			s := fresh(t, "tcp")
			close(begin)
			begun := time.Now()
			err := s.Connect(connecting, at.name)
			if err == nil {
				takes = time.Since(begun)
			} else {
				wantError(t, "Connect", err, context.Canceled)
			}
			s.Abort()
			await(ctx, func() { <-canceled })
		}
		settles(ctx, t, before, 0)
	}, runtime.WithLoops(1))
}

func TestAttemptsNeedCoroutines(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		at := newStreet(ctx, t, "live 127.0.0.2", "live 127.0.0.3")
		defer at.close()
		wantError(t, "Connect", fresh(t, "tcp").Connect(ctx, at.name), runtime.ErrTooMany)
	}, runtime.WithMaxCoroutines(1))
}

// A socket that is bound has one descriptor, and so one attempt; BindOnConnect binds each.
func TestBindingAndSeveralAddresses(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		at := newStreet(ctx, t, "refusing 127.0.0.2", "live 127.0.0.3")
		defer at.close()
		s := fresh(t, "tcp")
		if err := s.Bind(ctx, "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		wantError(t, "bound", s.Connect(ctx, at.name), syscall.ECONNREFUSED)
		s.Close()

		s = fresh(t, "tcp")
		if err := s.BindOnConnect("127.0.0.9:0"); err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(ctx, at.name); err != nil {
			t.Fatal(err)
		}
		if local, _, _ := net.SplitHostPort(s.LocalAddr().String()); local != "127.0.0.9" {
			t.Errorf("connected from %s", local)
		}
		s.Abort()
	})
}

// UDP has nothing to race for: the first address that there is a route to is taken.
func TestDatagramSocketsTakeTheFirstAddress(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		resolves(t, always("127.0.0.2", "::1", "127.0.0.3"))
		s := fresh(t, "udp")
		if err := s.Connect(ctx, "street.test:9"); err != nil {
			t.Fatal(err)
		}
		if got := s.RemoteAddr().String(); got != "127.0.0.2:9" {
			t.Errorf("connected to %s", got)
		}
		s.Close()
	})
}
