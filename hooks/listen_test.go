//go:build linux

package hooks_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

func TestListenAddresses(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, c := range []struct{ network, address, reach, notFrom string }{
			{"tcp", ":0", "127.0.0.1", ""},
			{"tcp", ":0", "::1", ""},
			{"tcp", "0.0.0.0:0", "::1", ""},
			{"tcp4", ":0", "127.0.0.1", "::1"},
			{"tcp6", ":0", "::1", "127.0.0.1"},
			{"tcp", "127.0.0.1:0", "127.0.0.1", "::1"},
			{"tcp", "[::1]:0", "::1", "127.0.0.1"},
			{"tcp4", "localhost:0", "127.0.0.1", "::1"},
		} {
			l, err := hooks.Listen(ctx, c.network, c.address)
			check(t, err)
			_, port, err := net.SplitHostPort(l.Addr().String())
			check(t, err)
			conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(c.reach, port))
			if err != nil {
				t.Errorf("Listen(%q, %q) is not reached at %s: %v", c.network, c.address, c.reach, err)
			} else {
				conn.Close()
			}
			if c.notFrom != "" {
				if conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(c.notFrom, port)); err == nil {
					conn.Close()
					t.Errorf("Listen(%q, %q) is reached at %s", c.network, c.address, c.notFrom)
				}
			}
			check(t, l.Close())
		}
	})
}

func TestListenErrors(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		for _, c := range []struct {
			network, address string
			want             error
		}{
			{"tcp", l.Addr().String(), syscall.EADDRINUSE},
			{"udp", "127.0.0.1:0", net.UnknownNetworkError("udp")},
			{"ip", "127.0.0.1", net.UnknownNetworkError("ip")},
			{"unix", "/no/such/directory/s", syscall.ENOENT},
			{"unix", strings.Repeat("x", 200), nil},
		} {
			_, err := hooks.Listen(ctx, c.network, c.address)
			wantOp(t, err, "listen", c.network, c.want)
		}
		_, err = hooks.ListenPacket(ctx, "tcp", "127.0.0.1:0")
		wantOp(t, err, "listen", "tcp", net.UnknownNetworkError("tcp"))
		refuse := hooks.ListenConfig{Control: func(string, string, syscall.RawConn) error { return os.ErrPermission }}
		_, err = refuse.Listen(ctx, "tcp", "127.0.0.1:0")
		wantOp(t, err, "listen", "tcp", os.ErrPermission)
	})
}

func TestListenConfig(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		config := hooks.ListenConfig{KeepAlive: 44 * time.Second, Control: func(network, address string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, 2) })
		}}
		l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		dialled, err := new(hooks.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		defer dialled.Close()
		accepted, err := l.Accept()
		check(t, err)
		defer accepted.Close()
		wantOption(t, accepted, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 44)
		raw, err := l.(*hooks.Listener).SyscallConn()
		check(t, err)
		check(t, raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY); got != 2 || err != nil {
				t.Errorf("priority is %d, %v", got, err)
			}
		}))
	})
}

// Deadlines and Close end Accept, also of those who wait for their turn.
func TestAcceptEnds(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		listener := l.(*hooks.Listener)
		accept := func(context.Context) error { _, err := l.Accept(); return err }
		first, second := beside(ctx, t, accept), beside(ctx, t, accept)
		check(t, runtime.Sleep(ctx, 10*time.Millisecond)) // let them wait; the test holds if they don't yet
		check(t, listener.SetDeadline(pastTime))
		wantOp(t, first(), "accept", "tcp", os.ErrDeadlineExceeded)
		wantOp(t, second(), "accept", "tcp", os.ErrDeadlineExceeded)
		check(t, listener.SetDeadline(time.Time{}))
		first, second = beside(ctx, t, accept), beside(ctx, t, accept)
		check(t, runtime.Sleep(ctx, 10*time.Millisecond))
		check(t, l.Close())
		wantOp(t, first(), "accept", "tcp", net.ErrClosed)
		wantOp(t, second(), "accept", "tcp", net.ErrClosed)
		wantOp(t, l.Close(), "close", "tcp", net.ErrClosed)
		if l.Addr() == nil {
			t.Error("no address after Close")
		}
	})
}

func TestUnixListenerRemovesItsPath(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, keep := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "s")
			l, err := hooks.Listen(ctx, "unix", path)
			check(t, err)
			if keep {
				l.(*hooks.Listener).SetUnlinkOnClose(false)
			}
			check(t, l.Close())
			if _, err := os.Stat(path); (err == nil) != keep {
				t.Errorf("keep is %v; after Close: %v", keep, err)
			}
		}
	})
}

// The descriptor's duplicate goes on listening, for another process.
func TestListenerFile(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		file, err := l.(*hooks.Listener).File()
		check(t, err)
		defer file.Close()
		check(t, l.Close())
		again, err := net.FileListener(file)
		check(t, err)
		defer again.Close()
		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", again.Addr().String())
		check(t, err)
		conn.Close()
	})
}
