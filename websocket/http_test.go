package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
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

// A request that is no handshake, or a bad one, has the status that HTTP has for it.
func TestHTTPStatus(t *testing.T) {
	config := echoing()
	config.MaxHeader = 2000
	config.MaxBody = 100
	config.HeaderTimeout = 300 * time.Millisecond
	config.OnRequest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		}
	})
	config.OriginPatterns = []string{"*.example.org"}
	h := start(t, "tcp", config)
	drop := func(line string) string { return strings.Replace(handshakeLines, line, "", 1) }
	for request, status := range map[string]int{
		"GET / HTTP/1.1\r\n" + handshakeLines + "\r\n":                                                                        101,
		"GET / HTTP/1.1\r\n" + handshakeLines + "Origin: http://localhost\r\n\r\n":                                            101,
		"GET / HTTP/1.1\r\n" + handshakeLines + "Origin: https://chat.example.org\r\n\r\n":                                    101,
		"GET / HTTP/1.1\r\n" + handshakeLines + "Origin: http://evil.test\r\n\r\n":                                            403,
		"POST / HTTP/1.1\r\n" + handshakeLines + "\r\n":                                                                       405,
		"GET / HTTP/1.1\r\n" + drop("Host: localhost\r\n") + "\r\n":                                                           400,
		"GET / HTTP/1.1\r\n" + drop("Connection: Upgrade\r\n") + "\r\n":                                                       400,
		"GET / HTTP/1.1\r\n" + drop("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n") + "\r\n":                               400,
		"GET / HTTP/1.1\r\n" + strings.Replace(handshakeLines, "Version: 13", "Version: 8", 1) + "\r\n":                       426,
		"GET / HTTP/1.1\r\n" + strings.Replace(handshakeLines, "websocket", "websocket, abc", 1) + "\r\n":                     101,
		"GET / HTTP/1.1\r\n" + strings.Replace(handshakeLines, ": Upgrade", ": keep-alive, upgrade", 1) + "\r\n":              101,
		"GET / HTTP/1.1\r\n" + handshakeLines + "Content-Length: 1\r\n\r\na":                                                  400,
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                                                                   200,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("a", 101):                                413,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + strings.Repeat("a", 101) + "\r\n0\r\n\r\n": 413,
		"nonsense\r\n\r\n":         400,
		"\x16\x03\x01\x02\x00\x01": 400, // TLS, which says no more until it is answered
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 2000) + "\r\n\r\n": 431,
		"GET / HTTP/1.1\r\nHost: a\r\n":                                             408,
	} {
		r := h.connect()
		r.send(request)
		if resp := r.response(); resp.StatusCode != status {
			t.Errorf("%.150q: %s, want %d", request, resp.Status, status)
		} else if status == 426 && resp.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%v", resp.Header)
		}
	}
}

// A connection that says nothing at all is closed without an answer, and OnDisconnect says why.
func TestSilentConnection(t *testing.T) {
	reasons := make(chan error, 1)
	config := echoing()
	config.HeaderTimeout = 100 * time.Millisecond
	config.OnDisconnect = func(_ context.Context, _ *websocket.Conn, reason error) { reasons <- reason }
	h := start(t, "tcp", config)
	r := h.connect()
	if err := receive(t, reasons); !errors.Is(err, runtime.ErrTimeout) {
		t.Errorf("reason %v", err)
	}
	if _, err := r.r.ReadByte(); err == nil {
		t.Error("it got something")
	}
}

