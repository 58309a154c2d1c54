//go:build linux

package echo

import (
	"context"
	"net"

	"github.com/cloudwego/netpoll"
)

var netpollPeer = Peer{
	Name:   "netpoll",
	About:  "CloudWeGo netpoll as it comes: OnRequest on its goroutine pool",
	Plain:  true,
	Module: "github.com/cloudwego/netpoll",
	Serve: func(_ Config, ready func(net.Addr)) error {
		l, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		loop, err := netpoll.NewEventLoop(func(_ context.Context, c netpoll.Connection) error {
			reader := c.Reader()
			p, err := reader.Next(reader.Len())
			if err != nil {
				return err
			}
			if _, err := c.Write(p); err != nil {
				return err
			}
			return reader.Release()
		})
		if err != nil {
			return err
		}
		ready(l.Addr())
		return loop.Serve(l)
	},
}
