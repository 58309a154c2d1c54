//go:build linux

package socket_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A coroutine that never has to wait doesn't keep its loop from the others, nor from the timers.
func TestWhoNeverWaitsLetsOthersRun(t *testing.T) {
	one := make([]byte, 1)
	for _, c := range []struct {
		name string
		full bool // there is something to receive for all of the operations
		n    int
		op   func(ctx context.Context, s *socket.Socket) error
	}{
		{"Recv", true, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.Recv(ctx, one); return err }},
		{"RecvAll", true, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.RecvAll(ctx, one); return err }},
		{"Send", false, 5_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.Send(ctx, one); return err }},
		{"SendAll", false, 5_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.SendAll(ctx, one); return err }},
		{"SendSoon", false, 5_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.SendSoon(ctx, one); return err }},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := connected(ctx, t, "tcp")
			if c.full {
				s.SetBuffers(1<<20, 0)
				if _, err := peer.SendAll(ctx, make([]byte, c.n)); err != nil {
					t.Fatal(err)
				}
				until(ctx, func() bool { return unread(s) == c.n })
			}
			turns, fired, over := 0, 0, false
			start(ctx, func(ctx context.Context) {
				for ; !over; turns++ {
					runtime.Yield(ctx)
				}
			})
			start(ctx, func(ctx context.Context) {
				for ; !over; fired++ {
					runtime.Sleep(ctx, time.Microsecond)
				}
			})
			for range c.n {
				if err := c.op(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			over = true
			if turns < c.n/100 || fired == 0 {
				t.Errorf("%s: in %d operations, the other coroutine had %d turns, and a timer fired %d times", c.name, c.n, turns, fired)
			}
			s.Abort()
			peer.Abort()
		}, runtime.WithLoops(1))
	}
}

func TestAcceptLetsOthersRun(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "unix")
		const clients = 300
		for range clients {
			s := fresh(t, "unix")
			defer s.Abort()
			if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
		}
		turns, over := 0, false
		start(ctx, func(ctx context.Context) {
			for ; !over; turns++ {
				runtime.Yield(ctx)
			}
		})
		for range clients {
			s, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			s.Abort()
		}
		if over = true; turns < 2 {
			t.Errorf("the other coroutine had %d turns", turns)
		}
		l.Close()
	}, runtime.WithLoops(1))
}
