//go:build linux

package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// ids returns the IDs of the connections, when there are n of them.
func ids(t testing.TB, h *house, n int) (all []server.ID) {
	t.Helper()
	until(t, fmt.Sprintf("%d connections", n), func() bool {
		all = all[:0]
		for c := range h.Connections() {
			all = append(all, c.ID())
		}
		return len(all) == n
	})
	return all
}

func TestByID(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		h, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "hello")
		id := ids(t, h, 1)[0]
		if id == 0 || !h.Exists(id) || h.Conn(id).ID() != id {
			t.Error(id)
		}
		check(t, h.Send(id, []byte("pushed")))
		expect(t, conn, "pushed")
		check(t, h.Bind(id, 42))
		info, err := h.Info(id)
		check(t, err)
		if info.ID != id || info.UID != 42 || info.Listener.String() != l.Addr().String() || info.Remote.String() != conn.LocalAddr().String() ||
			info.Loop < 0 || info.Loop >= loops || info.TLS || info.Protected ||
			time.Since(info.Connected) > patience || time.Since(info.Connected) < 0 || info.LastReceive.Before(info.Connected) {
			t.Errorf("%+v", info)
		}
		check(t, h.Pause(id))
		check(t, h.Resume(id))
		trip(t, conn, "still there")
		check(t, h.CloseConn(id, false))
		expectEnd(t, conn)
		h.settled()
		for _, gone := range []server.ID{id, 0, 12345, ^server.ID(0)} {
			_, infoErr := h.Info(gone)
			for what, err := range map[string]error{
				"Send": h.Send(gone, []byte("x")), "CloseConn": h.CloseConn(gone, true), "Pause": h.Pause(gone), "Resume": h.Resume(gone),
				"Protect": h.Protect(gone, true), "Bind": h.Bind(gone, 1), "Info": infoErr,
			} {
				wantError(t, what, err, server.ErrNoConnection)
			}
			if h.Exists(gone) || h.Conn(gone) != nil {
				t.Errorf("%d exists", gone)
			}
		}
	})
}

// CloseConn with reset drops what is queued.
func TestCloseConnResets(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		h, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "hello")
		id := ids(t, h, 1)[0]
		check(t, h.CloseConn(id, true))
		if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%v, not a reset", err)
		}
		if err := h.CloseConn(id, true); !errors.Is(err, server.ErrNoConnection) {
			t.Error(err)
		}
		h.settled()
	})
}

// IDs are never used again, and each is found on its own loop.
func TestIDsAreUnique(t *testing.T) {
	h, l := start(t, "tcp", server.Config{Port: server.Port{OnReceive: echoBack}})
	seen := make(map[server.ID]bool)
	for range 20 {
		conn := dial(t, l)
		trip(t, conn, "hello")
		id := ids(t, h, 1)[0]
		if seen[id] {
			t.Errorf("%d again", id)
		}
		seen[id] = true
		conn.Close()
		h.settled()
	}
}

