//go:build linux

package socket_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// full is a TCP listener whose backlog is full, so that the kernel doesn't answer those who
// connect. close ends it.
func full(t testing.TB, address string) (at string, close func()) {
	t.Helper()
	_, at, close = fullListener(t, address)
	return at, close
}

// fullListener is full, and returns the listener's descriptor too.
func fullListener(t testing.TB, address string) (listener int, at string, close func()) {
	t.Helper()
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	sa := &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
	if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil { // see portOfAll
		t.Fatal(err)
	}
	if err := unix.Bind(listener, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	filler, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(filler, bound); err != nil {
		t.Fatal(err)
	}
	// A backlog of 0 holds one connection; it counts when the kernel has seen the last segment of
	// its handshake.
	unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
	port := strconv.Itoa(bound.(*unix.SockaddrInet4).Port)
	return listener, net.JoinHostPort(to.IP.String(), port), func() {
		unix.Close(filler)
		unix.Close(listener)
	}
}

func TestConnectReachesEveryNetwork(t *testing.T) {
	for _, c := range []struct{ network, listen string }{
		{"tcp", "127.0.0.1:0"},
		{"tcp", "[::1]:0"},
		{"tcp4", "127.0.0.7:0"},
		{"tcp6", "[::1]:0"},
		{"unix", t.TempDir() + "/stream"},
		{"unix", unixName()},
		{"unixpacket", t.TempDir() + "/packet"},
		{"unixpacket", unixName()},
	} {
		for _, from := range callers {
			t.Run(c.network+" "+c.listen+" "+from.name, func(t *testing.T) {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					l, err := socket.Listen(ctx, c.network, c.listen)
					if err != nil {
						t.Fatal(err)
					}
					defer os.Remove(c.listen)
					defer l.Close()
					from.call(ctx, func(ctx context.Context) {
						client := fresh(t, c.network)
						defer client.Close()
						if err := client.Connect(ctx, l.LocalAddr().String()); err != nil {
							t.Error(err)
							return
						}
						server, err := l.Accept(ctx)
						if err != nil {
							t.Error(err)
							return
						}
						defer server.Close()
						talk(ctx, t, client, server)
						talk(ctx, t, server, client)
						sleepsFully(ctx, t)
					})
				}, runtime.WithLoops(2))
			})
		}
	}
}

// talk sends a message from one socket to another.
func talk(ctx context.Context, t testing.TB, from, to *socket.Socket) {
	t.Helper()
	if n, err := from.SendAll(ctx, []byte("message")); n != 7 || err != nil {
		t.Error(n, err)
	}
	buf := make([]byte, 7)
	if n, err := to.RecvAll(ctx, buf); string(buf[:n]) != "message" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func TestConnectSetsWhereADatagramSocketSends(t *testing.T) {
	for _, c := range []struct{ network, address string }{{"udp", "127.0.0.1:0"}, {"udp", "[::1]:0"}, {"udp6", "[::1]:0"}, {"unixgram", unixName()}} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			server, client := fresh(t, c.network), fresh(t, c.network)
			defer server.Close()
			defer client.Close()
			if err := server.Bind(ctx, c.address); err != nil {
				t.Fatal(err)
			}
			if err := client.Connect(ctx, server.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			talk(ctx, t, client, server)
		})
	}
}

