//go:build linux

package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A listener that another has made is adopted, with all that it is.
func TestAdoptAListener(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			first, err := socket.Listen(ctx, network, listenAddress(network))
			if err != nil {
				t.Fatal(err)
			}
			file, err := first.File()
			if err != nil {
				t.Fatal(err)
			}
			if flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 || err != nil {
				t.Errorf("flags %x, %v", flags, err)
			}
			second, err := socket.Adopt(ctx, file)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			file.Close()
			first.Close()
			want := map[string]string{"tcp": "tcp4", "unix": "unix"}[network]
			if !second.Listening() || second.Network() != want {
				t.Error(second.Listening(), second.Network())
			}
			conn, err := net.Dial(network, second.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := second.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write([]byte("hello"))
			buf := make([]byte, 10)
			if n, err := s.Recv(ctx, buf); string(buf[:n]) != "hello" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
			s.Close()
			conn.Close()
		})
	}
}

// Connections and bound sockets for datagrams, IPv6 among them, and their blocking files.
func TestAdoptOthers(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := net.Dial("tcp6", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		file.Fd() // makes it block
		s, err := socket.Adopt(ctx, file)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		file.Close()
		if s.Network() != "tcp6" || s.Listening() || s.RemoteAddr().String() != l.Addr().String() {
			t.Error(s.Network(), s.Listening(), s.RemoteAddr())
		}
		if _, err := inner(s).TryRecvPacket(); err != socket.ErrWouldBlock {
			t.Errorf("it blocks, or: %v", err)
		}
		peer.Write([]byte("hello"))
		buf := make([]byte, 10)
		if n, err := s.Recv(ctx, buf); string(buf[:n]) != "hello" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}

		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer packets.Close()
		udpFile, err := packets.(*net.UDPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		u, err := socket.Adopt(ctx, udpFile)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		udpFile.Close()
		if n, err := u.SendTo(ctx, []byte("to itself"), u.LocalAddr()); n != 9 || err != nil {
			t.Error(n, err)
		}
		if n, from, err := u.RecvFrom(ctx, make([]byte, 100)); n != 9 || from.String() != packets.LocalAddr().String() || err != nil {
			t.Error(n, from, err)
		}
	})
}

func TestAdoptRefusesOtherFiles(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := socket.Adopt(ctx, null); !errors.Is(err, syscall.ENOTSOCK) {
			t.Error(err)
		}
		null.Close()
		if _, err := socket.Adopt(ctx, null); err == nil {
			t.Error("a closed file was adopted")
		}
		raw, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(raw), "netlink")
		defer file.Close()
		if _, err := socket.Adopt(ctx, file); !errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Error(err)
		}
	})
}

// What one loop accepts another begins, or it is dropped.
func TestAcceptForAnotherLoop(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := inner(l).TryAccept(); !errors.Is(err, socket.ErrWouldBlock) {
			t.Error(err)
		}
		for _, loop := range sched.Current(ctx).Runtime().Loops() {
			conn, err := net.Dial("tcp", l.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			in, err := inner(l).AcceptIncoming(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if in.Remote.String() != conn.LocalAddr().String() {
				t.Error(in.Remote)
			}
			over := runtime.NewChannel[bool](1)
			loop.Post(func() {
				s := new(socket.Socket)
				if err := inner(s).Begin(ctx, in); err != nil {
					t.Error(err)
				}
				if !inner(s).OnLoop() || s.Loop() != loop {
					t.Error("on another loop")
				}
				inner(s).Queue([]byte("hello"), 100)
				s.Close()
				over.Push(ctx, true)
			})
			await(ctx, func() {
				if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
			over.Pop(ctx)
			conn.Close()
		}
		conn, err := net.Dial("tcp", l.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var in house.Incoming
		until(ctx, func() bool { in, err = inner(l).TryAccept(); return err == nil })
		in.Drop()
		await(ctx, func() {
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Error(n, err)
			}
		})
	})
}

// Two sockets share a port if both say so.
func TestReusePort(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		bind := func(address string, shared bool) (*socket.Socket, error) {
			s, err := socket.New("tcp")
			if err != nil {
				t.Fatal(err)
			}
			if shared {
				if err := s.SetReusePort(true); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Bind(ctx, address); err != nil {
				return nil, err
			}
			return s, s.Listen(0)
		}
		first, err := bind("127.0.0.1:0", true)
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		second, err := bind(first.LocalAddr().String(), true)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if _, err := bind(first.LocalAddr().String(), false); !errors.Is(err, syscall.EADDRINUSE) {
			t.Error(err)
		}
	})
}
