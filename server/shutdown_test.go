//go:build linux

package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// inTime is a context for a Shutdown that has time.
func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// untilClosed waits until nobody listens any more.
func untilClosed(t testing.TB, l *server.Listener) {
	t.Helper()
	until(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// Connections that wait for a packet are ended at once; no new ones are accepted; Serve returns.
func TestShutdownOfIdleConnections(t *testing.T) {
	for _, network := range []string{"tcp", "tls", "unix"} {
		t.Run(network, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				port.TLS = serverTLS()
				d := keep(&port)
				h, l := start(t, network, server.Config{Port: port})
				var conns []net.Conn
				for range 20 {
					conn := dialAs(t, l, network == "tls")
					trip(t, conn, "hello")
					conns = append(conns, conn)
				}
				check(t, h.Shutdown(inTime(t)))
				check(t, receive(t, h.served))
				for _, conn := range conns {
					expectEnd(t, conn)
				}
				d.closedWith(t, server.ErrShutdown)
				h.settled()
				if conn, err := net.Dial(l.Addr().Network(), l.Addr().String()); err == nil {
					conn.Close()
					t.Error("still listening")
				}
				check(t, h.Shutdown(inTime(t)))
			})
		})
	}
}

// Under load, each request that a handler has seen gets its answer whole, and each client is told
// so; connections in the backlog are served as well.
func TestShutdownUnderLoad(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("reuse %v/tls %v", reuse, secure), func(t *testing.T) {
				var seen atomic.Int64
				answer := strings.Repeat("a", 5000) + "\n"
				for name, port := range map[string]server.Port{
					"handler": {Handle: func(ctx context.Context, c *server.Conn) {
						for {
							if _, err := c.Recv(ctx); err != nil {
								return
							}
							seen.Add(1)
							runtime.Yield(ctx)
							c.Send(ctx, []byte(answer))
						}
					}},
					"callbacks": {OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
						seen.Add(1)
						c.Send(ctx, []byte(answer))
					}},
				} {
					t.Run(name, func(t *testing.T) {
						port.EOF, port.TLS, port.ReusePort = "\n", serverTLS(), reuse
						network := "tcp"
						if secure {
							network = "tls"
						}
						h, l := start(t, network, server.Config{Port: port})
						seen.Store(0)
						var answered atomic.Int64
						var clients sync.WaitGroup
						stop := make(chan struct{})
						for range 16 {
							clients.Go(func() { hammer(t, l, secure, answer, &answered, stop) })
						}
						until(t, "there is load", func() bool { return answered.Load() > 500 })
						check(t, h.Shutdown(inTime(t)))
						close(stop)
						clients.Wait()
						if seen.Load() != answered.Load() {
							t.Errorf("%d requests were seen, %d answered", seen.Load(), answered.Load())
						}
						h.settled()
					})
				}
			})
		}
	}
}

// hammer sends requests, on a new connection after every few, until the server is gone.
func hammer(t *testing.T, l *server.Listener, secure bool, answer string, answered *atomic.Int64, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return
		}
		conn.SetDeadline(time.Now().Add(patience))
		if secure {
			conn = tlsOver(conn)
		}
		for range 5 {
			if _, err := io.WriteString(conn, "request\n"); err != nil {
				break
			}
			n, err := io.ReadFull(conn, make([]byte, len(answer)))
			if n > 0 && err != nil {
				t.Errorf("an answer was cut after %d bytes: %v", n, err)
			}
			if err != nil {
				break
			}
			answered.Add(1)
		}
		conn.Close()
	}
}

// What lies in the kernel when the shutdown begins is served: the loop needn't have heard of it.
func TestShutdownServesWhatHasArrived(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.EOF = "\n"
		for range 50 {
			h, l := start(t, "tcp", server.Config{Port: port})
			conn := dial(t, l)
			trip(t, conn, "hello\n")
			write(t, conn, "one\ntwo\nthree\n") // over loopback, it has arrived when write returns
			check(t, h.Shutdown(inTime(t)))
			expect(t, conn, "one\ntwo\nthree\n")
			expectEnd(t, conn)
		}
	})
}

