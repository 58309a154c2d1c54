package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// Push works from everywhere, and each goroutine's messages stay in order.
func TestPushFromAnywhere(t *testing.T) {
	const pushers, each = 8, 200
	conns := make(chan *websocket.Conn, 1)
	config := echoing()
	config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { conns <- c }
	h := start(t, "tcp", config)
	c := h.dial("/", websocket.ClientConfig{})
	far := receive(t, conns)
	if !h.s.IsEstablished(far.ID()) || h.s.Conn(far.ID()) != far {
		t.Error("it isn't found")
	}
	for p := range pushers {
		send := func(ctx context.Context) {
			for i := range each {
				var err error
				if i%2 == 0 {
					_, err = h.s.Push(far.ID(), fmt.Appendf(nil, "%d %d", p, i), websocket.Text)
				} else {
					_, err = far.Push(fmt.Appendf(nil, "%d %d", p, i), websocket.Text)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
		if p%2 == 0 {
			go send(h.ctx)
		} else {
			runtime.GoSpread(h.ctx, send)
		}
	}
	next := make([]int, pushers)
	for range pushers * each {
		m, err := c.Recv(h.inTime())
		check(t, err)
		var p, i int
		fmt.Sscanf(string(m.Data), "%d %d", &p, &i)
		if next[p] != i {
			t.Fatalf("%d came from %d, want %d", i, p, next[p])
		}
		next[p]++
	}
	check(t, h.s.Disconnect(far.ID(), 4001, "enough"))
	_, err := c.Recv(h.inTime())
	if e := wantClose(t, err, 4001); e.Reason != "enough" || !e.Clean {
		t.Errorf("%+v", e)
	}
	leaktest.Until(t, "it is gone", func() bool { return h.s.Conn(far.ID()) == nil })
	if _, err := h.s.Push(far.ID(), nil, websocket.Text); !errors.Is(err, server.ErrNoConnection) {
		t.Errorf("Push to one that is gone: %v", err)
	}
	_, err = far.Push(nil, websocket.Text)
	wantClose(t, err, 4001)
}

// A peer that takes nothing is bounded: its messages are dropped, or it is told to come again later.
func TestSlowReceiver(t *testing.T) {
	for name, drop := range map[string]bool{"drop": true, "close": false} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *websocket.Conn, 1)
			ends := make(chan int, 1)
			config := echoing()
			config.MaxQueue = 64 << 10
			config.CloseTimeout = 200 * time.Millisecond
			config.Server.SendBuffer = 16 << 10
			config.OnSlow = func(*websocket.Conn) bool { return drop }
			config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { conns <- c }
			config.OnClose = func(_ context.Context, c *websocket.Conn, code int, _ string, _ bool) {
				if !drop && !errors.Is(c.Err(), websocket.ErrSlow) {
					t.Errorf("%v", c.Err())
				}
				ends <- code
			}
			h := start(t, "tcp", config)
			h.upgraded("/")
			c := receive(t, conns)
			statuses := map[websocket.Status]int{}
			message := bytes.Repeat([]byte("x"), 10_000)
			leaktest.Until(t, "the queue is full", func() bool {
				status, err := c.Push(message, websocket.Binary)
				if err != nil && drop {
					t.Fatal(err)
				}
				statuses[status]++
				return statuses[websocket.Dropped] > 0
			})
			if !drop {
				if code := receive(t, ends); code != websocket.StatusTryAgainLater {
					t.Errorf("closed with %d", code)
				}
				return
			}
			if !c.Established() {
				t.Errorf("%v", statuses)
			}
			if st := h.s.Stats(); st.Queued > 300<<10 {
				t.Errorf("%d bytes are queued", st.Queued)
			}
			c.Abort()
			receive(t, ends)
		})
	}
}

