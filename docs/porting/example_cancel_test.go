//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_cancel() {
	err := runtime.Run(func(ctx context.Context) error {
		a, b, err := socket.Pair(ctx, "unix")
		if err != nil {
			return err
		}
		defer a.Close()
		defer b.Close()
		ch := runtime.NewChannel[int](1)
		waits := []struct {
			name string
			wait func(ctx context.Context) error
		}{
			{"Sleep", func(ctx context.Context) error { return runtime.Sleep(ctx, 5*time.Second) }},
			{"Channel.Pop", func(ctx context.Context) error { _, err := ch.Pop(ctx); return err }},
			{"Socket.Recv", func(ctx context.Context) error {
				_, err := a.Recv(ctx, make([]byte, 10))
				return err
			}},
			{"Suspend", runtime.Suspend},
		}
		for _, w := range waits {
			for _, how := range []string{"Interrupt", "Cancel"} {
				co, err := runtime.Go(ctx, func(ctx context.Context) {
					first := w.wait(ctx)
					next := runtime.Sleep(ctx, time.Millisecond)
					fmt.Printf("%s, %s: %t, next sleep: %v\n", w.name, how,
						errors.Is(first, context.Canceled), next)
				})
				if err != nil {
					return err
				}
				if how == "Interrupt" {
					co.Interrupt()
				} else {
					co.Cancel()
				}
				if err := co.Join(ctx); err != nil {
					return err
				}
			}
		}
		b.SendAll(ctx, []byte("data"))
		data := make([]byte, 10)
		n, err := a.Recv(ctx, data)
		fmt.Printf("the socket is still usable: %q\n", data[:n])
		fmt.Println("itself:", runtime.Current(ctx).Interrupt())
		return err
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// Sleep, Interrupt: true, next sleep: <nil>
	// Sleep, Cancel: true, next sleep: context canceled
	// Channel.Pop, Interrupt: true, next sleep: <nil>
	// Channel.Pop, Cancel: true, next sleep: context canceled
	// Socket.Recv, Interrupt: true, next sleep: <nil>
	// Socket.Recv, Cancel: true, next sleep: context canceled
	// Suspend, Interrupt: true, next sleep: <nil>
	// Suspend, Cancel: true, next sleep: context canceled
	// the socket is still usable: "data"
	// itself: false
	// <nil>
}