// Connections that nobody has accepted yet when the shutdown begins are accepted and served.
func TestShutdownServesTheBacklog(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		eachStyle(t, func(t *testing.T, port server.Port) {
			port.EOF, port.ReusePort = "\n", reuse
			h := open(t, server.Config{Port: port})
			l := h.listen("tcp")
			var conns []net.Conn
			for i := range 100 {
				conn := dial(t, l)
				write(t, conn, fmt.Sprintf("%d\n", i))
				conns = append(conns, conn)
			}
			h.serve()
			until(t, "the first is accepted", func() bool { return h.Stats().Accepted > 0 })
			check(t, h.Shutdown(inTime(t)))
			for i, conn := range conns {
				expect(t, conn, fmt.Sprintf("%d\n", i))
				expectEnd(t, conn)
			}
		})
	}
}

// A handler in the middle of its work finishes it, and may send; half a packet waits for its other
// half.
func TestShutdownWaitsForWork(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	port := server.Port{EOF: "\n", Handle: func(ctx context.Context, c *server.Conn) {
		if _, err := c.Recv(ctx); err != nil {
			return
		}
		began <- struct{}{}
		await(ctx, goOn)
		c.Send(ctx, []byte("done\n"))
		if _, err := c.Recv(ctx); !errors.Is(err, server.ErrShutdown) {
			t.Errorf("Recv: %v", err)
		}
	}}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	write(t, conn, "work\n")
	receive(t, began)
	over := make(chan error, 1)
	go func() { over <- h.Shutdown(inTime(t)) }()
	untilClosed(t, l)
	select {
	case err := <-over:
		t.Fatalf("Shutdown has not waited: %v", err)
	default:
	}
	close(goOn)
	expect(t, conn, "done\n")
	expectEnd(t, conn)
	check(t, receive(t, over))
}

func TestShutdownWaitsForHalfAPacket(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.EOF = "\n"
		h, l := start(t, "tcp", server.Config{Port: port})
		half, never := dial(t, l), dial(t, l)
		for _, conn := range []net.Conn{half, never} {
			trip(t, conn, "hello\n")
			write(t, conn, "ha")
		}
		over := make(chan error, 1)
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		go func() { over <- h.Shutdown(ctx) }()
		untilClosed(t, l)
		write(t, half, "lf\n")
		expect(t, half, "half\n")
		expectEnd(t, half)
		until(t, "only half a packet is left", func() bool { return h.Stats().Connections == 1 })
		select {
		case err := <-over:
			t.Fatalf("Shutdown has not waited: %v", err)
		default:
		}
		late := errors.New("too late")
		cancel(late)
		wantError(t, "Shutdown", receive(t, over), late)
		if _, err := never.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, not a reset", err)
		}
		check(t, receive(t, h.served))
		h.settled()
	})
}

// A paused connection counts as one that is at work: its answer is still to come.
func TestShutdownWaitsForPausedConnections(t *testing.T) {
	paused := make(chan *server.Conn, 1)
	port := server.Port{EOF: "\n", OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
		c.Pause()
		paused <- c
	}}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	write(t, conn, "work\n")
	c := receive(t, paused)
	over := make(chan error, 1)
	go func() { over <- h.Shutdown(inTime(t)) }()
	untilClosed(t, l)
	if _, err := c.Send(h.ctx(), []byte("done\n")); err != nil {
		t.Error(err)
	}
	c.Resume()
	expect(t, conn, "done\n")
	expectEnd(t, conn)
	check(t, receive(t, over))
}

