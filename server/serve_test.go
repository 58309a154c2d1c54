//go:build linux

package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

var streams = []string{"tcp", "tcp4", "tcp6", "tls", "tls6", "unix"}

func isTLS(network string) bool { return strings.HasPrefix(network, "tls") }

func TestEchoOnAllNetworks(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		for _, network := range streams {
			t.Run(network, func(t *testing.T) {
				port.TLS = serverTLS()
				h, l := start(t, network, server.Config{Port: port})
				var clients sync.WaitGroup
				for i := range 8 {
					conn := dialAs(t, l, isTLS(network))
					clients.Go(func() {
						defer conn.Close()
						for j := range 50 {
							text := fmt.Sprintf("%d %d\n", i, j)
							if got := make([]byte, len(text)); writeRead(conn, text, got) != nil || string(got) != text {
								t.Errorf("got %q, want %q", got, text)
								return
							}
						}
					})
				}
				clients.Wait()
				h.settled()
				if st := h.Stats(); st.Accepted != 8 || st.Opened != 8 || st.BytesIn != st.BytesOut || st.PacketsIn == 0 || st.PacketsIn != st.PacketsOut {
					t.Errorf("%+v", st)
				}
			})
		}
	})
}

func writeRead(conn net.Conn, text string, got []byte) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, got)
	return err
}

// Packets arrive whole and one by one, however the bytes are cut, with tiny buffers in the kernel.
func TestFraming(t *testing.T) {
	framings := map[string]struct {
		port    server.Port
		packets []string
	}{
		"eof":    {server.Port{EOF: "\r\n"}, []string{"one\r\n", "\r\n", "t\rw\no\r\n", strings.Repeat("x", 3000) + "\r\n"}},
		"length": {server.Port{Length: packet.LengthField{Type: 'N', BodyOffset: 4}}, []string{"\x00\x00\x00\x03abc", "\x00\x00\x00\x00", "\x00\x00\x10\x00" + strings.Repeat("y", 4096)}},
		"split":  {server.Port{Split: bufio.ScanWords}, nil},
	}
	eachStyle(t, func(t *testing.T, port server.Port) {
		for name, f := range framings {
			for _, network := range []string{"tcp", "tls", "unix"} {
				t.Run(name+"/"+network, func(t *testing.T) {
					port.EOF, port.Length, port.Split = f.port.EOF, f.port.Length, f.port.Split
					port.TLS = serverTLS()
					port.ReceiveBuffer, port.SendBuffer = 0, 0
					if network == "tcp" { // with records of a byte each, so small a window would open five times a second only
						port.ReceiveBuffer, port.SendBuffer = 1024, 1024
					}
					h, l := start(t, network, server.Config{Port: port})
					conn := dialAs(t, l, isTLS(network))
					sent, want := strings.Join(f.packets, ""), strings.Join(f.packets, "")
					packets := len(f.packets)
					if name == "split" {
						sent, want, packets = "ab  cde\n f ", "abcdef", 3
					}
					go func() {
						for i := range len(sent) { // byte by byte
							if _, err := io.WriteString(conn, sent[i:i+1]); err != nil {
								return
							}
						}
					}()
					expect(t, conn, want)
					write(t, conn, sent) // and at once
					expect(t, conn, want)
					conn.Close()
					h.settled()
					if st := h.Stats(); st.PacketsIn != uint64(2*packets) {
						t.Errorf("%d packets, want %d", st.PacketsIn, 2*packets)
					}
				})
			}
		}
	})
}

// Several listeners, each with a Port of its own; one is added while the server serves.
func TestListenersOfTheirOwn(t *testing.T) {
	h := open(t, server.Config{Port: server.Port{Handle: echo}})
	first := h.listen("tcp")
	second := h.listenPort("unix", server.Port{EOF: "\n", OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
		c.Send(ctx, bytes.ToUpper(pkt))
	}})
	h.serve()
	trip(t, dial(t, first), "hello")
	conn := dial(t, second)
	write(t, conn, "hello\nwor")
	expect(t, conn, "HELLO\n")
	third := h.listenPort("tls", server.Port{TLS: serverTLS(), Handle: func(ctx context.Context, c *server.Conn) {
		if c.Listener().Network() != "tcp" || c.Server() != h.Server {
			t.Error(c.Listener().Network(), c.Server())
		}
		c.Send(ctx, []byte(c.Listener().Addr().String()))
	}})
	expect(t, dialTLS(t, third), third.Addr().String())
	if got := fmt.Sprint(h.Addrs()); got != fmt.Sprint([]net.Addr{first.Addr(), second.Addr(), third.Addr()}) {
		t.Error(got)
	}
	if first.Addr().(*net.TCPAddr).Port == 0 || first.Server() != h.Server {
		t.Error(first.Addr())
	}
}

