//go:build linux

package clients

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
)

var whorlAsync = Peer{
	Name:   "whorl-async",
	About:  "Whorl's client.Async, callbacks",
	Module: whorlModule,
	Plain:  []Work{RoundTrip, EOF, Length, Connect, Idle},
	TLS:    []Work{RoundTrip, Full, Resumed, Receive, Idle},
	New:    newCallbacks,
}

var whorlAsyncCompact = Peer{
	Name:   "whorl-async-compact",
	About:  "whorl-async with CompactTLS, likewise",
	Module: whorlModule,
	TLS:    []Work{RoundTrip, Receive, Idle},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		c.compact = compact
		return newCallbacks(c, counters)
	},
}

func newCallbacks(c *Config, counters *child.Counters) (Client, error) {
	rt, err := newRuntime()
	if err != nil {
		return nil, err
	}
	w := &callbacks{crew: crew{config: c, counters: counters}, rt: rt}
	w.dialer, err = client.NewAsyncDialer(w.asyncConfig())
	return w, err
}

// callbacks is many client.Async.
type callbacks struct {
	crew
	rt     *runtime.Runtime
	dialer *client.AsyncDialer
	conns  []*callbackConn
}

// callbackConn is one of them. After Open all its fields but async belong to the loop.
type callbackConn struct {
	*callbacks
	async   *client.Async
	counter *child.Counter
	message *message
	opened  chan<- error // nil after Open
	rest    int          // of what was received
	packets int          // received and not counted yet
	turning bool         // it has to tell that its turn has ended
}

// Open has all connections connect at once. Those that don't keep their connection (Connect, Full,
// Resumed) connect once, which brings the session.
func (w *callbacks) Open(more int) error {
	opened := make(chan error, more)
	for range more {
		address := w.config.address(w.workers)
		c := &callbackConn{callbacks: w, counter: w.counters.Of(w.workers), opened: opened}
		w.workers++
		c.async = w.dialer.New()
		if w.config.Work == Resumed {
			// Each has its own session, as with the others.
			c.async = client.NewAsync(w.asyncConfig())
		}
		if w.config.Work == RoundTrip || w.config.Work == Idle {
			c.message = newMessage(w.config.Size)
		}
		c.async.SetValue(c)
		if w.config.Work != Idle {
			w.conns = append(w.conns, c)
		}
		if err := c.async.Connect(w.rt.Context(), w.config.network(), address); err != nil {
			return err
		}
	}
	for range more {
		if err := <-opened; err != nil {
			return err
		}
	}
	return nil
}

func (w *callbacks) asyncConfig() client.AsyncConfig {
	return client.AsyncConfig{
		Config: w.config.whorl(),
		OnReceive: func(_ context.Context, a *client.Async, p []byte) {
			a.Value().(*callbackConn).receive(p)
		},
		OnConnect: func(_ context.Context, a *client.Async) {
			a.Value().(*callbackConn).connected()
		},
		OnError: func(_ context.Context, a *client.Async, err error) {
			a.Value().(*callbackConn).lost(err)
		},
		OnClose: func(ctx context.Context, a *client.Async, err error) {
			c := a.Value().(*callbackConn)
			a.SetValue(c) // else it would go with the connection
			c.closed(ctx, err)
		},
	}
}

func (w *callbacks) Start() error {
	w.begin()
	for _, c := range w.conns {
		if err := c.start(w.rt.Context()); err != nil {
			return err
		}
	}
	return nil
}

// start is called from elsewhere than the connection's loop, which isn't doing anything for it: it
// is between two turns.
func (c *callbackConn) start(ctx context.Context) error {
	c.turning = true
	switch c.config.Work {
	case RoundTrip:
		return c.async.Send(c.message.next())
	case EOF, Length, Receive:
		c.async.Resume()
		return nil
	}
	return c.async.Connect(ctx, c.config.network(), c.config.Addr)
}

// connected begins what the connection is for.
func (c *callbackConn) connected() {
	switch c.config.Work {
	case RoundTrip, Idle:
		if err := c.async.Send(c.message.next()); err != nil {
			c.lost(err)
		}
	case Connect:
		c.async.Abort()
	case EOF, Length, Receive:
		c.async.Pause()
		c.open(nil)
	}
}

func (c *callbackConn) open(err error) {
	c.opened <- err
	c.opened = nil
}

// receive gets a packet.
func (c *callbackConn) receive(p []byte) {
	switch c.config.Work {
	case RoundTrip, Idle:
		c.answered(p)
	case EOF, Length:
		if len(p) != c.config.Size {
			c.lost(fmt.Errorf("a packet of %d bytes", len(p)))
			return
		}
		c.received(1)
	case Receive:
		c.rest += len(p)
		c.received(c.rest / c.config.Size)
		c.rest %= c.config.Size
	case Full, Resumed:
		if state, _ := c.async.ConnectionState(); c.opened == nil &&
			state.DidResume != (c.config.Work == Resumed) {
			c.lost(errResumption)
		}
		c.async.Abort()
	}
}

// received counts whole packets, and pauses at the end of a turn. Small ones are counted a batch at
// a time, as those of the other clients are.
func (c *callbackConn) received(packets int) {
	if c.packets += packets; c.config.Work != Receive && c.packets < batch {
		return
	}
	c.counter.Add(int64(c.packets))
	c.packets = 0
	if c.stop.Load() && c.turning {
		c.turning = false
		c.async.Pause()
		c.running.Done()
	}
}

// answered gets a message back, and sends the next one.
func (c *callbackConn) answered(p []byte) {
	if err := c.message.check(p); err != nil {
		c.lost(err)
		return
	}
	switch {
	case c.opened != nil:
		c.open(nil)
		if c.config.Work == Idle {
			c.async.SetValue(nil) // What the comparison needs is no connection's memory.
		}
		return
	case c.stop.Load():
		c.counter.Add(1)
		c.turning = false
		c.running.Done()
		return
	}
	c.counter.Add(1)
	if err := c.async.Send(c.message.next()); err != nil {
		c.lost(err)
	}
}

// closed connects again in the works that are about that.
func (c *callbackConn) closed(ctx context.Context, err error) {
	switch {
	case err != nil && !errors.Is(err, net.ErrClosed):
		c.lost(err)
	case c.opened != nil:
		c.open(nil)
	case c.stop.Load():
		c.counter.Add(1)
		c.turning = false
		c.running.Done()
	default:
		c.counter.Add(1)
		if err := c.async.Connect(ctx, c.config.network(), c.config.Addr); err != nil {
			c.lost(err)
		}
	}
}

// lost ends the connection's part.
func (c *callbackConn) lost(err error) {
	c.fail(0, err)
	switch {
	case c.opened != nil:
		c.open(err)
	case c.turning:
		c.turning = false
		c.running.Done()
	}
	c.async.Abort()
}
