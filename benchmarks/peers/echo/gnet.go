//go:build linux

package echo

import (
	"net"

	"github.com/panjf2000/gnet/v2"
)

var gnetPeer = Peer{
	Name:   "gnet",
	About:  "gnet, an event loop per CPU, OnTraffic writes what Next(-1) gave",
	Plain:  true,
	Module: "github.com/panjf2000/gnet/v2",
	Serve: func(_ Config, ready func(net.Addr)) error {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		return gnet.Run(&gnetEcho{addr: addr, ready: ready}, "tcp://"+addr.String(),
			gnet.WithMulticore(true))
	},
}

type gnetEcho struct {
	gnet.BuiltinEventEngine

	addr  net.Addr
	ready func(net.Addr)
}

// OnBoot comes when the listener is open, so that connections queue in the kernel even if the loops
// don't run yet.
func (e *gnetEcho) OnBoot(gnet.Engine) gnet.Action {
	e.ready(e.addr)
	return gnet.None
}

func (e *gnetEcho) OnTraffic(c gnet.Conn) gnet.Action {
	p, err := c.Next(-1)
	if err != nil {
		return gnet.Close
	}
	if _, err := c.Write(p); err != nil {
		return gnet.Close
	}
	return gnet.None
}
