//go:build linux

package porting_test

import (
	"context"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_channel() {
	err := runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		for _, name := range []string{"A", "B"} {
			runtime.Go(ctx, func(ctx context.Context) {
				fmt.Println(name, "waits")
				for {
					v, err := ch.Pop(ctx)
					if err != nil {
						return
					}
					fmt.Println(name, "got", v)
				}
			})
		}
		for v := 1; v <= 4; v++ {
			fmt.Println("push", v)
			ch.Push(ctx, v)
			fmt.Println("pushed", v)
		}
		ch.Close()
		fmt.Println("closed")
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// A waits
	// B waits
	// push 1
	// A got 1
	// pushed 1
	// push 2
	// B got 2
	// pushed 2
	// push 3
	// A got 3
	// pushed 3
	// push 4
	// B got 4
	// pushed 4
	// closed
	// <nil>
}

func Example_channelCodes() {
	err := runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		show := func(what string, err error) {
			fmt.Printf("%-32s code %d: %v\n", what, socket.Code(err), err)
		}
		_, err := ch.PopTimeout(ctx, 10*time.Millisecond)
		show("pop on empty, 0.01 s", err)
		show("push 1", ch.Push(ctx, 1))
		show("push 2 on full, 0.01 s", ch.PushTimeout(ctx, 2, 10*time.Millisecond))
		show("close", ch.Close())
		show("close again", ch.Close())
		show("push after close", ch.Push(ctx, 3))
		v, err := ch.Pop(ctx)
		show(fmt.Sprintf("pop after close (%d was left)", v), err)
		_, err = ch.Pop(ctx)
		show("pop after close (empty)", err)

		ch = runtime.NewChannel[int](1)
		waiting, err := runtime.Go(ctx, func(ctx context.Context) {
			_, err := ch.Pop(ctx)
			show("cancelled pop", err)
		})
		if err != nil {
			return err
		}
		waiting.Cancel()
		return waiting.Join(ctx)
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// pop on empty, 0.01 s             code -1: runtime: channel timeout
	// push 1                           code 0: <nil>
	// push 2 on full, 0.01 s           code -1: runtime: channel timeout
	// close                            code 0: <nil>
	// close again                      code -2: runtime: channel closed
	// push after close                 code -2: runtime: channel closed
	// pop after close (1 was left)     code 0: <nil>
	// pop after close (empty)          code -2: runtime: channel closed
	// cancelled pop                    code 125: context canceled
	// <nil>
}
