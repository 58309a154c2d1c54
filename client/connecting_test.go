//go:build linux

package client_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// deaf returns an address that answers nobody: a listener whose queue is full drops what comes.
func deaf(t testing.TB) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(t, unix.Listen(fd, 0))
	local, err := unix.Getsockname(fd)
	check(t, err)
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(local.(*unix.SockaddrInet4).Port)).String()
	filler, err := net.Dial("tcp", address)
	check(t, err)
	t.Cleanup(func() { filler.Close() })
	return address
}

func TestConnectTimeout(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := deaf(t)
		for _, network := range []string{"tcp", "tls"} {
			c := client.New(client.Config{ConnectTimeout: soon})
			begin := time.Now()
			err := c.Connect(ctx, network, address)
			wantError(t, network, err, runtime.ErrTimeout)
			if took := time.Since(begin); took < soon {
				t.Errorf("%s: time was up after %v", network, took)
			}
			if socket.Code(err) != int(syscall.ETIMEDOUT) || !strings.Contains(err.Error(), address) {
				t.Errorf("%s: code %d, error %v", network, socket.Code(err), err)
			}
		}
		withDeadline, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		err := client.New(client.Config{ConnectTimeout: -1}).Connect(withDeadline, "tcp", address)
		wantError(t, "deadline of the context", err, context.DeadlineExceeded)
	})
}

func TestCancelConnect(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := deaf(t)
		c := client.New(client.Config{})
		cancelable, cancel := context.WithCancel(ctx)
		defer cancel()
		wait := start(ctx, t, func(context.Context) error { return c.Connect(cancelable, "tcp", address) })
		connecting(ctx, t, c, address)
		cancel()
		wantError(t, "Connect", wait(), context.Canceled)
		if c.Connected() || c.Socket() != nil {
			t.Error("the client is connected")
		}
	})
}

// While one caller connects there is nothing to use yet, and nothing to connect.
func TestUseWhileConnecting(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := deaf(t)
		c := client.New(client.Config{})
		wait := start(ctx, t, func(ctx context.Context) error { return c.Connect(ctx, "tcp", address) })
		connecting(ctx, t, c, address)
		wantError(t, "Connect", c.Connect(ctx, "tcp", address), socket.ErrConnected)
		_, err := c.Recv(ctx)
		wantError(t, "Recv", err, socket.ErrNotConnected)
		_, err = c.Send(ctx, []byte("x"))
		wantError(t, "Send", err, socket.ErrNotConnected)
		wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrNotConnected)
		check(t, c.Close())
		wantError(t, "Connect during Close", wait(), net.ErrClosed)
		wantError(t, "second Close", c.Close(), net.ErrClosed)
	})
}

// connecting waits until the client has sent a SYN.
func connecting(ctx context.Context, t testing.TB, c *client.Client, address string) {
	t.Helper()
	port := netip.MustParseAddrPort(address).Port()
	eventually(ctx, t, "a connection is being made", func() bool {
		return !c.Connected() && c.Socket() != nil && synSent(t, port)
	})
}

// synSent reports whether the kernel has a socket that waits for the answer to its SYN to the port.
func synSent(t testing.TB, port uint16) bool {
	const state, remote = 3, 2 // columns of /proc/net/tcp
	table, err := os.ReadFile("/proc/net/tcp")
	check(t, err)
	for line := range strings.Lines(string(table)) {
		columns := strings.Fields(line)
		if columns[state] == "02" && strings.HasSuffix(columns[remote], fmt.Sprintf(":%04X", port)) {
			return true
		}
	}
	return false
}
