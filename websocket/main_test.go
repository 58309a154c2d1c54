package websocket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var check = leaktest.Check

// certified are the two sides of TLS, for localhost.
var certified = sync.OnceValues(func() (*tls.Config, *tls.Config) {
	ca, err := devca.New("Whorl test CA")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		panic(err)
	}
	return &tls.Config{RootCAs: ca.Pool()}, &tls.Config{Certificates: []tls.Certificate{cert}}
})

// house is a runtime with a server on it.
type house struct {
	t   testing.TB
	ctx context.Context
	s   *websocket.Server
	l   *server.Listener

	secure  bool
	address string // without l
}

// start starts a server on "tcp" or "tls", for the length of the test.
func start(t testing.TB, network string, config websocket.Config) *house {
	t.Helper()
	leaktest.Guard(t)
	h, served := serve(t, network, config)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaktest.Patience)
		defer cancel()
		if err := h.s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		// Of a server that was shut down before Serve began, Serve says so.
		if err := <-served; err != nil && !errors.Is(err, server.ErrShutdown) {
			t.Errorf("Serve: %v", err)
		}
	})
	return h
}

// startOnly is start for a server that Shutdown of the runtime ends.
func startOnly(t testing.TB, config websocket.Config) *house {
	t.Helper()
	leaktest.Guard(t)
	var served chan error
	t.Cleanup(func() {
		if err := <-served; !errors.Is(err, runtime.ErrShutdown) {
			t.Errorf("Serve: %v", err)
		}
	})
	var h *house
	h, served = serve(t, "tcp", config)
	return h
}

func serve(t testing.TB, network string, config websocket.Config) (*house, chan error) {
	t.Helper()
	rt := runtimetest.Start(t, append(runtimetest.QuietPanics(t), runtime.WithLoops(2))...)
	if network == "tls" && config.Server.Certificates == nil {
		_, config.Server.TLS = certified()
	}
	h := &house{t: t, ctx: rt.Context(), s: websocket.NewServer(config), secure: network == "tls"}
	var err error
	h.l, err = h.s.Listen(h.ctx, network, "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- h.s.Serve(h.ctx) }()
	return h, served
}

// url is that of a path of the server.
func (h *house) url(path string) string {
	scheme := "ws"
	if h.secure {
		scheme = "wss"
	}
	return scheme + "://" + h.l.Addr().String() + path
}

// dial connects a client of ours.
func (h *house) dial(path string, config websocket.ClientConfig) *websocket.Conn {
	h.t.Helper()
	c, err := h.try(path, config)
	check(h.t, err)
	h.t.Cleanup(func() { c.Abort() })
	return c
}

func (h *house) try(path string, config websocket.ClientConfig) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(h.ctx, leaktest.Patience)
	defer cancel()
	if config.Client.TLS == nil {
		secure, _ := certified()
		config.Client.TLS = secure
	}
	return websocket.Dial(ctx, h.url(path), config)
}

// inTime is a context for what has to happen.
func (h *house) inTime() context.Context {
	ctx, cancel := context.WithTimeout(h.ctx, leaktest.Patience)
	h.t.Cleanup(cancel)
	return ctx
}

// want receives a message.
func (h *house) want(c *websocket.Conn, op websocket.Opcode, data string) {
	h.t.Helper()
	m, err := c.Recv(h.inTime())
	if err != nil || m.Opcode != op || string(m.Data) != data {
		h.t.Fatalf("received %v %.100q, %v; want %v %.100q", m.Opcode, m.Data, err, op, data)
	}
}

// push pushes, and the message must be taken.
func push(t testing.TB, c *websocket.Conn, data string) {
	t.Helper()
	if _, err := c.Push([]byte(data), websocket.Text); err != nil {
		t.Fatalf("Push: %v", err)
	}
}

// raw is a connection on which the test speaks for itself.
type raw struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// connect makes a raw connection.
func (h *house) connect() *raw {
	h.t.Helper()
	if h.l != nil {
		h.address = h.l.Addr().String()
	}
	conn, err := net.Dial("tcp", h.address)
	check(h.t, err)
	if h.secure {
		config, _ := certified()
		config = config.Clone()
		config.ServerName = "localhost"
		conn = tls.Client(conn, config)
	}
	conn.SetDeadline(time.Now().Add(leaktest.Patience))
	h.t.Cleanup(func() { conn.Close() })
	return &raw{conn, h.t, bufio.NewReader(conn)}
}

const handshakeLines = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// send sends text.
func (r *raw) send(text string) {
	r.t.Helper()
	_, err := io.WriteString(r, text)
	check(r.t, err)
}

// response reads a response.
func (r *raw) response() *http.Response {
	r.t.Helper()
	resp, err := http.ReadResponse(r.r, &http.Request{Method: "GET"})
	check(r.t, err)
	return resp
}

// upgraded makes a raw connection a WebSocket.
func (h *house) upgraded(path string) *raw {
	h.t.Helper()
	r := h.connect()
	r.send("GET " + path + " HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if resp := r.response(); resp.StatusCode != 101 {
		h.t.Fatalf("status %s", resp.Status)
	}
	return r
}

// expect reads exactly this.
func (r *raw) expect(want string) {
	r.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r.r, got)
	if err != nil || string(got) != want {
		r.t.Fatalf("read %.100q, %v; want %.100q", got[:n], err, want)
	}
}

// expectEnd reads to the end, and gets nothing.
func (r *raw) expectEnd() {
	r.t.Helper()
	rest, err := io.ReadAll(r.r)
	if len(rest) > 0 || err != nil {
		r.t.Fatalf("read %.100q, %v; want the end", rest, err)
	}
}

// frame is a masked frame, with a mask of zeros, of up to 125 bytes.
func frame(op byte, payload string) string {
	return string([]byte{0x80 | op, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
}

// answer is a server's frame.
func answer(op byte, payload string) string {
	return string([]byte{0x80 | op, byte(len(payload))}) + payload
}

// receive takes a value from a channel.
func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(leaktest.Patience):
		t.Fatal("nothing came")
	}
	return v
}

// echo pushes back what it gets.
func echo(_ context.Context, c *websocket.Conn, m websocket.Message) { c.Push(m.Data, m.Opcode) }

// echoing is a server that does.
func echoing() websocket.Config {
	return websocket.Config{Options: websocket.Options{OnMessage: echo}}
}

// wantClose expects how a connection has ended.
func wantClose(t testing.TB, err error, code int) *websocket.CloseError {
	t.Helper()
	e, ok := errors.AsType[*websocket.CloseError](err)
	if !ok || e.Code != code {
		t.Fatalf("error is %v, want a close with %d", err, code)
	}
	return e
}

// goexit ends the goroutine that runs a callback.
func goexit() { goruntime.Goexit() }
