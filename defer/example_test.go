package event_test

import (
	"context"
	"fmt"
	"syscall"
	"time"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
)

// Deferred functions are called after the timers of the same turn, in their order; a nested one a
// turn later.
func ExampleDefer() {
	err := runtime.Run(func(ctx context.Context) error {
		event.Defer(ctx, func(ctx context.Context) {
			fmt.Println("deferred 1")
			event.Defer(ctx, func(context.Context) { fmt.Println("nested") })
		})
		event.Defer(ctx, func(context.Context) { fmt.Println("deferred 2") })
		event.After(ctx, time.Nanosecond, func(context.Context) { fmt.Println("timer") })
		fmt.Println("main")
		return nil
	})
	fmt.Println(err)
	// Output:
	// main
	// timer
	// deferred 1
	// deferred 2
	// nested
	// <nil>
}

func ExampleAfter() {
	runtime.Run(func(ctx context.Context) error {
		_, err := event.After(ctx, time.Millisecond, func(ctx context.Context) {
			fmt.Println("a millisecond later, in a coroutine:", runtime.Current(ctx) != nil)
		})
		return err // Run returns when the timer is done
	})
	// Output: a millisecond later, in a coroutine: true
}

func ExampleTick() {
	runtime.Run(func(ctx context.Context) error {
		var tick *event.Timer
		tick, err := event.Tick(ctx, time.Millisecond, func(ctx context.Context) {
			n := tick.Info().Runs
			fmt.Println("beat", n)
			if n == 3 {
				tick.Clear()
			}
		})
		return err
	})
	// Output:
	// beat 1
	// beat 2
	// beat 3
}

// A context bounds the life of what is set with it.
func ExampleTick_context() {
	runtime.Run(func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		_, err := event.Tick(ctx, time.Millisecond, func(context.Context) {
			fmt.Println("beat")
			cancel()
		})
		return err
	})
	// Output: beat
}

func ExampleCycle() {
	runtime.Run(func(ctx context.Context) error {
		turn := 0
		event.Cycle(ctx, func(ctx context.Context) {
			turn++
			fmt.Println("end of turn", turn)
		}, false)
		for range 3 {
			runtime.Yield(ctx) // lets a turn pass
		}
		return event.Cycle(ctx, nil, false)
	})
	// Output:
	// end of turn 1
	// end of turn 2
}

func ExampleAdd() {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		fmt.Println(err)
		return
	}
	r, w := pipe[0], pipe[1]
	runtime.Run(func(ctx context.Context) error {
		err := event.Add(ctx, r, func(ctx context.Context) {
			var buf [16]byte
			n, _ := syscall.Read(r, buf[:])
			if n <= 0 {
				fmt.Println("the end")
				event.Del(ctx, r) // first this, then close
				syscall.Close(r)
				return
			}
			fmt.Printf("%s\n", buf[:n])
		}, nil)
		syscall.Write(w, []byte("hello"))
		syscall.Close(w)
		return err
	})
	// Output:
	// hello
	// the end
}
