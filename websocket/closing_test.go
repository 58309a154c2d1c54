package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// closes is a configuration that tells how its connections end.
func closes(config websocket.Config) (websocket.Config, chan string) {
	ends := make(chan string, 100)
	config.OnClose = func(_ context.Context, _ *websocket.Conn, code int, reason string, clean bool) {
		ends <- fmt.Sprint(code, " ", clean)
	}
	return config, ends
}

// A connection that the program closes as soon as it is open still gets the peer's answer.
func TestCloseInOnOpenIsClean(t *testing.T) {
	config, ends := closes(echoing())
	config.CloseTimeout = time.Hour
	config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { c.Close(4000, "go") }
	h := start(t, "tcp", config)
	r := h.upgraded("/")
	r.expect(answer(8, "\x0f\xa0go"))
	r.send(frame(8, "\x0f\xa0go"))
	r.expectEnd()
	if end := receive(t, ends); end != "4000 true" {
		t.Error(end)
	}
}

// A connection whose peer had to wait for Recv still gets the peer's answer to its close frame.
func TestCloseOfHeldConnectionIsClean(t *testing.T) {
	received := make(chan *websocket.Conn, 1)
	config, ends := closes(websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		c.Recv(ctx)
		received <- c
		for c.Err() == nil {
			runtime.Sleep(ctx, time.Millisecond)
		}
	}})
	config.CloseTimeout = time.Hour
	h := start(t, "tcp", config)
	r := h.upgraded("/")
	for range 100 {
		r.send(frame(1, "message"))
	}
	c := receive(t, received)
	r.send(frame(9, "last")) // is held back
	leaktest.Until(t, "more is held back than Recv is given", func() bool { return websocket.Held(c) })
	check(t, c.Close(4000, "go"))
	r.expect(answer(8, "\x0f\xa0go"))
	r.send(frame(8, "\x0f\xa0go"))
	r.expectEnd()
	if end := receive(t, ends); end != "4000 true" {
		t.Error(end)
	}
}

// A peer that has to wait for Recv isn't taken for dead: its pongs can't be received.
func TestHeartbeatSparesPeerThatHasToWait(t *testing.T) {
	const messages = 100
	config := websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		for !websocket.Held(c) {
			runtime.Sleep(ctx, time.Millisecond)
		}
		runtime.Sleep(ctx, 200*time.Millisecond)
		for range messages {
			if _, err := c.Recv(ctx); err != nil {
				t.Errorf("Recv: %v", err)
				return
			}
		}
	}}
	config.PingInterval, config.PongTimeout = 10*time.Millisecond, 10*time.Millisecond
	h := start(t, "tcp", config)
	c := h.dial("/", websocket.ClientConfig{})
	for range messages {
		push(t, c, "message")
	}
	_, err := c.Recv(h.inTime())
	wantClose(t, err, websocket.StatusNormal)
}

// The end of TCP without a close frame isn't an end in order.
func TestEndWithoutCloseFrameIsNotInOrder(t *testing.T) {
	failed := make(chan error, 1)
	h := start(t, "tcp", websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		var last error
		for _, err := range c.Messages(ctx) {
			last = err
		}
		failed <- last
	}})
	r := h.upgraded("/")
	r.send(frame(1, "half of what there is to say"))
	r.Close()
	err := receive(t, failed)
	wantClose(t, err, websocket.StatusAbnormal)
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// OnHandshake may see the end of a connection that it has accepted: nothing is left of it.
func TestEndBeforeOnHandshakeReturns(t *testing.T) {
	returned := make(chan struct{})
	config, ends := closes(echoing())
	config.OpenAfterHandshake = true
	config.OnOpen = func(context.Context, *websocket.Conn, *http.Request) { t.Error("OnOpen after the end") }
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		w.WriteHeader(http.StatusSwitchingProtocols)
		c := websocket.ConnOf(r)
		c.Abort()
		for c.Err() == nil {
			runtime.Sleep(r.Context(), time.Millisecond)
		}
	}
	h := start(t, "tcp", config)
	r := h.connect()
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if end := receive(t, ends); end != "1006 false" {
		t.Error(end)
	}
	<-returned
	check(t, h.s.Shutdown(h.inTime())) // has nothing to wait for
}

