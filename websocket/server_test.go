package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// echoes runs a test with echo servers in both styles, over ws and wss.
func echoes(t *testing.T, options websocket.Options, test func(t *testing.T, h *house)) {
	t.Helper()
	for name, network := range map[string]string{"ws": "tcp", "wss": "tls"} {
		callback := websocket.Config{Options: options}
		callback.OnMessage = echo
		coroutine := websocket.Config{Options: options, Handle: func(ctx context.Context, c *websocket.Conn) {
			for m, err := range c.Messages(ctx) {
				if err != nil {
					return
				}
				c.Push(m.Data, m.Opcode)
			}
		}}
		t.Run(name+"/callback", func(t *testing.T) { test(t, start(t, network, callback)) })
		t.Run(name+"/coroutine", func(t *testing.T) { test(t, start(t, network, coroutine)) })
	}
}

// Messages of all sizes come back as they were, in order, compressed or not.
func TestEcho(t *testing.T) {
	for name, compression := range map[string]websocket.Compression{
		"plain":    {},
		"deflate":  {Enabled: true, MinSize: 1},
		"takeover": {Enabled: true, MinSize: 1, Takeover: true, WindowBits: 10},
	} {
		options := websocket.Options{Compression: compression, MaxMessage: 1 << 20}
		t.Run(name, func(t *testing.T) {
			echoes(t, options, func(t *testing.T, h *house) {
				c := h.dial("/", websocket.ClientConfig{Options: options})
				if c.Compressed() != compression.Enabled {
					t.Errorf("compressed: %v", c.Compressed())
				}
				for _, size := range []int{0, 1, 125, 126, 1000, 1025, 65535, 65536, 1 << 20} {
					data := strings.Repeat("grüße ", size/8+1)[:size]
					data = strings.ToValidUTF8(data, "?")
					push(t, c, data)
					h.want(c, websocket.Text, data)
				}
				for i := range 100 {
					c.Push([]byte(fmt.Sprint(i)), websocket.Binary)
				}
				for i := range 100 {
					h.want(c, websocket.Binary, fmt.Sprint(i))
				}
			})
		})
	}
}

// What comes one byte at a time is the same as what comes at once.
func TestOneByteAtATime(t *testing.T) {
	h := start(t, "tcp", echoing())
	r := h.connect()
	text := "GET /x HTTP/1.1\r\n" + handshakeLines + "\r\n" + frame(1, "hello") + frame(9, "p") + frame(8, "\x03\xe8bye")
	go func() {
		for i := range len(text) {
			r.Write([]byte{text[i]})
		}
	}()
	if resp := r.response(); resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%v", resp)
	}
	r.expect(answer(1, "hello") + answer(10, "p") + answer(8, "\x03\xe8bye"))
	r.expectEnd()
}

// What comes in one segment with the request counts, and so does what comes behind a close.
func TestFramesBehindTheRequest(t *testing.T) {
	h := start(t, "tcp", echoing())
	r := h.connect()
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n" + frame(1, "") + frame(1, "a") + frame(8, "") + frame(1, "b"))
	if resp := r.response(); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	r.expect(answer(1, "") + answer(1, "a") + answer(8, ""))
	r.expectEnd()
}

