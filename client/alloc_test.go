//go:build linux && !race

package client_test

import (
	"context"
	"io"
	"testing"
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
