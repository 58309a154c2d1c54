//go:build linux

package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func TestConnect(t *testing.T) {
	for _, tc := range []struct{ name, network, listen, address string }{
		{"tcp", "tcp", "tcp", "127.0.0.1:0"},
		{"tcp4", "tcp4", "tcp", "127.0.0.1:0"},
		{"tcp6", "tcp6", "tcp", "[::1]:0"},
		{"tcp to IPv6", "tcp", "tcp", "[::1]:0"},
		{"unix", "unix", "unix", ""},
		{"unixpacket", "unixpacket", "unixpacket", ""},
		{"abstract", "unix", "unix", "@whorl-client-test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := tc.address
				if address == "" {
					address = socketPath(t)
				}
				address = serveOn(t, tc.listen, address, func(s *script) {
					s.hear("hello")
					s.say("welcome")
					s.rest()
				})
				c := client.New(client.Config{})
				if c.Connected() || c.LocalAddr() != nil || c.RemoteAddr() != nil || c.Socket() != nil {
					t.Error("connected before Connect")
				}
				check(t, c.Connect(ctx, tc.network, address))
				if !c.Connected() || c.RemoteAddr().String() != address || c.Socket().FD() < 0 {
					t.Errorf("connected is %v, remote address %v, descriptor %d", c.Connected(), c.RemoteAddr(), c.Socket().FD())
				}
				send(ctx, t, c, "hello")
				recv(ctx, t, c, "welcome")
				check(t, c.Close())
				if c.Connected() || c.LocalAddr() != nil || c.RemoteAddr() != nil || c.Socket() != nil {
					t.Error("connected after Close")
				}
			})
		})
	}
}

func TestConnectByName(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		_, port, _ := net.SplitHostPort(serve(t, func(s *script) { s.say("welcome") }))
		// If the name has an IPv6 address too, that one is refused.
		c := connect(ctx, t, client.Config{}, "tcp", "localhost:"+port)
		recv(ctx, t, c, "welcome")
	})
}

func TestConnectTLS(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.secure(serverTLS())
			s.say("welcome")
			s.rest()
		})
		for _, network := range []string{"tls", "tls4"} {
			c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
			recv(ctx, t, c, "welcome")
			if certs := c.PeerCertificates(); len(certs) != 1 || certs[0].DNSNames[0] != "localhost" {
				t.Errorf("peer's certificates: %v", certs)
			}
			check(t, c.Close())
			if c.PeerCertificates() != nil {
				t.Error("there are certificates after Close")
			}
		}
	})
}

// A Client of network "tls" whose handshake fails isn't connected.
func TestConnectTLSFails(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			if s.handshake(s.raw, serverTLS()) == nil {
				s.ok(errors.New("the client trusts nobody, and shook hands"))
			}
		})
		c := client.New(client.Config{})
		err := c.Connect(ctx, "tls", address)
		if h, ok := errors.AsType[*explain.HandshakeError](err); !ok || h.Reason != explain.ReasonUnknownAuthority {
			t.Errorf("error is %v", err)
		}
		if c.Connected() || c.Socket() != nil {
			t.Error("the client is connected")
		}
		_, err = c.Send(ctx, []byte("in the clear"))
		wantError(t, "Send", err, socket.ErrNotConnected)
	})
}

// Whether the server's plaintext is there before the ClientHello is sent or after makes no
// difference.
func TestConnectTLSToPlaintext(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, early := range []bool{true, false} {
			address := serve(t, func(s *script) {
				if !early {
					s.ok(first(s))
				}
				s.say("220 mail.test ESMTP\r\n")
				s.rest()
			})
			err := client.New(client.Config{}).Connect(ctx, "tls", address)
			if h, ok := errors.AsType[*explain.HandshakeError](err); !ok || h.Reason != explain.ReasonPlaintext {
				t.Errorf("early %v: error is %v", early, err)
			}
		}
	})
}

// first waits for the first byte that the client sends.
func first(s *script) error {
	_, err := io.ReadFull(s.Conn, make([]byte, 1))
	return err
}

func TestUDP(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		server, err := net.ListenPacket("udp", "127.0.0.1:0")
		check(t, err)
		defer server.Close()
		server.SetDeadline(time.Now().Add(patience))
		go func() {
			buf := make([]byte, 100)
			for {
				n, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				server.WriteTo(buf[:n], from)
			}
		}()
		c := connect(ctx, t, client.Config{}, "udp", server.LocalAddr().String())
		for _, datagram := range []string{"one", "two"} {
			send(ctx, t, c, datagram)
			recv(ctx, t, c, datagram)
		}
		err = c.EnableSSL(ctx)
		wantError(t, "EnableSSL", err, syscall.ESOCKTNOSUPPORT)
		send(ctx, t, c, "three")
		recv(ctx, t, c, "three")
		check(t, c.Close())
	})
}

