//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
)

// pair returns two connected ends, which are closed when the test ends.
func pair(ctx context.Context, t testing.TB, network string) (c1, c2 *hooks.Conn) {
	t.Helper()
	a, b, stop, err := plain(network)(ctx, t)
	check(t, err)
	t.Cleanup(stop)
	return a.(*hooks.Conn), b.(*hooks.Conn)
}

// wantOp wants an error in the form of package net's.
func wantOp(t testing.TB, err error, op, network string, want error) {
	t.Helper()
	opErr, ok := err.(*net.OpError)
	if !ok || opErr.Op != op || opErr.Net != network || want != nil && !errors.Is(err, want) {
		t.Errorf("error is %v (%T), want one of %s %s that is %v", err, err, op, network, want)
	}
}

func TestDialErrors(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		address := l.Addr().String()
		check(t, l.Close())
		done, cancel := context.WithCancel(ctx)
		cancel()
		for _, c := range []struct {
			what             string
			ctx              context.Context
			dialer           hooks.Dialer
			network, address string
			want             error
			timeout          bool
		}{
			{"nobody listens", ctx, hooks.Dialer{}, "tcp", address, syscall.ECONNREFUSED, false},
			{"no such path", ctx, hooks.Dialer{}, "unix", "/no/such/socket", syscall.ENOENT, false},
			{"unknown network", ctx, hooks.Dialer{}, "tcp5", address, net.UnknownNetworkError("tcp5"), false},
			{"deadline has passed", ctx, hooks.Dialer{Deadline: pastTime}, "tcp", address, os.ErrDeadlineExceeded, true},
			{"context is done", done, hooks.Dialer{}, "tcp", "127.0.0.1:1", nil, false},
			{"local address of another network", ctx, hooks.Dialer{LocalAddr: new(net.UDPAddr)}, "tcp", address, nil, false},
			{"control refuses", ctx, hooks.Dialer{Control: func(string, string, syscall.RawConn) error { return os.ErrPermission }}, "tcp", address, os.ErrPermission, false},
		} {
			conn, err := c.dialer.DialContext(c.ctx, c.network, c.address)
			if conn != nil || err == nil {
				t.Errorf("%s: got %v, %v", c.what, conn, err)
				continue
			}
			wantOp(t, err, "dial", c.network, c.want)
			if got := err.(net.Error).Timeout(); got != c.timeout {
				t.Errorf("%s: Timeout is %v", c.what, got)
			}
		}
	})
}

// A listener whose backlog is full answers nobody.
func TestDialTimeout(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := (&hooks.ListenConfig{Backlog: 1}).Listen(ctx, "unix", filepath.Join(t.TempDir(), "full"))
		check(t, err)
		defer l.Close()
		dialer := hooks.Dialer{Timeout: 50 * time.Millisecond}
		for range 10 {
			var conn net.Conn
			if conn, err = dialer.DialContext(ctx, "unix", l.Addr().String()); err != nil {
				break
			}
			defer conn.Close()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.EAGAIN) { // which is what a Unix socket says
			t.Errorf("error is %v", err)
		}
	})
}

func TestDialOptions(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp4", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		var controlled []string
		dialer := hooks.Dialer{
			LocalAddr:       &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)},
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 33 * time.Second, Interval: -1, Count: 5},
			Control: func(network, address string, c syscall.RawConn) error {
				controlled = append(controlled, network, address)
				return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, 3) })
			},
		}
		conn, err := dialer.DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		defer conn.Close()
		if ip := conn.LocalAddr().(*net.TCPAddr).IP.String(); ip != "127.0.0.2" {
			t.Errorf("dialled from %s", ip)
		}
		if len(controlled) != 2 || controlled[0] != "tcp4" || controlled[1] != l.Addr().String() {
			t.Errorf("Control got %q", controlled)
		}
		wantOption(t, conn, unix.SOL_SOCKET, unix.SO_PRIORITY, 3)
		wantOption(t, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		wantOption(t, conn, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 33)
		wantOption(t, conn, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 5)

		accepted, err := l.Accept()
		check(t, err)
		defer accepted.Close()
		wantOption(t, accepted, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		wantOption(t, accepted, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
		check(t, accepted.(*hooks.Conn).SetKeepAlive(false))
		wantOption(t, accepted, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		check(t, accepted.(*hooks.Conn).SetNoDelay(false))
		wantOption(t, accepted, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0)

		quiet, err := (&hooks.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		defer quiet.Close()
		wantOption(t, quiet, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	})
}

func wantOption(t testing.TB, conn net.Conn, level, name, want int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), level, name); got != want || err != nil {
			t.Errorf("option %d/%d is %d, %v; want %d", level, name, got, err, want)
		}
	}))
}