func TestListenErrorsSayWhatIsWrong(t *testing.T) {
	h := open(t, server.Config{Port: server.Port{Handle: echo}})
	taken := h.listen("tcp").Addr().String()
	nothing := func(context.Context, *server.Conn, []byte) {}
	for name, test := range map[string]struct {
		network, address string
		port             server.Port
		want             string
	}{
		"address in use":     {"tcp", taken, server.Port{Handle: echo}, "address already in use"},
		"host name":          {"tcp", "localhost.test:0", server.Port{Handle: echo}, "localhost.test"},
		"foreign address":    {"tcp", "192.0.2.1:0", server.Port{Handle: echo}, "cannot assign requested address"},
		"no port":            {"tcp", "127.0.0.1", server.Port{Handle: echo}, "127.0.0.1"},
		"network":            {"sctp", "127.0.0.1:0", server.Port{Handle: echo}, "sctp"},
		"no handler":         {"tcp", "127.0.0.1:0", server.Port{}, "neither Handle nor OnReceive"},
		"two styles":         {"tcp", "127.0.0.1:0", server.Port{Handle: echo, OnReceive: nothing}, "exclude each other"},
		"no TLS":             {"tls", "127.0.0.1:0", server.Port{Handle: echo}, "nor TLS"},
		"no OnPacket":        {"udp", "127.0.0.1:0", server.Port{Handle: echo}, "OnPacket"},
		"two framings":       {"tcp", "127.0.0.1:0", server.Port{Handle: echo, EOF: "\n", Split: bufio.ScanLines}, "Port"},
		"negative":           {"tcp", "127.0.0.1:0", server.Port{Handle: echo, MaxQueue: -1}, "must not be negative"},
		"marks":              {"tcp", "127.0.0.1:0", server.Port{Handle: echo, MaxQueue: 10, HighWater: 20}, "must not decrease"},
		"proxies":            {"tcp", "127.0.0.1:0", server.Port{Handle: echo, ProxyProtocol: []string{"nobody"}}, "nobody"},
		"ReusePort and unix": {"unix", "@whorl-server-test", server.Port{Handle: echo, ReusePort: true}, "ReusePort"},
		"directory":          {"unix", "/nowhere/at/all", server.Port{Handle: echo}, "no such file"},
	} {
		l, err := h.ListenPort(h.ctx(), test.network, test.address, test.port)
		if l != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "server") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := h.Listen(h.ctx(), "tcp", taken)
	wantError(t, "address in use", err, syscall.EADDRINUSE)
	if n := len(h.Addrs()); n != 1 {
		t.Errorf("%d listeners", n)
	}
}

func TestServeIsForOnce(t *testing.T) {
	h, l := start(t, "tcp", server.Config{Port: server.Port{Handle: echo}})
	trip(t, dial(t, l), "x")
	if err := h.Serve(h.ctx()); err == nil || !strings.Contains(err.Error(), "before") {
		t.Error(err)
	}
	check(t, h.Close())
	check(t, receive(t, h.served))
	wantError(t, "Serve after Close", h.Serve(h.ctx()), server.ErrShutdown)
	_, err := h.Listen(h.ctx(), "tcp", "127.0.0.1:0")
	wantError(t, "Listen after Close", err, server.ErrShutdown)
	check(t, h.Close())
	check(t, h.Shutdown(context.Background()))
}

func TestServerBelongsToOneRuntime(t *testing.T) {
	h := open(t, server.Config{Port: server.Port{Handle: echo}})
	h.listen("tcp")
	other, err := runtime.New()
	check(t, err)
	check(t, other.Start())
	if _, err := h.Listen(other.Context(), "tcp", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "another runtime") {
		t.Error(err)
	}
	check(t, other.Shutdown(context.Background()))
	lone := server.New(server.Config{Port: server.Port{Handle: echo}})
	wantError(t, "Send without connections", lone.Send(1, nil), server.ErrNoConnection)
	if lone.Stats().Accepted != 0 || lone.Exists(0) || len(lone.Addrs()) != 0 {
		t.Error("not empty")
	}
	for range lone.Connections() {
		t.Error("a connection")
	}
	check(t, lone.Shutdown(context.Background()))
}

