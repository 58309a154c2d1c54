package websocket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

// upgrading runs a test with a handler on each kind of server that Upgrade is for.
func upgrading(t *testing.T, handler http.Handler, test func(t *testing.T, ctx context.Context, url string, config websocket.ClientConfig)) {
	t.Helper()
	clientTLS, serverTLS := certified()
	for name, listen := range map[string]func(ctx context.Context) (net.Listener, error){
		"net":   func(context.Context) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		"hooks": func(ctx context.Context) (net.Listener, error) { return hooks.Listen(ctx, "tcp", "127.0.0.1:0") },
		"net, TLS": func(context.Context) (net.Listener, error) {
			return tls.Listen("tcp", "127.0.0.1:0", serverTLS)
		},
		"hooks, TLS": func(ctx context.Context) (net.Listener, error) {
			l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			return tls.NewListener(l, serverTLS), nil
		},
		"Server": nil,
	} {
		t.Run(name, func(t *testing.T) {
			config := websocket.ClientConfig{Client: client.Config{TLS: clientTLS}}
			if listen == nil {
				h := start(t, "tcp", websocket.Config{OnRequest: handler})
				test(t, h.inTime(), h.url(""), config)
				return
			}
			leaktest.Guard(t)
			rt := runtimetest.Start(t, runtimetest.QuietPanics(t)...)
			ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
			defer cancel()
			l, err := listen(ctx)
			check(t, err)
			s := &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context { return rt.Context() }}
			served := make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			scheme := "ws://"
			if strings.Contains(name, "TLS") {
				scheme = "wss://"
			}
			test(t, ctx, scheme+l.Addr().String(), config)
			s.Close()
			<-served
		})
	}
}

// Upgrade in a handler of net/http: callbacks.
func TestUpgrade(t *testing.T) {
	ends := make(chan string, 10)
	options := &websocket.UpgradeOptions{
		Options: websocket.Options{
			OnMessage:   echo,
			Compression: websocket.Compression{Enabled: true},
			OnClose: func(_ context.Context, _ *websocket.Conn, code int, reason string, clean bool) {
				ends <- fmt.Sprint(code, reason, clean)
			},
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, r *http.Request) { c.Push([]byte("welcome"), websocket.Text) },
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/other" {
			w.Write([]byte("hello"))
			return
		}
		w.Header().Set("X-Own", "1")
		websocket.Upgrade(w, r, options)
	})
	upgrading(t, handler, func(t *testing.T, ctx context.Context, url string, config websocket.ClientConfig) {
		config.Compression.Enabled = true
		own := ""
		config.OnOpen = func(_ context.Context, _ *websocket.Conn, resp *http.Response) { own = resp.Header.Get("X-Own") }
		c, err := websocket.Dial(ctx, url+"/ws", config)
		check(t, err)
		if own != "1" || !c.Compressed() {
			t.Error("headers are lost")
		}
		for _, text := range []string{"", "a", strings.Repeat("hello ", 100_000)} {
			push(t, c, text)
		}
		for _, text := range []string{"welcome", "", "a", strings.Repeat("hello ", 100_000)} {
			m, err := c.Recv(ctx)
			if err != nil || string(m.Data) != text {
				t.Fatalf("received %.100q, %v", m.Data, err)
			}
		}
		check(t, c.Close(4000, "bye"))
		if end := receive(t, ends); end != "4000byetrue" {
			t.Error(end)
		}
		_, err = websocket.Dial(ctx, url+"/other", config)
		if failed, ok := errors.AsType[*websocket.DialError](err); !ok || failed.Status != 200 {
			t.Errorf("%v", err)
		}
	})
}

// Upgrade, and then Recv in the handler's goroutine; the heartbeat finds a peer that is gone.
func TestUpgradeAndRecv(t *testing.T) {
	results := make(chan error, 1)
	var patient *websocket.UpgradeOptions // all defaults
	hurried := &websocket.UpgradeOptions{Options: websocket.Options{
		PingInterval: 100 * time.Millisecond, PongTimeout: 100 * time.Millisecond,
	}}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		options := patient
		if r.URL.Path == "/hurried" {
			options = hurried
		}
		c, err := websocket.Upgrade(w, r, options)
		if err != nil {
			results <- err
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), leaktest.Patience)
		defer cancel()
		for m, err := range c.Messages(ctx) {
			if err != nil {
				results <- err
				return
			}
			c.Push(m.Data, m.Opcode)
		}
		results <- nil
	})
	upgrading(t, handler, func(t *testing.T, ctx context.Context, url string, config websocket.ClientConfig) {
		c, err := websocket.Dial(ctx, url, config)
		check(t, err)
		for i := range 100 { // more than a mailbox takes
			push(t, c, fmt.Sprint(i))
		}
		for i := range 100 {
			if m, err := c.Recv(ctx); err != nil || string(m.Data) != fmt.Sprint(i) {
				t.Fatalf("%q, %v", m.Data, err)
			}
		}
		check(t, c.Close(websocket.StatusNormal, ""))
		if err := receive(t, results); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(url, "wss") {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "ws://"))
			check(t, err)
			defer conn.Close()
			fmt.Fprintf(conn, "GET /hurried HTTP/1.1\r\n%s\r\n", handshakeLines)
			if err := receive(t, results); !errors.Is(err, websocket.ErrPongTimeout) {
				t.Error(err)
			}
		}
	})
}

// A request that can't become a WebSocket is answered, and nothing is taken over.
func TestUpgradeRefuses(t *testing.T) {
	options := &websocket.UpgradeOptions{Options: websocket.Options{OnMessage: echo}}
	for lines, status := range map[string]int{
		"": 426,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 7\r\n":                              426,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://evil.test\r\n": 403,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n":                             500, // no connection to take over
	} {
		r := httptest.NewRequest("GET", "http://localhost/", nil)
		for line := range strings.SplitSeq(strings.TrimSpace(lines), "\r\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		if c, err := websocket.Upgrade(w, r, options); c != nil || err == nil || w.Code != status {
			t.Errorf("%q: %v, status %d, want %d", lines, err, w.Code, status)
		}
	}
}
