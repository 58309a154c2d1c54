//go:build linux

package socket_test

import (
	"context"
	"errors"
	"net"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A Unix socket whose queue is full makes senders wait, connected ones and others, and they go on
// when there is room.
func TestSendersWaitForAFullUnixQueue(t *testing.T) {
	for _, connect := range []bool{false, true} {
		for _, by := range []string{"coroutine", "goroutine"} {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				rt, _ := runtime.From(ctx)
				s, peer := bound(ctx, t, "unixgram"), bound(ctx, t, "unixgram")
				defer s.Close()
				defer peer.Close()
				to := s.LocalAddr()
				if connect {
					if err := peer.Connect(ctx, to.String()); err != nil {
						t.Fatal(err)
					}
				}
				const count = 1000 // more than a queue holds
				send := func() {
					for i := range count {
						var err error
						if connect {
							_, err = peer.Send(ctx, []byte{byte(i)})
						} else {
							_, err = peer.SendTo(ctx, []byte{byte(i)}, to)
						}
						if err != nil {
							t.Error(i, err)
							return
						}
					}
				}
				if by == "coroutine" {
					co, _ := runtime.Go(ctx, func(context.Context) { send() })
					await(ctx, func() {
						for !waiting(rt, "socket send") {
							goruntime.Gosched()
						}
					})
					defer co.Join(ctx)
				} else {
					peers.Go(send)
				}
				buf := make([]byte, 2)
				for i := range count {
					if n, err := s.Recv(ctx, buf); n != 1 || buf[0] != byte(i) || err != nil {
						t.Fatalf("message %d: %v, %v", i, buf[:n], err)
					}
				}
			})
		}
	}
}

// Whoever has filled the queue. And the wait is one: the edge that each attempt gives of itself
// doesn't have the loop try again and again.
func TestSenderWaitsForAQueueFilledByOthers(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, other, peer := bound(ctx, t, "unixgram"), bound(ctx, t, "unixgram"), bound(ctx, t, "unixgram")
		defer s.Close()
		defer other.Close()
		defer peer.Close()
		other.SetTimeouts(socket.Timeouts{Write: 10 * time.Millisecond})
		queued := 0
		for ; ; queued++ {
			if _, err := other.SendTo(ctx, []byte("x"), s.LocalAddr()); err != nil {
				break
			}
		}
		sender, _ := runtime.Go(ctx, func(ctx context.Context) {
			if _, err := peer.SendTo(ctx, []byte("y"), s.LocalAddr()); err != nil {
				t.Error(err)
			}
		})
		await(ctx, func() {
			for before := s.Loop().Stats(); s.Loop().Stats().Fired < before.Fired+5; goruntime.Gosched() { // it looks now and then
				if n := s.Loop().Stats().Iterations - before.Iterations; n > 1000 {
					t.Errorf("the loop is busy: %d turns", n)
					break
				}
			}
		})
		if sender.Ended() {
			t.Fatal("the queue is not full")
		}
		buf := make([]byte, 2)
		for range queued {
			if n, err := s.Recv(ctx, buf); string(buf[:n]) != "x" || err != nil {
				t.Fatalf("%q, %v", buf[:n], err)
			}
		}
		if n, err := s.Recv(ctx, buf); string(buf[:n]) != "y" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
		sender.Join(ctx)
	})
}

// Such a sender can be interrupted, too.
func TestSenderToAFullUnixQueueIsEnded(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		rt, _ := runtime.From(ctx)
		s := bound(ctx, t, "unixgram")
		defer s.Close()
		to := s.LocalAddr()
		for _, c := range []struct {
			end  func(peer *socket.Socket, cancel context.CancelFunc)
			want error
		}{
			{func(_ *socket.Socket, cancel context.CancelFunc) { cancel() }, context.Canceled},
			{func(peer *socket.Socket, _ context.CancelFunc) { peer.Cancel(socket.WriteEvent) }, socket.ErrCanceled},
			{func(peer *socket.Socket, _ context.CancelFunc) { peer.Close() }, net.ErrClosed},
			{func(*socket.Socket, context.CancelFunc) {}, runtime.ErrTimeout},
		} {
			peer, _ := socket.New("unixgram")
			sending, cancel := context.WithCancel(ctx)
			peer.SetTimeouts(socket.Timeouts{})
			if c.want == runtime.ErrTimeout {
				peer.SetTimeouts(socket.Timeouts{Write: 30 * time.Millisecond})
			}
			co, _ := runtime.Go(ctx, func(context.Context) {
				var err error
				for err == nil {
					_, err = peer.SendTo(sending, []byte("x"), to)
				}
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
			if c.want != runtime.ErrTimeout {
				await(ctx, func() {
					for !waiting(rt, "socket send") {
						goruntime.Gosched()
					}
				})
			}
			c.end(peer, cancel)
			co.Join(ctx)
			cancel()
			peer.Close()
		}
	})
}
