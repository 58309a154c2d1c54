//go:build linux

package echo

import (
	"net"
	"runtime"

	"github.com/lesismal/nbio"
)

var nbioPeer = Peer{
	Name:   "nbio",
	About:  "nbio, a poller per CPU, OnData writes what it got without copying it",
	Plain:  true,
	Module: "github.com/lesismal/nbio",
	Serve: func(_ Config, ready func(net.Addr)) error {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		engine := nbio.NewEngine(nbio.Config{Network: "tcp", Addrs: []string{addr.String()},
			NPoller: runtime.GOMAXPROCS(0)})
		// Its README copies data first. Write does that itself for what the kernel doesn't take, so
		// the copy would only make it slower.
		engine.OnData(func(c *nbio.Conn, data []byte) {
			if _, err := c.Write(data); err != nil {
				c.Close()
			}
		})
		if err := engine.Start(); err != nil {
			return err
		}
		ready(addr)
		select {}
	},
}
