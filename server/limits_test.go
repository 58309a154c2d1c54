//go:build linux

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// turnedAway reports whether the server closes a connection without serving it.
func turnedAway(t testing.TB, l *server.Listener, from string) bool {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", l.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return true
	}
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	err = writeRead(conn, "hello", make([]byte, 5))
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return err != nil
}

func TestMaxConnections(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		h, l := start(t, "tcp", server.Config{Port: port, MaxConnections: 3})
		var conns []net.Conn
		for range 3 {
			conn := dial(t, l)
			trip(t, conn, "hello")
			conns = append(conns, conn)
		}
		for range 5 {
			if !turnedAway(t, l, "127.0.0.1") {
				t.Error("a fourth connection is served")
			}
		}
		if st := h.Stats(); st.Refused != 5 || st.Accepted != 3 || st.Connections != 3 {
			t.Errorf("%+v", st)
		}
		conns[0].Close()
		until(t, "one has ended", func() bool { return h.Stats().Connections == 2 })
		trip(t, dial(t, l), "hello")
	})
}

func TestMaxPerAddress(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		var rejected atomic.Int32
		port.OnReject = func(_ context.Context, c *server.Conn, reason error) {
			wantError(t, "the reason", reason, server.ErrMaxPerAddress)
			rejected.Add(1)
		}
		h, l := start(t, "tcp", server.Config{Port: port, MaxPerAddress: 2})
		var conns []net.Conn
		for range 3 {
			for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
				if len(conns) == 4 {
					if !turnedAway(t, l, from) {
						t.Errorf("a third connection of %s is served", from)
					}
					continue
				}
				conn := dial(t, l, from)
				trip(t, conn, "hello")
				conns = append(conns, conn)
			}
		}
		until(t, "those that were turned away are gone", func() bool { return rejected.Load() == 2 && h.Stats().Opening == 0 })
		if st := h.Stats(); st.Refused != 2 || st.Connections != 4 || st.Opened != 4 {
			t.Errorf("%+v", st)
		}
		conns[0].Close()
		until(t, "one has ended", func() bool { return h.Stats().Connections == 3 })
		trip(t, dial(t, l, "127.0.0.2"), "hello")
		for c := range h.Connections() {
			c.Close()
		}
		h.settled()
	})
}

// A reader that never reads costs bounded memory, and is dropped by WriteTimeout, however it is
// sent to.
func TestReaderThatNeverReads(t *testing.T) {
	const queue = 1 << 20
	outcome := make(chan error, 1)
	for name, port := range map[string]server.Port{
		"handler": {Handle: func(ctx context.Context, c *server.Conn) {
			_, err := c.Send(ctx, pattern(16<<20))
			outcome <- err
		}},
		"callbacks": {OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			for {
				if _, err := c.Send(ctx, pattern(10_000)); err != nil {
					outcome <- err
					return
				}
			}
		}},
		"by ID, to a handler": {Handle: func(ctx context.Context, c *server.Conn) {
			c.Recv(ctx)
			for {
				if err := c.Server().Send(c.ID(), pattern(10_000)); err != nil {
					outcome <- err
					break
				}
			}
			c.Recv(ctx)
		}},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls %v", name, secure), func(t *testing.T) {
				port.MaxQueue, port.WriteTimeout, port.SendBuffer, port.TLS = queue, 300*time.Millisecond, 16<<10, serverTLS()
				d := keep(&port)
				network := "tcp"
				if secure {
					network = "tls"
				}
				h, l := start(t, network, server.Config{Port: port})
				conn := dialAs(t, l, secure)
				write(t, conn, "go")
				if err := receive(t, outcome); name == "handler" {
					wantError(t, "Send", err, runtime.ErrTimeout)
				} else {
					wantError(t, "Send", err, socket.ErrQueueFull)
				}
				receive(t, d.ended)
				if name != "handler" {
					d.closedWith(t, server.ErrStalled)
				}
				h.settled()
			})
		}
	}
}

// A reader that takes something now and then is not dropped: WriteTimeout is for those who take
// nothing.
func TestSlowReaderIsNotDropped(t *testing.T) {
	const total = 3 << 20
	port := server.Port{MaxQueue: 4 << 20, WriteTimeout: 2 * time.Second, SendBuffer: 16 << 10, OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
		if _, err := c.Send(ctx, pattern(total)); err != nil {
			t.Error(err)
		}
	}}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dialNarrow(t, l)
	write(t, conn, "go")
	began, got := time.Now(), 0
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 8<<10)
	for got < total {
		if time.Since(began) < 5*time.Second { // longer than WriteTimeout
			<-tick.C
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %d bytes and %v: %v", got, time.Since(began), err)
		}
		got += n
	}
	conn.Close()
	h.settled()
}

