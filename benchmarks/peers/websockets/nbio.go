//go:build linux

package websockets

import (
	"fmt"
	"net"
	"net/http"
	"runtime"

	"github.com/lesismal/llib/std/crypto/tls"
	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

var nbioPeer = Peer{
	Name: "nbio",
	About: "nbio, non-blocking, a poller per CPU, handlers run by the poller; broadcasts by " +
		"WriteMessage in a loop",
	Plain: true, Deflate: true, TLS: true, Broadcast: true,
	Module: "github.com/lesismal/nbio",
	Serve: func(c Config, ready func(net.Addr)) error {
		// It can't be asked which port it got. Another process could take this one meanwhile: it
		// then fails to start, and says so.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr := l.Addr()
		l.Close()
		logging.SetLevel(logging.LevelError)
		config := nbhttp.Config{
			Network: "tcp", NPoller: runtime.GOMAXPROCS(0), MaxLoad: 1 << 20,
			ReleaseWebsocketPayload: true,
			ServerExecutor:          func(f func()) { f() },
			Handler:                 nbioHandler(c),
		}
		if c.TLS {
			pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
			if err != nil {
				return fmt.Errorf("websockets: %w", err)
			}
			config.AddrsTLS = []string{addr.String()}
			config.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		} else {
			config.Addrs = []string{addr.String()}
		}
		engine := nbhttp.NewEngine(config)
		if err := engine.Start(); err != nil {
			return err
		}
		ready(addr)
		select {}
	},
}

func nbioHandler(c Config) http.Handler {
	u := websocket.NewUpgrader()
	u.KeepaliveTime = 0 // no deadlines, as the others have none
	u.EnableCompression(c.Deflate)
	var all room[*websocket.Conn]
	if c.Broadcast {
		u.OnOpen(all.join)
		u.OnClose(func(conn *websocket.Conn, _ error) { all.leave(conn) })
	}
	u.OnMessage(func(conn *websocket.Conn, op websocket.MessageType, data []byte) {
		if c.Broadcast && op == websocket.TextMessage {
			all.each(func(to *websocket.Conn) { to.WriteMessage(op, data) })
			return
		}
		conn.WriteMessage(op, data)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.Upgrade(w, r, nil) // it has answered
	})
}
