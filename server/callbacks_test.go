//go:build linux

package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// diary notes what happens to connections.
type diary struct {
	mu     sync.Mutex
	lines  []string
	reason error
	closed int
	ended  chan struct{} // by the first OnClose
}

func (d *diary) note(format string, values ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, values...))
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// keep has a Port note its callbacks; those that it has already are called, too.
func keep(port *server.Port) *diary {
	d := &diary{ended: make(chan struct{})}
	if fn := port.OnReceive; fn != nil {
		port.OnReceive = func(ctx context.Context, c *server.Conn, pkt []byte) {
			d.note("receive %s", pkt)
			fn(ctx, c, pkt)
		}
	}
	connect := port.OnConnect
	port.OnConnect = func(ctx context.Context, c *server.Conn) {
		d.note("connect")
		if connect != nil {
			connect(ctx, c)
		}
	}
	port.OnClose = func(ctx context.Context, c *server.Conn, reason error) {
		d.note("close")
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.closed++; d.closed == 1 {
			d.reason = reason
			close(d.ended)
		}
	}
	return d
}

// closedWith waits for OnClose and looks at its reason.
func (d *diary) closedWith(t testing.TB, want error) {
	t.Helper()
	receive(t, d.ended)
	d.mu.Lock()
	defer d.mu.Unlock()
	if want == nil && d.reason != nil || !errors.Is(d.reason, want) {
		t.Errorf("the reason is %v, want %v", d.reason, want)
	}
}

func (d *diary) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// errPanicked stands for each *runtime.PanicError.
var errPanicked = errors.New("a panic")

// whyClosed are ways in which a connection ends, with the reason of OnClose for each.
var whyClosed = map[string]struct {
	port   server.Port // what is special about it
	client func(t *testing.T, conn net.Conn)
	want   error
}{
	"the client closes": {
		client: func(t *testing.T, conn net.Conn) { conn.Close() },
		want:   io.EOF,
	},
	"the client closes in the middle of a packet": {
		client: func(t *testing.T, conn net.Conn) { write(t, conn, "half"); conn.Close() },
		want:   io.ErrUnexpectedEOF,
	},
	"the client resets": {
		client: func(t *testing.T, conn net.Conn) { trip(t, conn, "x\n"); reset(conn) },
		want:   syscall.ECONNRESET,
	},
	"Close in OnConnect": {
		port:   server.Port{OnConnect: func(_ context.Context, c *server.Conn) { c.Close() }},
		client: func(t *testing.T, conn net.Conn) { expectEnd(t, conn) },
	},
	"Abort in OnConnect": {
		port:   server.Port{OnConnect: func(_ context.Context, c *server.Conn) { c.Abort() }},
		client: func(t *testing.T, conn net.Conn) { expectEnd(t, conn) },
	},
	"idle": {
		port:   server.Port{IdleTimeout: 100 * time.Millisecond},
		client: func(t *testing.T, conn net.Conn) { expectEnd(t, conn) },
		want:   server.ErrIdle,
	},
	"lifetime": {
		port: server.Port{Lifetime: 200 * time.Millisecond},
		client: func(t *testing.T, conn net.Conn) {
			for { // busy as it is
				if writeRead(conn, "x\n", make([]byte, 2)) != nil {
					return
				}
			}
		},
		want: server.ErrLifetime,
	},
	"packet too large": {
		port:   server.Port{MaxPacket: 100},
		client: func(t *testing.T, conn net.Conn) { write(t, conn, strings.Repeat("x", 101)); io.ReadAll(conn) },
		want:   packet.ErrPacketTooLarge,
	},
	"panic in OnConnect": {
		port:   server.Port{OnConnect: func(context.Context, *server.Conn) { panic("connect") }},
		client: func(t *testing.T, conn net.Conn) { expectEnd(t, conn) },
		want:   errPanicked,
	},
	"Goexit in OnConnect": {
		port:   server.Port{OnConnect: func(context.Context, *server.Conn) { goruntime.Goexit() }},
		client: func(t *testing.T, conn net.Conn) { expectEnd(t, conn) },
		want:   runtime.ErrGoexit,
	},
}

