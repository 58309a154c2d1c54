//go:build linux

package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// generous is a server that answers each client with much, and closes.
func generous(size int) server.Port {
	return server.Port{MaxQueue: size, SendBuffer: 16 << 10, OnReceive: func(ctx context.Context, c *server.Conn, _ []byte) {
		c.Send(ctx, pattern(size))
		c.Close()
	}}
}

// greedy asks for much and takes nothing.
func greedy(t *testing.T, l *server.Listener, from string) net.Conn {
	t.Helper()
	conn := dial(t, l, from)
	write(t, conn, "go")
	return conn
}

// Ask for much, have the server close, take nothing, and again: such a client gets no further than
// the bounds, and another one is served.
func TestGreedyClientsAreBounded(t *testing.T) {
	const connections, each = 40, 1 << 20
	port := generous(each)
	port.Linger = time.Hour
	h, l := start(t, "tcp", server.Config{Port: port, MaxConnections: connections})
	for range 5 * connections {
		conn, err := net.Dial("tcp", l.Addr().String())
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		conn.Write([]byte("go"))
	}
	// All of them: whoever comes later could have a good client cut that is slow for a moment.
	until(t, "all have been turned away or cut, or linger", func() bool {
		st := h.Stats()
		return st.Lingering <= connections/4 &&
			st.Cut+st.Refused+uint64(st.Lingering) == 5*connections
	})
	st := h.Stats()
	if st.Lingering > connections/4 || st.Connections > connections || st.Queued > connections*each {
		t.Errorf("%+v", st)
	}
	if !h.logged("connection cut off") || !h.logged(server.ErrLingering.Error()) {
		t.Error("the log doesn't say so")
	}
	conn := dial(t, l)
	write(t, conn, "go")
	expect(t, conn, string(pattern(each)))
	expectEnd(t, conn)
}

// What lingers has a bound in bytes, too, which a single connection doesn't come under.
func TestLingeringBytesAreBounded(t *testing.T) {
	const connections, each, most = 20, 1 << 20, 4 << 20
	port := generous(each)
	port.Linger = time.Hour
	h, l := start(t, "tcp", server.Config{Port: port, MaxLingering: 100 * loops, MaxLingeringBytes: most})
	for range connections {
		greedy(t, l, "127.0.0.2")
	}
	until(t, "most have been cut", func() bool { return h.Stats().Cut >= connections-most/(each/2) })
	until(t, "no more is queued than may be", func() bool { return h.Stats().Queued <= most+loops*each })
	if st := h.Stats(); st.Lingering < loops {
		t.Errorf("%+v", st)
	}
}

// What lingers has no coroutine, and no more room than it needs, also when its client has taken
// most of much.
func TestLingeringCostsLittle(t *testing.T) {
	const connections, each = 50, 1 << 20
	h, l := start(t, "tcp", server.Config{Port: generous(each), MaxLingering: connections * loops})
	greedy(t, l, "127.0.0.1") // what is made once is made
	until(t, "one lingers", func() bool { return h.Stats().Lingering == 1 })
	coroutines, before := len(h.rt.List()), memory()
	for range connections {
		conn := dialNarrow(t, l)
		write(t, conn, "go")
		_, err := io.CopyN(io.Discard, conn, each-128<<10)
		check(t, err)
	}
	until(t, "all linger, and what they have is counted", func() bool {
		st := h.Stats()
		return st.Lingering == 1+connections && 0 < st.Queued && st.Queued < each+connections*128<<10
	})
	if n := len(h.rt.List()); n != coroutines {
		t.Errorf("there are %d coroutines, %d before", n, coroutines)
	}
	const little = 16 << 10 // with the client's side
	cost, queued := int(memory()-before)/connections, (h.Stats().Queued-each)/connections
	if t.Logf("%d bytes each, for %d", cost, queued); cost > 2*max(queued, 32<<10)+little {
		t.Errorf("each costs %d bytes, for %d", cost, queued)
	}
}

