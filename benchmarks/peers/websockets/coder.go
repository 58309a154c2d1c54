//go:build linux

package websockets

import (
	"context"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

var coderPeer = Peer{
	Name: "coder",
	About: "coder/websocket over net/http, a goroutine per connection; broadcasts by Write in a " +
		"loop",
	Plain: true, Deflate: true, TLS: true, Broadcast: true, Goroutines: 1,
	Module: "github.com/coder/websocket",
	Serve: func(c Config, ready func(net.Addr)) error {
		var options websocket.AcceptOptions
		if c.Deflate {
			options.CompressionMode = websocket.CompressionNoContextTakeover
		}
		var all room[*websocket.Conn]
		return c.serveHTTP(ready, func(w http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(w, r, &options)
			if err != nil {
				return // it has answered
			}
			defer conn.CloseNow()
			if c.Broadcast {
				all.join(conn)
				defer all.leave(conn)
			}
			ctx := context.Background()
			for {
				op, data, err := conn.Read(ctx)
				if err != nil {
					return
				}
				if c.Broadcast && op == websocket.MessageText {
					all.each(func(to *websocket.Conn) { to.Write(ctx, op, data) })
				} else if err := conn.Write(ctx, op, data); err != nil {
					return
				}
			}
		})
	},
}
