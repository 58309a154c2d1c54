//go:build linux

package websockets

import (
	"net"
	"net/http"
	"sync"

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
		var all room[*gorillaConn]
		return c.serveHTTP(ready, func(w http.ResponseWriter, r *http.Request) {
			upgraded, err := u.Upgrade(w, r, nil)
			if err != nil {
				return // it has answered
			}
			defer upgraded.Close()
			conn := &gorillaConn{Conn: upgraded}
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
					all.each(func(to *gorillaConn) {
						to.writes(func() error { return to.WritePreparedMessage(m) })
					})
				} else if conn.writes(func() error { return conn.WriteMessage(op, data) }) != nil {
					return
				}
			}
		})
	},
}

// gorillaConn is a connection to which one goroutine at a time writes: its own may not have
// returned from its first answer when another one broadcasts.
type gorillaConn struct {
	*websocket.Conn
	mu sync.Mutex
}

func (c *gorillaConn) writes(fn func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fn()
}