// A file that a callback's coroutine is sending arrives whole.
func TestShutdownWaitsForSendFile(t *testing.T) {
	const size = 4 << 20
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, pattern(size), 0o600))
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			port := server.Port{EOF: "\n", SendBuffer: 16 << 10, TLS: serverTLS(), OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
				runtime.Go(ctx, func(ctx context.Context) {
					if n, err := c.SendFile(ctx, file, 0, 0); n != size || err != nil {
						t.Error(n, err)
					}
				})
			}}
			h, l := start(t, network, server.Config{Port: port})
			var conn net.Conn = dialNarrow(t, l)
			if network == "tls" {
				conn = tlsOver(conn)
			}
			write(t, conn, "go\n")
			expect(t, conn, string(pattern(1000)))
			over := make(chan error, 1)
			go func() { over <- h.Shutdown(inTime(t)) }()
			rest, err := io.ReadAll(conn)
			if len(rest) != size-1000 || err != nil {
				t.Error(len(rest), err)
			}
			check(t, receive(t, over))
		})
	}
}

// Shutdown from within: a callback only begins it; a handler has it run beside itself.
func TestShutdownFromWithin(t *testing.T) {
	result := make(chan error, 2)
	t.Run("callback", func(t *testing.T) {
		h, l := start(t, "tcp", server.Config{Port: server.Port{OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			c.Send(ctx, pkt)
			result <- c.Server().Shutdown(ctx)
		}}})
		conn := dial(t, l)
		trip(t, conn, "bye")
		wantError(t, "Shutdown", receive(t, result), runtime.ErrOnLoop)
		expectEnd(t, conn)
		check(t, receive(t, h.served))
	})
	t.Run("handler, beside itself", func(t *testing.T) {
		h, l := start(t, "tcp", server.Config{Port: server.Port{Handle: func(ctx context.Context, c *server.Conn) {
			pkt, _ := c.Recv(ctx)
			runtime.Go(ctx, func(ctx context.Context) { result <- c.Server().Shutdown(ctx) })
			c.Send(ctx, pkt)
			_, err := c.Recv(ctx)
			result <- err
		}}})
		conn := dial(t, l)
		trip(t, conn, "bye")
		wantError(t, "Recv", receive(t, result), server.ErrShutdown)
		check(t, receive(t, result))
		expectEnd(t, conn)
		check(t, receive(t, h.served))
	})
	t.Run("handler that waits for itself", func(t *testing.T) {
		h, l := start(t, "tcp", server.Config{Port: server.Port{Handle: func(ctx context.Context, c *server.Conn) {
			c.Recv(ctx)
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			result <- c.Server().Shutdown(ctx)
		}}})
		conn := dial(t, l)
		write(t, conn, "bye")
		wantError(t, "Shutdown", receive(t, result), context.DeadlineExceeded)
		expectEnd(t, conn)
		check(t, receive(t, h.served))
	})
}

// Close during a Shutdown ends what that waits for; both return, as do several at a time.
func TestCloseDuringShutdown(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.EOF = "\n"
		d := keep(&port)
		h, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "hello\n")
		write(t, conn, "half")
		until(t, "half a packet has come", func() bool {
			for c := range h.Connections() {
				return c.Socket().Loop() != nil
			}
			return false
		})
		over := make(chan error, 3)
		for range 3 {
			go func() { over <- h.Shutdown(inTime(t)) }()
		}
		until(t, "the shutdown has begun", func() bool {
			_, err := h.Listen(h.ctx(), "tcp", "127.0.0.1:0")
			return errors.Is(err, server.ErrShutdown)
		})
		check(t, h.Close()) // the listener that was made too late is closed as well
		for range 3 {
			check(t, receive(t, over))
		}
		expectEnd(t, conn)
		check(t, receive(t, h.served))
		receive(t, d.ended)
		h.settled()
	})
}

