package websocket_test

import (
	"bytes"
	"context"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/websocket"
)

// plainly serves a handler by net/http alone, without a runtime.
func plainly(t *testing.T, s *http.Server, handler http.HandlerFunc) *house {
	t.Helper()
	leaktest.Guard(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s.Handler = handler
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return &house{t: t, ctx: context.Background(), address: l.Addr().String()}
}

// logged is what a server of net/http logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A panic or Goexit in a callback ends the connection, and a panic is logged.
func TestFaultsOnPlainServer(t *testing.T) {
	ends := make(chan int, 1)
	options := &websocket.UpgradeOptions{Options: websocket.Options{
		OnMessage: func(_ context.Context, _ *websocket.Conn, m websocket.Message) {
			if string(m.Data) == "panic" {
				panic("on purpose")
			}
			goexit()
		},
		OnClose: func(_ context.Context, _ *websocket.Conn, code int, _ string, _ bool) { ends <- code },
	}}
	var output logged
	h := plainly(t, &http.Server{ErrorLog: log.New(&output, "", 0)}, func(w http.ResponseWriter, r *http.Request) {
		websocket.Upgrade(w, r, options)
	})
	for _, what := range []string{"panic", "exit"} {
		r := h.upgraded("/")
		r.send(frame(1, what))
		r.expect(answer(8, "\x03\xf3"))
		r.send(frame(8, "\x03\xf3"))
		r.expectEnd()
		r.Close()
		if code := receive(t, ends); code != websocket.StatusInternalError {
			t.Errorf("%s: closed with %d", what, code)
		}
	}
	if !strings.Contains(output.String(), "on purpose") {
		t.Errorf("logged: %s", &output)
	}
}

// Push runs no callback of the connection: whoever pushes may hold what a callback wants.
func TestPushUnderLock(t *testing.T) {
	var mu sync.Mutex
	conns := make(chan *websocket.Conn, 1)
	options := &websocket.UpgradeOptions{Options: websocket.Options{
		OnMessage: func(context.Context, *websocket.Conn, websocket.Message) {
			mu.Lock()
			defer mu.Unlock()
		},
	}}
	h := plainly(t, new(http.Server), func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Upgrade(w, r, options)
		check(t, err)
		conns <- c
	})
	r := h.upgraded("/")
	c := receive(t, conns)
	const messages = 20_000
	var sending sync.WaitGroup
	sending.Go(func() {
		r.Write([]byte(strings.Repeat(frame(1, "a"), messages)))
		r.Write([]byte(frame(8, "\x03\xe8")))
	})
	sending.Go(func() {
		for range messages {
			mu.Lock()
			_, err := c.Push([]byte("b"), websocket.Text)
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	for b, err := byte(0), error(nil); b != 0x88; b, err = r.r.ReadByte() {
		check(t, err)
	}
	r.Close()
	sending.Wait()
}

// A connection whose peer had to wait for Recv ends when it is closed or reset, though nobody is in
// Recv.
func TestEndOfHeldConnection(t *testing.T) {
	for _, reset := range []bool{false, true} {
		conns := make(chan *websocket.Conn, 1)
		ended := make(chan struct{})
		options := &websocket.UpgradeOptions{Options: websocket.Options{
			CloseTimeout: 50 * time.Millisecond,
			OnClose:      func(context.Context, *websocket.Conn, int, string, bool) { close(ended) },
		}}
		h := plainly(t, new(http.Server), func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Upgrade(w, r, options)
			check(t, err)
			go c.Recv(r.Context())
			conns <- c
		})
		r := h.upgraded("/")
		r.send(strings.Repeat(frame(1, "message"), 100))
		c := receive(t, conns)
		leaktest.Until(t, "more is held back than Recv is given", func() bool { return websocket.Held(c) })
		if reset {
			r.Conn.(*net.TCPConn).SetLinger(0)
			r.Close()
			leaktest.Until(t, "a push has noticed", func() bool {
				_, err := c.Push([]byte("hello"), websocket.Text)
				return err != nil
			})
		} else {
			check(t, c.Close(websocket.StatusNormal, ""))
		}
		receive(t, ended)
	}
}

// Whoever takes less than it is sent is bounded, what is being written included.
func TestSlowReceiverOnPlainServer(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	options := &websocket.UpgradeOptions{Options: websocket.Options{
		OnMessage: echo, MaxQueue: 1 << 20, OnSlow: func(*websocket.Conn) bool { return true },
	}}
	h := plainly(t, new(http.Server), func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Upgrade(w, r, options)
		check(t, err)
		conns <- c
	})
	h.upgraded("/")
	c := receive(t, conns)
	data := make([]byte, 64<<10)
	for status := websocket.Queued; status != websocket.Dropped; {
		var err error
		status, err = c.Push(data, websocket.Binary)
		check(t, err)
		if n := websocket.QueuedBytes(c); n > 1<<20 {
			t.Fatalf("%d bytes are queued", n)
		}
	}
	c.Abort()
}