// Pushes to a handler's connection, which its client takes, never look like a stall.
func TestPushesAreNoStall(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.WriteTimeout, port.SendBuffer, port.MaxQueue = 500*time.Millisecond, 16<<10, 8<<20
		h, l := start(t, "tcp", server.Config{Port: port})
		conn := dialNarrow(t, l)
		trip(t, conn, "hello")
		var id server.ID
		for c := range h.Connections() {
			id = c.ID()
		}
		until(t, "enough was sent", func() bool { // two seconds long, there is always something queued
			if h.Stats().BytesOut > 40<<20 {
				return true
			}
			check(t, h.Send(id, pattern(200_000)))
			if _, err := io.CopyN(io.Discard, conn, 200_000-1); err != nil {
				t.Fatal(err)
			}
			return false
		})
	})
}

func TestIdleTimeoutAndProtect(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.IdleTimeout = 2 * time.Second
		port.EOF = "\n"
		var mu sync.Mutex
		ended := make(map[server.ID]error)
		port.OnClose = func(_ context.Context, c *server.Conn, reason error) {
			mu.Lock()
			defer mu.Unlock()
			ended[c.ID()] = reason
		}
		h, l := start(t, "tcp", server.Config{Port: port})
		quiet, busy, protected := dial(t, l), dial(t, l), dial(t, l)
		trip(t, protected, "x\n")
		for c := range h.Connections() {
			if c.RemoteAddr().String() == protected.LocalAddr().String() {
				check(t, h.Protect(c.ID(), true))
				if info, err := h.Info(c.ID()); err != nil || !info.Protected {
					t.Errorf("%+v, %v", info, err)
				}
			}
		}
		write(t, quiet, "half a packet is none")
		over := make(chan struct{})
		go func() {
			defer close(over)
			io.ReadAll(quiet)
		}()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for gone := false; !gone; {
			select {
			case <-over:
				gone = true
			case <-tick.C:
				trip(t, busy, "y\n")
			}
		}
		trip(t, busy, "y\n")
		trip(t, protected, "still there\n")
		for c := range h.Connections() {
			c.Protect(false)
		}
		expectEnd(t, protected)
		h.settled()
		mu.Lock()
		defer mu.Unlock()
		for id, reason := range ended {
			wantError(t, fmt.Sprint(id), reason, server.ErrIdle)
		}
	})
}

// A queue that overflows from elsewhere ends the connection, since nothing that was taken may be
// lost in silence.
func TestOverflowFromElsewhere(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.MaxQueue, port.SendBuffer = 100_000, 16<<10
		d := keep(&port)
		h, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "hello")
		for c := range h.Connections() {
			wantError(t, "too much at once", h.Send(c.ID(), pattern(100_001)), socket.ErrQueueFull)
			until(t, "the connection has ended", func() bool {
				for range 100 {
					err := h.Send(c.ID(), pattern(9000))
					switch {
					case err == nil, errors.Is(err, socket.ErrQueueFull): // as much is on its way to the loop
						continue
					case !errors.Is(err, server.ErrNoConnection) && !errors.Is(err, net.ErrClosed):
						t.Error(err)
					}
					return true
				}
				return false
			})
		}
		d.closedWith(t, server.ErrOverflow)
		h.settled()
	})
}

// A process that has no descriptors left doesn't spin, accepts again when there are some, and has
// told the log once.
func TestNoDescriptorsLeft(t *testing.T) {
	if !childtest.Alone(t) {
		return
	}
	eachStyle(t, func(t *testing.T, port server.Port) {
		h, l := start(t, "tcp", server.Config{Port: port, MaxConnections: 1000})
		trip(t, dial(t, l), "hello")
		var old unix.Rlimit
		check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // the client's, before there is none
		check(t, err)
		defer unix.Close(fd)
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}))
		addr := l.Addr().(*net.TCPAddr)
		check(t, unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}))
		until(t, "the log is told", func() bool { return h.logged("too many open files") })
		before := childtest.CPUTime()
		began := time.Now()
		until(t, "a second has passed", func() bool { return time.Since(began) > time.Second })
		if used := childtest.CPUTime() - before; used > 500*time.Millisecond {
			t.Errorf("%v of CPU in a second", used)
		}
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
		if _, err := unix.Write(fd, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		limit := unix.NsecToTimeval(int64(patience))
		check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
		if n, err := unix.Read(fd, got); string(got[:max(0, n)]) != "hello" {
			t.Errorf("%q, %v", got[:max(0, n)], err)
		}
		if n := h.log.FilterMessageSnippet("too many open files").Len(); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		trip(t, dial(t, l), "hello")
	})
}