// A context that ends ends Serve, as Close does, with its cause.
func TestServeEndsWithItsContext(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		var reason atomic.Value
		port.OnClose = func(_ context.Context, _ *server.Conn, err error) { reason.Store(err) }
		h := open(t, server.Config{Port: port})
		l := h.listen("tcp")
		ctx, cancel := context.WithCancelCause(h.ctx())
		h.served = make(chan error, 1)
		go func() { h.served <- h.Serve(ctx) }()
		conn := dial(t, l)
		trip(t, conn, "hello")
		mine := errors.New("mine")
		cancel(mine)
		wantError(t, "Serve", receive(t, h.served), mine)
		h.served = nil
		expectEnd(t, conn)
		if reason.Load() != server.ErrShutdown {
			t.Error(reason.Load())
		}
	})
}

// A runtime that shuts down takes its servers along, wherever Serve runs and whatever its context:
// nothing is left open.
func TestRuntimeShutsDownWhileServing(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		for _, from := range []string{"goroutine", "foreign context", "coroutine"} {
			t.Run(from, func(t *testing.T) {
				var closed atomic.Int32
				port.OnClose = func(context.Context, *server.Conn, error) { closed.Add(1) }
				h := open(t, server.Config{Port: port})
				l := h.listen("tcp")
				served := make(chan error, 1)
				switch from {
				case "goroutine":
					go func() { served <- h.Serve(h.ctx()) }()
				case "foreign context":
					go func() { served <- h.Serve(context.Background()) }()
				case "coroutine":
					_, err := h.rt.Go(func(ctx context.Context) { served <- h.Serve(ctx) })
					check(t, err)
				}
				const n = 600 // more than are ended in one turn of a loop
				conns := make([]net.Conn, n)
				for i := range conns {
					conns[i] = dial(t, l)
				}
				for _, conn := range conns {
					trip(t, conn, "hello")
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				check(t, h.rt.Shutdown(ctx))
				for _, conn := range conns {
					expectEnd(t, conn)
				}
				wantError(t, "Serve", receive(t, served), runtime.ErrShutdown)
				if got := closed.Load(); got != n {
					t.Errorf("OnClose was called %d times of %d", got, n)
				}
			})
		}
	})
}

// ReusePort has each loop accept, and all of them get connections.
func TestReusePort(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.ReusePort = true
		h, l := start(t, "tcp", server.Config{Port: port})
		seen := make(map[int]bool)
		for range 200 {
			conn := dial(t, l)
			trip(t, conn, "hello")
			for c := range h.Connections() {
				seen[c.Info().Loop] = true
			}
			conn.Close()
			if len(seen) == loops {
				break
			}
		}
		if len(seen) != loops {
			t.Errorf("connections on %d loops of %d", len(seen), loops)
		}
		h.settled()
	})
}

// Without it, the loops get connections in turn.
func TestConnectionsGoToTheLoopsInTurn(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		h, l := start(t, "tcp", server.Config{Port: port})
		for range 10 * loops {
			trip(t, dial(t, l), "hello")
		}
		counts := make(map[int]int)
		for c := range h.Connections() {
			counts[c.Info().Loop]++
		}
		for loop := range loops {
			if counts[loop] != 10 {
				t.Errorf("%v", counts)
			}
		}
	})
}

// With ReusePort each loop makes its socket, which nobody on a loop can wait for. Listen says so,
// and leaves no socket behind.
func TestListenOnALoop(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := free.Addr().String()
	check(t, free.Close())
	h := open(t, server.Config{Port: server.Port{Handle: echo, ReusePort: true}})
	for _, loop := range h.rt.Loops() {
		listened, passed := make(chan error, 1), make(chan struct{})
		check(t, loop.Post(func() {
			_, err := h.Listen(h.ctx(), "tcp", address)
			listened <- err
		}))
		wantError(t, "Listen", receive(t, listened), runtime.ErrOnLoop)
		check(t, h.rt.Loops()[0].Post(func() { close(passed) })) // after what Listen has posted there
		receive(t, passed)
		l, err := net.Listen("tcp", address)
		check(t, err)
		check(t, l.Close())
	}
}