// Callbacks and handlers reach the connections of other loops, and each other's order is kept: a
// relay between pairs of clients.
func TestRelayBetweenLoops(t *testing.T) {
	var peers sync.Map // ID of each to ID of the other
	relay := func(c *server.Conn, pkt []byte) {
		if peer, ok := peers.Load(c.ID()); ok {
			if err := c.Server().Send(peer.(server.ID), pkt); err != nil {
				t.Error(err)
			}
		}
	}
	for name, port := range map[string]server.Port{
		"callbacks": {OnReceive: func(_ context.Context, c *server.Conn, pkt []byte) { relay(c, pkt) }},
		"handler": {Handle: func(ctx context.Context, c *server.Conn) {
			for {
				pkt, err := c.Recv(ctx)
				if err != nil {
					return
				}
				relay(c, pkt)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			port.EOF = "\n"
			h, l := start(t, "tcp", server.Config{Port: port})
			const pairs, lines = 6, 2000
			var clients sync.WaitGroup
			for i := range pairs {
				a, b := dial(t, l), dial(t, l)
				all := ids(t, h, 2*i+2)
				var ends []server.ID
				for _, id := range all {
					if _, paired := peers.Load(id); !paired {
						ends = append(ends, id)
					}
				}
				peers.Store(ends[0], ends[1])
				peers.Store(ends[1], ends[0])
				for _, conn := range []net.Conn{a, b} {
					clients.Go(func() {
						for j := range lines {
							if _, err := fmt.Fprintf(conn, "line %d\n", j); err != nil {
								t.Error(err)
								return
							}
						}
					})
					clients.Go(func() {
						var want strings.Builder
						for j := range lines {
							fmt.Fprintf(&want, "line %d\n", j)
						}
						got := make([]byte, want.Len())
						if _, err := io.ReadFull(conn, got); err != nil || string(got) != want.String() {
							t.Errorf("lines are lost or out of order: %v", err)
						}
					})
				}
			}
			clients.Wait()
			peers.Clear()
		})
	}
}

// Everything by ID at once, from goroutines, coroutines of all loops and callbacks, as connections
// come and go.
func TestByIDConcurrently(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.IdleTimeout = time.Minute
		port.EOF = "\n"
		h, l := start(t, "tcp", server.Config{Port: port})
		began := time.Now()
		busy := func() bool { return time.Since(began) < time.Second }
		act := func() {
			for c := range h.Connections() {
				id := c.ID()
				h.Bind(id, int64(id))
				h.Protect(id, id%2 == 0)
				h.Pause(id)
				h.Send(id, []byte("news\n"))
				h.Resume(id)
				h.Info(id)
				c.UID()
				c.RemoteAddr()
				c.LocalAddr()
				h.Stats()
				if id%7 == 0 {
					h.CloseConn(id, id%2 == 0)
				}
			}
			h.Broadcast([]byte("all\n"), func(c *server.Conn) bool { return c.ID()%3 == 0 })
		}
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				for busy() {
					act()
				}
			})
			all.Add(1)
			h.rt.Go(func(ctx context.Context) {
				defer all.Done()
				for busy() {
					act()
					runtime.Yield(ctx)
				}
			})
		}
		for range 8 {
			all.Go(func() {
				for busy() {
					conn, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						continue // reset before it was told that it is connected
					}
					conn.SetDeadline(time.Now().Add(patience))
					for i := range 20 {
						if _, err := fmt.Fprintf(conn, "%d\n", i); err != nil {
							break
						}
						if _, err := conn.Read(make([]byte, 100)); err != nil {
							break
						}
					}
					conn.Close()
				}
			})
		}
		all.Wait()
		h.settled()
	})
}

func TestBroadcast(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		h, l := start(t, "tcp", server.Config{Port: port})
		var conns []net.Conn
		for range 10 {
			conn := dial(t, l)
			trip(t, conn, "hello")
			conns = append(conns, conn)
		}
		ids(t, h, 10)
		if n := h.Broadcast([]byte("all"), nil); n != 10 {
			t.Errorf("sent on %d", n)
		}
		some := 0
		for c := range h.Connections() {
			if some++; some == 3 {
				break
			}
			_ = c
		}
		if n := h.Broadcast([]byte("odd"), func(c *server.Conn) bool { return c.Info().Loop == 0 }); n != 5 {
			t.Errorf("sent on %d", n)
		}
		for _, conn := range conns {
			expect(t, conn, "all")
		}
	})
}

