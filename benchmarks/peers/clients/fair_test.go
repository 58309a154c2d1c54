//go:build linux

package clients

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
)

// accepting is a server for the time of the test, which says nothing.
func accepting(t *testing.T) string {
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
				defer conn.Close()
				conn.Read(make([]byte, 1))
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
	address := accepting(t)
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