// A connection is found by its ID as soon as it is a WebSocket, though OnHandshake goes on.
func TestFoundByIDWhenAccepted(t *testing.T) {
	config := echoing()
	var s atomic.Pointer[websocket.Server]
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusSwitchingProtocols)
		if _, err := s.Load().Push(websocket.ConnOf(r).ID(), []byte("hello"), websocket.Text); err != nil {
			t.Errorf("Push by ID: %v", err)
		}
	}
	h := start(t, "tcp", config)
	s.Store(h.s)
	h.upgraded("/").expect(answer(1, "hello"))
}

// A panic in OnClose keeps nothing alive.
func TestPanicInOnClose(t *testing.T) {
	config := echoing()
	ended := make(chan struct{})
	config.OnClose = func(context.Context, *websocket.Conn, int, string, bool) {
		close(ended)
		panic("on purpose")
	}
	h := start(t, "tcp", config)
	h.upgraded("/").send(frame(8, "\x03\xe8"))
	receive(t, ended)
	leaktest.Until(t, "the server has forgotten it", func() bool {
		for range h.s.Connections() {
			return false
		}
		return true
	})
	check(t, h.s.Shutdown(h.inTime()))
}

// A handshake that was being decided when Shutdown began doesn't hold it up.
func TestShutdownDuringHandshake(t *testing.T) {
	begun, goOn := make(chan struct{}), runtime.NewChannel[struct{}](1)
	config, ends := closes(echoing())
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		goOn.Pop(r.Context())
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	h := start(t, "tcp", config)
	other := h.connect()
	r := h.connect()
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	receive(t, begun)
	shut := make(chan error, 1)
	go func() { shut <- h.s.Shutdown(h.inTime()) }()
	leaktest.Until(t, "Shutdown has begun", func() bool { return websocket.Draining(h.s) })
	other.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if resp := other.response(); resp.StatusCode != 503 {
		t.Error(resp.Status)
	}
	check(t, goOn.Push(context.Background(), struct{}{}))
	if resp := r.response(); resp.StatusCode != 101 {
		t.Error(resp.Status)
	}
	r.expect(answer(8, "\x03\xe9"))
	r.send(frame(8, "\x03\xe9"))
	r.expectEnd()
	check(t, receive(t, shut))
	receive(t, ends)
}

// Shutdown may be called twice: both wait, and both return.
func TestTwoShutdowns(t *testing.T) {
	h := start(t, "tcp", echoing())
	r := h.upgraded("/")
	shut := make(chan error, 2)
	for range 2 {
		go func() { shut <- h.s.Shutdown(context.Background()) }()
	}
	r.expect(answer(8, "\x03\xe9"))
	time.AfterFunc(50*time.Millisecond, func() { r.send(frame(8, "\x03\xe9")) })
	check(t, receive(t, shut))
	check(t, receive(t, shut))
}

// Shutdown waits no longer than its context lasts: who doesn't answer by then is cut off.
func TestShutdownHasADeadline(t *testing.T) {
	config, ends := closes(echoing())
	config.CloseTimeout = time.Hour
	h := start(t, "tcp", config)
	r := h.upgraded("/")
	ctx, cancel := context.WithTimeout(h.ctx, 50*time.Millisecond)
	defer cancel()
	if err := h.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	r.expect(answer(8, "\x03\xe9"))
	if end := receive(t, ends); end != "1001 false" {
		t.Error(end)
	}
	if _, err := r.r.ReadByte(); err == nil {
		t.Error("the connection stands")
	}
}