// 16 MiB that were sent before the end arrive whole, at a reader with little room that takes small
// pieces.
func TestAllArrivesAtASlowReader(t *testing.T) {
	const size = 16 << 20
	ends := map[string]server.Port{
		"handler": {Handle: func(ctx context.Context, c *server.Conn) {
			if _, err := c.Send(ctx, pattern(size)); err != nil {
				t.Error(err)
			}
		}},
		"handler, small sends": {Handle: func(ctx context.Context, c *server.Conn) {
			for at := 0; at < size; at += 4096 {
				if _, err := c.Send(ctx, pattern(size)[at:at+4096]); err != nil {
					t.Error(err)
					return
				}
			}
		}},
		"callbacks, one large queue": {MaxQueue: size, Linger: patience, OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			if _, err := c.Send(ctx, pattern(size)); err != nil {
				t.Error(err)
			}
			c.Close()
		}},
		"callbacks, OnBufferEmpty": sendByMarks(size),
	}
	for name, port := range ends {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls %v", name, secure), func(t *testing.T) {
				network := "tcp"
				if port.TLS = serverTLS(); secure {
					network = "tls"
				}
				port.SendBuffer = 32 << 10
				h, l := start(t, network, server.Config{Port: port})
				var conn net.Conn = dialNarrow(t, l)
				if secure {
					conn = tlsOver(conn)
				}
				write(t, conn, "go")
				got, buf := 0, make([]byte, 3000)
				for {
					n, err := conn.Read(buf)
					if !bytes.Equal(buf[:n], pattern(size)[got:min(size, got+n)]) {
						t.Fatalf("something else than was sent, after %d bytes", got)
					}
					got += n
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatalf("after %d bytes: %v", got, err)
					}
					if got%(64<<10) < n {
						goruntime.Gosched()
					}
				}
				if got != size {
					t.Errorf("%d bytes", got)
				}
				conn.Close()
				h.settled()
			})
		}
	}
}

// sendByMarks is a Port whose connections send so many bytes, as much at a time as there is room
// for, and close.
func sendByMarks(size int) server.Port {
	more := func(ctx context.Context, c *server.Conn) {
		left, _ := c.Value().([]byte)
		for len(left) > 0 {
			n := min(len(left), 20_000)
			if _, err := c.Send(ctx, left[:n]); err != nil {
				break // OnBufferEmpty goes on
			}
			left = left[n:]
		}
		if c.SetValue(left); len(left) == 0 {
			c.Close()
		}
	}
	return server.Port{
		MaxQueue: 200_000,
		OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
			c.SetValue(pattern(size))
			more(ctx, c)
		},
		OnBufferEmpty: more,
	}
}

// Idle connections end when their time is over, never before, and a tenth of it later at most than
// a timer of Go's: a busy machine has both wait, and once in a while only one of them.
func TestIdleTimesAreExact(t *testing.T) {
	for _, limit := range []time.Duration{200 * time.Millisecond, time.Second} {
		t.Run(limit.String(), func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				port.IdleTimeout = limit
				_, l := start(t, "tcp", server.Config{Port: port})
				const n = 30
				early, late := make(chan time.Duration, n), make(chan time.Duration, n)
				for range n {
					conn := dial(t, l)
					time.AfterFunc(time.Duration(rand.Int64N(int64(limit)/2)), func() {
						sent := time.Now()
						conn.Write([]byte("hello"))
						io.ReadFull(conn, make([]byte, 5))
						fired := make(chan time.Time, 1)
						time.AfterFunc(limit, func() { fired <- time.Now() })
						conn.Read(make([]byte, 1))
						ended := time.Now()
						early <- limit - ended.Sub(sent)
						late <- ended.Sub(<-fired)
					})
				}
				var all []time.Duration
				for range n {
					all = append(all, receive(t, late))
					if d := receive(t, early); d > 0 {
						t.Errorf("one has ended %v too early", d)
					}
				}
				slices.Sort(all)
				if median := all[n/2]; median > limit/10 {
					t.Errorf("half of them have ended %v late", median)
				}
			})
		})
	}
}
