package websocket_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

const plainRequest = "GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"

// plainAnswer reads the response to plainRequest.
func (r *raw) plainAnswer(status int) {
	r.t.Helper()
	resp := r.response()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != status {
		r.t.Fatalf("status %s, want %d", resp.Status, status)
	}
}

// A handshake is the same on a connection that has made requests of HTTP before: OnHandshake has a
// coroutine of the connection's loop, what it defers runs behind the 101, and what the client sends
// meanwhile is neither lost nor overtaken.
func TestHandshakeOfKeptConnection(t *testing.T) {
	begun := make(chan struct{})
	goOn := runtime.NewChannel[struct{}](1)
	config := echoing()
	config.OnRequest = http.NotFoundHandler()
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		if runtime.Current(r.Context()) == nil {
			t.Error("OnHandshake has no coroutine")
		}
		close(begun)
		goOn.Pop(r.Context())
		c := websocket.ConnOf(r)
		event.Defer(r.Context(), func(context.Context) { push(t, c, "welcome") })
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	h := start(t, "tcp", config)
	r := h.connect()
	r.send(plainRequest)
	r.plainAnswer(404)
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n" + frame(1, "first"))
	receive(t, begun)
	for _, text := range []string{"second", "third"} {
		r.send(frame(1, text))
		time.Sleep(10 * time.Millisecond) // it may be read, too early
	}
	check(t, goOn.Push(context.Background(), struct{}{}))
	if resp := r.response(); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	for _, text := range []string{"welcome", "first", "second", "third"} {
		r.expect(answer(1, text))
	}
}

// What another reader of HTTP could take for something else is refused, on the first request of a
// connection and on a later one.
func TestAmbiguousHandshakes(t *testing.T) {
	config := echoing()
	config.OnRequest = http.NotFoundHandler()
	h := start(t, "tcp", config)
	for name, request := range map[string]string{
		"body":         "GET / HTTP/1.1\r\n" + handshakeLines + "Content-Length: 6\r\n\r\n" + frame(1, ""),
		"chunked body": "GET / HTTP/1.1\r\n" + handshakeLines + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two hosts":    "GET / HTTP/1.1\r\n" + handshakeLines + "Host: other\r\n\r\n",
		"bad host":     "GET / HTTP/1.1\r\n" + strings.Replace(handshakeLines, "localhost", "local host", 1) + "\r\n",
	} {
		for _, before := range []string{"", plainRequest} {
			r := h.connect()
			r.send(before + request)
			if before != "" {
				r.plainAnswer(404)
			}
			if resp := r.response(); resp.StatusCode != 400 {
				t.Errorf("%s, after %q: %s", name, before, resp.Status)
			}
		}
	}
	// To our reader's eye, this ends later than to that of net/http.
	r := h.connect()
	r.send("GET / HTTP/1.1\n" + strings.ReplaceAll(handshakeLines, "\r\n", "\n") + "\n" + plainRequest)
	if resp := r.response(); resp.StatusCode != 400 {
		t.Errorf("request within a request: %s", resp.Status)
	}
}

// Shutdown finishes the requests that are being served, and waits for them.
func TestShutdownFinishesRequests(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	config := echoing()
	config.OnRequest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-goOn
		}
		io.WriteString(w, "done")
	})
	h := start(t, "tcp", config)
	idle := h.connect()
	idle.send(plainRequest)
	idle.plainAnswer(200)
	r := h.connect()
	r.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
	receive(t, begun)
	shut := make(chan error, 1)
	go func() { shut <- h.s.Shutdown(h.inTime()) }()
	idle.expectEnd()
	select {
	case err := <-shut:
		t.Fatalf("Shutdown has not waited: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	resp := r.response()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
		t.Errorf("%q, %v", body, err)
	}
	check(t, receive(t, shut))
}

// A second Serve is an error, and changes nothing.
func TestServeTwice(t *testing.T) {
	config := echoing()
	config.OnRequest = http.NotFoundHandler()
	h := start(t, "tcp", config)
	for range 2 {
		r := h.connect()
		r.send(plainRequest)
		r.plainAnswer(404)
		if err := h.s.Serve(h.ctx); err == nil {
			t.Error("a second Serve is no error")
		}
	}
}

// A panic or a Goexit in any callback ends its connection only, and nobody waits for it in vain.
func TestFaultsInCallbacks(t *testing.T) {
	fault := func(what string) {
		switch what {
		case "panic":
			panic("on purpose")
		case "exit":
			goexit()
		}
	}
	options := websocket.Options{
		CloseTimeout: -1, // a connection that doesn't read the peer's answer stays
		OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
			fault(strings.TrimPrefix(string(m.Data), "message "))
			c.Push(m.Data, m.Opcode)
		},
		OnPing: func(_ context.Context, _ *websocket.Conn, data []byte) bool {
			fault(string(data))
			return false
		},
	}
	open := func(_ context.Context, _ *websocket.Conn, r *http.Request) {
		fault(strings.TrimPrefix(r.URL.Path, "/"))
	}
	upgrade := &websocket.UpgradeOptions{Options: options, OnOpen: open}
	for name, config := range map[string]websocket.Config{
		"Server": {Options: options, OnOpen: open, OnRequest: http.NotFoundHandler()},
		"Upgrade": {OnRequest: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/plain" {
				http.NotFound(w, r)
			} else if c, err := websocket.Upgrade(w, r, upgrade); (c == nil) != (err != nil) {
				t.Errorf("%v, %v", c, err)
			}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, "tcp", config)
			good := h.dial("/", websocket.ClientConfig{})
			for _, what := range []string{"panic", "exit"} {
				for _, before := range []string{"", plainRequest} {
					for path, frames := range map[string]string{
						what: "", "message": frame(1, "message "+what), "ping": frame(9, what),
					} {
						r := h.connect()
						r.send(before + "GET /" + path + " HTTP/1.1\r\n" + handshakeLines + "\r\n" + frames)
						if before != "" {
							r.plainAnswer(404)
						}
						for b, err := byte(0), error(nil); err == nil; b, err = r.r.ReadByte() {
							if b == 0x88 { // a close frame: it wants an answer
								r.Write([]byte(frame(8, "\x03\xf3")))
							}
						}
					}
				}
			}
			push(t, good, "good")
			h.want(good, websocket.Text, "good")
		})
	}
}
