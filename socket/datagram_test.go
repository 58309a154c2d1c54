//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// bound makes a datagram Socket that is bound to an address, which the kernel chooses for UDP.
func bound(ctx context.Context, t testing.TB, network string) *socket.Socket {
	t.Helper()
	s, err := socket.New(network)
	if err != nil {
		t.Fatal(err)
	}
	address := map[string]string{"udp": "127.0.0.1:0", "udp4": "127.0.0.1:0", "udp6": "[::1]:0", "unixgram": unixName()}[network]
	if err := s.Bind(ctx, address); err != nil {
		t.Fatal(err)
	}
	return s
}

var datagramNetworks = []string{"udp", "udp4", "udp6", "unixgram"}

func eachDatagram(t *testing.T, networks []string, test func(ctx context.Context, t *testing.T, network string)) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) { test(ctx, t, network) })
		})
	}
}

func TestSendToAndRecvFrom(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		a, b := bound(ctx, t, network), bound(ctx, t, network)
		defer a.Close()
		defer b.Close()
		buf := make([]byte, 100)
		for _, way := range []struct{ from, to *socket.Socket }{{a, b}, {b, a}, {a, a}} {
			for _, message := range []string{"one", "two", ""} {
				if n, err := way.from.SendTo(ctx, []byte(message), way.to.LocalAddr()); n != len(message) || err != nil {
					t.Error(n, err)
				}
			}
			for _, message := range []string{"one", "two", ""} {
				n, from, err := way.to.RecvFrom(ctx, buf)
				if string(buf[:n]) != message || err != nil || from.String() != way.from.LocalAddr().String() || from.Network() != way.from.LocalAddr().Network() {
					t.Errorf("%q from %v, %v; want %q from %v", buf[:n], from, err, message, way.from.LocalAddr())
				}
			}
		}
	})
}

