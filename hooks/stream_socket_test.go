//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func TestServersOfAllTransports(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		dir := t.TempDir()
		for _, c := range []struct {
			listen, connect string // "" is what the server says
			secure          bool
		}{
			{listen: "tcp://127.0.0.1:0"},
			{listen: "127.0.0.1:0", connect: "tcp"},
			{listen: "tcp://[::1]:0"},
			{listen: "tcp://localhost:0"},
			{listen: "unix://" + dir + "/plain", connect: "unix://" + dir + "/plain"},
			{listen: "unix://\x00" + dir, connect: "unix://@" + dir},
			{listen: "tls://127.0.0.1:0", secure: true},
			{listen: "ssl://[::1]:0", secure: true},
			{listen: "tlsv1.2://127.0.0.1:0", secure: true},
			{listen: "tlsv1.3://127.0.0.1:0", secure: true},
		} {
			var options, serverOptions []hooks.StreamOption
			if c.secure {
				options, serverOptions = []hooks.StreamOption{clientSSL(t)}, []hooks.StreamOption{serverSSL(t)}
			}
			listener := streamServer(ctx, t, c.listen, serverOptions...)
			url := c.connect
			if transport, _, _ := strings.Cut(c.listen, "://"); url == "" {
				url = transport + "://" + listener.GetName(false)
			} else if url == "tcp" {
				url = listener.GetName(false)
			}
			client, err := hooks.StreamSocketClient(ctx, url, append(options, hooks.WithAsyncConnect())...)
			check(t, err)
			server, err := hooks.StreamSocketAccept(ctx, listener, patience)
			check(t, err)
			write(ctx, t, client, "by "+c.listen)
			readFull(ctx, t, server, "by "+c.listen)
			if a, b := client.GetName(true), listener.GetName(false); a != b || a == "" {
				t.Errorf("%s: the client is connected to %q, the server is %q", c.listen, a, b)
			}
			if a, b := client.GetName(false), server.GetName(true); a != b {
				t.Errorf("%s: the client is %q, the server sees %q", c.listen, a, b)
			}
			client.Close()
			server.Close()
			listener.Close()
		}
	})
}

func TestAcceptTimesOut(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tcp://127.0.0.1:0")
		for _, timeout := range []time.Duration{0, 20 * time.Millisecond} {
			_, err := hooks.StreamSocketAccept(ctx, listener, timeout)
			wantError(t, "accept", err, runtime.ErrTimeout)
		}
		waiting := beside(ctx, t, func(ctx context.Context) error {
			_, err := hooks.StreamSocketAccept(ctx, listener, -1)
			return err
		})
		becomes(ctx, t, "somebody accepts", listener.Reading)
		_, err := hooks.StreamSocketAccept(ctx, listener, 0)
		wantError(t, "a second one", err, socket.ErrBusy)
		check(t, listener.Close())
		wantError(t, "accept while the server is closed", waiting(), net.ErrClosed)
		client, server := streamPair(ctx, t, "tcp")
		_, err = hooks.StreamSocketAccept(ctx, server, 0)
		wantError(t, "accept on a connection", err, syscall.EINVAL)
		client.Close()
		server.Close()
	})
}

func TestConnectingThatFails(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		gone := streamServer(ctx, t, "tcp://127.0.0.1:0")
		url := "tcp://" + gone.GetName(false)
		check(t, gone.Close())
		_, err := hooks.StreamSocketClient(ctx, url)
		wantError(t, "connect", err, syscall.ECONNREFUSED)
		s, err := hooks.StreamSocketClient(ctx, url, hooks.WithAsyncConnect())
		check(t, err)
		ready, err := hooks.StreamSelect(ctx, nil, map[string]*hooks.Stream{"s": s}, nil, patience)
		check(t, err)
		if ready.Write["s"] != s {
			t.Error("a stream that couldn't connect is not ready")
		}
		_, err = s.Write(ctx, []byte("x"))
		wantError(t, "write", err, syscall.ECONNREFUSED)
		_, err = s.Read(ctx, make([]byte, 1))
		wantError(t, "read", err, syscall.ECONNREFUSED)
		if !s.EOF() {
			t.Error("no end of file: a loop that reads until then would not end")
		}
		check(t, s.Close())
		for _, url := range []string{"tcp://127.0.0.1:0", "tcp://:80"} {
			if _, err := hooks.StreamSocketClient(ctx, url); err == nil {
				t.Errorf("connected to %s", url)
			} else if _, ok := errors.AsType[*hooks.StreamURLError](err); !ok {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
}

func TestTimeoutOfAClientBoundsTheHandshake(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		silent := streamServer(ctx, t, "tcp://127.0.0.1:0") // connections wait in its backlog
		_, err := hooks.StreamSocketClient(ctx, "tls://"+silent.GetName(false), hooks.WithStreamTimeout(20*time.Millisecond))
		wantError(t, "connect", err, runtime.ErrTimeout)
		silent.Close()
	})
}