// Recv and Push hold back a peer that sends faster than is received, and lose nothing.
func TestRecvHoldsBack(t *testing.T) {
	const messages = 5000
	h := start(t, "tcp", websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		next := 0
		for m, err := range c.Messages(ctx) {
			if err != nil {
				if next < messages {
					t.Errorf("after %d: %v", next, err)
				}
				return
			}
			if string(m.Data[:4]) != fmt.Sprintf("%04d", next) {
				t.Errorf("got %.4s, want %d", m.Data, next)
				return
			}
			if next++; next%500 == 0 {
				runtime.Sleep(ctx, time.Millisecond)
			}
			if next == messages {
				c.Push([]byte("all"), websocket.Text)
			}
		}
	}})
	c := h.dial("/", websocket.ClientConfig{})
	for i := range messages {
		if status, err := c.Push([]byte(fmt.Sprintf("%04d%s", i, strings.Repeat("x", 2000))), websocket.Text); err != nil {
			t.Fatal(err)
		} else if status == websocket.BackPressure {
			check(t, c.Drain(h.inTime()))
		}
	}
	h.want(c, websocket.Text, "all")
}

// Messages in fragments, both ways: a Writer's are one message to Recv, and pieces with Pieces.
func TestFragments(t *testing.T) {
	for name, compression := range map[string]websocket.Compression{"plain": {}, "deflate": {Enabled: true}} {
		t.Run(name, func(t *testing.T) {
			sizes := make(chan int, 1000)
			options := websocket.Options{Compression: compression, Pieces: true, MaxMessage: 10 << 20}
			total := 0
			options.OnMessage = func(_ context.Context, c *websocket.Conn, m websocket.Message) {
				if total += len(m.Data); !m.More {
					sizes <- total
					total = 0
				}
			}
			h := start(t, "tcp", websocket.Config{Options: options})
			c := h.dial("/", websocket.ClientConfig{Options: websocket.Options{Compression: compression}})
			w, err := c.Writer(h.inTime(), websocket.Binary)
			check(t, err)
			if _, err := c.Writer(h.inTime(), websocket.Binary); err == nil {
				t.Error("a second Writer")
			}
			for range 100 {
				_, err := w.Write(bytes.Repeat([]byte("abc"), 10_000))
				check(t, err)
			}
			check(t, c.Ping(nil))
			check(t, w.Close())
			if n := receive(t, sizes); n != 3_000_000 {
				t.Errorf("%d bytes", n)
			}
			push(t, c, "next")
			if n := receive(t, sizes); n != 4 {
				t.Errorf("%d bytes", n)
			}
		})
	}
}

// A large message goes through in pieces, in and out, and nobody holds it.
func TestStreamThrough(t *testing.T) {
	const size, piece = 64 << 20, 100_000
	for name, compression := range map[string]websocket.Compression{"plain": {}, "deflate": {Enabled: true}} {
		t.Run(name, func(t *testing.T) {
			options := websocket.Options{Compression: compression, Pieces: true, MaxMessage: size, MaxQueue: 256 << 10}
			h := start(t, "tcp", websocket.Config{Options: options, Handle: func(ctx context.Context, c *websocket.Conn) {
				w, err := c.Writer(ctx, websocket.Binary)
				check(t, err)
				for m, err := range c.Messages(ctx) {
					check(t, err)
					_, err = w.Write(m.Data)
					check(t, err)
					if !m.More {
						break
					}
				}
				check(t, w.Close())
				c.Recv(ctx) // its end
			}})
			c := h.dial("/", websocket.ClientConfig{Options: options})
			data := make([]byte, piece)
			for i := range data {
				data[i] = byte(i * i >> 3)
			}
			before, _ := childtest.MemoryInUse()
			var writing sync.WaitGroup
			writing.Go(func() {
				w, err := c.Writer(h.inTime(), websocket.Binary)
				check(t, err)
				for sent := 0; sent < size; sent += piece {
					_, err := w.Write(data[:min(piece, size-sent)])
					check(t, err)
				}
				check(t, w.Close())
			})
			got, looked := 0, 0
			for more := true; more; {
				m, err := c.Recv(h.inTime())
				check(t, err)
				for len(m.Data) > 0 {
					n := min(len(m.Data), piece-got%piece)
					if !bytes.Equal(m.Data[:n], data[got%piece:got%piece+n]) {
						t.Fatalf("other bytes from %d on", got)
					}
					got, m.Data = got+n, m.Data[n:]
				}
				if more = m.More; got >= looked+8<<20 {
					looked = got
					if now, _ := childtest.MemoryInUse(); now-before > 24<<20 {
						t.Errorf("the heap has grown by %d bytes, %d bytes on", now-before, got)
					}
				}
			}
			writing.Wait()
			if got != size {
				t.Errorf("%d bytes", got)
			}
		})
	}
}