// Requests of HTTP before an upgrade: one after the other, and in one segment.
func TestKeepAliveBeforeUpgrade(t *testing.T) {
	for name, network := range map[string]string{"http": "tcp", "https": "tls"} {
		t.Run(name, func(t *testing.T) {
			config := echoing()
			config.OnRequest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %v", r.URL.Path, r.TLS != nil)
			})
			h := start(t, network, config)
			r := h.connect()
			want := func(path string) {
				t.Helper()
				body, err := io.ReadAll(r.response().Body)
				if string(body) != fmt.Sprintf("%s %v", path, h.secure) || err != nil {
					t.Fatalf("%q, %v", body, err)
				}
			}
			r.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
			want("/1")
			r.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /ws HTTP/1.1\r\n" +
				handshakeLines + "\r\n" + frame(1, "early"))
			want("/2")
			want("/3")
			if resp := r.response(); resp.StatusCode != 101 {
				t.Fatal(resp.Status)
			}
			r.expect(answer(1, "early"))
			r.send(frame(1, "late"))
			r.expect(answer(1, "late"))
			r.send(frame(8, "\x03\xe8"))
			r.expect(answer(8, "\x03\xe8"))
			r.expectEnd()
		})
	}
}

// A large body goes in and out with back-pressure.
func TestLargeBodies(t *testing.T) {
	const size = 8 << 20
	config := echoing()
	config.MaxBody = size
	config.OnRequest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	h := start(t, "tcp", config)
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	resp, err := http.Post("http://"+h.l.Addr().String(), "", bytes.NewReader(data))
	check(t, err)
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

// Who comes beyond the limits of connections is told by HTTP, and OnReject is.
func TestTooManyConnections(t *testing.T) {
	for name, limit := range map[string]func(c *server.Config){
		"MaxConnections": func(c *server.Config) { c.MaxConnections = 1 },
		"MaxPerAddress":  func(c *server.Config) { c.MaxPerAddress = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			config := echoing()
			limit(&config.Server)
			h := start(t, "tcp", config)
			r := h.upgraded("/")
			other := h.connect()
			other.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
			if resp := other.response(); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !resp.Close {
				t.Errorf("%v", resp)
			}
			r.send(frame(1, "still here"))
			r.expect(answer(1, "still here"))
		})
	}
}

// Each step of HTTP has its time-out: the head of a request, its body, the wait for the next one.
func TestTimeoutsOfHTTP(t *testing.T) {
	const long = time.Hour
	head := "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
	for name, c := range map[string]struct {
		header, body, keepAlive time.Duration
		request                 string
		statuses                []int
	}{
		"head":      {50 * time.Millisecond, long, long, head[:20], []int{408}},
		"next head": {50 * time.Millisecond, long, long, head + "0123456789" + head[:18], []int{200}},
		"body":      {long, 50 * time.Millisecond, long, head + "01234", []int{500}},
		"next":      {long, long, 50 * time.Millisecond, head + "0123456789", []int{200}},
	} {
		t.Run(name, func(t *testing.T) {
			config := echoing()
			config.HeaderTimeout, config.BodyTimeout, config.KeepAliveTimeout = c.header, c.body, c.keepAlive
			config.OnRequest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadAll(r.Body); err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%v", err)
					}
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			h := start(t, "tcp", config)
			r := h.connect()
			r.send(c.request)
			for _, status := range c.statuses {
				resp := r.response()
				if io.Copy(io.Discard, resp.Body); resp.StatusCode != status {
					t.Errorf("%s, want %d", resp.Status, status)
				}
			}
			r.expectEnd()
		})
	}
}

// What a server that shuts down is asked on a connection that stands is answered with 503.
func TestRequestsDuringShutdown(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	config := echoing()
	config.OnRequest = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-goOn
	})
	h := start(t, "tcp", config)
	r := h.connect()
	r.send(plainRequest)
	receive(t, begun)
	r.send(plainRequest + "GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	shut := make(chan error, 1)
	go func() { shut <- h.s.Shutdown(h.inTime()) }()
	leaktest.Until(t, "Shutdown has begun", func() bool { return websocket.Draining(h.s) })
	close(goOn)
	r.plainAnswer(200)
	rest, err := io.ReadAll(r.r)
	if text := string(rest); err != nil || text != "" && !strings.HasPrefix(text, "HTTP/1.1 503 ") {
		t.Errorf("%q, %v", rest, err)
	}
	check(t, receive(t, shut))
}
