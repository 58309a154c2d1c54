//go:build linux

package hooks_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

func TestDatagrams(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, network := range []string{"udp", "udp4", "unixgram"} {
			address := func(name string) string {
				if network == "unixgram" {
					return filepath.Join(t.TempDir(), name)
				}
				return "127.0.0.1:0"
			}
			one, err := hooks.ListenPacket(ctx, network, address("one"))
			check(t, err)
			defer one.Close()
			two, err := hooks.ListenPacket(ctx, network, address("two"))
			check(t, err)
			defer two.Close()
			wait := beside(ctx, t, func(context.Context) error {
				buf := make([]byte, 100)
				n, from, err := two.ReadFrom(buf)
				if err != nil {
					return err
				}
				_, err = two.WriteTo(append([]byte("re: "), buf[:n]...), from)
				return err
			})
			_, err = one.WriteTo([]byte("hello"), two.LocalAddr())
			check(t, err)
			buf := make([]byte, 100)
			n, from, err := one.ReadFrom(buf)
			if string(buf[:n]) != "re: hello" || err != nil || from.String() != two.LocalAddr().String() {
				t.Errorf("%s: got %q from %v, %v", network, buf[:n], from, err)
			}
			check(t, wait())
		}
	})
}

func TestConnectedDatagrams(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		server, err := hooks.ListenPacket(ctx, "udp", "127.0.0.1:0")
		check(t, err)
		defer server.Close()
		conn, err := new(hooks.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
		check(t, err)
		defer conn.Close()
		for _, message := range []string{"one", "", "three"} {
			_, err := conn.Write([]byte(message))
			check(t, err)
			buf := make([]byte, 100)
			n, from, err := server.ReadFrom(buf)
			if string(buf[:n]) != message || err != nil || from.String() != conn.LocalAddr().String() {
				t.Errorf("got %q from %v, %v; want %q", buf[:n], from, err, message)
			}
			_, err = server.WriteTo(buf[:n], from)
			check(t, err)
			if n, err = conn.Read(buf); string(buf[:n]) != message || err != nil {
				t.Errorf("got %q, %v; want %q", buf[:n], err, message)
			}
		}
		_, err = conn.(net.PacketConn).WriteTo([]byte("x"), server.LocalAddr())
		wantOp(t, err, "write", "udp", net.ErrWriteToConnected)
	})
}

func TestDatagramDeadlinesAndClose(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		conn, err := hooks.ListenPacket(ctx, "udp", "127.0.0.1:0")
		check(t, err)
		read := func(context.Context) error { _, _, err := conn.ReadFrom(make([]byte, 10)); return err }
		wait := beside(ctx, t, read)
		check(t, runtime.Sleep(ctx, 10*time.Millisecond)) // let it wait; the test holds if it doesn't yet
		check(t, conn.SetReadDeadline(pastTime))
		wantOp(t, wait(), "read", "udp", os.ErrDeadlineExceeded)
		check(t, conn.SetReadDeadline(time.Time{}))
		wait = beside(ctx, t, read)
		check(t, runtime.Sleep(ctx, 10*time.Millisecond))
		check(t, conn.Close())
		wantOp(t, wait(), "read", "udp", net.ErrClosed)
		_, err = conn.WriteTo([]byte("x"), conn.LocalAddr())
		wantOp(t, err, "write", "udp", net.ErrClosed)
	})
}
