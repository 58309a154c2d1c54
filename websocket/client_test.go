package websocket_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

// scripted is a server that gives each client the same answer, once its request has come.
func scripted(t *testing.T, answer func(conn net.Conn, r *http.Request)) (url string, ctx context.Context) {
	t.Helper()
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					answer(conn, r)
				}
			}()
		}
	}()
	ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
	t.Cleanup(cancel)
	return "ws://" + l.Addr().String(), ctx
}

const good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "

// What goes wrong is told by its layer, and says why.
func TestDialErrors(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		layer    string
		says     string
		status   int
	}{
		"not found":   {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP", "404", 404},
		"moved":       {"HTTP/1.1 301 Moved\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", "HTTP", "/there", 301},
		"bad request": {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "HTTP", "proxy", 400},
		"reason": {
			"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain; charset=utf-8\r\n" +
				"Content-Length: 20\r\n\r\nno token\nsecond line", "HTTP", `Unauthorized", "no token":`, 401,
		},
		"half a reason": {
			"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\n" +
				"Transfer-Encoding: chunked\r\n\r\n20\r\nno to", "HTTP", `Unauthorized", "no to":`, 401,
		},
		"page": {
			"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n" +
				"Content-Length: 6\r\n\r\n<html>", "HTTP", `Not Found"`, 404,
		},
		"forbidden":  {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP", "Origin", 403},
		"accept":     {good + "AAAA\r\n\r\n", "WebSocket", "Accept", 101},
		"no upgrade": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", "WebSocket", "Upgrade", 101},
		"protocol":   {good + "ACCEPT\r\nSec-WebSocket-Protocol: other\r\n\r\n", "WebSocket", "other", 101},
		"extension":  {good + "ACCEPT\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "WebSocket", "permessage-deflate", 101},
		"not HTTP":   {"220 mail.test ESMTP\r\n\r\n", "HTTP", "doesn't speak HTTP", 0},
		"malformed":  {"HTTP/1.1 one hundred\r\n\r\n", "HTTP", "malformed", 0},
		"too large":  {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10), "HTTP", "too large", 0},
		"closed":     {"", "HTTP", "EOF", 0},
	} {
		t.Run(name, func(t *testing.T) {
			url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
				io.WriteString(conn, strings.Replace(c.response, "ACCEPT", acceptOf(r), 1))
			})
			_, err := websocket.Dial(ctx, url, websocket.ClientConfig{})
			failed, ok := errors.AsType[*websocket.DialError](err)
			if !ok || failed.Layer != c.layer || failed.Status != c.status || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%#v: %v", failed, err)
			}
		})
	}
	t.Run("URL", func(t *testing.T) {
		_, ctx := scripted(t, nil)
		for url, says := range map[string]string{
			"http://a/":    "scheme",
			"ws://":        "host",
			"ws://a/#b":    "fragment",
			"ws://a:b@c/":  "Authorization",
			"ws://[::1/":   "]",
			"ws+unix:///":  "host",
			"ws://a:99999": "port",
		} {
			_, err := websocket.Dial(ctx, url, websocket.ClientConfig{})
			if failed, ok := errors.AsType[*websocket.DialError](err); !ok || failed.Layer != "URL" && says != "port" && says != "host" {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
	t.Run("DNS", func(t *testing.T) {
		_, ctx := scripted(t, nil)
		_, err := websocket.Dial(ctx, "ws://nowhere.invalid", websocket.ClientConfig{Client: client.Config{Resolver: nobody{}}})
		if failed, ok := errors.AsType[*websocket.DialError](err); !ok || failed.Layer != "DNS" {
			t.Errorf("%v", err)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		_, ctx := scripted(t, nil)
		_, err := websocket.Dial(ctx, "ws://127.0.0.1:1", websocket.ClientConfig{})
		if failed, ok := errors.AsType[*websocket.DialError](err); !ok || failed.Layer != "TCP" {
			t.Errorf("%v", err)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		h := start(t, "tls", echoing())
		_, err := h.try("/", websocket.ClientConfig{Client: client.Config{TLS: &tls.Config{}}})
		failed, ok := errors.AsType[*websocket.DialError](err)
		if !ok || failed.Layer != "TLS" || !strings.Contains(err.Error(), "authority") {
			t.Errorf("%v", err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		url, ctx := scripted(t, func(conn net.Conn, _ *http.Request) { io.Copy(io.Discard, conn) })
		_, err := websocket.Dial(ctx, url, websocket.ClientConfig{HandshakeTimeout: 100 * time.Millisecond})
		if failed, ok := errors.AsType[*websocket.DialError](err); !ok || !failed.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		url, ctx := scripted(t, func(conn net.Conn, _ *http.Request) { io.Copy(io.Discard, conn) })
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if _, err := websocket.Dial(ctx, url, websocket.ClientConfig{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

type nobody struct{}

func (nobody) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// What a server says one byte at a time is the same as what it says at once, and so is the closing.
func TestServerThatTrickles(t *testing.T) {
	for _, bytewise := range []bool{false, true} {
		said := make(chan []byte, 1)
		url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
			frames := "\x01\x03gr\xc3" + answer(9, "p") + "\x00\x01\xbc" + answer(0, "\xc3\x9fe")
			trickle(conn, good+acceptOf(r)+"\r\n\r\n"+frames+answer(8, "\x0f\xa0bye"), bytewise)
			conn.(*net.TCPConn).CloseWrite() // the server closes first (RFC 6455, section 7.1.1)
			rest, _ := io.ReadAll(conn)
			said <- rest
		})
		c, err := websocket.Dial(ctx, url, websocket.ClientConfig{})
		check(t, err)
		if m, err := c.Recv(ctx); err != nil || string(m.Data) != "grüße" {
			t.Errorf("%q, %v", m.Data, err)
		}
		_, err = c.Recv(ctx)
		if e := wantClose(t, err, 4000); e.Reason != "bye" || !e.Clean {
			t.Errorf("%+v", e)
		}
		rest := receive(t, said)
		if len(rest) != 2+4+1+2+4+5 || rest[0] != 0x8a || rest[7] != 0x88 {
			t.Errorf("answered %q; want a pong and a close frame", rest)
		}
	}
}

// Through a proxy, and what it says when it doesn't want to.
func TestProxy(t *testing.T) {
	h := start(t, "tls", echoing())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var status atomic.Int64
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := int(status.Load()); s != 200 || r.Method != http.MethodConnect {
			http.Error(w, "no", s)
			return
		}
		to, err := net.Dial("tcp", r.Host)
		check(t, err)
		defer to.Close()
		from, _, err := http.NewResponseController(w).Hijack()
		check(t, err)
		defer from.Close()
		io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(to, from)
		io.Copy(from, to)
	})}
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(l) }()
	defer func() { proxy.Close(); <-served }()
	config := websocket.ClientConfig{Client: client.Config{Proxy: &client.Proxy{
		Type: "http", Address: l.Addr().String(),
	}}}
	status.Store(http.StatusForbidden)
	_, err = h.try("/", config)
	if failed, ok := errors.AsType[*websocket.DialError](err); !ok || failed.Layer != "proxy" ||
		!strings.Contains(err.Error(), "403") {
		t.Errorf("%v", err)
	}
	status.Store(http.StatusOK)
	c := h.dial("/", config)
	push(t, c, "through")
	h.want(c, websocket.Text, "through")
	check(t, c.Close(websocket.StatusNormal, ""))
}

// A Conn of Open connects again, with its callbacks, until it is closed.
func TestReconnect(t *testing.T) {
	var visits atomic.Int32
	url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
		switch visits.Add(1) {
		case 1:
			io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		case 2:
			io.WriteString(conn, good+acceptOf(r)+"\r\n\r\n"+answer(1, "first")+answer(8, "\x03\xf4"))
			io.Copy(io.Discard, conn)
		case 3:
			io.WriteString(conn, good+acceptOf(r)+"\r\n\r\n"+answer(1, "second"))
			io.Copy(io.Discard, conn)
		}
	})
	events := make(chan string, 100)
	d, err := websocket.NewDialer(websocket.ClientConfig{
		Reconnect: client.Backoff{First: time.Millisecond, Max: time.Millisecond},
		OnOpen:    func(context.Context, *websocket.Conn, *http.Response) { events <- "open" },
		OnError:   func(context.Context, *websocket.Conn, error) { events <- "error" },
		Options: websocket.Options{
			OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) { events <- string(m.Data) },
			OnClose: func(_ context.Context, c *websocket.Conn, code int, _ string, clean bool) {
				events <- "close"
				if code != 1012 && code != 1000 || !clean && code == 1012 {
					t.Errorf("%d %v", code, clean)
				}
			},
		},
	})
	check(t, err)
	c, err := d.Open(ctx, url)
	check(t, err)
	for _, want := range []string{"error", "open", "first", "close", "open", "second"} {
		if got := receive(t, events); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	check(t, c.Close(websocket.StatusNormal, ""))
	if got := receive(t, events); got != "close" {
		t.Error(got)
	}
}

// Over a Unix socket, with headers of the program's own.
func TestUnix(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
	defer cancel()
	paths := make(chan string, 1)
	config := echoing()
	config.OnOpen = func(_ context.Context, _ *websocket.Conn, r *http.Request) {
		paths <- r.URL.String() + " " + r.Host + " " + r.Header.Get("X-Token")
	}
	s := websocket.NewServer(config)
	path := filepath.Join(t.TempDir(), "s")
	_, err := s.Listen(ctx, "unix", path)
	check(t, err)
	go s.Serve(ctx)
	c, err := websocket.Dial(ctx, "ws+unix://"+path+":/chat?a=b", websocket.ClientConfig{Header: http.Header{"X-Token": {"1"}}})
	check(t, err)
	if got := receive(t, paths); got != "/chat?a=b localhost 1" {
		t.Error(got)
	}
	push(t, c, "a")
	m, err := c.Recv(ctx)
	if err != nil || string(m.Data) != "a" {
		t.Errorf("%q, %v", m.Data, err)
	}
	check(t, c.Close(websocket.StatusNormal, ""))
	check(t, s.Shutdown(ctx))
}

// A client's messages are masked with a mask that changes.
func TestMasks(t *testing.T) {
	said := make(chan string, 1)
	url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
		io.WriteString(conn, good+acceptOf(r)+"\r\n\r\n")
		buf := make([]byte, 2*(6+4))
		io.ReadFull(conn, buf)
		said <- string(buf)
	})
	c, err := websocket.Dial(ctx, url, websocket.ClientConfig{})
	check(t, err)
	push(t, c, "same")
	push(t, c, "same")
	text := receive(t, said)
	if text[1] != 0x84 || text[2:6] == text[12:16] || text[2:6] == "\x00\x00\x00\x00" {
		t.Errorf("%q", text)
	}
	c.Abort()
}

// acceptOf is the Sec-WebSocket-Accept for a request (RFC 6455, section 4.2.2).
func acceptOf(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