func TestReadingThatIsShutDown(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		write(ctx, t, client, "x")
		readFull(ctx, t, server, "x")
		check(t, hooks.StreamSocketShutdown(ctx, server, socket.ShutdownRead))
		_, err := server.Read(ctx, make([]byte, 1))
		wantError(t, "read", err, io.EOF)
		write(ctx, t, server, "writing is another direction")
		readFull(ctx, t, client, "writing is another direction")
		check(t, server.Close())
		wantError(t, "closed", hooks.StreamSocketShutdown(ctx, server, socket.ShutdownRead), net.ErrClosed)
		wantError(t, "closed", hooks.StreamSocketShutdown(ctx, server, socket.ShutdownWrite), net.ErrClosed)
	})
}

func TestAddressesToBindTo(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tcp://[::]:0") // of both families
		_, port, _ := net.SplitHostPort(listener.GetName(false))
		for _, c := range []struct{ url, bindTo, want string }{
			{"127.0.0.1", "127.0.0.3", "127.0.0.3:"},
			{"127.0.0.1", "127.0.0.3:0", "127.0.0.3:"},
			{"127.0.0.1", "0:0", "127.0.0.1:"},
			{"[::1]", "[::1]:0", "[::1]:"},
			{"[::1]", "[::]:0", "[::1]:"},
		} {
			s, err := hooks.StreamSocketClient(ctx, "tcp://"+c.url+":"+port, withContext(t, streamOptions{"socket": {"bindto": c.bindTo}}))
			check(t, err)
			if name := s.GetName(false); !strings.HasPrefix(name, c.want) {
				t.Errorf("to %s by %s: from %s", c.url, c.bindTo, name)
			}
			s.Close()
		}
		// A port of one's own: one that nobody has at the moment.
		other := streamServer(ctx, t, "tcp://0.0.0.0:0")
		_, free, _ := net.SplitHostPort(other.GetName(false))
		other.Close()
		s, err := hooks.StreamSocketClient(ctx, "tcp://127.0.0.1:"+port, withContext(t, streamOptions{"socket": {"bindto": "0:" + free}}))
		check(t, err)
		if name := s.GetName(false); name != "127.0.0.1:"+free {
			t.Errorf("from %s, want port %s", name, free)
		}
		s.Close()
		listener.Close()
	})
}

func TestClosingWhileItConnects(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tcp://127.0.0.1:0", withContext(t, streamOptions{"socket": {"backlog": 1}}))
		url := "tcp://" + listener.GetName(false)
		var streams []*hooks.Stream
		// With nobody who accepts, the kernel lets some of them wait for the backlog.
		for range 8 {
			s, err := hooks.StreamSocketClient(ctx, url, hooks.WithAsyncConnect())
			check(t, err)
			streams = append(streams, s)
		}
		s := streams[len(streams)-1]
		s.SetBlocking(false)
		if _, err := s.Write(ctx, []byte("x")); err != nil && err != hooks.ErrWouldBlock {
			t.Error(err)
		}
		for _, s := range streams {
			check(t, s.Close())
			_, err := s.Read(ctx, make([]byte, 1))
			wantError(t, "read", err, net.ErrClosed)
		}
		listener.Close()
	})
}

func TestServersThatCannotBe(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		taken := streamServer(ctx, t, "tcp://127.0.0.1:0")
		for url, want := range map[string]error{
			"tcp://" + taken.GetName(false):                    syscall.EADDRINUSE,
			"tcp://192.0.2.1:80":                               syscall.EADDRNOTAVAIL,
			"unix://" + filepath.Join(t.TempDir(), "no", "no"): syscall.ENOENT,
			"unix:///" + strings.Repeat("x", 108):              socket.ErrPathTooLong,
		} {
			_, err := hooks.StreamSocketServer(ctx, url)
			wantError(t, url, err, want)
		}
		taken.Close()
	})
}