func TestConnectErrors(t *testing.T) {
	for _, tc := range []struct {
		name, network, address string
		is                     error
		says                   string
	}{
		{"unknown network", "sctp", "127.0.0.1:1", net.UnknownNetworkError("sctp"), "sctp"},
		{"unknown network over TLS", "tlsx", "127.0.0.1:1", net.UnknownNetworkError("tlsx"), ""},
		{"no port", "tcp", "127.0.0.1", nil, "missing port"},
		{"port 0", "tcp", "127.0.0.1:0", nil, "invalid port"},
		{"port beyond the last", "tcp", "127.0.0.1:65536", nil, "invalid port"},
		{"negative port", "tcp", "127.0.0.1:-1", nil, "invalid port"},
		{"service without a number", "tcp", "127.0.0.1:nosuchservice", nil, "nosuchservice"},
		{"address of the other family", "tcp6", "127.0.0.1:1", nil, "tcp6"},
		{"UDP without a port", "udp", "127.0.0.1", nil, "missing port"},
		{"no such socket", "unix", "/nonexistent/socket", os.ErrNotExist, "/nonexistent/socket"},
		{"path too long", "unix", strings.Repeat("x", 108), socket.ErrPathTooLong, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				c := client.New(client.Config{})
				err := c.Connect(ctx, tc.network, tc.address)
				if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error is %v", err)
				}
				if _, ok := errors.AsType[*net.OpError](err); !ok {
					t.Errorf("error is a %T", err)
				}
				if c.Connected() || c.Socket() != nil {
					t.Error("the client is connected")
				}
			})
		})
	}
}

// refusing returns an address that nobody listens on: a connection has it, so that no other test
// can get it, of another process either.
func refusing(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

func TestConnectAfterFailure(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c := client.New(client.Config{})
		wantError(t, "connect", c.Connect(ctx, "tcp", refusing(t)), syscall.ECONNREFUSED)
		wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrNotConnected)
		check(t, c.Connect(ctx, "tcp", serve(t, func(s *script) { s.say("welcome") })))
		defer c.Close()
		recv(ctx, t, c, "welcome")
	})
}

func TestUseBeforeConnectAndAfterClose(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c := client.New(client.Config{})
		operations := func(want error) {
			t.Helper()
			_, err := c.Send(ctx, []byte("x"))
			wantError(t, "Send", err, want)
			_, err = c.Recv(ctx)
			wantError(t, "Recv", err, want)
			_, err = c.Peek(make([]byte, 1))
			wantError(t, "Peek", err, want)
			_, err = c.SendFile(ctx, "/dev/null", 0, 0)
			wantError(t, "SendFile", err, want)
			wantError(t, "EnableSSL", c.EnableSSL(ctx), want)
			if _, ok := c.ConnectionState(); ok {
				t.Error("there is a TLS state")
			}
		}
		operations(socket.ErrNotConnected)
		wantError(t, "Close", c.Close(), net.ErrClosed)
		address := serve(t, func(s *script) { s.rest() })
		check(t, c.Connect(ctx, "tcp", address))
		check(t, c.Close())
		operations(net.ErrClosed)
		wantError(t, "second Close", c.Close(), net.ErrClosed)
		wantError(t, "Abort after Close", c.Abort(), net.ErrClosed)
		check(t, c.Connect(ctx, "tcp", address))
		check(t, c.Abort())
		operations(net.ErrClosed)
	})
}

func TestConnectTwice(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.say("welcome")
			s.rest()
		})
		c := connect(ctx, t, client.Config{}, "tcp", address)
		wantError(t, "second Connect", c.Connect(ctx, "tcp", address), socket.ErrConnected)
		recv(ctx, t, c, "welcome")
		for range 3 {
			check(t, c.Close())
			check(t, c.Connect(ctx, "tcp", address))
			recv(ctx, t, c, "welcome")
		}
	})
}

