//go:build linux

package websockets

import (
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

var gorillaPeer = Peer{
	Name: "gorilla",
	About: "gorilla/websocket over net/http, a goroutine per connection; broadcasts a " +
		"PreparedMessage",
	Plain: true, Deflate: true, TLS: true, Broadcast: true, Goroutines: 1,
	Module: "github.com/gorilla/websocket",
	Serve: func(c Config, ready func(net.Addr)) error {
		u := websocket.Upgrader{EnableCompression: c.Deflate}
		var all room[*websocket.Conn]
		return c.serveHTTP(ready, func(w http.ResponseWriter, r *http.Request) {
			conn, err := u.Upgrade(w, r, nil)
			if err != nil {
				return // it has answered
			}
			defer conn.Close()
			if c.Broadcast {
				all.join(conn)
				defer all.leave(conn)
			}
			for {
				op, data, err := conn.ReadMessage()
				if err != nil {
					return
				}
				if c.Broadcast && op == websocket.TextMessage {
					m, err := websocket.NewPreparedMessage(op, data)
					if err != nil {
						return
					}
					// One goroutine at a time may write to a connection. Here one broadcasts.
					all.each(func(to *websocket.Conn) { to.WritePreparedMessage(m) })
				} else if err := conn.WriteMessage(op, data); err != nil {
					return
				}
			}
		})
	},
}