// A name with addresses of both families, of which one answers.
func TestDialByName(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "localhost:0")
		check(t, err)
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		check(t, err)
		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("localhost", port))
		check(t, err)
		check(t, conn.Close())
	})
}

// Which runtime a connection belongs to: the caller's, the context's, the Dialer's, the only one,
// the default one.
func TestWhoseRuntime(t *testing.T) {
	guard(t)
	accept, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer accept.Close()
	dial := func(ctx context.Context, d *hooks.Dialer) {
		conn, err := d.DialContext(ctx, "tcp", accept.Addr().String())
		check(t, err)
		conn.Close()
	}
	fallback, err := hooks.Default()
	check(t, err)
	if again, err := hooks.Default(); again != fallback || err != nil {
		t.Errorf("Default returned another runtime, %v", err)
	}
	shutdown(t, fallback)
	dial(t.Context(), new(hooks.Dialer)) // none runs: the default one is started anew
	next, err := hooks.Default()
	check(t, err)
	if next == fallback {
		t.Error("a runtime that was shut down was used again")
	}
	shutdown(t, next)
	check(t, runtime.Run(func(ctx context.Context) error {
		dial(context.Background(), new(hooks.Dialer))
		return nil
	}, quiet...))

	rt, err := runtime.New(quiet...)
	check(t, err)
	check(t, rt.Start())
	dial(t.Context(), &hooks.Dialer{Runtime: rt})
	dial(rt.Context(), new(hooks.Dialer))
	dial(t.Context(), new(hooks.Dialer)) // the only one
	shutdown(t, rt)
	if _, err := (&hooks.Dialer{Runtime: rt}).Dial("tcp", accept.Addr().String()); err == nil {
		t.Error("dialled on a runtime that was shut down")
	}
}

// The end of the runtime ends all waiting, and the connection can still be closed. Who waits on a
// goroutine may see the end of its wait and the closed connection in either order, and is told the
// same.
func TestRuntimeEndsUnderAConnection(t *testing.T) {
	guard(t)
	for range 30 {
		runtimeEndsUnderAConnection(t)
	}
}

func runtimeEndsUnderAConnection(t *testing.T) {
	rt, err := runtime.New(quiet...)
	check(t, err)
	check(t, rt.Start())
	c1, c2, stop, err := plain("tcp")(rt.Context(), t)
	check(t, err)
	defer stop()
	l, err := hooks.Listen(rt.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	s1, s2, err := stream.SocketPair(rt.Context(), "unix")
	check(t, err)
	defer s1.Close()
	defer s2.Close()
	waits := map[string]func([]byte) (int, error){
		"a Read":                     c1.Read,
		"the other end's":            c2.Read,
		"an Accept":                  func([]byte) (int, error) { _, err := l.Accept(); return 0, err },
		"a stream's, by the runtime": func(p []byte) (int, error) { return s1.Read(rt.Context(), p) },
		"a stream's, by no context":  func(p []byte) (int, error) { return s2.Read(context.Background(), p) },
	}
	type result struct {
		what string
		err  error
	}
	ended := make(chan result, len(waits))
	for what, wait := range waits {
		go func() {
			_, err := wait(make([]byte, 10))
			ended <- result{what, err}
		}()
	}
	shutdown(t, rt)
	for range waits {
		r := <-ended
		wantError(t, r.what, r.err, runtime.ErrShutdown)
	}
	check(t, l.Close())
	_, err = c1.Read(make([]byte, 10))
	wantError(t, "Read afterwards", err, runtime.ErrShutdown)
	if err == io.EOF {
		t.Error("the end of the runtime looks like the end of the stream")
	}
	check(t, c1.Close())
	_, err = c1.Read(make([]byte, 10))
	if err == nil {
		t.Error("read from a closed connection")
	}
}