// The order of events of a handshake of the program's own.
func TestCustomHandshake(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprintf("waits=%v", slow), func(t *testing.T) {
			var mu sync.Mutex
			var events []string
			note := func(event string) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, event)
			}
			closed := make(chan struct{})
			config := websocket.Config{
				OnHandshake: func(w http.ResponseWriter, r *http.Request) {
					c := websocket.ConnOf(r)
					if slow {
						runtime.Sleep(r.Context(), 10*time.Millisecond)
					}
					if _, err := c.Push([]byte("early"), websocket.Text); !errors.Is(err, websocket.ErrNotEstablished) {
						t.Errorf("Push before the 101: %v", err)
					}
					if r.URL.Path != "/ws" {
						http.NotFound(w, r)
						return
					}
					http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
					event.Defer(r.Context(), func(ctx context.Context) {
						note("deferred")
						c.Push([]byte("welcome"), websocket.Text)
					})
					w.WriteHeader(http.StatusSwitchingProtocols)
					note("handshake")
				},
				OnBeforeHandshakeResponse: func(_ context.Context, _ *http.Request, h http.Header) {
					note("before response")
					h.Set("X-Before", "yes")
				},
				OnOpen:             func(context.Context, *websocket.Conn, *http.Request) { note("open") },
				OpenAfterHandshake: slow,
				OnDisconnect:       func(context.Context, *websocket.Conn, error) { note("disconnect") },
				Options: websocket.Options{
					OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) { note("message") },
					OnClose: func(_ context.Context, _ *websocket.Conn, code int, reason string, clean bool) {
						note(fmt.Sprintf("close %d %q %v", code, reason, clean))
						close(closed)
					},
				},
			}
			h := start(t, "tcp", config)
			r := h.connect()
			r.send("GET /other HTTP/1.1\r\n" + handshakeLines + "\r\n")
			if resp := r.response(); resp.StatusCode != 404 {
				t.Error(resp.Status)
			}
			leaktest.Until(t, "OnDisconnect was called", func() bool { mu.Lock(); defer mu.Unlock(); return len(events) == 1 })
			r = h.connect()
			r.send("GET /ws HTTP/1.1\r\n" + handshakeLines + "\r\n" + frame(1, "first"))
			resp := r.response()
			if resp.StatusCode != 101 || resp.Header.Get("X-Before") != "yes" || len(resp.Cookies()) != 1 {
				t.Errorf("%v", resp)
			}
			r.expect(answer(1, "welcome"))
			r.send(frame(8, "\x0f\xa0bye"))
			r.expect(answer(8, "\x0f\xa0bye"))
			r.expectEnd()
			<-closed
			want := "disconnect, before response, handshake, deferred, message, close 4000 \"bye\" true"
			if slow {
				want = "disconnect, before response, handshake, open, deferred, message, close 4000 \"bye\" true"
			}
			if got := strings.Join(events, ", "); got != want {
				t.Errorf("events: %s\nwant:   %s", got, want)
			}
		})
	}
}

// A handshake on a connection that has served requests before is as any other: it is decided on the
// connection's loop, what it has deferred comes before the first message, what the client sends
// meanwhile is kept, and a refusal ends the connection.
func TestCustomHandshakeBehindARequest(t *testing.T) {
	goOn := runtime.NewChannel[struct{}](1)
	config := echoing()
	config.OnRequest = http.NotFoundHandler()
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			http.NotFound(w, r)
			return
		}
		goOn.Pop(r.Context())
		c := websocket.ConnOf(r)
		home, err := sched.HomeFor(context.Background()) // that of the caller
		if err != nil {
			t.Error(err)
		}
		c.SetValue(home.Loop())
		event.Defer(r.Context(), func(ctx context.Context) { c.Push([]byte("welcome"), websocket.Text) })
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	config.OnMessage = func(ctx context.Context, c *websocket.Conn, m websocket.Message) {
		if home, err := sched.HomeFor(ctx); err != nil || home.Loop() != c.Value() {
			t.Errorf("the handshake ran on another loop than OnMessage, or %v", err)
		}
		c.Push(m.Data, m.Opcode)
	}
	h := start(t, "tcp", config)
	for range 8 { // on both loops
		r := h.connect()
		for _, path := range []string{"/1", "/2"} {
			r.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
			resp := r.response()
			if io.Copy(io.Discard, resp.Body); resp.StatusCode != 404 || resp.Close {
				t.Fatal(resp)
			}
		}
		r.send("GET /ws HTTP/1.1\r\n" + handshakeLines + "\r\n" + frame(1, "first"))
		r.send(frame(1, "second"))
		check(t, goOn.Push(h.inTime(), struct{}{}))
		if resp := r.response(); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		r.expect(answer(1, "welcome") + answer(1, "first") + answer(1, "second"))
	}
	r := h.connect()
	r.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /other HTTP/1.1\r\n" + handshakeLines + "\r\n")
	io.Copy(io.Discard, r.response().Body)
	resp := r.response()
	if io.Copy(io.Discard, resp.Body); resp.StatusCode != 404 || !resp.Close {
		t.Errorf("%v", resp)
	}
	r.expectEnd()
}

