package socket_test

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// exhaust takes all descriptors that the process may have. free gives some of them back.
func exhaust(t testing.TB) (free func(n int)) {
	t.Helper()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 200, Max: 200}); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		number, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EMFILE {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, number)
	}
	return func(n int) {
		for range min(n, len(taken)) {
			unix.Close(taken[0])
			taken = taken[1:]
		}
	}
}

// A process that has as many descriptors as it may have gets errors, loses nothing, and goes on
// when there are some again.
func TestWithoutDescriptors(t *testing.T) {
	if !childtest.Alone(t) {
		return
	}
	resolves(t, always("127.0.0.2", "127.0.0.3"))
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		at := l.LocalAddr().String()
		var clients []*socket.Socket // with descriptors of their own
		for range 2 * len(callers) {
			s := fresh(t, "tcp")
			if err := s.Bind(ctx, "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			clients = append(clients, s)
		}
		for _, from := range callers {
			from.call(ctx, func(context.Context) {}) // whatever that needs is there
		}
		free := exhaust(t)
		for i, from := range callers {
			var used []int // descriptors
			from.call(ctx, func(ctx context.Context) {
				s := fresh(t, "tcp")
				wantError(t, "Connect", s.Connect(ctx, at), syscall.EMFILE)
				wantError(t, "Connect to several addresses", s.Connect(ctx, "street.test:25"), syscall.EMFILE)
				wantError(t, "Bind", s.Bind(ctx, "127.0.0.1:0"), syscall.EMFILE)
				if s.Connected() {
					t.Error("is connected")
				}
				_, _, err := socket.Pair(ctx, "unix")
				wantError(t, "Pair", err, syscall.EMFILE)
				_, err = fresh(t, "udp").SendTo(ctx, []byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
				wantError(t, "SendTo", err, syscall.EMFILE)

				pair := clients[2*i : 2*i+2]
				for _, client := range pair {
					if err := client.Connect(ctx, at); err != nil {
						t.Error(err)
					}
					used = append(used, client.FD())
				}
				for range 3 { // the connection stays in the backlog
					_, err := l.Accept(ctx)
					wantError(t, "Accept", err, syscall.EMFILE)
				}
				free(2)
				for range pair {
					server, err := l.Accept(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					used = append(used, server.FD())
					defer server.Abort()
					for _, client := range pair {
						if client.LocalAddr().String() == server.RemoteAddr().String() {
							talk(ctx, t, client, server)
						}
					}
				}
				pair[0].Abort()
				pair[1].Abort()
			})
			for _, number := range used {
				until(ctx, func() bool { _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); return err == unix.EBADF })
			}
			before, more := free, exhaust(t)
			free = func(n int) { before(n); more(n) }
		}
		free(1000)
		for _, from := range callers {
			from.call(ctx, func(ctx context.Context) {
				s := fresh(t, "tcp")
				defer s.Abort()
				if err := s.Connect(ctx, at); err != nil {
					t.Error(err)
					return
				}
				server, err := l.Accept(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				talk(ctx, t, s, server)
				server.Abort()
			})
		}
		l.Close()
	}, runtime.WithLoops(2))
}

// When the kernel has no buffers (ENOBUFS) it gives no edge for when it has some again, so there is
// a pause before the next try.
func TestAPauseWhenTheKernelHasNoBuffers(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, from := range callers {
			s, peer := connected(ctx, t, "pair")
			from.call(ctx, func(ctx context.Context) {
				if err := s.WaitNoBuffers(ctx, patience); err != nil { // an edge that was there already may end it
					t.Error(err)
				}
				begun := time.Now()
				if err := s.WaitNoBuffers(ctx, patience); err != nil {
					t.Error(err)
				}
				if pause := time.Since(begun); pause < 10*time.Millisecond {
					t.Errorf("%s: the pause was %v", from.name, pause)
				}
				wantError(t, from.name, s.WaitNoBuffers(ctx, time.Nanosecond), runtime.ErrTimeout)
				done, cancel := context.WithCancel(ctx)
				cancel()
				wantError(t, from.name, s.WaitNoBuffers(done, patience), context.Canceled)
			})
			waits := start(ctx, func(ctx context.Context) {
				wantError(t, "closed meanwhile", s.WaitNoBuffers(ctx, patience), net.ErrClosed)
			})
			s.Close()
			waits.Join(ctx)
			peer.Close()
		}
	}, runtime.WithLoops(2))
}

// Without a runtime, or with one that has ended, there is no loop for a descriptor: it is closed
// again.
func TestWithoutALoop(t *testing.T) {
	rt, err := runtime.New(runtime.WithLogger(zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	l, err := socket.Listen(rt.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.LocalAddr().String()
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := descriptorCount(t)
	for name, ctx := range map[string]context.Context{"no runtime": context.Background(), "ended": rt.Context()} {
		want := error(runtime.ErrShutdown)
		if name == "no runtime" {
			want = runtime.ErrNoRuntime
		}
		wantError(t, name+": Connect", fresh(t, "tcp").Connect(ctx, at), want)
		wantError(t, name+": Bind", fresh(t, "udp").Bind(ctx, "127.0.0.1:0"), want)
		_, _, err := socket.Pair(ctx, "unix")
		wantError(t, name+": Pair", err, want)
		_, err = socket.Listen(ctx, "tcp", "127.0.0.1:0")
		wantError(t, name+": Listen", err, want)
		// The listener has ended with its loop.
		if name == "ended" {
			_, err = l.Accept(ctx)
			wantError(t, name+": Accept", err, want)
		}
	}
	if n := descriptorCount(t); n != before {
		t.Errorf("%d descriptors more are open", n-before)
	}
	l.Abort()
}