// Close ends all at once, the backlog included, and Serve returns when the handlers have.
func TestClose(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		eachStyle(t, func(t *testing.T, port server.Port) {
			port.TLS, port.EOF, port.HandshakeTimeout, port.ReadTimeout = serverTLS(), "\n", time.Hour, time.Hour
			h, l := start(t, network, server.Config{Port: port})
			conn := dialAs(t, l, network == "tls")
			trip(t, conn, "hello\n")
			write(t, conn, "half")
			until(t, "it stands", func() bool { return h.Stats().Opened == 1 })
			for range 50 {
				write(t, dial(t, l), "half")
			}
			check(t, h.Close())
			check(t, receive(t, h.served))
			expectEnd(t, conn)
			h.settled()
		})
	}
}

// What was sent before Close is delivered, in the background.
func TestCloseDelivers(t *testing.T) {
	const size = 1 << 20
	sent := make(chan struct{})
	port := server.Port{SendBuffer: 16 << 10, Linger: patience, OnConnect: func(ctx context.Context, c *server.Conn) {
		c.Send(ctx, pattern(size))
		close(sent)
	}, OnReceive: echoBack}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dialNarrow(t, l)
	receive(t, sent)
	check(t, h.Close())
	got, err := io.ReadAll(conn)
	if string(got) != string(pattern(size)) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	check(t, receive(t, h.served))
}

// A listener that was never served is closed, and so is one of a server that is over before it
// serves.
func TestShutdownWithoutServe(t *testing.T) {
	for name, end := range map[string]func(h *house) error{
		"Close":    func(h *house) error { return h.Close() },
		"Shutdown": func(h *house) error { return h.Shutdown(inTime(h.t)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, server.Config{Port: server.Port{Handle: echo, OnPacket: func(context.Context, *server.Listener, []byte, net.Addr) {}}})
			l := h.listen("tcp")
			h.listen("udp")
			h.listen("unix")
			check(t, end(h))
			if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
				conn.Close()
				t.Error("still listening")
			}
			wantError(t, "Serve", h.Serve(h.ctx()), server.ErrShutdown)
		})
	}
}

// Serve and Shutdown at the same time: whichever comes first, nothing is left behind.
func TestServeAndShutdownTogether(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		for range 100 {
			h := open(t, server.Config{Port: port})
			l := h.listen("tcp")
			conn := dial(t, l)
			h.serve()
			check(t, h.Shutdown(inTime(t)))
			if err := receive(t, h.served); err != nil && !errors.Is(err, server.ErrShutdown) {
				t.Error(err)
			}
			conn.Close()
			h.settled()
		}
	})
}

// An upgrade that is under way when the shutdown begins comes to its end, also if another one was
// refused meanwhile.
func TestShutdownDuringAnUpgrade(t *testing.T) {
	eachMailer(t, server.Port{}, func(t *testing.T, m *mailer, h *house, l *server.Listener) {
		conn := dial(t, l)
		trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
		c := firstConn(h)
		home, _ := server.House(c.Socket()).Home()
		until(t, "the upgrade has begun", func() bool { return server.House(c.Socket()).Sending() })
		refused := make(chan error, 1)
		c.EnableSSLAsync(h.ctx(), func(_ context.Context, _ *server.Conn, err error) { refused <- err })
		wantError(t, "another upgrade", receive(t, refused), socket.ErrBusy)
		over := make(chan error, 1)
		go func() { over <- h.Shutdown(inTime(t)) }()
		untilClosed(t, l)
		passed := make(chan struct{})
		check(t, home.Loop().Post(func() { home.Loop().Defer(func() { close(passed) }) }))
		receive(t, passed) // the loop has told its connections
		secure := tlsOver(conn)
		expectEnd(t, secure)
		check(t, m.outcomes(t, 1)[0])
		check(t, receive(t, over))
	})
}

// firstConn returns a connection that there is.
func firstConn(h *house) *server.Conn {
	for c := range h.Connections() {
		return c
	}
	h.t.Fatal("there is no connection")
	return nil
}
