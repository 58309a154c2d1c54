//go:build linux

package socket_test

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Over loopback the answer to a connect is nearly always there at once. Here it comes when the
// kernel asks again, after a second.
func TestConnectWaitsForTheAnswer(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		var group runtime.WaitGroup
		for _, from := range callers {
			for _, c := range []struct {
				name    string
				accepts bool
				want    error
			}{
				{"connected", true, nil},
				{"refused", false, syscall.ECONNREFUSED},
			} {
				group.Go(ctx, func(ctx context.Context) {
					listener, silent, stop := fullListener(t, "127.0.0.1:0")
					s := fresh(t, "tcp")
					defer s.Abort()
					s.SetTimeouts(socket.Timeouts{Connect: patience})
					co := start(ctx, func(ctx context.Context) {
						from.call(ctx, func(ctx context.Context) {
							if err := s.Connect(ctx, silent); c.want != nil || err != nil {
								wantError(t, from.name+", "+c.name, err, c.want)
							}
						})
					})
					if c.accepts { // which makes room
						accepted, _, err := unix.Accept(listener)
						if err != nil {
							t.Error(err)
							return
						}
						defer unix.Close(accepted)
						defer stop()
					} else {
						stop()
					}
					co.Join(ctx)
					if s.Connected() != c.accepts {
						t.Errorf("%s, %s: connected is %v", from.name, c.name, s.Connected())
					}
				})
			}
		}
		group.Wait(ctx)
	}, runtime.WithLoops(2))
}

// One who connects again and again never waits over loopback, and still lets others run.
func TestConnectsLetOthersRun(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ran := false
		start(ctx, func(ctx context.Context) {
			runtime.Yield(ctx)
			ran = true
		})
		for range 100 {
			s := fresh(t, "tcp")
			if err := s.Connect(ctx, l.Addr().String()); err != nil {
				t.Error(err)
			}
			s.Abort()
		}
		if !ran {
			t.Error("the other coroutine has not run")
		}
	})
}