// A datagram that has arrived before Connect stays to be received.
func TestConnectDoesntForgetWhatADatagramSocketHas(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		a, b := fresh(t, "udp"), fresh(t, "udp")
		defer a.Close()
		defer b.Close()
		for _, s := range []*socket.Socket{a, b} {
			if err := s.Bind(ctx, "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
		}
		reader := start(ctx, func(ctx context.Context) {
			if _, _, err := a.RecvFrom(ctx, make([]byte, 10)); err != nil {
				t.Error(err)
			}
		})
		for range 2 { // one edge for both
			if _, err := b.SendTo(ctx, []byte("message"), a.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		reader.Join(ctx)
		if err := a.Connect(ctx, b.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		a.SetTimeouts(socket.Timeouts{Read: patience})
		buf := make([]byte, 10)
		if n, err := a.Recv(ctx, buf); string(buf[:n]) != "message" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

func TestConnectIsRefusedWhereNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, from := range callers {
			from.call(ctx, func(ctx context.Context) {
				for _, c := range []struct {
					network, address string
					want             error
				}{
					{"tcp", nobody, syscall.ECONNREFUSED},
					{"unix", unixName(), syscall.ECONNREFUSED},
					{"unix", t.TempDir() + "/none", syscall.ENOENT},
					{"unixpacket", unixName(), syscall.ECONNREFUSED},
				} {
					s := fresh(t, c.network)
					wantError(t, from.name+": "+c.network, s.Connect(ctx, c.address), c.want)
					if s.Connected() {
						t.Error("is connected")
					}
					sleepsFully(ctx, t)
				}
			})
		}
	}, runtime.WithLoops(2))
}

func TestConnectMayBeTriedAgainAfterAFailure(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		name := unixName()
		s := fresh(t, "unix")
		defer s.Close()
		for range 3 {
			wantError(t, "without a listener", s.Connect(ctx, name), syscall.ECONNREFUSED)
		}
		l, err := socket.Listen(ctx, "unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := s.Connect(ctx, name); err != nil {
			t.Error(err)
		}
		wantError(t, "once more", s.Connect(ctx, name), socket.ErrConnected)
	})
}

// A Connect that waits is ended in all ways, from all kinds of callers.
func TestConnectIsEnded(t *testing.T) {
	type ending struct {
		name  string
		want  error
		again bool // Connect may be tried again
		ctx   func(ctx context.Context) (context.Context, context.CancelFunc)
		end   func(s *socket.Socket, cancel context.CancelFunc) bool // nil: it ends by itself
	}
	same := func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} }
	for _, e := range []ending{
		{"by its time-out", runtime.ErrTimeout, true, same, nil},
		{"by the context's deadline", context.DeadlineExceeded, true,
			func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, soon) }, nil},
		{"by the context", context.Canceled, true, context.WithCancel,
			func(_ *socket.Socket, cancel context.CancelFunc) bool { cancel(); return true }},
		{"by Cancel", socket.ErrCanceled, true, same,
			func(s *socket.Socket, _ context.CancelFunc) bool { return s.Cancel(socket.WriteEvent) }},
		{"by Close", net.ErrClosed, false, same,
			func(s *socket.Socket, _ context.CancelFunc) bool { return s.Close() == nil }},
		{"by Abort", net.ErrClosed, false, same,
			func(s *socket.Socket, _ context.CancelFunc) bool { return s.Abort() == nil }},
	} {
		for _, bound := range []bool{false, true} {
			t.Run(e.name+", bound "+strconv.FormatBool(bound), func(t *testing.T) {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					for _, from := range callers {
						silent, stop := full(t, "127.0.0.1:0")
						s := fresh(t, "tcp")
						s.SetTimeouts(socket.Timeouts{Connect: patience})
						if e.want == runtime.ErrTimeout {
							s.SetTimeouts(socket.Timeouts{Connect: soon})
						}
						if bound {
							if err := s.Bind(ctx, "127.0.0.1:0"); err != nil {
								t.Fatal(err)
							}
						}
						cancels := make(chan context.CancelFunc, 1)
						waits := start(ctx, func(ctx context.Context) {
							from.call(ctx, func(ctx context.Context) {
								ctx, cancel := e.ctx(ctx)
								defer cancel()
								cancels <- cancel
								err := s.Connect(ctx, silent)
								wantError(t, from.name, err, e.want)
								sleepsFully(ctx, t)
							})
						})
						if e.end != nil {
							var cancel context.CancelFunc
							await(ctx, func() { cancel = <-cancels })
							// With Cancel, until it was there to be cancelled.
							until(ctx, func() bool { return e.end(s, cancel) })
						}
						waits.Join(ctx)
						stop()
						if s.Cancel(socket.ReadEvent | socket.WriteEvent) {
							t.Error("there was still somebody to cancel")
						}
						if e.again && !bound {
							l, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
							if err != nil {
								t.Fatal(err)
							}
							if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
								t.Errorf("again: %v", err)
							}
							l.Abort()
						}
						s.Abort()
						wantError(t, "after Close", s.Connect(ctx, silent), net.ErrClosed)
					}
				}, runtime.WithLoops(2))
			})
		}
	}
}