func TestReasonOfTheEnd(t *testing.T) {
	eachStyle(t, func(t *testing.T, style server.Port) {
		for name, test := range whyClosed {
			t.Run(name, func(t *testing.T) {
				port := test.port
				port.EOF, port.Handle, port.OnReceive = "\n", style.Handle, style.OnReceive
				d := keep(&port)
				h, l := start(t, "tcp", server.Config{Port: port})
				if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
					defer conn.Close()
					conn.SetDeadline(time.Now().Add(patience))
					test.client(t, conn)
				} else { // reset before it was told that it is connected
					wantError(t, "dial", err, syscall.ECONNRESET)
				}
				if test.want == errPanicked {
					receive(t, d.ended)
					if _, ok := errors.AsType[*runtime.PanicError](d.reason); !ok || !h.logged("panic") {
						t.Errorf("the reason is %v", d.reason)
					}
				} else {
					d.closedWith(t, test.want)
				}
				h.settled()
				if n := d.count(); n != 1 {
					t.Errorf("OnClose was called %d times", n)
				}
				if lines := d.read(); lines[0] != "connect" || lines[len(lines)-1] != "close" {
					t.Errorf("%q", lines)
				}
				if test.want != errPanicked && test.want != runtime.ErrGoexit { // others are not concerned
					return
				}
				if second, err := net.Dial("tcp", l.Addr().String()); err == nil { // is served, and ends in the same way
					second.Close()
				}
				until(t, "the second connection has ended, too", func() bool { return h.Stats().Closed == 2 })
			})
		}
	})
}