// Who is closed before it is listened to can still answer the close frame.
func TestCloseBehindTheHandshake(t *testing.T) {
	closed := make(chan bool, 1)
	config := echoing()
	config.CloseTimeout = leaktest.Patience
	config.OnClose = func(_ context.Context, _ *websocket.Conn, _ int, _ string, clean bool) { closed <- clean }
	opening, deferring := config, config
	opening.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { c.Close(4000, "go") }
	deferring.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusSwitchingProtocols)
		c := websocket.ConnOf(r)
		event.Defer(r.Context(), func(context.Context) { c.Close(4000, "go") })
	}
	for name, config := range map[string]websocket.Config{"in OnOpen": opening, "deferred": deferring} {
		t.Run(name, func(t *testing.T) {
			h := start(t, "tcp", config)
			_, err := h.dial("/", websocket.ClientConfig{}).Recv(h.inTime())
			wantClose(t, err, 4000)
			if !receive(t, closed) {
				t.Error("the peer's close frame was not read")
			}
		})
	}
}

// A handshake that forgets to answer, panics, or chooses a subprotocol that wasn't offered, is a 500.
func TestHandshakeFaults(t *testing.T) {
	h := start(t, "tcp", websocket.Config{
		Options: websocket.Options{OnMessage: echo},
		OnHandshake: func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/panics":
				panic("on purpose")
			case "/protocol":
				w.Header().Set("Sec-WebSocket-Protocol", "other")
				w.WriteHeader(http.StatusSwitchingProtocols)
			}
		},
	})
	for _, path := range []string{"/forgets", "/panics", "/protocol"} {
		r := h.connect()
		r.send("GET " + path + " HTTP/1.1\r\n" + handshakeLines + "Sec-WebSocket-Protocol: chat\r\n\r\n")
		if resp := r.response(); resp.StatusCode != 500 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// Silence is pinged, and ends the connection when the ping has no answer; whoever answers stays.
func TestHeartbeat(t *testing.T) {
	type end struct {
		err error
		id  server.ID
	}
	ends := make(chan end, 2)
	config := echoing()
	config.PingInterval, config.PongTimeout = 200*time.Millisecond, 200*time.Millisecond
	config.OnClose = func(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) { ends <- end{c.Err(), c.ID()} }
	h := start(t, "tcp", config)
	alive := h.dial("/", websocket.ClientConfig{})
	dead := h.upgraded("/")
	dead.expect(answer(9, ""))
	if e := receive(t, ends); !errors.Is(e.err, websocket.ErrPongTimeout) {
		t.Errorf("%v", e.err)
	}
	push(t, alive, "still")
	h.want(alive, websocket.Text, "still")
}

// A peer that doesn't answer a close frame is cut off.
func TestCloseTimeout(t *testing.T) {
	ends := make(chan error, 1)
	config := echoing()
	config.CloseTimeout = 100 * time.Millisecond
	config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { c.Close(4000, "go") }
	config.OnClose = func(_ context.Context, c *websocket.Conn, _ int, _ string, clean bool) {
		if clean {
			t.Error("clean")
		}
		ends <- c.Err()
	}
	h := start(t, "tcp", config)
	r := h.upgraded("/")
	r.expect(answer(8, "\x0f\xa0go"))
	if err := receive(t, ends); !errors.Is(err, websocket.ErrCloseTimeout) {
		t.Errorf("%v", err)
	}
}

// Shutdown says 1001 to all, and waits for their answers.
func TestShutdown(t *testing.T) {
	h := start(t, "tcp", echoing())
	var clients []*websocket.Conn
	for range 20 {
		clients = append(clients, h.dial("/", websocket.ClientConfig{}))
	}
	check(t, h.s.Shutdown(h.inTime()))
	for _, c := range clients {
		_, err := c.Recv(h.inTime())
		if e := wantClose(t, err, websocket.StatusGoingAway); !e.Clean {
			t.Errorf("%v", e)
		}
	}
}

// A panic in a callback ends its connection only.
func TestPanic(t *testing.T) {
	h := start(t, "tcp", websocket.Config{Options: websocket.Options{
		OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
			if string(m.Data) == "panic" {
				panic("on purpose")
			}
			c.Push(m.Data, m.Opcode)
		},
	}})
	good := h.dial("/", websocket.ClientConfig{})
	r := h.upgraded("/")
	r.send(frame(1, "panic"))
	if _, err := r.r.ReadByte(); err == nil {
		t.Log("it got a last word")
	}
	push(t, good, "a")
	h.want(good, websocket.Text, "a")
}