// memory returns what the process uses.
func memory() int64 {
	heap, stack := childtest.MemoryInUse()
	return heap + stack
}

// What lingers counts for its client's address.
func TestLingeringCountsForTheAddress(t *testing.T) {
	h, l := start(t, "tcp", server.Config{Port: generous(1 << 20), MaxPerAddress: 2})
	first := greedy(t, l, "127.0.0.2")
	greedy(t, l, "127.0.0.2")
	until(t, "both linger", func() bool { return h.Stats().Lingering == 2 })
	if st := h.Stats(); st.Connections != 2 || st.Closed != 2 {
		t.Errorf("%+v", st)
	}
	until(t, "what they have queued is counted", func() bool { return h.Stats().Queued > 1<<20 })
	if !turnedAway(t, l, "127.0.0.2") {
		t.Error("a third one is served")
	}
	greedy(t, l, "127.0.0.3")
	io.Copy(io.Discard, first)
	until(t, "one place is free", func() bool { return h.Stats().Connections == 2 })
	conn := dial(t, l, "127.0.0.2")
	write(t, conn, "go")
	expect(t, conn, string(pattern(1<<20)))
}

// Of those that linger, one that is being taken is not reset for one that isn't.
func TestLingeringIsResetByItsSilence(t *testing.T) {
	const size = 4 << 20
	port := generous(size)
	port.Linger = time.Hour
	h, l := start(t, "tcp", server.Config{Port: port, MaxLingering: 2 * loops})
	ask := func() net.Conn {
		conn := dialNarrow(t, l)
		write(t, conn, "go")
		return conn
	}
	var taken []net.Conn
	for range loops {
		taken = append(taken, ask())
	}
	until(t, "they linger", func() bool { return h.Stats().Lingering == loops })
	for range loops {
		ask()
	}
	until(t, "as many linger as may", func() bool { return h.Stats().Lingering == 2*loops })
	// The clients' kernels take a little more for a while, when they are asked to.
	silent, queued := time.Now(), 0
	until(t, "nothing was taken for a second", func() bool {
		if q := h.Stats().Queued; q != queued {
			silent, queued = time.Now(), q
		}
		return time.Since(silent) > time.Second
	})
	for _, conn := range taken {
		_, err := io.CopyN(io.Discard, conn, 512<<10)
		check(t, err)
	}
	until(t, "that was noticed", func() bool { return h.Stats().Queued < queued-loops*256<<10 })
	for range loops {
		ask()
	}
	until(t, "others were cut", func() bool { return h.Stats().Cut == loops })
	for _, conn := range taken {
		rest, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(rest, pattern(size)[512<<10:]) {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
	}
}

// Shutdown waits for what is queued for clients that take their time, in both styles.
func TestShutdownDelivers(t *testing.T) {
	const size = 8 << 20
	for name, port := range map[string]server.Port{
		"callbacks": {OnReceive: func(ctx context.Context, c *server.Conn, _ []byte) { c.Send(ctx, pattern(size)) }},
		"callbacks, whose Close would deliver nothing": {
			OnReceive: func(ctx context.Context, c *server.Conn, _ []byte) { c.Send(ctx, pattern(size)) },
			Linger:    -1,
		},
		"handler": {Handle: func(ctx context.Context, c *server.Conn) {
			c.Recv(ctx)
			c.Send(ctx, pattern(size))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			port.MaxQueue, port.SendBuffer = size, 16<<10
			h, l := start(t, "tcp", server.Config{Port: port, MaxLingering: 1})
			var clients sync.WaitGroup
			asked := make(chan struct{}, 10)
			for range cap(asked) {
				conn := dialNarrow(t, l)
				write(t, conn, "go")
				expect(t, conn, string(pattern(1)))
				clients.Go(func() {
					<-asked
					rest, err := io.ReadAll(conn)
					if err != nil || len(rest) != size-1 {
						t.Errorf("%d bytes, %v", len(rest), err)
					}
				})
			}
			until(t, "much is sent", func() bool { return h.Stats().PacketsIn == uint64(cap(asked)) })
			over := make(chan error, 1)
			go func() { over <- h.Shutdown(inTime(t)) }()
			untilClosed(t, l)
			select {
			case err := <-over:
				t.Fatalf("Shutdown has not waited: %v", err)
			default:
			}
			close(asked)
			clients.Wait()
			check(t, receive(t, over))
			h.settled()
		})
	}
}

// A Shutdown whose time is over says what it has cut off, and nothing lives longer.
func TestShutdownSaysWhatItCuts(t *testing.T) {
	port := generous(1 << 20)
	port.Linger = time.Hour
	h, l := start(t, "tcp", server.Config{Port: port})
	other := h.listenPort("tcp", server.Port{Handle: func(ctx context.Context, c *server.Conn) {
		c.Recv(ctx)
		c.Send(ctx, pattern(4<<20))
	}, SendBuffer: 16 << 10})
	lingering, sending := greedy(t, l, "127.0.0.1"), greedy(t, other, "127.0.0.1")
	expect(t, sending, string(pattern(1)))
	until(t, "one lingers", func() bool { return h.Stats().Lingering == 1 })
	ctx, cancel := context.WithCancelCause(context.Background())
	late := errors.New("too late")
	cancel(late)
	err := h.Shutdown(ctx)
	wantError(t, "Shutdown", err, late)
	cut, ok := errors.AsType[*server.CutError](err)
	if !ok || cut.Connections != 2 || cut.Bytes < 100_000 {
		t.Errorf("%v", err)
	}
	for _, conn := range []net.Conn{lingering, sending} {
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, not a reset", err)
		}
	}
	h.settled()
}

