//go:build linux

package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// Swoole's classic program: a handshake of the program's own, and a first push that is deferred, so
// that it follows the 101.
func Example() {
	s := websocket.NewServer(websocket.Config{
		OnHandshake: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/ws" {
				http.NotFound(w, r)
				return
			}
			if r.URL.Query().Get("token") != "secret" {
				http.Error(w, "no token", http.StatusForbidden)
				return
			}
			if offered := websocket.Subprotocols(r); len(offered) > 0 {
				w.Header().Set("Sec-WebSocket-Protocol", offered[0])
			}
			w.WriteHeader(http.StatusSwitchingProtocols)
			c := websocket.ConnOf(r)
			event.Defer(r.Context(), func(ctx context.Context) {
				c.Push([]byte("welcome"), websocket.Text)
			})
		},
		Options: websocket.Options{
			OnMessage: func(ctx context.Context, c *websocket.Conn, m websocket.Message) {
				c.Push(m.Data, m.Opcode)
			},
		},
	})
	err := runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0") // 9501, as a rule
		if err != nil {
			return err
		}
		if _, err := runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			visit(ctx, "ws://"+l.Addr().String())
		}); err != nil {
			return err
		}
		return s.Serve(ctx)
	})
	fmt.Println(err)
	// Output:
	// /: HTTP status 404
	// /ws: HTTP status 403
	// /ws?token=secret: speaks "chat"
	// received "welcome"
	// received "hello"
	// <nil>
}

// visit is a client.
func visit(ctx context.Context, url string) {
	config := websocket.ClientConfig{Options: websocket.Options{Subprotocols: []string{"chat", "superchat"}}}
	for _, path := range []string{"/", "/ws", "/ws?token=secret"} {
		c, err := websocket.Dial(ctx, url+path, config)
		if failed, ok := errors.AsType[*websocket.DialError](err); ok {
			fmt.Printf("%s: %s status %d\n", path, failed.Layer, failed.Status)
			continue
		}
		fmt.Printf("%s: speaks %q\n", path, c.Subprotocol())
		c.Push([]byte("hello"), websocket.Text)
		for range 2 {
			m, err := c.Recv(ctx)
			if err != nil {
				fmt.Println(err)
			}
			fmt.Printf("received %q\n", m.Data)
		}
		c.Close(websocket.StatusNormal, "")
	}
}
