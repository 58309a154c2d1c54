//go:build linux

package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// wantOption checks an option of the kernel's.
func wantOption(t testing.TB, s *socket.Socket, name string, level, option, want int) {
	t.Helper()
	if got, err := s.Option(level, option); got != want || err != nil {
		t.Errorf("%s is %d, %v; want %d", name, got, err, want)
	}
}

func TestOptionsBeforeAndAfterConnect(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		defer l.Abort()
		for _, before := range []bool{true, false} {
			s := fresh(t, "tcp")
			set := func() {
				for _, err := range []error{
					s.SetOption(unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1000),
					s.SetBuffers(30_000, 40_000),
					s.SetKeepAlive(socket.KeepAlive{Idle: 61 * time.Second, Interval: 1500 * time.Millisecond, Count: 7}),
					s.SetNoDelay(false),
				} {
					if err != nil {
						t.Error(err)
					}
				}
			}
			if before {
				_, err := s.Option(unix.IPPROTO_TCP, unix.TCP_NODELAY)
				wantError(t, "Option before Connect", err, socket.ErrNotConnected)
				set()
			}
			if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			if !before {
				wantOption(t, s, "TCP_NODELAY, at first,", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
				wantOption(t, s, "SO_KEEPALIVE, at first,", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
				set()
			}
			wantOption(t, s, "TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 0)
			wantOption(t, s, "SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 60_000) // the kernel doubles them
			wantOption(t, s, "SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 80_000)
			wantOption(t, s, "SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			wantOption(t, s, "TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 61)
			wantOption(t, s, "TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2) // rounded up
			wantOption(t, s, "TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 7)
			if before { // it has its effect on the handshake
				wantOption(t, s, "TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG, 988)
			}
			server, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			wantOption(t, server, "TCP_NODELAY of an accepted socket", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			if err := s.SetNoDelay(true); err != nil {
				t.Error(err)
			}
			wantOption(t, s, "TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			if err := s.SetBuffers(0, 0); err != nil {
				t.Error(err)
			}
			wantOption(t, s, "SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 60_000)
			s.Abort()
			server.Abort()
		}
	})
}

// An option that the kernel refuses is told when it is set; for one that was set before Connect, by
// Connect.
func TestOptionsThatTheKernelRefuses(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s := fresh(t, "tcp")
		if err := s.SetOption(unix.IPPROTO_TCP, 12345, 1); err != nil {
			t.Fatal(err)
		}
		err := s.Connect(ctx, "127.0.0.1:25")
		wantOp(t, err, "connect", "tcp", "127.0.0.1:25")
		wantError(t, "Connect", err, syscall.ENOPROTOOPT)
		wantError(t, "Bind", s.Bind(ctx, "127.0.0.1:0"), syscall.ENOPROTOOPT)

		a, b := connected(ctx, t, "pair")
		err = a.SetOption(unix.SOL_SOCKET, 12345, 1)
		wantError(t, "SetOption", err, syscall.ENOPROTOOPT)
		if op := new(net.OpError); !errors.As(err, &op) || op.Op != "set option" {
			t.Errorf("error is %v", err)
		}
		_, err = a.Option(unix.SOL_SOCKET, 12345)
		wantError(t, "Option", err, syscall.ENOPROTOOPT)
		wantError(t, "keep-alive on a Unix socket", a.SetKeepAlive(socket.KeepAlive{Idle: time.Second}), syscall.EOPNOTSUPP)
		a.Close()
		b.Close()
	})
}

func TestAlive(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, from := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				// alive looks from another place; reading is the test's own.
				alive := func(s *socket.Socket) (is bool) {
					from.call(ctx, func(context.Context) { is = s.Alive() })
					return is
				}
				s, peer := connected(ctx, t, network)
				if !alive(s) || !alive(peer) {
					t.Error("a connection is dead")
				}
				// While somebody reads, too.
				reader := start(ctx, func(ctx context.Context) { s.Recv(ctx, make([]byte, 1)) })
				if !alive(s) {
					t.Error("a connection that is read from is dead")
				}
				peer.SendAll(ctx, []byte("xy"))
				reader.Join(ctx)
				peer.Close()
				until(ctx, func() bool { return unread(s) == 1 })
				if !alive(s) {
					t.Error("a connection with unread data is dead")
				}
				if n, err := s.Recv(ctx, make([]byte, 2)); n != 1 || err != nil {
					t.Error(n, err)
				}
				until(ctx, func() bool { return !alive(s) })
				if _, err := s.Recv(ctx, make([]byte, 1)); err != io.EOF {
					t.Error(err)
				}
				s.Abort()

				// Asking takes nothing away, not even the error.
				s, peer = connected(ctx, t, network)
				want := syscall.ECONNRESET
				if network == "unix" {
					s.SendAll(ctx, []byte("unread")) // that is how a Unix socket is reset
				}
				peer.Abort()
				until(ctx, func() bool { return !alive(s) })
				if alive(s) {
					t.Error("it lives again")
				}
				_, err := s.Recv(ctx, make([]byte, 1))
				wantError(t, "Recv after a reset", err, want)
				if alive(s) {
					t.Error("it lives again")
				}
				s.Abort()
			}, runtime.WithLoops(2))
		}
	}
}

func TestAListenerAndADatagramSocketThatLive(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		a, b := fresh(t, "udp"), fresh(t, "udp")
		for _, s := range []*socket.Socket{a, b} {
			if err := s.Bind(ctx, "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			if !s.Alive() {
				t.Error("a bound datagram socket is dead")
			}
		}
		if _, err := a.SendTo(ctx, nil, b.LocalAddr()); err != nil { // an empty datagram isn't the end
			t.Fatal(err)
		}
		if !b.Alive() {
			t.Error("a datagram socket with an empty datagram is dead")
		}
		if n, err := b.Recv(ctx, make([]byte, 1)); n != 0 || err != nil {
			t.Error(n, err)
		}
		a.Close()
		b.Close()
	})
}

