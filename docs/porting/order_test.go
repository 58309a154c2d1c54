//go:build linux

package porting_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// The events of a WebSocket without a handshake of the program's own, in Swoole's order.
func TestWebSocketEvents(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), leaktest.Patience)
	defer cancel()
	var events []string
	note := func(event string) { events = append(events, event) } // one loop: no lock
	ended := runtime.NewChannel[bool](1)
	s := websocket.NewServer(websocket.Config{
		OnBeforeHandshakeResponse: func(context.Context, *http.Request, http.Header) {
			note("beforeHandshakeResponse")
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, _ *http.Request) {
			note("open")
			c.Push([]byte("welcome"), websocket.Text)
		},
		Options: websocket.Options{
			OnMessage: func(_ context.Context, _ *websocket.Conn, m websocket.Message) {
				note("message " + string(m.Data))
			},
			OnClose: func(ctx context.Context, _ *websocket.Conn, _ int, _ string, _ bool) {
				note("close")
				ended.Push(ctx, true)
			},
		},
	})
	leaktest.Check(t, runtime.Run(func(co context.Context) error {
		defer context.AfterFunc(ctx, func() { s.Close() })()
		l, err := s.Listen(co, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		runtime.Go(co, func(co context.Context) {
			defer s.Shutdown(co)
			c, err := websocket.Dial(co, "ws://"+l.Addr().String(), websocket.ClientConfig{})
			leaktest.Check(t, err)
			c.Push([]byte("1"), websocket.Text)
			c.Push([]byte("2"), websocket.Text)
			if m, err := c.Recv(co); string(m.Data) != "welcome" || err != nil {
				t.Errorf("%q, %v", m.Data, err)
			}
			leaktest.Check(t, c.Close(websocket.StatusNormal, ""))
			ended.Pop(co)
		})
		return s.Serve(co)
	}, runtime.WithLoops(1)))
	const want = "beforeHandshakeResponse, open, message 1, message 2, close"
	if got := strings.Join(events, ", "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