// Who is told of back-pressure is told of its end, on the loop and from elsewhere.
func TestOnDrained(t *testing.T) {
	const low = 64 << 10
	conns, sizes := make(chan *websocket.Conn, 1), make(chan int, 1)
	drained := make(chan int, 1000)
	fill := func(c *websocket.Conn) {
		sent := 0
		for status := websocket.Queued; status != websocket.BackPressure; sent += 10_000 + 4 {
			var err error
			status, err = c.Push(make([]byte, 10_000), websocket.Binary)
			check(t, err)
			if status == websocket.Dropped {
				t.Error("a message is dropped before there is back-pressure")
				break
			}
		}
		sizes <- sent
	}
	options := websocket.Options{
		MaxQueue: 1 << 20, HighWater: 256 << 10, LowWater: low,
		OnMessage: func(_ context.Context, c *websocket.Conn, _ websocket.Message) { fill(c) },
		OnDrained: func(_ context.Context, c *websocket.Conn) { drained <- websocket.QueuedBytes(c) },
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Upgrade(w, r, &websocket.UpgradeOptions{Options: options})
		check(t, err)
		conns <- c
	}
	for name, start := range map[string]func(t *testing.T) *house{
		"Server": func(t *testing.T) *house {
			config := websocket.Config{Options: options}
			config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { conns <- c }
			return start(t, "tcp", config)
		},
		"Upgrade over net": func(t *testing.T) *house { return plainly(t, new(http.Server), handler) },
		"Upgrade over hooks": func(t *testing.T) *house {
			leaktest.Guard(t)
			return hooked(t, runtimetest.Start(t), handler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t).upgraded("/")
			c := receive(t, conns)
			for range 2 {
				r.send(frame(1, "fill"))
				_, err := io.CopyN(io.Discard, r.r, int64(receive(t, sizes)))
				check(t, err)
				if n := receive(t, drained); n > low {
					t.Errorf("OnDrained while %d bytes are queued", n)
				}
			}
			for range 2 { // there may be more of them, from before Push has returned
				go fill(c)
				_, err := io.CopyN(io.Discard, r.r, int64(receive(t, sizes)))
				check(t, err)
				receive(t, drained)
			}
		})
		for len(drained) > 0 {
			<-drained
		}
	}
}

// Pack makes the frame of a server, of each length that there is a form for, and Unpack reads it.
func TestPackAndUnpack(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
		for _, op := range []websocket.Opcode{websocket.Text, websocket.Binary, websocket.Ping, websocket.Pong} {
			if op != websocket.Text && op != websocket.Binary && size > 125 {
				continue
			}
			data := strings.Repeat("x", size)
			frame := websocket.Pack(op, []byte(data))
			if size <= 125 && string(frame) != answer(byte(op), data) {
				t.Errorf("%v of %d bytes: %.20q", op, size, frame)
			}
			if m, err := websocket.Unpack(frame); err != nil || m.Opcode != op || string(m.Data) != data || m.More {
				t.Errorf("%v of %d bytes: %v, %v", op, size, m.Opcode, err)
			}
		}
	}
	for name, wrong := range map[string]string{
		"nothing": "", "half": answer(1, "abc")[:4], "two": answer(1, "a") + answer(1, "b"), "a client's": frame(1, "a"),
		"a fragment": "\x01\x01a", "a close": answer(8, ""), "no UTF-8": answer(1, "\xff"),
	} {
		if m, err := websocket.Unpack([]byte(wrong)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
