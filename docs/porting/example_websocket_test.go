//go:build linux

package porting_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

func Example_webSocketHandshake() {
	closed := runtime.NewChannel[int](1)
	s := websocket.NewServer(websocket.Config{
		OnHandshake: handshake,
		OnOpen: func(context.Context, *websocket.Conn, *http.Request) {
			fmt.Println("server: OnOpen")
		},
		OnDisconnect: func(context.Context, *websocket.Conn, error) {
			fmt.Println("server: OnDisconnect")
		},
		Options: websocket.Options{
			OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
				fmt.Printf("server: OnMessage %s\n", m.Data)
				c.Push(bytes.ToUpper(m.Data), websocket.Text)
			},
			OnClose: func(
				ctx context.Context, _ *websocket.Conn, code int, reason string, clean bool,
			) {
				fmt.Println("server: OnClose", code, reason, clean)
				closed.Push(ctx, code)
			},
		},
	})
	err := runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			for _, path := range []string{
				"/other?token=t0p", "/chat?token=bad", "/chat?token=t0p",
			} {
				chat(ctx, "ws://"+l.Addr().String(), path)
			}
			closed.Pop(ctx)
		})
		return s.Serve(ctx)
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// server: OnHandshake /other
	// server: OnDisconnect
	// client: /other?token=t0p: HTTP status 404
	// server: OnHandshake /chat
	// server: OnDisconnect
	// client: /chat?token=bad: HTTP status 403
	// server: OnHandshake /chat
	// server: established before the 101: false
	// server: established after the 101: true
	// server: deferred welcome
	// client: /chat?token=t0p: subprotocol chat.v1
	// client: got "welcome" <nil>
	// server: OnMessage hello
	// client: got "HELLO" <nil>
	// client: got "" context deadline exceeded
	// client: Close: <nil>
	// server: OnClose 1000 bye true
	// <nil>
}

// handshake decides. Sec-WebSocket-Accept and the like are none of its business.
func handshake(w http.ResponseWriter, r *http.Request) {
	fmt.Println("server: OnHandshake", r.URL.Path)
	switch offered := strings.Split(r.Header.Get("Sec-WebSocket-Protocol"), ", "); {
	case r.URL.Path != "/chat":
		w.WriteHeader(http.StatusNotFound)
		return
	case r.URL.Query().Get("token") != "t0p":
		w.WriteHeader(http.StatusForbidden)
		return
	case !slices.Contains(offered, "chat.v1"):
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Sec-WebSocket-Protocol", "chat.v1")
	c := websocket.ConnOf(r)
	event.Defer(r.Context(), func(context.Context) {
		fmt.Println("server: deferred welcome")
		c.Push([]byte("welcome"), websocket.Text)
	})
	fmt.Println("server: established before the 101:", c.Established())
	w.WriteHeader(http.StatusSwitchingProtocols)
	fmt.Println("server: established after the 101:", c.Established())
}

// chat is the client.
func chat(ctx context.Context, url, path string) {
	c, err := websocket.Dial(ctx, url+path, websocket.ClientConfig{
		Options: websocket.Options{Subprotocols: []string{"chat.v0", "chat.v1"}},
	})
	if refused, ok := errors.AsType[*websocket.DialError](err); ok {
		fmt.Printf("client: %s: %s status %d\n", path, refused.Layer, refused.Status)
		return
	}
	fmt.Printf("client: %s: subprotocol %s\n", path, c.Subprotocol())
	recv := func(ctx context.Context) {
		m, err := c.Recv(ctx)
		fmt.Printf("client: got %q %v\n", m.Data, err)
	}
	recv(ctx)
	c.Push([]byte("hello"), websocket.Text)
	recv(ctx)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	recv(short) // with nothing to come
	fmt.Println("client: Close:", c.Close(websocket.StatusNormal, "bye"))
}
