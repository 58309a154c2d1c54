//go:build linux

package porting_test

import (
	"context"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
)

func Example_timers() {
	err := runtime.Run(func(ctx context.Context) error {
		n := 0
		say := func(what string) { n++; fmt.Printf("%d %s\n", n, what) }
		say("main begins")
		event.Defer(ctx, func(ctx context.Context) {
			say("Defer 1")
			runtime.Go(ctx, func(context.Context) { say("Go inside Defer 1") })
		})
		event.Defer(ctx, func(ctx context.Context) {
			say("Defer 2")
			event.After(ctx, time.Millisecond, func(context.Context) { say("After 1 ms") })
			ticks := 0
			var ticker *event.Timer
			ticker, _ = event.Tick(ctx, time.Millisecond, func(context.Context) {
				ticks++
				say(fmt.Sprint("tick ", ticks))
				if ticks == 2 {
					ticker.Clear()
				}
			})
		})
		runtime.Go(ctx, func(ctx context.Context) {
			defer say("defer of child")
			say("child begins")
			runtime.Go(ctx, func(ctx context.Context) {
				say("grandchild begins")
				runtime.Sleep(ctx, 600*time.Millisecond)
				say("grandchild after its sleep")
			})
			say("child goes on")
			runtime.Sleep(ctx, 500*time.Millisecond)
			say("child after its sleep")
		})
		defer say("defer of main")
		say("main ends")
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// 1 main begins
	// 2 child begins
	// 3 grandchild begins
	// 4 child goes on
	// 5 main ends
	// 6 defer of main
	// 7 Defer 1
	// 8 Go inside Defer 1
	// 9 Defer 2
	// 10 After 1 ms
	// 11 tick 1
	// 12 tick 2
	// 13 child after its sleep
	// 14 defer of child
	// 15 grandchild after its sleep
	// <nil>
}
