//go:build linux

package clients

import (
	"fmt"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

var gnetPeer = Peer{
	Name:   "gnet",
	About:  "gnet's client engine, an event loop per CPU, OnTraffic writes the next message",
	Module: "github.com/panjf2000/gnet/v2",
	Plain:  []Work{RoundTrip, Idle},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		g := &gnetClient{crew: crew{config: c, counters: counters}}
		engine, err := gnet.NewClient(g, gnet.WithMulticore(true))
		if err != nil {
			return nil, err
		}
		g.engine = engine
		return g, engine.Start()
	},
}

type gnetClient struct {
	gnet.BuiltinEventEngine
	crew
	engine *gnet.Client
	conns  []*gnetConn
}

// gnetConn is a connection. After Open its fields belong to its loop.
type gnetConn struct {
	conn    gnet.Conn
	message *message
	counter *child.Counter
	opened  atomic.Pointer[chan error] // nil once the first message is back
	turning atomic.Bool                // it has to tell that its turn has ended
}

// Open dials one after the other, as gnet does that by blocking.
func (g *gnetClient) Open(more int) error {
	opened := make(chan error, 1)
	for range more {
		address := g.config.address(g.workers)
		c := &gnetConn{message: newMessage(g.config.Size), counter: g.counters.Of(g.workers)}
		c.opened.Store(&opened)
		g.workers++
		var err error
		if c.conn, err = g.engine.DialContext("tcp", address, c); err != nil {
			return err
		}
		if err = c.conn.AsyncWrite(c.message.next(), nil); err == nil {
			err = <-opened
		}
		if err != nil {
			return err
		}
		if g.config.Work != Idle {
			g.conns = append(g.conns, c)
		}
	}
	return nil
}

func (g *gnetClient) Start() error {
	g.begin()
	for _, c := range g.conns {
		c.turning.Store(true)
		if err := c.conn.AsyncWrite(c.message.next(), nil); err != nil {
			return err
		}
	}
	return nil
}

func (g *gnetClient) OnTraffic(conn gnet.Conn) gnet.Action {
	if conn.InboundBuffered() < g.config.Size {
		return gnet.None
	}
	c := conn.Context().(*gnetConn)
	answer, err := conn.Next(g.config.Size)
	if err == nil {
		err = c.message.check(answer)
	}
	if opened := c.opened.Swap(nil); opened != nil {
		if g.config.Work == Idle {
			conn.SetContext(nil) // What the comparison needs is no connection's memory.
		}
		*opened <- err
		return gnet.None
	}
	if err == nil {
		c.counter.Add(1)
		if g.stop.Load() {
			c.turning.Store(false)
			g.running.Done()
			return gnet.None
		}
		_, err = conn.Write(c.message.next())
	}
	if err != nil {
		g.fail(0, err)
		return gnet.Close
	}
	return gnet.None
}

// OnClose is an error whenever it comes: nobody closes a connection here that didn't fail.
func (g *gnetClient) OnClose(conn gnet.Conn, err error) gnet.Action {
	g.fail(0, fmt.Errorf("closed: %w", err))
	if c, ok := conn.Context().(*gnetConn); ok && c.turning.Swap(false) {
		g.running.Done()
	}
	return gnet.None
}