// Clients that have just been accepted may say their first word: each of them is answered. Those
// that have nothing to say don't keep Shutdown for longer than five seconds.
func TestShutdownLetsClientsSayTheirFirstWord(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.EOF = "\n"
		h, l := start(t, "tcp", server.Config{Port: port})
		var fresh []net.Conn
		for range 32 {
			fresh = append(fresh, dial(t, l))
		}
		until(t, "all stand", func() bool { return h.Stats().Opened == 32 })
		begin := time.Now()
		over := make(chan error, 1)
		go func() { over <- h.Shutdown(inTime(t)) }()
		untilClosed(t, l)
		for _, conn := range fresh[:31] {
			trip(t, conn, "hello\n")
			expectEnd(t, conn)
		}
		expectEnd(t, fresh[31])
		check(t, receive(t, over))
		if took := time.Since(begin); took > 8*time.Second || took < 3*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}

// A file waits behind what is queued. A client that takes that slowly is not one that takes
// nothing, though it is the sender of the file who notices.
func TestSlowReaderOfAFileIsNotStalled(t *testing.T) {
	const size = 1 << 20
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, pattern(10_000), 0o600))
	port := server.Port{
		MaxQueue: 2 * size, SendBuffer: 16 << 10, WriteTimeout: 500 * time.Millisecond,
		OnReceive: func(ctx context.Context, c *server.Conn, _ []byte) {
			c.Send(ctx, pattern(size))
			runtime.Go(ctx, func(ctx context.Context) {
				if _, err := c.SendFile(ctx, file, 0, 0); err != nil {
					t.Error(err)
				}
				c.Close()
			})
		},
	}
	_, l := start(t, "tcp", server.Config{Port: port})
	conn := dialNarrow(t, l)
	write(t, conn, "go")
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	got := 0
	for buf := make([]byte, 8<<10); ; <-tick.C { // two seconds in all
		n, err := io.ReadFull(conn, buf)
		got += n
		if err != nil {
			break
		}
	}
	if got != size+10_000 {
		t.Errorf("%d bytes came", got)
	}
}