// A sender that has no address of its own yet gets one by sending, but for Unix ones, which stay
// without.
func TestSendToFromAnUnboundSocket(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		s := bound(ctx, t, network)
		defer s.Close()
		unbound, _ := socket.New(network)
		defer unbound.Close()
		buf := make([]byte, 100)
		if _, _, err := unbound.RecvFrom(ctx, buf); !errors.Is(err, socket.ErrNotConnected) {
			t.Error(err)
		}
		unbound.SendTo(ctx, []byte("hello"), s.LocalAddr())
		n, from, err := s.RecvFrom(ctx, buf)
		if string(buf[:n]) != "hello" || err != nil {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if network == "unixgram" {
			if a, ok := from.(*net.UnixAddr); !ok || a.Name != "" || a.Net != "unixgram" {
				t.Errorf("from %#v", from)
			}
			return
		}
		if _, err := s.SendTo(ctx, []byte("answer"), from); err != nil {
			t.Error(err)
		}
		if n, _, err := unbound.RecvFrom(ctx, buf); string(buf[:n]) != "answer" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

// A connected socket sends and receives without addresses, and hears only its peer.
func TestConnectedDatagrams(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		server, client, stranger := bound(ctx, t, network), bound(ctx, t, network), bound(ctx, t, network)
		defer server.Close()
		defer client.Close()
		defer stranger.Close()
		if err := client.Connect(ctx, server.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		if client.RemoteAddr().String() != server.LocalAddr().String() {
			t.Error(client.RemoteAddr())
		}
		stranger.SendTo(ctx, []byte("from a stranger"), client.LocalAddr())
		if n, err := client.Send(ctx, []byte("hello")); n != 5 || err != nil {
			t.Error(n, err)
		}
		buf := make([]byte, 100)
		n, from, err := server.RecvFrom(ctx, buf)
		if string(buf[:n]) != "hello" || err != nil {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		server.SendTo(ctx, []byte("answer"), from)
		if n, err := client.Recv(ctx, buf); string(buf[:n]) != "answer" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

// An empty datagram is a datagram, not the end.
func TestEmptyDatagrams(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		server, client := bound(ctx, t, network), bound(ctx, t, network)
		defer server.Close()
		defer client.Close()
		if err := client.Connect(ctx, server.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		for name, send := range map[string]func() (int, error){
			"Send":     func() (int, error) { return client.Send(ctx, nil) },
			"SendAll":  func() (int, error) { return client.SendAll(ctx, []byte{}) },
			"SendSoon": func() (int, error) { return client.SendSoon(ctx, nil) },
			"SendTo":   func() (int, error) { return client.SendTo(ctx, nil, server.LocalAddr()) },
		} {
			if network == "unixgram" && name == "SendTo" {
				continue // EISCONN
			}
			for receiver, receive := range map[string]func() (int, error){
				"Recv":       func() (int, error) { return server.Recv(ctx, buf) },
				"RecvFrom":   func() (int, error) { n, _, err := server.RecvFrom(ctx, buf); return n, err },
				"ReadVector": func() (int, error) { return server.ReadVector(ctx, [][]byte{buf}) },
			} {
				if n, err := send(); n != 0 || err != nil {
					t.Errorf("%s: %d, %v", name, n, err)
				}
				client.Send(ctx, []byte("behind it"))
				if n, err := receive(); n != 0 || err != nil {
					t.Errorf("%s, %s: %d, %v", name, receiver, n, err)
				}
				if n, err := receive(); string(buf[:n]) != "behind it" || err != nil {
					t.Errorf("%s, %s: %q, %v", name, receiver, buf[:n], err)
				}
			}
		}
		client.Send(ctx, nil)
		if n, err := server.Peek(buf); n != 0 || err != nil {
			t.Error(n, err)
		}
		if !server.Alive() {
			t.Error("not alive, behind an empty datagram")
		}
	})
}

// What doesn't fit is lost, and only that. RecvPacket has room for the largest of UDP.
func TestDatagramsThatDoNotFit(t *testing.T) {
	eachDatagram(t, []string{"udp4", "udp6", "unixgram"}, func(ctx context.Context, t *testing.T, network string) {
		s, peer := bound(ctx, t, network), bound(ctx, t, network)
		defer s.Close()
		defer peer.Close()
		buf := make([]byte, 4)
		for range 2 {
			peer.SendTo(ctx, []byte("much too long"), s.LocalAddr())
			peer.SendTo(ctx, []byte("next"), s.LocalAddr())
			for _, want := range []string{"much", "next"} {
				if n, _, err := s.RecvFrom(ctx, buf); string(buf[:n]) != want || err != nil {
					t.Errorf("%q, %v; want %q", buf[:n], err, want)
				}
			}
		}
		peer.SendTo(ctx, []byte("much too long"), s.LocalAddr())
		if n, err := s.Recv(ctx, buf); string(buf[:n]) != "much" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
		for _, size := range []int{1, 60_000, 5_000, 10} {
			if _, err := peer.SendTo(ctx, pattern(size), s.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			if p, err := s.RecvPacket(ctx); !bytes.Equal(p, pattern(size)) || err != nil {
				t.Errorf("packet of %d bytes: %d, %v", size, len(p), err)
			}
		}
	})
}

func TestDatagramThatIsTooLarge(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		s, peer := bound(ctx, t, network), bound(ctx, t, network)
		defer s.Close()
		defer peer.Close()
		if n, err := s.SendTo(ctx, pattern(8<<20), peer.LocalAddr()); n != 0 || !errors.Is(err, syscall.EMSGSIZE) || socket.Code(err) != int(syscall.EMSGSIZE) {
			t.Error(n, err)
		}
		s.Connect(ctx, peer.LocalAddr().String())
		if n, err := s.Send(ctx, pattern(8<<20)); n != 0 || !errors.Is(err, syscall.EMSGSIZE) {
			t.Error(n, err)
		}
	})
}

func TestPeekAtDatagrams(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		s, peer := bound(ctx, t, network), bound(ctx, t, network)
		defer s.Close()
		defer peer.Close()
		buf := make([]byte, 3)
		if _, err := s.Peek(buf); !errors.Is(err, socket.ErrWouldBlock) {
			t.Error(err)
		}
		peer.SendTo(ctx, []byte("first"), s.LocalAddr())
		peer.SendTo(ctx, []byte("second"), s.LocalAddr())
		for range 2 {
			if n, err := s.Peek(buf); string(buf[:n]) != "fir" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
		buf = make([]byte, 100)
		for _, want := range []string{"first", "second"} {
			if n, _, err := s.RecvFrom(ctx, buf); string(buf[:n]) != want || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
	})
}

// A connected UDP socket is told that nobody listens at the other port.
func TestDatagramsToAClosedPort(t *testing.T) {
	eachDatagram(t, []string{"udp4", "udp6"}, func(ctx context.Context, t *testing.T, network string) {
		s, gone := bound(ctx, t, network), bound(ctx, t, network)
		defer s.Close()
		if err := s.Connect(ctx, gone.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		gone.Close()
		if _, err := s.Send(ctx, []byte("hello")); err != nil {
			t.Error(err)
		}
		if n, err := s.Recv(ctx, make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(n, err)
		}
		s.Send(ctx, []byte("hello"))
		if _, _, err := s.RecvFrom(ctx, make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	})
}

func TestSendToTheWrongAddress(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		udp4, udp6 := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, &net.UDPAddr{IP: net.IPv6loopback, Port: 9}
		onUnix, onTCP := &net.UnixAddr{Name: "@nobody", Net: "unixgram"}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
		for _, c := range []struct {
			network string
			to      net.Addr
			want    error
		}{
			{"udp4", udp6, syscall.EAFNOSUPPORT}, {"udp4", onUnix, syscall.EAFNOSUPPORT}, {"udp4", onTCP, syscall.EAFNOSUPPORT}, {"udp", nil, syscall.EAFNOSUPPORT},
			{"unixgram", udp4, syscall.EAFNOSUPPORT}, {"unixgram", onUnix, syscall.ECONNREFUSED}, {"udp6", udp4, syscall.ENETUNREACH},
			{"unixgram", &net.UnixAddr{Name: "/nowhere/at/all", Net: "unixgram"}, syscall.ENOENT},
			{"unixgram", &net.UnixAddr{Name: "/" + string(make([]byte, 120)), Net: "unixgram"}, socket.ErrPathTooLong},
			{"tcp", udp4, syscall.EPROTONOSUPPORT}, {"unix", onUnix, syscall.EPROTONOSUPPORT}, {"unixpacket", onUnix, syscall.EPROTONOSUPPORT},
		} {
			s, err := socket.New(c.network)
			if err != nil {
				t.Fatal(err)
			}
			if c.network == "udp6" {
				s.Bind(ctx, "[::1]:0")
			}
			if n, err := s.SendTo(ctx, []byte("hello"), c.to); n != 0 || !errors.Is(err, c.want) {
				t.Errorf("%s to %v: %v, want %v", c.network, c.to, err, c.want)
			}
			s.Close()
		}
	})
}

// RecvFrom waits as all that receives does, and nothing of it works on streams, which may have
// bytes read ahead, or encrypted ones.
func TestRecvFromIsEnded(t *testing.T) {
	eachDatagram(t, datagramNetworks, func(ctx context.Context, t *testing.T, network string) {
		s := bound(ctx, t, network)
		s.SetTimeouts(socket.Timeouts{Read: time.Millisecond})
		buf := make([]byte, 10)
		if _, _, err := s.RecvFrom(ctx, buf); !errors.Is(err, runtime.ErrTimeout) {
			t.Error(err)
		}
		s.SetTimeouts(socket.Timeouts{})
		for _, c := range []struct {
			end  func(cancel context.CancelFunc)
			want error
		}{
			{func(cancel context.CancelFunc) { cancel() }, context.Canceled},
			{func(context.CancelFunc) { s.Cancel(socket.ReadEvent) }, socket.ErrCanceled},
			{func(context.CancelFunc) { s.Close() }, net.ErrClosed},
		} {
			receiving, cancel := context.WithCancel(ctx)
			co, _ := runtime.Go(ctx, func(context.Context) {
				if _, _, err := s.RecvFrom(receiving, buf); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
			c.end(cancel)
			co.Join(ctx)
			cancel()
		}
	})
}

func TestRecvFromOfAStream(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.send("some line\nand more")
		s.line(100)
		if n, _, err := s.RecvFrom(s.ctx, make([]byte, 10)); n != 0 || !errors.Is(err, syscall.EPROTONOSUPPORT) {
			t.Error(n, err)
		}
		check(s, "and more", nil)(s.recv(100))
	})
}