func TestInvalidConfig(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.ok(errors.New("somebody connected")) })
		for _, tc := range []struct {
			config client.Config
			says   string
		}{
			{client.Config{EOF: "\n", Split: bufio.ScanLines}, "exclude each other"},
			{client.Config{EOF: "\n", Length: packet.LengthField{Type: 'N'}}, "exclude each other"},
			{client.Config{MaxPacket: -1}, "MaxPacket"},
			{client.Config{EOF: "\r\n", MaxPacket: 1}, "limit"},
			{client.Config{Length: packet.LengthField{Type: 'x'}}, "length type"},
			{client.Config{Length: packet.LengthField{Type: 'N', Offset: -1}}, "negative"},
			{client.Config{Proxy: &client.Proxy{Type: "ftp", Address: "127.0.0.1:1"}}, "socks5 or http"},
			{client.Config{LocalAddress: "mail.example.com:0"}, "IP address"},
			{client.Config{LocalAddress: "[::1]:0"}, "family"},
		} {
			err := client.New(tc.config).Connect(ctx, "tcp4", address)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v: error is %v, want one that says %q", tc.config, err, tc.says)
			}
		}
	})
}

func TestLocalAddress(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.say(s.RemoteAddr().String()) })
		c := connect(ctx, t, client.Config{LocalAddress: "127.0.0.2:0"}, "tcp", address)
		recv(ctx, t, c, c.LocalAddr().String())
		if from := netip.MustParseAddrPort(c.LocalAddr().String()); from.Addr() != netip.MustParseAddr("127.0.0.2") || from.Port() == 0 {
			t.Errorf("connected from %v", from)
		}
	})
}

func TestSocketOptions(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		option := func(c *client.Client, level, name int) int {
			t.Helper()
			value, err := c.Socket().Option(level, name)
			check(t, err)
			return value
		}
		wants := func(c *client.Client, level, name, want int) {
			t.Helper()
			if got := option(c, level, name); got != want {
				t.Errorf("option %d of level %d is %d, want %d", name, level, got, want)
			}
		}
		c := connect(ctx, t, client.Config{}, "tcp", address)
		wants(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		wants(c, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		wants(c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 120)
		wants(c, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 30)
		wants(c, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4)
		c = connect(ctx, t, client.Config{KeepAlive: socket.KeepAlive{Idle: -1}}, "tcp", address)
		wants(c, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		config := client.Config{
			Nagle: true, ReceiveBuffer: 10_000, SendBuffer: 20_000,
			KeepAlive: socket.KeepAlive{Idle: 90 * time.Second, Interval: 1500 * time.Millisecond, Count: 4},
		}
		c = connect(ctx, t, config, "tcp", address)
		for _, want := range []struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 0},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 90},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
			{unix.SOL_SOCKET, unix.SO_RCVBUF, 20_000}, // the kernel doubles them: socket(7)
			{unix.SOL_SOCKET, unix.SO_SNDBUF, 40_000},
		} {
			wants(c, want.level, want.name, want.value)
		}
		// What is TCP's is no obstacle elsewhere.
		connect(ctx, t, config, "unix", serveOn(t, "unix", socketPath(t), func(s *script) { s.rest() }))
	})
}

// Until its handshake is done, a connection with TLS from the start can't be used: it would be in
// plaintext.
func TestNothingIsSentBeforeTLS(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		helloed, goOn := make(chan struct{}), make(chan struct{})
		address := serve(t, func(s *script) {
			hello := new(bytes.Buffer)
			conn := &tapped{Conn: s.raw, onRead: func(p []byte) error {
				if hello.Write(p); hello.Len() == len(p) {
					close(helloed)
					<-goOn
				}
				return nil
			}}
			s.ok(s.handshake(conn, serverTLS()))
			if hello.Bytes()[0] != 22 {
				s.ok(errors.New("the first byte is no handshake record"))
			}
			s.hear("over TLS")
			s.rest()
		})
		c := client.New(client.Config{TLS: trusting()})
		wait := start(ctx, t, func(ctx context.Context) error { return c.Connect(ctx, "tls", address) })
		receive(ctx, t, helloed)
		_, err := c.Send(ctx, []byte("in the clear"))
		wantError(t, "Send", err, socket.ErrNotConnected)
		_, err = c.Recv(ctx)
		wantError(t, "Recv", err, socket.ErrNotConnected)
		if c.Connected() {
			t.Error("connected before the handshake")
		}
		close(goOn)
		check(t, wait())
		send(ctx, t, c, "over TLS")
		if state, ok := c.ConnectionState(); !ok || state.Version != tls.VersionTLS13 || !c.Connected() {
			t.Errorf("TLS is %v, connected %v", ok, c.Connected())
		}
		check(t, c.Close())
	})
}

// The largest MaxPacket costs nothing by itself.
func TestNoLimit(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c := connect(ctx, t, client.Config{EOF: "\n", MaxPacket: math.MaxInt}, "tcp", serve(t, func(s *script) { s.say("line\n") }))
		recv(ctx, t, c, "line\n")
	})
}
