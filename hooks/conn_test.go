//go:build linux

package hooks_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func TestErrorsOfAConnection(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2 := pair(ctx, t, "tcp")
		check(t, c1.SetReadDeadline(pastTime))
		_, err := c1.Read(make([]byte, 1))
		wantOp(t, err, "read", "tcp", os.ErrDeadlineExceeded)
		check(t, c1.SetWriteDeadline(pastTime))
		_, err = c1.Write([]byte("x"))
		wantOp(t, err, "write", "tcp", os.ErrDeadlineExceeded)
		opErr := err.(*net.OpError)
		if opErr.Source.String() != c1.LocalAddr().String() || opErr.Addr.String() != c2.LocalAddr().String() {
			t.Errorf("addresses of the error: %v, %v", opErr.Source, opErr.Addr)
		}

		check(t, c1.SetDeadline(time.Time{}))
		check(t, c2.SetLinger(0))
		check(t, c2.Close())
		_, err = c1.Read(make([]byte, 1))
		wantOp(t, err, "read", "tcp", syscall.ECONNRESET)

		check(t, c1.Close())
		wantOp(t, c1.Close(), "close", "tcp", net.ErrClosed)
		wantOp(t, c1.SetDeadline(time.Time{}), "set", "tcp", net.ErrClosed)
		wantOp(t, c1.SetLinger(1), "set", "tcp", net.ErrClosed)
		wantOp(t, c1.SetNoDelay(true), "set", "tcp", net.ErrClosed)
		wantOp(t, c1.CloseWrite(), "close", "tcp", net.ErrClosed)
		wantOp(t, c1.CloseRead(), "close", "tcp", net.ErrClosed)
		wantOp(t, c1.EnableSSL(ctx, nil), "handshake", "tcp", net.ErrClosed)
		_, err = c1.File()
		wantOp(t, err, "file", "tcp", net.ErrClosed)
		_, err = c1.ReadFrom(bytes.NewReader([]byte("x")))
		wantOp(t, err, "write", "tcp", net.ErrClosed)
	})
}

// TLS must not start behind plaintext that nobody has read.
func TestEnableSSLBehindPlaintext(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2 := pair(ctx, t, "tcp")
		_, err := c2.Write([]byte("220 ready\r\n250 injected\r\n"))
		check(t, err)
		_, err = io.ReadFull(c1, make([]byte, 11))
		check(t, err)
		client, _ := configs()
		wantOp(t, c1.EnableSSL(ctx, client), "handshake", "tcp", socket.ErrPlaintextPending)
		_, err = c1.Write([]byte("x"))
		wantOp(t, err, "write", "tcp", net.ErrClosed)
	})
}

// The certificate must be one for the host that was dialled.
func TestEnableSSLVerifiesTheHost(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.2:0")
		check(t, err)
		defer l.Close()
		dialled, err := new(hooks.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		defer dialled.Close()
		accepted, err := l.Accept()
		check(t, err)
		defer accepted.Close()
		client, server := configs()
		wait := beside(ctx, t, func(ctx context.Context) error { return accepted.(*hooks.Conn).EnableSSL(ctx, server) })
		err = dialled.(*hooks.Conn).EnableSSL(ctx, client)
		var hostErr x509.HostnameError
		if !errors.As(err, &hostErr) || hostErr.Host != "127.0.0.2" {
			t.Errorf("error is %v", err)
		}
		wantExplained(t, err, explain.ReasonNameMismatch)
		wantExplained(t, wait(), explain.ReasonCertificateRefused)
	})
}

// wantExplained expects the error of a handshake that says what to do about it.
func wantExplained(t *testing.T, err error, reason explain.Reason) {
	t.Helper()
	var op *net.OpError
	explained, ok := errors.AsType[*explain.HandshakeError](err)
	if !ok || explained.Reason != reason || !errors.As(err, &op) || op.Op != "handshake" {
		t.Errorf("error is %v", err)
	}
}

// Deadlines bound a handshake, as they do with crypto/tls, and so does ctx.
func TestEnableSSLEnds(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, _ := configs()
		c1, _ := pair(ctx, t, "tcp")
		check(t, c1.SetDeadline(time.Now().Add(10*time.Millisecond)))
		wantOp(t, c1.EnableSSL(ctx, client), "handshake", "tcp", os.ErrDeadlineExceeded)

		c1, _ = pair(ctx, t, "tcp")
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		wantOp(t, c1.EnableSSL(short, client), "handshake", "tcp", context.DeadlineExceeded)

		c1, _ = pair(ctx, t, "tcp")
		wait := beside(ctx, t, func(ctx context.Context) error { return c1.EnableSSL(ctx, client) })
		check(t, runtime.Sleep(ctx, 10*time.Millisecond)) // let it wait; the test holds if it doesn't yet
		check(t, c1.Close())
		wantOp(t, wait(), "handshake", "tcp", net.ErrClosed)
	})
}

// It waits for a Read that is under way, and a turn that doesn't come leaves the connection as it
// was.
func TestEnableSSLWaitsForItsTurn(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2 := pair(ctx, t, "tcp")
		var got [5]byte
		wait := beside(ctx, t, func(context.Context) error { _, err := io.ReadFull(c1, got[:]); return err })
		check(t, runtime.Sleep(ctx, 10*time.Millisecond)) // let it wait
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		client, _ := configs()
		wantError(t, "EnableSSL", c1.EnableSSL(short, client), context.DeadlineExceeded)
		_, err := c2.Write([]byte("plain"))
		check(t, err)
		check(t, wait())
		if string(got[:]) != "plain" {
			t.Errorf("got %q", got)
		}
	})
}

