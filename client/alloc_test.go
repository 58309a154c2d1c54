//go:build linux && !race

package client_test

import (
	"context"
	"io"
	"testing"
	"unsafe"

	"github.com/whorl-go/whorl/client"
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
			// It is an average, rounded down: a garbage collection empties the pools that buffers come from.
			if n := testing.AllocsPerRun(2000, exchange); n != 0 || failed != nil {
				t.Errorf("%s: %v allocations, %v", f.name, n, failed)
			}
			check(t, c.Close())
		}
	})
}

// Very many coroutines wait in Recv, so what Connect and EnableSSL need must not stay on their stacks, which would have to grow for it.
func TestStackStaysSmall(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		config := serverTLS()
		address := serve(t, func(s *script) {
			s.hasty = true
			s.secure(config)
			s.rest()
		})
		d := client.NewDialer(client.Config{TLS: trusting()})
		const all = 50
		moved := 0
		var group runtime.WaitGroup
		var waiting []*client.Client
		for i := range all {
			network := []string{"tls", "tcp"}[i%2]
			check(t, group.Go(ctx, func(ctx context.Context) {
				c := d.New()
				waiting = append(waiting, c)
				var here byte
				before := uintptr(unsafe.Pointer(&here))
				err := c.Connect(ctx, network, address)
				if network == "tcp" && err == nil {
					err = c.EnableSSL(ctx)
				}
				if after := uintptr(unsafe.Pointer(&here)); after != before {
					moved++ // A stack that grows is copied to another place.
				}
				if err != nil {
					t.Error(err)
				}
			}))
		}
		check(t, group.Wait(ctx))
		for _, c := range waiting {
			c.Abort()
		}
		if moved > all/3 { // Some grow in the memory allocator, when that has to look for memory.
			t.Errorf("the stacks of %d of %d coroutines have grown", moved, all)
		}
	})
}