// What a handler and OnReceive do with their own connection.
func TestReasonOfWhatTheServerDoes(t *testing.T) {
	acts := map[string]struct {
		act  func(c *server.Conn)
		want error
	}{
		"Close":     {func(c *server.Conn) { c.Close() }, nil},
		"Abort":     {func(c *server.Conn) { c.Abort() }, nil},
		"CloseConn": {func(c *server.Conn) { c.Server().CloseConn(c.ID(), true) }, nil},
		"panic":     {func(c *server.Conn) { panic("mine") }, errPanicked},
		"nil deref": {func(c *server.Conn) { _ = *(*int)(nil) }, errPanicked},
		"Goexit":    {func(c *server.Conn) { goruntime.Goexit() }, runtime.ErrGoexit},
	}
	for name, test := range acts {
		for _, style := range []string{"handler", "callbacks"} {
			t.Run(name+"/"+style, func(t *testing.T) {
				port := server.Port{EOF: "\n", OnReceive: func(_ context.Context, c *server.Conn, pkt []byte) { test.act(c) }}
				if style == "handler" {
					port.OnReceive = nil
					port.Handle = func(ctx context.Context, c *server.Conn) {
						c.Recv(ctx)
						test.act(c)
					}
				}
				d := keep(&port)
				h, l := start(t, "tcp", server.Config{Port: port})
				bystander := dial(t, l)
				until(t, "it stands", func() bool { return len(d.read()) == 1 })
				conn := dial(t, l)
				write(t, conn, "one\ntwo\nthree\n") // two and three come after the end
				io.ReadAll(conn)
				receive(t, d.ended)
				if test.want == errPanicked {
					if e, ok := errors.AsType[*runtime.PanicError](d.reason); !ok || len(e.Stack) == 0 {
						t.Errorf("the reason is %v", d.reason)
					}
				} else {
					d.closedWith(t, test.want)
				}
				until(t, "one is left", func() bool { return h.Stats().Connections == 1 })
				if lines := d.read(); slices.Contains(lines, "receive two\n") || lines[len(lines)-1] != "close" {
					t.Errorf("%q", lines)
				}
				if n := d.count(); n != 1 {
					t.Errorf("OnClose was called %d times", n)
				}
				if _, err := bystander.Write([]byte("half")); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// With callbacks, all happens in the order of events; a packet that is handed out as the client
// closes comes before OnClose.
func TestOrderOfCallbacks(t *testing.T) {
	port := server.Port{EOF: "\n", OnReceive: echoBack}
	d := keep(&port)
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	write(t, conn, "1\n2\n3\nhalf")
	check(t, conn.(*net.TCPConn).CloseWrite()) // closing over unread answers would be a reset
	d.closedWith(t, io.ErrUnexpectedEOF)
	h.settled()
	if got := fmt.Sprintf("%q", d.read()); got != `["connect" "receive 1\n" "receive 2\n" "receive 3\n" "close"]` {
		t.Error(got)
	}
}

// A panic in OnClose costs nothing: the connection is gone, and counted out.
func TestPanicInOnClose(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.OnClose = func(context.Context, *server.Conn, error) { panic("close") }
		h, l := start(t, "tcp", server.Config{Port: port})
		for range 3 {
			conn := dial(t, l)
			trip(t, conn, "hello")
			conn.Close()
		}
		h.settled()
		if !h.logged("close") {
			t.Error("the panic was not logged")
		}
	})
}

// The marks' callbacks come in pairs, also when the end comes between them, and their panics cost
// only the connection.
func TestBufferCallbacksComeInPairs(t *testing.T) {
	var mu sync.Mutex
	full, empty, doubled := 0, 0, false
	state := make(map[server.ID]bool)
	port := server.Port{
		EOF: "\n", MaxQueue: 1 << 20, SendBuffer: 16 << 10,
		OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			for range 100 {
				if _, err := c.Send(ctx, pattern(10_000)); err != nil {
					if !errors.Is(err, socket.ErrQueueFull) && !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		},
		OnBufferFull: func(_ context.Context, c *server.Conn) {
			mu.Lock()
			defer mu.Unlock()
			full++
			doubled = doubled || state[c.ID()]
			state[c.ID()] = true
		},
		OnBufferEmpty: func(_ context.Context, c *server.Conn) {
			mu.Lock()
			defer mu.Unlock()
			empty++
			doubled = doubled || !state[c.ID()]
			state[c.ID()] = false
		},
	}
	h, l := start(t, "tcp", server.Config{Port: port})
	var conns []net.Conn
	for range 3 {
		conn := dialNarrow(t, l)
		conns = append(conns, conn)
		for round := 1; round <= 3; round++ {
			mu.Lock()
			before := full
			mu.Unlock()
			write(t, conn, "go\n")
			until(t, "the queue is full", func() bool { mu.Lock(); defer mu.Unlock(); return full == before+1 })
			if n := h.Stats().BuffersFull; n != 1 {
				t.Errorf("%d buffers are full", n)
			}
			if n, err := io.CopyN(io.Discard, conn, 1_000_000); err != nil {
				t.Fatal(n, err)
			}
			until(t, "the queue is empty", func() bool { mu.Lock(); defer mu.Unlock(); return empty == full })
		}
	}
	write(t, conns[0], "go\n")
	until(t, "the queue is full", func() bool { return h.Stats().BuffersFull == 1 })
	for _, conn := range conns {
		reset(conn)
	}
	h.settled()
	mu.Lock()
	defer mu.Unlock()
	if doubled || full != 10 || empty != 9 {
		t.Errorf("full %d times, empty %d times, doubled: %v", full, empty, doubled)
	}
}

// What is queued within one turn of the loop, and taken by the kernel at its end, is no full queue;
// and BufferEmpty never stays away.
func TestSendsOfOneTurn(t *testing.T) {
	var mu sync.Mutex
	full, empty := 0, 0
	port := server.Port{
		EOF: "\n", MaxQueue: 300_000, HighWater: 100_000, LowWater: 1000,
		OnReceive:     func(context.Context, *server.Conn, []byte) {},
		OnBufferFull:  func(context.Context, *server.Conn) { mu.Lock(); full++; mu.Unlock() },
		OnBufferEmpty: func(context.Context, *server.Conn) { mu.Lock(); empty++; mu.Unlock() },
	}
	port.OnConnect = func(ctx context.Context, c *server.Conn) {
		runtime.Go(ctx, func(ctx context.Context) {
			for range 20 {
				for range 40 { // 200,000 bytes, in pieces that are gathered
					if _, err := c.Send(ctx, pattern(5000)); err != nil {
						t.Error(err)
						return
					}
				}
				for server.House(c.Socket()).Queued() > 0 {
					runtime.Sleep(ctx, time.Millisecond)
				}
			}
			c.Close()
		})
	}
	h, l := start(t, "tcp", server.Config{Port: port})
	if n, err := io.Copy(io.Discard, dial(t, l)); n != 20*200_000 || err != nil {
		t.Error(n, err)
	}
	h.settled()
	if full != empty {
		t.Errorf("full %d times, empty %d times", full, empty)
	}
}

func TestPanicInBufferCallbacks(t *testing.T) {
	for _, which := range []string{"full", "empty"} {
		t.Run(which, func(t *testing.T) {
			full := make(chan struct{}, 1)
			port := server.Port{
				MaxQueue: 1 << 20, HighWater: 10_000, SendBuffer: 16 << 10,
				OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) { c.Send(ctx, pattern(1<<20)) },
				OnBufferFull: func(context.Context, *server.Conn) {
					full <- struct{}{}
					if which == "full" {
						panic("full")
					}
				},
				OnBufferEmpty: func(context.Context, *server.Conn) {
					if which == "empty" {
						panic("empty")
					}
				},
			}
			d := keep(&port)
			h, l := start(t, "tcp", server.Config{Port: port})
			conn := dial(t, l)
			write(t, conn, "go")
			receive(t, full) // a client that reads at once may leave nothing to queue
			io.Copy(io.Discard, conn)
			receive(t, d.ended)
			if e, ok := errors.AsType[*runtime.PanicError](d.reason); !ok || e.Value != which {
				t.Errorf("the reason is %v", d.reason)
			}
			h.settled()
		})
	}
}

// A paused connection gets nothing until Resume, and loses nothing.
func TestPauseAndResume(t *testing.T) {
	got := make(chan string, 10)
	port := server.Port{EOF: "\n", OnReceive: func(_ context.Context, c *server.Conn, pkt []byte) {
		got <- string(pkt)
		if string(pkt) == "stop\n" {
			c.Pause()
		}
	}}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	write(t, conn, "a\nstop\nb\n")
	for _, want := range []string{"a\n", "stop\n"} {
		if pkt := receive(t, got); pkt != want {
			t.Errorf("%q", pkt)
		}
	}
	write(t, conn, "c\n")
	other := dial(t, l) // shows that the loops have gone on
	for range 2 {
		write(t, other, "other\n")
		if pkt := receive(t, got); pkt != "other\n" {
			t.Errorf("%q while paused", pkt)
		}
	}
	for c := range h.Connections() {
		check(t, h.Resume(c.ID()))
	}
	for _, want := range []string{"b\n", "c\n"} {
		if pkt := receive(t, got); pkt != want {
			t.Errorf("%q", pkt)
		}
	}
	conn.Close()
	other.Close()
	h.settled()
}

// A handler may use its connection from plain goroutines.
func TestHandlerOnAGoroutine(t *testing.T) {
	port := server.Port{EOF: "\n", IdleTimeout: time.Minute, Handle: func(ctx context.Context, c *server.Conn) {
		runtime.Await(ctx, func() (struct{}, error) { echo(ctx, c); return struct{}{}, nil })
	}}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	for i := range 200 {
		trip(t, conn, fmt.Sprintf("%d\n", i))
	}
	conn.Close()
	h.settled()
}

// What receives is not for connections that are served by callbacks.
func TestCallbackConnectionRefusesRecv(t *testing.T) {
	result := make(chan error, 2)
	port := server.Port{TLS: serverTLS(), OnReceive: echoBack, OnConnect: func(ctx context.Context, c *server.Conn) {
		_, err := c.Recv(ctx)
		result <- err
		result <- c.EnableSSL(ctx)
	}}
	_, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	for range 2 {
		if err := receive(t, result); err == nil || !strings.Contains(err.Error(), "callbacks") {
			t.Error(err)
		}
	}
	trip(t, conn, "works")
}

// Value belongs to the connection.
func TestValue(t *testing.T) {
	port := server.Port{
		OnConnect: func(_ context.Context, c *server.Conn) { c.SetValue(new(int)) },
		OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			n := c.Value().(*int)
			*n += len(pkt)
			c.Send(ctx, fmt.Append(nil, *n, "\n"))
		},
	}
	_, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	write(t, conn, "12345")
	expect(t, conn, "5\n")
	write(t, conn, "67")
	expect(t, conn, "7\n")
}

// What AtEnd was given is called once, in order, before OnClose, whatever ends the connection, and
// at once when it has ended.
func TestAtEnd(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		said := make(chan string, 10)
		conns := make(chan *server.Conn, 1)
		port.OnConnect = func(_ context.Context, c *server.Conn) {
			c.AtEnd(func() { said <- "first" })
			conns <- c
		}
		port.OnClose = func(context.Context, *server.Conn, error) { said <- "closed" }
		_, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "x")
		c := receive(t, conns)
		c.AtEnd(func() { said <- "second" }) // from another goroutine
		trip(t, conn, "y")
		reset(conn)
		for _, want := range []string{"first", "second", "closed"} {
			if got := receive(t, said); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		c.AtEnd(func() { said <- "too late" })
		if got := receive(t, said); got != "too late" {
			t.Errorf("got %q", got)
		}
	})
}