func TestSocketOptions(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		listener := streamServer(ctx, t, "tcp://127.0.0.1:0", withContext(t, streamOptions{"socket": {
			"backlog": 7, "so_reuseport": true, "so_reuseaddr": true, "tcp_nodelay": false, "ipv6_v6only": nil,
			"so_keepalive": true, "tcp_keepidle": 33, "tcp_keepintvl": 11.0, "tcp_keepcnt": 3,
		}}))
		second := streamServer(ctx, t, "tcp://"+listener.GetName(false), withContext(t, streamOptions{"socket": {"so_reuseport": 1}}))
		second.Close()
		options := withContext(t, streamOptions{"socket": {"bindto": "127.0.0.2:0", "tcp_nodelay": true}})
		client, err := hooks.StreamSocketClient(ctx, "tcp://"+listener.GetName(false), options)
		check(t, err)
		server, err := hooks.StreamSocketAccept(ctx, listener, patience)
		check(t, err)
		if name := server.GetName(true); !strings.HasPrefix(name, "127.0.0.2:") {
			t.Errorf("bindto is 127.0.0.2, the server sees %s", name)
		}
		for _, o := range []struct {
			s                 *hooks.Stream
			level, name, want int
		}{
			{server, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0},
			{server, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{server, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 33},
			{server, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 11},
			{server, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
			{client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		} {
			if got, err := o.s.SockOpt(o.level, o.name); got != o.want || err != nil {
				t.Errorf("option %d.%d is %d, %v; want %d", o.level, o.name, got, err, o.want)
			}
		}
		client.Close()
		server.Close()
		listener.Close()
		six := streamServer(ctx, t, "tcp://[::]:0", withContext(t, streamOptions{"socket": {"ipv6_v6only": true}}))
		_, port, _ := net.SplitHostPort(six.GetName(false))
		_, err = hooks.StreamSocketClient(ctx, "tcp://127.0.0.1:"+port)
		wantError(t, "IPv4 to a server for IPv6 only", err, syscall.ECONNREFUSED)
		six.Close()
		udp := streamServer(ctx, t, "udp://127.0.0.1:0", withContext(t, streamOptions{"socket": {"so_broadcast": true}}))
		if got, err := udp.SockOpt(unix.SOL_SOCKET, unix.SO_BROADCAST); got != 1 || err != nil {
			t.Errorf("so_broadcast: %d, %v", got, err)
		}
		udp.Close()
	})
}

func TestSmallBacklogIsKept(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		path := filepath.Join(t.TempDir(), "s") // a Unix listener's backlog is exact, and connect(2) says when it is full
		listener := streamServer(ctx, t, "unix://"+path, withContext(t, streamOptions{"socket": {"backlog": 1}}))
		full := 0
		for range 5 {
			number, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			check(t, err)
			defer unix.Close(number)
			if unix.Connect(number, &unix.SockaddrUnix{Name: path}) == unix.EAGAIN {
				full++
			}
		}
		if full != 3 {
			t.Errorf("%d of 5 connections found the backlog of 1 full", full)
		}
		listener.Close()
	})
}

func TestPairs(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		a, b, err := hooks.StreamSocketPair(ctx, "udg")
		check(t, err)
		write(ctx, t, a, "one")
		write(ctx, t, a, "two")
		for _, want := range []string{"one", "two"} {
			p := make([]byte, 100)
			if n, err := b.Read(ctx, p); string(p[:n]) != want || err != nil {
				t.Errorf("%q, %v", p[:n], err)
			}
		}
		check(t, a.Close())
		check(t, b.Close())
		for _, transport := range []string{"tcp", "tls", "udp", "inet", ""} {
			if _, _, err := hooks.StreamSocketPair(ctx, transport); err == nil {
				t.Errorf("a pair of %q", transport)
			}
		}
	})
}

func TestStreamsEndWithTheirRuntime(t *testing.T) {
	guard(t)
	var s *hooks.Stream
	err := runtime.Run(func(ctx context.Context) error {
		a, b := streamPair(ctx, t, "tcp")
		s = a
		_, err := runtime.Go(ctx, func(ctx context.Context) {
			_, err := b.Read(ctx, make([]byte, 1))
			wantError(t, "read", err, net.ErrClosed)
		})
		check(t, err)
		check(t, a.Close())
		return b.Close()
	}, quiet...)
	check(t, err)
	if _, err := s.Read(context.Background(), make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read after the end: %v", err)
	}
}

// Whoever has no runtime gets the default one.
func TestStreamsOfPlainGoroutines(t *testing.T) {
	guard(t)
	fallback, err := hooks.Default()
	check(t, err)
	defer shutdown(t, fallback)
	_ = start(t) // another one, so that there is more than one to choose from
	ctx := context.Background()
	_, err = hooks.StreamSocketClient(ctx, "tcp://127.0.0.1:1")
	wantError(t, "nobody listens", err, syscall.ECONNREFUSED)
	listener, err := hooks.StreamSocketServer(ctx, "tls://127.0.0.1:0", serverSSL(t))
	check(t, err)
	client, err := hooks.StreamSocketClient(ctx, "tcp://"+listener.GetName(false), clientSSL(t))
	check(t, err)
	server, err := hooks.StreamSocketAccept(ctx, listener, patience)
	check(t, err)
	done, err := client.EnableCrypto(ctx, true, hooks.CryptoTLSClient)
	if !done || err != nil {
		t.Errorf("EnableCrypto: %v, %v", done, err)
	}
	write(ctx, t, client, "hello")
	readFull(ctx, t, server, "hello")
	a, b, err := hooks.StreamSocketPair(ctx, "unix")
	check(t, err)
	url := "tcp://" + listener.GetName(false)
	later, err := hooks.StreamSocketClient(ctx, url, hooks.WithAsyncConnect())
	check(t, err)
	for _, s := range []*hooks.Stream{client, server, listener, a, b, later} {
		s.Close()
	}
}
