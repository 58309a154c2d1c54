//go:build unix

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t testing.TB, main func(ctx context.Context), options ...runtime.Option) {
	t.Helper()
	if err := runtime.Run(func(ctx context.Context) error { main(ctx); return nil }, options...); err != nil {
		t.Fatal(err)
	}
}

func TestSmoke(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca, err := devca.New("test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		c.Write(buf[:n])
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		io.Copy(tc, tc)
		tc.Close()
	}()
	run(t, func(ctx context.Context) {
		s, err := socket.New("tcp")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(ctx, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		f, _ := packet.NewEOF("\r\n", 1000)
		s.SetProtocol(f)
		if _, err := s.SendSoon(ctx, []byte("hello\r\n")); err != nil {
			t.Fatal(err)
		}
		p, err := s.RecvPacket(ctx)
		if string(p) != "hello\r\n" || err != nil {
			t.Fatal(string(p), err)
		}
		if err := s.SSLHandshake(ctx, &tls.Config{ServerName: "mail.test", RootCAs: ca.Pool()}); err != nil {
			t.Fatal(err)
		}
		big := make([]byte, 1<<20)
		go func() {
			if _, err := s.SendAll(ctx, big); err != nil {
				t.Error(err)
			}
		}()
		if n, err := s.RecvAll(ctx, make([]byte, 1<<20)); n != 1<<20 || err != nil {
			t.Fatal(n, err)
		}
		s.SendSoon(ctx, []byte("over tls\r\n"))
		p, err = s.RecvPacket(ctx)
		if string(p) != "over tls\r\n" || err != nil {
			t.Fatal(string(p), err)
		}
		st, _ := s.ConnectionState()
		t.Log(tlsconfig.Describe(st))
		s.Shutdown(ctx, socket.ShutdownWrite)
		_, err = s.RecvPacket(ctx)
		if err != io.EOF {
			t.Fatal(err)
		}
		s.Close()
		if _, err := s.Recv(ctx, big); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		s, _ = socket.New("tcp")
		s.SetTimeouts(socket.Timeouts{Connect: 5 * time.Second})
		t.Log(s.Connect(ctx, "localhost:1"))
		t.Log(s.Connect(ctx, "nosuch.invalid:1"))
	})
}

// inner returns what the module's packages may do with s.
func inner(s *socket.Socket) house.Socket { return socket.House(s, house.Key{}) }