// What is sent by ID while a handler is in the middle of a long Send, or a file, comes behind it,
// whole and in order.
func TestSendIntoTheMiddle(t *testing.T) {
	const size = 2 << 20
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, pattern(size), 0o600))
	began := make(chan struct{}, 1)
	long := map[string]func(ctx context.Context, c *server.Conn) error{
		"Send": func(ctx context.Context, c *server.Conn) error {
			began <- struct{}{}
			_, err := c.Send(ctx, pattern(size))
			return err
		},
		"SendFile": func(ctx context.Context, c *server.Conn) error {
			began <- struct{}{}
			n, err := c.SendFile(ctx, file, 0, 0)
			if n != size && err == nil {
				err = fmt.Errorf("%d bytes", n)
			}
			return err
		},
		"Send, goroutine": func(ctx context.Context, c *server.Conn) error {
			_, err := runtime.Await(ctx, func() (int, error) {
				began <- struct{}{}
				return c.Send(ctx, pattern(size))
			})
			return err
		},
	}
	for name, send := range long {
		for _, secure := range []bool{false, true} {
			for _, style := range []string{"handler", "callbacks"} {
				if style == "callbacks" && name != "SendFile" {
					continue // Send doesn't wait there
				}
				t.Run(fmt.Sprintf("%s/tls %v/%s", name, secure, style), func(t *testing.T) {
					port := server.Port{TLS: serverTLS(), SendBuffer: 32 << 10}
					if style == "handler" {
						port.Handle = func(ctx context.Context, c *server.Conn) {
							c.Recv(ctx)
							check(t, send(ctx, c))
							c.Recv(ctx)
						}
					} else {
						port.OnReceive = func(ctx context.Context, c *server.Conn, pkt []byte) {
							runtime.Go(ctx, func(ctx context.Context) { check(t, send(ctx, c)) })
						}
					}
					network := "tcp"
					if secure {
						network = "tls"
					}
					h, l := start(t, network, server.Config{Port: port})
					var conn net.Conn = dialNarrow(t, l)
					if secure {
						conn = tlsOver(conn)
					}
					write(t, conn, "go")
					receive(t, began)
					expect(t, conn, string(pattern(100_000))) // it is under way
					id := ids(t, h, 1)[0]
					var want strings.Builder
					for i := range 100 {
						message := fmt.Sprintf("message %d\n", i)
						check(t, h.Send(id, []byte(message)))
						want.WriteString(message)
					}
					rest := make([]byte, size-100_000)
					_, err := io.ReadFull(conn, rest)
					check(t, err)
					if string(rest) != string(pattern(size)[100_000:]) {
						t.Error("something has come in between")
					}
					expect(t, conn, want.String())
					conn.Close()
					h.settled()
				})
			}
		}
	}
}

// Several goroutines send to one connection by ID: each message arrives whole, and each goroutine's
// in order.
func TestManySendersOfOneConnection(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.MaxQueue = 64 << 20
		h, l := start(t, "tcp", server.Config{Port: port})
		conn := dial(t, l)
		trip(t, conn, "hello")
		id := ids(t, h, 1)[0]
		const senders, each = 4, 500
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				for i := range each {
					if err := h.Send(id, fmt.Appendf(nil, "%d %d %s\n", s, i, strings.Repeat("x", i*10))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		next, lines := make([]int, senders), bufio.NewReader(conn)
		for range senders * each {
			var s, i int
			var text string
			line, err := lines.ReadString('\n')
			check(t, err)
			fmt.Sscanf(line, "%d %d %s\n", &s, &i, &text) // the first has no text
			if i != next[s] || len(text) != i*10 {
				t.Fatalf("sender %d: message %d with %d bytes, want message %d", s, i, len(text), next[s])
			}
			next[s]++
		}
		all.Wait()
	})
}

// Send fails for a connection that is closed already, and says so.
func TestSendAfterClose(t *testing.T) {
	result := make(chan error, 4)
	port := server.Port{OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
		result <- c.Close()
		result <- c.Close()
		_, err := c.Send(ctx, pkt)
		result <- err
		result <- c.Server().Send(c.ID(), pkt)
	}}
	h, l := start(t, "tcp", server.Config{Port: port})
	conn := dial(t, l)
	write(t, conn, "x")
	check(t, receive(t, result))
	wantError(t, "second Close", receive(t, result), net.ErrClosed)
	wantError(t, "Send", receive(t, result), net.ErrClosed)
	wantError(t, "Send by ID", receive(t, result), server.ErrNoConnection)
	expectEnd(t, conn)
	h.settled()
}
