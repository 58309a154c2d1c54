//go:build linux

package socket_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// arrivesFrom connects s to a listener and returns the address that the listener sees.
func arrivesFrom(ctx context.Context, t testing.TB, s *socket.Socket, at string) string {
	t.Helper()
	l, err := socket.Listen(ctx, "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Abort()
	return server.RemoteAddr().String()
}

func TestABoundSocketConnectsFromItsAddress(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, c := range []struct{ network, from, to string }{
			{"tcp", "127.0.0.9:0", "127.0.0.1:0"}, {"tcp", "[::1]:0", "[::1]:0"}, {"tcp4", ":0", "127.0.0.1:0"}, {"tcp6", ":0", "[::1]:0"},
		} {
			s := fresh(t, c.network)
			if err := s.Bind(ctx, c.from); err != nil {
				t.Fatal(err)
			}
			bound := s.LocalAddr().String()
			if strings.HasSuffix(bound, ":0") {
				t.Errorf("bound to %s", bound)
			}
			if got := arrivesFrom(ctx, t, s, c.to); got != s.LocalAddr().String() || c.from != ":0" && got != bound {
				t.Errorf("bound to %s, connected from %s", bound, got)
			}
			wantError(t, "second Bind", s.Bind(ctx, c.from), syscall.EINVAL)
			s.Abort()
		}
	})
}

func TestBindOnConnect(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s := fresh(t, "tcp")
		if err := s.BindOnConnect("127.0.0.5:0"); err != nil {
			t.Fatal(err)
		}
		if s.LocalAddr() != nil {
			t.Error("has an address before Connect")
		}
		got := arrivesFrom(ctx, t, s, "127.0.0.1:0")
		if host, _, _ := net.SplitHostPort(got); host != "127.0.0.5" || got != s.LocalAddr().String() {
			t.Errorf("connected from %s, bound to %s", got, s.LocalAddr())
		}
		s.Abort()

		s = fresh(t, "tcp6")
		if err := s.BindOnConnect("[::1]:0"); err != nil {
			t.Fatal(err)
		}
		if got := arrivesFrom(ctx, t, s, "[::1]:0"); !strings.HasPrefix(got, "[::1]:") {
			t.Errorf("connected from %s", got)
		}
		s.Abort()

		// An address that isn't this machine's is found out by Connect.
		s = fresh(t, "tcp")
		if err := s.BindOnConnect("203.0.113.1:0"); err != nil {
			t.Fatal(err)
		}
		wantError(t, "foreign address", s.Connect(ctx, "127.0.0.1:25"), syscall.EADDRNOTAVAIL)

		// So is a family that doesn't fit the peer's.
		if err := s.BindOnConnect("[::1]:0"); err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(ctx, "127.0.0.1:25"); err == nil {
			t.Error("connected from ::1 to 127.0.0.1")
		}
		s.Close()
	})
}

func TestAddressesThatCannotBeBoundTo(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		taken, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		path := t.TempDir() + "/taken"
		takenPath, err := socket.Listen(ctx, "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		defer takenPath.Close()
		for _, c := range []struct {
			network, address string
			want             error // nil: any
		}{
			{"tcp", taken.LocalAddr().String(), syscall.EADDRINUSE},
			{"unix", path, syscall.EADDRINUSE},
			{"unix", "/no/such/directory/socket", syscall.ENOENT},
			{"unix", "/" + strings.Repeat("x", 107), socket.ErrPathTooLong},
			{"tcp", "203.0.113.1:0", syscall.EADDRNOTAVAIL},
			{"tcp", "example.com:0", nil},
			{"tcp", "127.0.0.1", nil},
			{"tcp", "127.0.0.1:65536", nil},
			{"tcp4", "[::1]:0", nil},
			{"tcp6", "127.0.0.1:0", nil},
		} {
			s := fresh(t, c.network)
			for range 2 {
				err := s.Bind(ctx, c.address)
				if err == nil || s.LocalAddr() != nil || s.FD() != -1 {
					t.Errorf("%s %s: %v", c.network, c.address, err)
				}
				if c.want != nil {
					wantError(t, c.network+" "+c.address, err, c.want)
				}
				if op, ok := err.(*net.OpError); !ok || op.Op != "bind" || op.Net != c.network {
					t.Errorf("%s %s: error is %#v", c.network, c.address, err)
				}
			}
			// After a failure, another address may be tried.
			if c.network != "unix" {
				if err := s.Bind(ctx, ":0"); err != nil {
					t.Error(err)
				}
			}
			s.Close()
		}
		s := fresh(t, "tcp4")
		for _, bad := range []string{"", "127.0.0.1", "example.com:0", "[::1]:0", "127.0.0.1:x y"} {
			if err := s.BindOnConnect(bad); err == nil {
				t.Errorf("BindOnConnect takes %q", bad)
			}
		}
	})
}

// "localhost" is a loopback address (RFC 6761, section 6.3) of the network's family, and no name to
// look up.
func TestBindToLocalhost(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for network, want := range map[string]string{"tcp": "127.0.0.1", "tcp4": "127.0.0.1", "tcp6": "::1", "udp": "127.0.0.1"} {
			s := fresh(t, network)
			if err := s.Bind(ctx, "localhost:0"); err != nil {
				t.Errorf("%s: %v", network, err)
			} else if host, _, _ := net.SplitHostPort(s.LocalAddr().String()); host != want {
				t.Errorf("%s: bound to %s, want %s", network, host, want)
			}
			s.Close()
		}
	})
}

// Whoever makes a descriptor second, of several that bind at a time, doesn't leave the first one
// open.
func TestBindingAtATimeMakesOneDescriptor(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for range 50 {
			s := fresh(t, "udp")
			ok := 0
			var mu sync.Mutex
			var all runtime.WaitGroup
			begin := make(chan struct{})
			for range 4 {
				all.Add(1)
				go func() {
					defer all.Done()
					<-begin
					if s.Bind(ctx, "127.0.0.1:0") == nil {
						mu.Lock()
						defer mu.Unlock()
						ok++
					}
				}()
			}
			close(begin)
			all.Wait(ctx)
			if ok != 1 {
				t.Errorf("%d of 4 have bound the socket", ok)
			}
			s.Close()
		}
	})
}

// TCP connects a socket with itself if its own port is the one that it dials. Nobody listens there.
func TestConnectDoesntReachItself(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free := l.Addr().String()
		l.Close()
		s := fresh(t, "tcp")
		defer s.Close()
		if err := s.BindOnConnect(free); err != nil { // so that it would happen each time
			t.Fatal(err)
		}
		wantError(t, "Connect", s.Connect(ctx, free), syscall.ECONNREFUSED)
		if s.Connected() {
			t.Error("connected with itself")
		}

		// And by chance: a port of those that the kernel chooses from.
		for range 2000 {
			s := fresh(t, "tcp")
			if err := s.Connect(ctx, free); err == nil {
				t.Fatalf("connected from %v to %v", s.LocalAddr(), s.RemoteAddr())
			}
		}
	})
}
