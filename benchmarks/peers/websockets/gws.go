//go:build linux

package websockets

import (
	"net"

	"github.com/lxzan/gws"
)

var gwsPeer = Peer{
	Name: "gws",
	About: "lxzan/gws, its own server, OnMessage writes what it got, UTF-8 checked; broadcasts " +
		"with its Broadcaster",
	Plain: true, Deflate: true, TLS: true, Broadcast: true, Goroutines: 1,
	Module: "github.com/lxzan/gws",
	Serve: func(c Config, ready func(net.Addr)) error {
		l, err := c.listen()
		if err != nil {
			return err
		}
		s := gws.NewServer(&gwsHandler{broadcast: c.Broadcast}, &gws.ServerOption{
			PermessageDeflate: gws.PermessageDeflate{Enabled: c.Deflate},
			CheckUtf8Enabled:  true,
		})
		s.OnError = func(net.Conn, error) {} // connections end
		ready(l.Addr())
		return s.RunListener(l)
	},
}

type gwsHandler struct {
	gws.BuiltinEventHandler
	broadcast bool
	room      room[*gws.Conn]
}

func (h *gwsHandler) OnOpen(c *gws.Conn) {
	if h.broadcast {
		h.room.join(c)
	}
}

func (h *gwsHandler) OnClose(c *gws.Conn, _ error) {
	if h.broadcast {
		h.room.leave(c)
	}
}

func (h *gwsHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	if h.broadcast && m.Opcode == gws.OpcodeText {
		// The payload belongs to the Broadcaster, whose connections send it later.
		b := gws.NewBroadcaster(m.Opcode, append([]byte(nil), m.Bytes()...))
		defer b.Close()
		h.room.each(func(to *gws.Conn) { b.Broadcast(to) })
		return
	}
	c.WriteMessage(m.Opcode, m.Bytes())
}
