package websocket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/websocket"
)

// Dial returns although a callback doesn't.
func TestDialWithCallbacksThatFail(t *testing.T) {
	fault := func() { panic("on purpose") }
	for name, response := range map[string]string{"OnOpen": good, "OnError": "HTTP/1.1 404 Not Found\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			h := start(t, "tcp", websocket.Config{ // only for a runtime on which panics are expected
				OnRequest: http.NotFoundHandler(), Options: websocket.Options{OnMessage: echo},
			})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				check(t, err)
				defer conn.Close()
				r := &raw{Conn: conn, t: t}
				var head []byte
				for !strings.HasSuffix(string(head), "\r\n\r\n") {
					b := make([]byte, 1)
					if _, err := r.Read(b); err != nil {
						return
					}
					head = append(head, b...)
				}
				_, key, _ := strings.Cut(string(head), "Sec-WebSocket-Key: ")
				key, _, _ = strings.Cut(key, "\r\n")
				request := &http.Request{Header: http.Header{"Sec-Websocket-Key": {key}}}
				if response == good {
					response += acceptOf(request) + "\r\n\r\n"
				}
				io.WriteString(conn, response)
				io.Copy(io.Discard, conn)
			}()
			_, err = websocket.Dial(h.inTime(), "ws://"+l.Addr().String(), websocket.ClientConfig{
				OnOpen:  func(context.Context, *websocket.Conn, *http.Response) { fault() },
				OnError: func(context.Context, *websocket.Conn, error) { fault() },
			})
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The response to a handshake ends where it says: frames behind an empty line that ends in LF alone
// aren't lost in silence.
func TestResponseThatEndsBeforeItsHeadDoes(t *testing.T) {
	url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
		io.WriteString(conn, good+acceptOf(r)+"\n\n"+answer(1, "lost\r\n\r\n"))
		io.Copy(io.Discard, conn)
	})
	_, err := websocket.Dial(ctx, url, websocket.ClientConfig{})
	if e, ok := errors.AsType[*websocket.DialError](err); !ok || e.Layer != "HTTP" {
		t.Errorf("%v", err)
	}
}

// A connection that is lost and comes back, compressed or not, may be used from everywhere
// meanwhile; each connection's messages are those that it was opened for.
func TestUseWhileConnectingAgain(t *testing.T) {
	var visits, messages atomic.Int32
	plain, packed := new(websocket.UpgradeOptions), new(websocket.UpgradeOptions)
	packed.Compression = websocket.Compression{Enabled: true, MinSize: 1}
	for _, o := range []*websocket.UpgradeOptions{plain, packed} {
		o.OnMessage = func(_ context.Context, c *websocket.Conn, m websocket.Message) {
			if messages.Add(1)%20 == 0 {
				c.Abort()
			}
			c.Push(m.Data, m.Opcode)
		}
		o.OnClose = func(_ context.Context, c *websocket.Conn, code int, reason string, _ bool) {
			if code == websocket.StatusProtocolError {
				t.Errorf("closed with %d %q", code, reason)
			}
		}
	}
	h := start(t, "tcp", websocket.Config{OnRequest: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		websocket.Upgrade(w, r, []*websocket.UpgradeOptions{plain, packed}[visits.Add(1)%2])
	})})
	var opened, received atomic.Int32
	d, err := websocket.NewDialer(websocket.ClientConfig{
		Reconnect: client.Backoff{First: time.Millisecond, Max: time.Millisecond},
		OnOpen:    func(context.Context, *websocket.Conn, *http.Response) { opened.Add(1) },
		Options: websocket.Options{
			Compression: websocket.Compression{Enabled: true, MinSize: 1},
			OnMessage: func(_ context.Context, _ *websocket.Conn, m websocket.Message) {
				if s := string(m.Data); s != strings.Repeat("a", 200) && s != "whole" {
					t.Errorf("received %q", s)
				}
				received.Add(1)
			},
		},
	})
	check(t, err)
	c, err := d.Open(h.ctx, h.url("/"))
	check(t, err)
	rooms := websocket.NewRooms()
	over := make(chan struct{})
	var users sync.WaitGroup
	use := func(fn func()) {
		users.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(100 * time.Microsecond):
					fn()
				}
			}
		})
	}
	use(func() { c.Push([]byte(strings.Repeat("a", 200)), websocket.Text); c.Drain(h.ctx) })
	use(func() {
		if w, err := c.Writer(h.ctx, websocket.Text); err == nil {
			io.WriteString(w, "who")
			io.WriteString(w, "le")
			w.Close()
		}
	})
	use(func() { rooms.Join(c, "room"); rooms.Leave(c, "room") })
	use(func() { rooms.Broadcast("room", []byte(strings.Repeat("a", 200)), websocket.Text) })
	use(func() { c.Err(); c.Compressed(); c.Subprotocol(); c.RemoteAddr() })
	defer c.Abort()
	defer users.Wait()
	defer close(over)
	leaktest.Until(t, "it has connected again and again", func() bool {
		return opened.Load() > 10 && received.Load() > 100
	})
}
