package runtime_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func ExampleRun() {
	err := runtime.Run(func(ctx context.Context) error {
		runtime.Go(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, 10*time.Millisecond)
			fmt.Println("the child has slept") // Run waits for it
		})
		fmt.Println("main ends")
		return nil
	})
	fmt.Println(err)
	// Output:
	// main ends
	// the child has slept
	// <nil>
}

// A new coroutine runs at once, up to its first wait.
func ExampleGo() {
	runtime.Run(func(ctx context.Context) error {
		fmt.Println("parent begins")
		runtime.Go(ctx, func(ctx context.Context) {
			fmt.Println("child begins")
			runtime.Yield(ctx)
			fmt.Println("child ends")
		})
		fmt.Println("parent ends")
		return nil
	})
	// Output:
	// parent begins
	// child begins
	// parent ends
	// child ends
}

// Code that blocks would stop the loop with all its coroutines; in Await it only parks its caller.
func ExampleAwait() {
	runtime.Run(func(ctx context.Context) error {
		runtime.Go(ctx, func(ctx context.Context) {
			runtime.Sleep(ctx, 10*time.Millisecond)
			fmt.Println("others run meanwhile")
		})
		directory, err := runtime.Await(ctx, func() (string, error) {
			time.Sleep(50 * time.Millisecond) // a slow disk
			return os.Getwd()
		})
		fmt.Println(directory != "", err)
		return nil
	})
	// Output:
	// others run meanwhile
	// true <nil>
}

func ExampleChannel() {
	runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[string](1)
		runtime.Go(ctx, func(ctx context.Context) {
			for {
				v, err := ch.Pop(ctx)
				if err != nil {
					fmt.Println(err)
					return
				}
				fmt.Println("popped", v)
			}
		})
		for _, v := range []string{"a", "b"} {
			ch.Push(ctx, v) // switches to who waits in Pop
			fmt.Println("pushed", v)
		}
		ch.Close()
		return nil
	})
	// Output:
	// popped a
	// pushed a
	// popped b
	// pushed b
	// runtime: channel closed
}

func ExampleWaitGroup() {
	runtime.Run(func(ctx context.Context) error {
		var group runtime.WaitGroup
		for i := range 3 {
			group.Go(ctx, func(ctx context.Context) {
				runtime.Sleep(ctx, time.Duration(3-i)*20*time.Millisecond)
				fmt.Println("task", i, "is done")
			})
		}
		err := group.Wait(ctx)
		fmt.Println("all are done:", err)
		return nil
	}, runtime.WithLoops(1))
	// Output:
	// task 2 is done
	// task 1 is done
	// task 0 is done
	// all are done: <nil>
}

func ExampleGoSpread() {
	runtime.Run(func(ctx context.Context) error {
		here := runtime.Current(ctx).Loop()
		var group runtime.WaitGroup
		var elsewhere atomic.Int64 // coroutines of different loops run at the same time
		for range 6 {
			group.GoSpread(ctx, func(ctx context.Context) {
				if runtime.Current(ctx).Loop() != here {
					elsewhere.Add(1)
				}
			})
		}
		err := group.Wait(ctx)
		fmt.Println(elsewhere.Load(), "of 6 ran on the two other loops:", err)
		return nil
	}, runtime.WithLoops(3))
	// Output: 4 of 6 ran on the two other loops: <nil>
}

func ExampleMap() {
	runtime.Run(func(ctx context.Context) error {
		lengths, err := runtime.Map(ctx, []string{"EHLO", "MAIL FROM", ""}, func(ctx context.Context, s string) (int, error) {
			if s == "" {
				return 0, fmt.Errorf("empty command")
			}
			return len(s), runtime.Sleep(ctx, time.Millisecond)
		})
		fmt.Println(lengths, err)
		return nil
	})
	// Output: [4 9 0] empty command
}

// A context that derives from the coroutine's ends the wait.
func ExampleSleep() {
	runtime.Run(func(ctx context.Context) error {
		fmt.Println(runtime.Sleep(ctx, 10*time.Millisecond))
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		fmt.Println(runtime.Sleep(short, time.Hour))
		return nil
	})
	// Output:
	// <nil>
	// context deadline exceeded
}

func ExampleJoin() {
	runtime.Run(func(ctx context.Context) error {
		sleep := func(ctx context.Context) { runtime.Sleep(ctx, 10*time.Millisecond) }
		a, _ := runtime.Go(ctx, sleep)
		b, _ := runtime.Go(ctx, sleep)
		err := runtime.Join(ctx, a, b)
		fmt.Println(a.Ended(), b.Ended(), err)
		return nil
	})
	// Output: true true <nil>
}

// A Mutex may be held while its holder waits; the others of the loop run on.
func ExampleMutex() {
	runtime.Run(func(ctx context.Context) error {
		var mu runtime.Mutex
		var group runtime.WaitGroup
		for _, name := range []string{"a", "b"} {
			group.Go(ctx, func(ctx context.Context) {
				if err := mu.Lock(ctx); err != nil {
					return
				}
				defer mu.Unlock()
				fmt.Println(name, "begins")
				runtime.Sleep(ctx, time.Millisecond)
				fmt.Println(name, "ends")
			})
		}
		return group.Wait(ctx)
	})
	// Output:
	// a begins
	// a ends
	// b begins
	// b ends
}

// Deferred functions of a coroutine run when it ends, however it ends, the last one first.
func ExampleDefer() {
	runtime.Run(func(ctx context.Context) error {
		connect := func(ctx context.Context) {
			fmt.Println("connect")
			runtime.Defer(ctx, func(context.Context) { fmt.Println("close") })
		}
		connect(ctx)
		runtime.Defer(ctx, func(context.Context) { fmt.Println("say goodbye") })
		return nil
	})
	// Output:
	// connect
	// say goodbye
	// close
}
