//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

func Example_pool() {
	err := runtime.Run(func(ctx context.Context) error {
		n := 0
		s := server.New(server.Config{Port: server.Port{
			EOF: "\n",
			OnReceive: func(ctx context.Context, c *server.Conn, _ []byte) { // "incr"
				n++ // one loop: no lock
				c.Send(ctx, fmt.Appendf(nil, "%d\n", n))
			},
		}})
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer s.Close()
		runtime.Go(ctx, func(ctx context.Context) { s.Serve(ctx) })
		p, err := newPool(l.Addr().String(), 3)
		if err != nil {
			return err
		}
		return usePool(ctx, p)
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// values [1 2 3 4 5 6 7 8]
	// made 3, most in use at once 3
	// from an exhausted pool: true
	// after a broken one: made 4
	// after close: runtime: channel closed
	// <nil>
}

// A pool gives out up to so many connections at a time. It is of one loop, so it needs no lock.
type pool struct {
	dialer  *client.Dialer
	address string
	free    *runtime.Channel[*client.Client] // nil stands for one that may be made
	made    int
}

func newPool(address string, size int) (*pool, error) {
	dialer, err := client.NewDialer(client.Config{EOF: "\n"})
	if err != nil {
		return nil, err
	}
	p := &pool{dialer: dialer, address: address, free: runtime.NewChannel[*client.Client](size)}
	for range size {
		p.free.Push(context.Background(), nil) // there is room: it doesn't wait
	}
	return p, nil
}

// get waits for a connection, until ctx is done. The caller gives it back by put.
func (p *pool) get(ctx context.Context) (*client.Client, error) {
	c, err := p.free.Pop(ctx)
	if err != nil || c != nil {
		return c, err
	}
	c, err = p.dialer.Dial(ctx, "tcp", p.address)
	if err != nil {
		p.put(nil)
		return nil, err
	}
	p.made++
	return c, nil
}

// put gives a connection back; nil says that it was lost. Its context isn't the caller's, which
// may be done.
func (p *pool) put(c *client.Client) {
	if err := p.free.Push(context.Background(), c); err != nil && c != nil {
		c.Close() // the pool was closed meanwhile
	}
}

// close closes what is in the pool now, and later what is given back.
func (p *pool) close() {
	p.free.Close()
	for {
		c, err := p.free.Pop(context.Background())
		if err != nil {
			return
		}
		if c != nil {
			c.Close()
		}
	}
}

func usePool(ctx context.Context, p *pool) error {
	now, most := 0, 0
	var values []string
	err := runtime.ForEach(ctx, 8, func(ctx context.Context, _ int) error {
		c, err := p.get(ctx)
		if err != nil {
			return err
		}
		now++
		most = max(most, now)
		defer func() { now--; p.put(c) }()
		c.Send(ctx, []byte("incr\n"))
		line, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		values = append(values, strings.TrimSpace(string(line)))
		return runtime.Sleep(ctx, 10*time.Millisecond)
	})
	if err != nil {
		return err
	}
	slices.Sort(values)
	fmt.Printf("values %v\nmade %d, most in use at once %d\n", values, p.made, most)

	var held []*client.Client
	for range 3 {
		c, err := p.get(ctx)
		if err != nil {
			return err
		}
		held = append(held, c)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = p.get(short)
	fmt.Println("from an exhausted pool:", errors.Is(err, context.DeadlineExceeded))

	held[0].Close() // it is broken, say
	p.put(nil)
	c, err := p.get(ctx)
	if err != nil {
		return err
	}
	fmt.Println("after a broken one: made", p.made)
	p.close()
	for _, c := range []*client.Client{c, held[1], held[2]} {
		p.put(c)
	}
	_, err = p.get(ctx)
	fmt.Println("after close:", err)
	return nil
}