func TestAddresses(t *testing.T) {
	dir := t.TempDir()
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, c := range []struct {
			network, listen string
			kind            string
		}{
			{"tcp", "127.0.0.1:0", "*net.TCPAddr"}, {"tcp6", "[::1]:0", "*net.TCPAddr"},
			{"unix", dir + "/stream", "*net.UnixAddr"}, {"unixpacket", unixName(), "*net.UnixAddr"},
		} {
			l, err := socket.Listen(ctx, c.network, c.listen)
			if err != nil {
				t.Fatal(err)
			}
			at := l.LocalAddr()
			if got := at.String(); !strings.HasSuffix(c.listen, ":0") && got != c.listen {
				t.Errorf("listens on %s, wanted %s", got, c.listen)
			}
			client := fresh(t, c.network)
			if err := client.Connect(ctx, at.String()); err != nil {
				t.Fatal(err)
			}
			server, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range []net.Addr{at, client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr()} {
				if got := fmt.Sprintf("%T", a); got != c.kind || a.Network() != map[bool]string{true: "tcp", false: c.network}[strings.HasPrefix(c.network, "tcp")] {
					t.Errorf("%s: address is %s of network %s", c.network, got, a.Network())
				}
			}
			if l.RemoteAddr() != nil {
				t.Errorf("the peer of a listener is %v", l.RemoteAddr())
			}
			if client.RemoteAddr().String() != at.String() || server.LocalAddr().String() != at.String() ||
				client.LocalAddr().String() != server.RemoteAddr().String() {
				t.Errorf("%s: client is %v to %v, server %v to %v, listener %v", c.network,
					client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr(), at)
			}
			if loop := runtime.Current(ctx).Loop(); client.Loop() != loop || server.Loop() != loop {
				t.Error("on another loop")
			}
			if fd := client.FD(); fd < 0 || fd == server.FD() {
				t.Errorf("descriptors are %d and %d", fd, server.FD())
			}
			for _, s := range []*socket.Socket{client, server, l} {
				s.Close()
				if s.LocalAddr() != nil || s.RemoteAddr() != nil {
					t.Error("a closed socket has an address")
				}
			}
		}
		if s := fresh(t, "udp"); s.Loop() != nil {
			t.Error("a new socket is on a loop")
		}
	})
}

// Signals interrupt system calls; who sends and receives doesn't notice.
func TestSignalsAreNotNoticed(t *testing.T) {
	arrived := make(chan os.Signal, 100)
	signal.Notify(arrived, syscall.SIGUSR1)
	defer signal.Stop(arrived)
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		var over atomic.Bool
		peers.Go(func() {
			for !over.Load() {
				syscall.Kill(os.Getpid(), syscall.SIGUSR1)
				<-arrived
			}
		})
		data := pattern(300_000)
		var all runtime.WaitGroup
		for _, from := range callers {
			client, server := connected(ctx, t, "pair")
			all.Go(ctx, func(ctx context.Context) {
				from.call(ctx, func(ctx context.Context) {
					if n, err := client.SendAll(ctx, data); err != nil {
						t.Error(n, err)
					}
				})
				client.Close()
			})
			all.Go(ctx, func(ctx context.Context) {
				got := make([]byte, len(data))
				from.call(ctx, func(ctx context.Context) {
					for n := 0; n < len(got); {
						more, err := server.Recv(ctx, got[n:min(n+1000, len(got))])
						if n += more; err != nil {
							t.Error(err)
							break
						}
					}
				})
				mustBe(t, got, data)
				server.Close()
			})
		}
		all.Wait(ctx)
		over.Store(true)
	}, runtime.WithLoops(2))
}

// What was read ahead is unread data, also when the peer has closed and the kernel has nothing
// more.
func TestAliveCountsWhatWasReadAhead(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		lines, _ := packet.NewEOF("\n", 100)
		s.SetProtocol(lines)
		s.send("one\ntwo\n")
		s.end()
		check(s, "one\n", nil)(s.packet())
		until(s.ctx, func() bool { return s.Buffered() == 4 })
		if !s.Alive() {
			t.Error("a packet is unread")
		}
		check(s, "two\n", nil)(s.packet())
		if until(s.ctx, func() bool { return !s.Alive() }); s.Alive() {
			t.Error("it lives again")
		}
		check(s, "", io.EOF)(s.packet())
	})
}
