//go:build linux

package clients

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

const whorlModule = "github.com/whorl-go/whorl"

var whorlClient = Peer{
	Name:       "whorl",
	Goroutines: 1,
	About:      "Whorl's client.Client, a coroutine per connection",
	Module:     whorlModule,
	Plain:      []Work{RoundTrip, EOF, Length, Connect, Idle},
	TLS:        []Work{RoundTrip, Full, Resumed, Send, Receive, Idle},
	New:        newCoroutines,
}

var whorlCompact = Peer{
	Name:       "whorl-compact",
	Goroutines: 1,
	About: "whorl with CompactTLS, after " + compact.After.String() +
		": its connections are compact when they are measured",
	Module: whorlModule,
	TLS:    []Work{RoundTrip, Send, Receive, Idle},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		c.compact = compact
		return newCoroutines(c, counters)
	},
}

// compact has connections compact before the turns begin, in which they are opened.
var compact = socket.CompactTLS{After: 50 * time.Millisecond}

func newCoroutines(c *Config, counters *child.Counters) (Client, error) {
	dialer, err := client.NewDialer(c.whorl())
	if err != nil {
		return nil, err
	}
	w := &coroutines{crew: crew{config: c, counters: counters}, dialer: dialer}
	rt, err := newRuntime()
	w.rt, w.begin = rt, newGate()
	return w, err
}

func newRuntime() (*runtime.Runtime, error) {
	rt, err := runtime.New()
	if err != nil {
		return nil, err
	}
	return rt, rt.Start()
}

// coroutines is a client.Client in each of many coroutines, which are spread over the loops.
type coroutines struct {
	crew
	rt     *runtime.Runtime
	dialer *client.Dialer
	begin  *runtime.WaitGroup // done when the next turn begins
}

func newGate() *runtime.WaitGroup {
	gate := new(runtime.WaitGroup)
	gate.Add(1)
	return gate
}

func (w *coroutines) Open(more int) error {
	opened := make(chan error, more)
	for range more {
		number, begin := w.workers, w.begin
		run := func(ctx context.Context) { w.worker(ctx, number, begin, opened) }
		if w.config.Work == Idle {
			run = func(ctx context.Context) { w.idle(ctx, number, opened) }
		}
		w.workers++
		if _, err := w.rt.Go(run); err != nil {
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

func (w *coroutines) worker(ctx context.Context, number int, begin *runtime.WaitGroup,
	opened chan<- error) {
	c := w.client()
	step, err := w.open(ctx, c, number)
	opened <- err
	for ok := err == nil; ok; {
		if err := begin.Wait(ctx); err != nil {
			return
		}
		// Start has put the next one there before this one was done, and after this turn puts
		// another one there.
		begin = w.begin
		ok = w.work(number, func() (int, error) { return step(ctx) })
	}
}

// idle waits for what doesn't come.
func (w *coroutines) idle(ctx context.Context, number int, opened chan<- error) {
	c := w.client()
	// What is done once, and needs a larger stack than waiting does, has one for as long as it
	// takes.
	err := runtime.Detour(ctx, func(ctx context.Context) {
		_, err := w.open(ctx, c, number)
		opened <- err
	})
	// its time-out is the default, as for all
	for err == nil || errors.Is(err, runtime.ErrTimeout) {
		_, err = c.Recv(ctx)
	}
}

// client makes a Client. They share a configuration, unless each is to have a session of its own.
func (w *coroutines) client() *client.Client {
	if w.config.Work == Resumed {
		return client.New(w.config.whorl())
	}
	return w.dialer.New()
}

func (w *coroutines) Start() error {
	begin := w.begin
	w.begin = newGate()
	w.crew.begin()
	begin.Done()
	return nil
}

// whorl returns the configuration of a Whorl client.
func (c *Config) whorl() client.Config {
	config := client.Config{TLS: c.tlsConfig(), MaxPacket: max(client.DefaultMaxPacket, c.Size),
		KeepAlive: likeNet, CompactTLS: c.compact}
	switch c.Work {
	case RoundTrip, Length:
		config.Length = packet.LengthField{Type: 'N', BodyOffset: 4}
	case EOF:
		config.EOF = "\r\n"
	}
	return config
}

// likeNet is what net.Dial sets without being asked: all clients that are compared have the same.
var likeNet = socket.KeepAlive{Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}

func (c *Config) network() string {
	if c.TLS {
		return "tls"
	}
	return "tcp"
}

// open connects, if the worker keeps its connection, and returns what the worker does again and
// again.
func (w *coroutines) open(ctx context.Context, c *client.Client,
	number int) (step func(context.Context) (int, error), err error) {
	switch w.config.Work {
	case Connect:
		return func(ctx context.Context) (int, error) { return 1, w.connect(ctx, c) }, nil
	case Full, Resumed:
		// The first one brings the session.
		resumed := w.config.Work == Resumed
		return func(ctx context.Context) (int, error) {
			return 1, w.handshake(ctx, c, resumed)
		}, w.handshake(ctx, c, false)
	}
	if err := c.Connect(ctx, w.config.network(), w.config.address(number)); err != nil {
		return nil, err
	}
	switch size := w.config.Size; w.config.Work {
	case EOF, Length:
		return func(ctx context.Context) (int, error) {
			for range batch {
				if p, err := c.Recv(ctx); err != nil || len(p) != size {
					return 0, fmt.Errorf("a packet of %d bytes, %w", len(p), err)
				}
			}
			return batch, nil
		}, nil
	case Send:
		p := make([]byte, size)
		return func(ctx context.Context) (int, error) {
			_, err := c.Send(ctx, p)
			return 1, err
		}, nil
	case Receive:
		rest := 0
		return func(ctx context.Context) (int, error) {
			p, err := c.Recv(ctx)
			rest += len(p)
			whole := rest / size
			rest %= size
			return whole, err
		}, nil
	}
	m := newMessage(w.config.Size)
	step = func(ctx context.Context) (int, error) {
		if _, err := c.Send(ctx, m.next()); err != nil {
			return 0, err
		}
		answer, err := c.Recv(ctx)
		if err == nil {
			err = m.check(answer)
		}
		return 1, err
	}
	_, err = step(ctx)
	return step, err
}

func (w *coroutines) connect(ctx context.Context, c *client.Client) error {
	if err := c.Connect(ctx, "tcp", w.config.Addr); err != nil {
		return err
	}
	return c.Abort()
}

func (w *coroutines) handshake(ctx context.Context, c *client.Client, resumed bool) error {
	if err := c.Connect(ctx, "tls", w.config.Addr); err != nil {
		return err
	}
	_, err := c.Recv(ctx)
	if state, _ := c.ConnectionState(); err == nil && state.DidResume != resumed {
		err = errResumption
	}
	return errors.Join(err, c.Abort())
}
