//go:build linux

package client_test

import (
	"context"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// With Spread, Asyncs that one coroutine dials live on all loops, in turn; without it on the
// coroutine's.
func TestAsyncsSpreadOverTheLoops(t *testing.T) {
	const loops, each = 3, 4
	for _, spread := range []bool{false, true} {
		err := runtime.Run(func(ctx context.Context) error {
			address := serve(t, func(s *script) { s.rest() })
			on := runtime.NewChannel[string](loops * each)
			d, err := client.NewAsyncDialer(client.AsyncConfig{
				Spread: spread,
				OnConnect: func(ctx context.Context, a *client.Async) {
					here, err := sched.HomeFor(ctx)
					check(t, err)
					on.Push(ctx, here.Loop().Name()) // it has room
					a.Close()
				},
				OnReceive: func(context.Context, *client.Async, []byte) {},
			})
			if err != nil {
				return err
			}
			for range loops * each {
				if _, err := d.Dial(ctx, "tcp", address); err != nil {
					return err
				}
			}
			count := map[string]int{}
			for range loops * each {
				name, err := on.PopTimeout(ctx, patience)
				if err != nil {
					return err
				}
				count[name]++
			}
			if want := map[bool]int{false: 1, true: loops}[spread]; len(count) != want {
				t.Errorf("Spread %v: they live on %v", spread, count)
			}
			return nil
		}, append(quiet, runtime.WithLoops(loops))...)
		check(t, err)
	}
}