// A coroutine that is cancelled while it connects.
func TestConnectEndsWithItsCoroutine(t *testing.T) {
	silent, stop := full(t, "127.0.0.1:0")
	defer stop()
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s := fresh(t, "tcp")
		co := start(ctx, func(ctx context.Context) {
			wantError(t, "Connect", s.Connect(ctx, silent), context.Canceled)
		})
		co.Cancel()
		co.Join(ctx)
	})
}

func TestOneConnectAtATime(t *testing.T) {
	silent, stop := full(t, "127.0.0.1:0")
	defer stop()
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s := fresh(t, "tcp")
		first := start(ctx, func(ctx context.Context) {
			wantError(t, "the first", s.Connect(ctx, silent), net.ErrClosed)
		})
		for _, from := range callers {
			from.call(ctx, func(ctx context.Context) {
				wantError(t, from.name, s.Connect(ctx, silent), socket.ErrBusy)
			})
		}
		s.Close()
		first.Join(ctx)
	}, runtime.WithLoops(2))
}

func TestConnectRefusesBadAddresses(t *testing.T) {
	is := func(text string) func(error) bool {
		return func(err error) bool { return strings.Contains(err.Error(), text) }
	}
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, c := range []struct {
			network, address string
			fits             func(err error) bool
		}{
			{"tcp", "127.0.0.1", is("missing port")},
			{"tcp", "127.0.0.1:", is("invalid port")},
			{"tcp", "127.0.0.1:0", is("invalid port")},
			{"tcp", "127.0.0.1:-1", is("invalid port")},
			{"tcp", "127.0.0.1:+25", is("invalid port")},
			{"tcp", "127.0.0.1:65536", is("invalid port")},
			{"tcp", "127.0.0.1:99999999999999999999", is("invalid port")},
			{"tcp", "127.0.0.1:x y", is("unknown port")},
			{"tcp", "127.0.0.1:no-such-service", is("unknown port")},
			{"udp", "127.0.0.1:0", is("invalid port")},
			{"tcp", "::1:25", is("too many colons")},
			{"tcp", "[::1:25", is("missing ']'")},
			{"tcp", "", is("missing port")},
			{"tcp", "no such host:25", func(err error) bool { return errors.As(err, new(*net.DNSError)) && socket.Code(err) == 711 }},
			{"tcp", "host\x00:25", func(err error) bool { return errors.As(err, new(*net.DNSError)) && socket.Code(err) == 711 }},
			{"tcp4", "[::1]:25", is("no address of the network tcp4")},
			{"tcp6", "127.0.0.1:25", is("no address of the network tcp6")},
			{"tcp6", "[::ffff:127.0.0.1]:25", is("no address of the network tcp6")},
			{"tcp", "[fe80::1%no-such-device]:25", is("unknown IPv6 zone")},
			{"unix", "/" + strings.Repeat("x", 107), func(err error) bool { return errors.Is(err, socket.ErrPathTooLong) }},
			{"unix", "@" + strings.Repeat("x", 107), func(err error) bool { return errors.Is(err, socket.ErrPathTooLong) }},
			{"unixgram", strings.Repeat("x", 1<<20), func(err error) bool { return errors.Is(err, socket.ErrPathTooLong) }},
		} {
			s := fresh(t, c.network)
			err := s.Connect(ctx, c.address)
			if op := new(net.OpError); !errors.As(err, &op) || op.Op != "connect" || op.Net != c.network || !c.fits(err) {
				t.Errorf("%s %.40q: %v", c.network, c.address, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// The longest path that is taken.
func TestAPathOf107BytesIsTaken(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		name := unixName()
		name += strings.Repeat("x", 107-len(name))
		l, err := socket.Listen(ctx, "unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s := fresh(t, "unix")
		defer s.Close()
		if err := s.Connect(ctx, name); err != nil {
			t.Error(err)
		}
		if got := s.RemoteAddr().String(); got != name {
			t.Errorf("peer is %q", got)
		}
	})
}
