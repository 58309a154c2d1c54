//go:build linux

package socket_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A coroutine that never has to wait doesn't keep its loop from the others, nor from the timers.
func TestWhoNeverWaitsLetsOthersRun(t *testing.T) {
	const enough = 5_000_000 // operations in which the others would certainly have had their turn
	for _, c := range []struct {
		name string
		peer func(c net.Conn)
		op   func(ctx context.Context, s *socket.Socket) error
	}{
		{"Recv", func(c net.Conn) {
			for data := make([]byte, 100_000); ; {
				if _, err := c.Write(data); err != nil {
					return
				}
			}
		}, func(ctx context.Context, s *socket.Socket) error {
			_, err := s.Recv(ctx, make([]byte, 1))
			return err
		}},
		{"RecvAll", func(c net.Conn) {
			for data := make([]byte, 100_000); ; {
				if _, err := c.Write(data); err != nil {
					return
				}
			}
		}, func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvAll(ctx, make([]byte, 10))
			return err
		}},
		{"Send", func(c net.Conn) { io.Copy(io.Discard, c) }, func(ctx context.Context, s *socket.Socket) error {
			_, err := s.Send(ctx, []byte("x"))
			return err
		}},
		{"SendAll", func(c net.Conn) { io.Copy(io.Discard, c) }, func(ctx context.Context, s *socket.Socket) error {
			_, err := s.SendAll(ctx, []byte("x"))
			return err
		}},
		{"SendSoon", func(c net.Conn) { io.Copy(io.Discard, c) }, func(ctx context.Context, s *socket.Socket) error {
			_, err := s.SendSoon(ctx, []byte("x"))
			return err
		}},
	} {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, conn := dialed(ctx, t, "unix")
			peers.Go(func() { c.peer(conn); conn.Close() })
			turns, slept := 0, false
			start(ctx, func(ctx context.Context) {
				for ; turns < 10; turns++ {
					runtime.Yield(ctx)
				}
				runtime.Sleep(ctx, time.Millisecond)
				slept = true
			})
			done := 0
			for ; done < enough && !slept; done++ {
				if err := c.op(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			if !slept {
				t.Errorf("%s: after %d operations, the other coroutine had had %d turns, and its timer hadn't fired", c.name, done, turns)
			}
			s.Abort()
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
