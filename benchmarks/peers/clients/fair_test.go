//go:build linux

package clients

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
)

// accepting is a server for the time of the test, which greets with one byte.
func accepting(t *testing.T, config *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if config != nil {
					conn = tls.Server(conn, config)
				}
				defer conn.Close()
				if _, err := conn.Write([]byte{'!'}); err == nil {
					conn.Read(make([]byte, 1))
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Who sets more options makes more system calls when it connects.
func TestClientsHaveTheSameSocketOptions(t *testing.T) {
	options := []struct{ level, name int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, {unix.IPPROTO_TCP, unix.TCP_NODELAY},
	}
	address := accepting(t, nil)
	c := &Config{Work: Connect, Addr: address}
	standard, err := newNetClient(c, nil, 0).dial(0)
	if err != nil {
		t.Fatal(err)
	}
	defer standard.Close()
	raw, err := standard.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []int
	err = raw.Control(func(fd uintptr) {
		for _, o := range options {
			value, errOption := unix.GetsockoptInt(int(fd), o.level, o.name)
			theirs, err = append(theirs, value), errors.Join(err, errOption)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	err = runtime.Run(func(ctx context.Context) error {
		ours := client.New(c.whorl())
		defer ours.Abort()
		if err := ours.Connect(ctx, "tcp", address); err != nil {
			return err
		}
		for i, o := range options {
			if value, err := ours.Socket().Option(o.level, o.name); err != nil ||
				value != theirs[i] {
				t.Errorf("option %+v is %d, %v; net has %d", o, value, err, theirs[i])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// No client relies on a chain that it has verified before.
func TestFullHandshakesVerifyTheirChain(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(id.Chain), []byte(id.Key))
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{Work: Full, TLS: true, CA: id.CA, ServerName: identity.Server}
	c.Addr = accepting(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	c.trust()
	err = runtime.Run(func(ctx context.Context) error {
		w := &coroutines{crew: crew{config: c}}
		ours := client.NewDialer(c.whorl()).New()
		for range 3 {
			if err := w.handshake(ctx, ours, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !tlsconfig.NewClient(c.tlsConfig()).For(identity.Server).RootCAs.Equal(c.shared.RootCAs) {
		t.Error("the server's certificate is among what is trusted without being verified")
	}
}
