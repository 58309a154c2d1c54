//go:build linux && !race && !gnetpoll

package client_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"unsafe"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
)

// In a steady state, a small message and its answer allocate nothing.
func TestNoAllocations(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, make([]byte, 1<<10)) })
		for _, f := range framings[:3] {
			c := connect(ctx, t, f.config, "tcp", address)
			message := []byte(f.wrap("NOOP"))
			var failed error
			exchange := func() {
				if _, err := c.Send(ctx, message); err != nil {
					failed = err
				}
				if p, err := c.Recv(ctx); err != nil || len(p) != len(message) {
					failed = err
				}
			}
			// It is an average, rounded down: a garbage collection empties the pools that buffers
			// come from.
			if n := testing.AllocsPerRun(2000, exchange); n != 0 || failed != nil {
				t.Errorf("%s: %v allocations, %v", f.name, n, failed)
			}
			check(t, c.Close())
		}
	})
}

// Very many coroutines wait in Recv, so what Connect and EnableSSL need must not stay on their
// stacks, which would have to grow for it. In plaintext Send and Recv do with what a new stack has.
func TestStackStaysSmall(t *testing.T) {
	if !childtest.Alone(t, "GODEBUG=adaptivestackstart=0") { // Go would begin with larger stacks once there have been many.
		return
	}
	config := serverTLS()
	secure := func(s *script) { s.secure(config) }
	for _, c := range []struct {
		opener
		server func(s *script)
	}{
		{opener{network: "tls"}, secure},
		{opener{network: "tcp", secure: true}, secure},
		{opener{network: "tcp", talk: true}, func(s *script) { s.say("hello\n") }},
	} {
		t.Run(fmt.Sprintf("%s, EnableSSL %v, Send and Recv %v", c.network, c.secure, c.talk), func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				c.address = serve(t, func(s *script) {
					s.hasty = true
					c.server(s)
					s.rest()
				})
				c.openMany(ctx, t)
			})
		})
	}
}

// opener opens connections in coroutines of one loop.
type opener struct {
	network, address string
	secure, talk     bool // what to do with them
	opened, moved    int
	failed           error
}

func (o *opener) openMany(ctx context.Context, t *testing.T) {
	d, err := client.NewDialer(client.Config{TLS: trusting(), EOF: "\n"})
	check(t, err)
	waiting := make([]*client.Client, 50)
	for i := range waiting {
		c := d.New()
		waiting[i] = c
		_, err := runtime.Go(ctx, func(ctx context.Context) {
			o.open(ctx, c)
			c.Recv(ctx)
		})
		check(t, err)
		eventually(ctx, t, "it is open", func() bool { return o.opened == i+1 })
	}
	check(t, o.failed)
	for _, c := range waiting {
		c.Abort()
	}
	if o.moved > len(waiting)/3 { // Some grow in the memory allocator, when that has to look for memory.
		t.Errorf("the stacks of %d of %d coroutines have grown", o.moved, len(waiting))
	}
}

// open is a frame on the stack that it watches, so there is no more in it than a program would
// have.
func (o *opener) open(ctx context.Context, c *client.Client) {
	var here byte
	before := uintptr(unsafe.Pointer(&here))
	err := c.Connect(ctx, o.network, o.address)
	if err == nil && o.secure {
		err = c.EnableSSL(ctx)
	}
	if err == nil && o.talk {
		_, err = c.Send(ctx, []byte("hello\n"))
	}
	if err == nil && o.talk {
		_, err = c.Recv(ctx)
	}
	if after := uintptr(unsafe.Pointer(&here)); after != before {
		o.moved++ // A stack that grows is copied to another place.
	}
	o.opened++
	if err != nil {
		o.failed = err
	}
}