func TestEnableSSLTwice(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2, stop, err := secured("")(ctx, t)
		check(t, err)
		defer stop()
		client, _ := configs()
		wantOp(t, c1.(*hooks.Conn).EnableSSL(ctx, client), "handshake", "tcp", socket.ErrSSLActive)
		_, err = c1.Write([]byte("still there"))
		check(t, err)
		_, err = io.ReadFull(c2, make([]byte, 11))
		check(t, err)
		if state, ok := c1.(*hooks.Conn).ConnectionState(); !ok || state.Version != tls.VersionTLS13 {
			t.Errorf("state is %v, %v", state.Version, ok)
		}
	})
}

// A stream that is cut off without close_notify is no end of the stream.
func TestTruncatedTLS(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2, stop, err := secured("")(ctx, t)
		check(t, err)
		defer stop()
		raw, err := c2.(*hooks.Conn).SyscallConn()
		check(t, err)
		check(t, raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) }))
		_, err = c1.Read(make([]byte, 1))
		wantOp(t, err, "read", "tcp", socket.ErrTruncated)
	})
}

// What the raw calls see is the descriptor, and they wait as Read and Write do.
func TestRawReadAndWrite(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2 := pair(ctx, t, "tcp")
		raw1, err := c1.SyscallConn()
		check(t, err)
		raw2, err := c2.SyscallConn()
		check(t, err)
		var got [5]byte
		wait := beside(ctx, t, func(context.Context) error {
			return raw1.Read(func(fd uintptr) bool {
				n, err := unix.Read(int(fd), got[:])
				return n == len(got) || err != unix.EAGAIN
			})
		})
		check(t, runtime.Sleep(ctx, 10*time.Millisecond)) // let it wait
		check(t, raw2.Write(func(fd uintptr) bool { _, err := unix.Write(int(fd), []byte("bytes")); return err != unix.EAGAIN }))
		check(t, wait())
		if string(got[:]) != "bytes" {
			t.Errorf("got %q", got)
		}
		check(t, c1.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		wantOp(t, raw1.Read(func(uintptr) bool { return false }), "raw-read", "tcp", os.ErrDeadlineExceeded)

		secure, _, stop, err := secured("")(ctx, t)
		check(t, err)
		defer stop()
		raw, err := secure.(*hooks.Conn).SyscallConn()
		check(t, err)
		wantOp(t, raw.Write(func(uintptr) bool { return true }), "raw-write", "tcp", syscall.EPROTONOSUPPORT)
	})
}

// A pipe has no offset, and reading it must not hold the loop.
func TestReadFromAPipe(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2 := pair(ctx, t, "tcp")
		r, w, err := os.Pipe()
		check(t, err)
		defer r.Close()
		wait := beside(ctx, t, func(context.Context) error {
			defer c1.Close()
			_, err := c1.ReadFrom(r)
			return err
		})
		check(t, runtime.Sleep(ctx, 10*time.Millisecond)) // a loop that was held would never come back
		_, err = w.WriteString("through a pipe")
		check(t, err)
		check(t, w.Close())
		got, err := io.ReadAll(c2)
		if string(got) != "through a pipe" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		check(t, wait())
	})
}

// Messages of "unixpacket" keep their limits.
func TestUnixPacket(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c1, c2 := pairOf(ctx, t, "unixpacket")
		for _, message := range []string{"first", "and second"} {
			_, err := c1.Write([]byte(message))
			check(t, err)
		}
		check(t, c1.Close())
		buf := make([]byte, 100)
		for _, want := range []string{"first", "and second"} {
			n, err := c2.Read(buf)
			if string(buf[:n]) != want || err != nil {
				t.Errorf("got %q, %v; want %q", buf[:n], err, want)
			}
		}
		if _, err := c2.Read(buf); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

// pairOf is pair for networks with a path.
func pairOf(ctx context.Context, t testing.TB, network string) (c1, c2 *hooks.Conn) {
	t.Helper()
	l, err := hooks.Listen(ctx, network, t.TempDir()+"/s")
	check(t, err)
	defer l.Close()
	dialled, err := new(hooks.Dialer).DialContext(ctx, network, l.Addr().String())
	check(t, err)
	accepted, err := l.Accept()
	check(t, err)
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled.(*hooks.Conn), accepted.(*hooks.Conn)
}

// Who has to wait for its turn gets it in the order of arrival. Coroutines of one loop arrive in a
// certain order.
func TestTurnsAreFair(t *testing.T) {
	guard(t)
	check(t, runtime.Run(func(ctx context.Context) error {
		c1, c2, stop, err := plain("tcp")(ctx, t)
		if err != nil {
			return err
		}
		defer stop()
		var order, got []byte
		var waits []func() error
		for i := range byte(5) {
			waits = append(waits, beside(ctx, t, func(context.Context) error {
				var one [1]byte
				_, err := c1.Read(one[:])
				order, got = append(order, i), append(got, one[0])
				return err
			}))
		}
		for i := range byte(5) {
			if _, err := c2.Write([]byte{'a' + i}); err != nil {
				return err
			}
			if err := waits[i](); err != nil {
				return err
			}
		}
		if string(order) != "\x00\x01\x02\x03\x04" || string(got) != "abcde" {
			t.Errorf("readers %v have got %q", order, got)
		}
		return nil
	}, quiet...))
}