// Shutdown says 1001 to the connections of Upgrade in OnRequest, too, and they have their IDs.
func TestServerKnowsConnectionsOfUpgrade(t *testing.T) {
	options := &websocket.UpgradeOptions{Options: websocket.Options{OnMessage: echo}}
	conns := make(chan *websocket.Conn, 1)
	h := start(t, "tcp", websocket.Config{OnRequest: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Upgrade(w, r, options)
		check(t, err)
		conns <- c
	})})
	r := h.upgraded("/")
	c := receive(t, conns)
	if h.s.Conn(c.ID()) != c || !h.s.IsEstablished(c.ID()) {
		t.Error("the connection isn't found")
	}
	shut := make(chan error, 1)
	go func() { shut <- h.s.Shutdown(h.inTime()) }()
	r.expect(answer(8, "\x03\xe9"))
	r.send(frame(8, "\x03\xe9"))
	r.expectEnd()
	check(t, receive(t, shut))
}

// Shutdown of the runtime ends everything, whatever the connections are at.
func TestShutdownOfTheRuntime(t *testing.T) {
	begun := make(chan struct{}, 10)
	forever := func(ctx context.Context) {
		begun <- struct{}{}
		runtime.NewChannel[int](1).Pop(ctx)
	}
	h := startOnly(t, websocket.Config{
		Handle: func(ctx context.Context, c *websocket.Conn) { forever(ctx); c.Recv(ctx) },
		OnHandshake: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/waits" {
				forever(r.Context())
			}
			w.WriteHeader(http.StatusSwitchingProtocols)
		},
		OnRequest: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun <- struct{}{}
			<-r.Context().Done()
			w.Write(make([]byte, 1<<20))
		}),
	})
	h.upgraded("/")
	h.connect().send("GET /waits HTTP/1.1\r\n" + handshakeLines + "\r\n")
	h.connect().send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	h.connect().send("GET / HTTP/1.1\r\nHost: loc")
	for range 3 {
		receive(t, begun)
	}
}

// A peer that takes what was sent before the close frame slowly isn't cut off in the middle of it.
func TestCloseBehindMuch(t *testing.T) {
	const size = 8 << 20
	config, ends := closes(echoing())
	config.CloseTimeout, config.MaxQueue = 200*time.Millisecond, 2*size
	config.Server.SendBuffer = 64 << 10
	config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) {
		_, err := c.Push(make([]byte, size), websocket.Binary)
		check(t, err)
		check(t, c.Close(4000, "go"))
	}
	h := start(t, "tcp", config)
	r := h.upgraded("/")
	for left := size + 10; left > 0; { // its header has 10 bytes
		time.Sleep(5 * time.Millisecond)
		n, err := io.CopyN(io.Discard, r.r, int64(min(left, 64<<10)))
		check(t, err)
		left -= int(n)
	}
	r.expect(answer(8, "\x0f\xa0go"))
	r.send(frame(8, "\x0f\xa0go"))
	r.expectEnd()
	if end := receive(t, ends); end != "4000 true" {
		t.Error(end)
	}
}

// What AtEnd was given is called once, in order, before OnClose, and at once when the connection
// has ended.
func TestAtEnd(t *testing.T) {
	said := make(chan string, 10)
	conns := make(chan *websocket.Conn, 1)
	h := start(t, "tcp", websocket.Config{
		Options: websocket.Options{
			OnMessage: echo,
			OnClose:   func(context.Context, *websocket.Conn, int, string, bool) { said <- "closed" },
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, _ *http.Request) {
			c.AtEnd(func() { said <- "first" })
			conns <- c
		},
	})
	client := h.dial("/", websocket.ClientConfig{})
	c := receive(t, conns)
	c.AtEnd(func() { said <- "second" })
	push(t, client, "x")
	h.want(client, websocket.Text, "x")
	client.Abort()
	for _, want := range []string{"first", "second", "closed"} {
		if got := receive(t, said); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	c.AtEnd(func() { said <- "too late" })
	if got := receive(t, said); got != "too late" {
		t.Errorf("got %q", got)
	}
	never := new(websocket.Conn)
	never.AtEnd(func() { said <- "never established" })
	if got := receive(t, said); got != "never established" {
		t.Errorf("got %q", got)
	}
}
