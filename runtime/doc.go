// Package runtime runs coroutines on event loops.
//
// A coroutine is a function that reads like straight-line code and yields to its loop wherever it
// waits: in [Sleep], in a [Channel], in a socket. [Run] starts the loops and runs the first one;
// [Go] starts more.
//
//	err := runtime.Run(func(ctx context.Context) error {
//		runtime.Go(ctx, func(ctx context.Context) { fmt.Println("child") })
//		fmt.Println("parent")
//		return runtime.Sleep(ctx, time.Second)
//	})
//
// # Order
//
// A coroutine belongs to one loop for life, and the coroutines of a loop run one at a time. A
// switch happens only where a coroutine waits, so coroutines of one loop need no locks between
// them. What doesn't wait only schedules those whom it wakes: [Coroutine.Cancel],
// [Coroutine.Resume], [WaitGroup.Done], [Mutex.Unlock], [Channel.Close], the cancellation of a
// context, Close of a socket. They go on when the loop comes to its deferred functions, in the
// order in which they were woken. So a sync.Mutex may be held around these.
//
// The places that switch are, beside waiting, [Yield] and [Sleep]:
//   - [Go]: a new coroutine runs at once, up to its first wait, before the one that started it goes
//     on;
//   - Push and Pop of a [Channel]: a coroutine of the same loop that waits in the other one runs at
//     once, up to its next wait.
//
// A coroutine goes on when its time is up, before the coroutines that are woken in the same
// iteration of the loop; what waits for a socket goes on in the order in which the kernel reports
// the sockets.
//
// # Turns
//
// A coroutine that never has to wait, as its peer always has something for it, yields all the same
// when it has gone on for about 100 µs: in each call that may wait, [Go] included. So it keeps
// nobody of its loop waiting for long, as long as it doesn't compute for long between such calls.
//
// # Anywhere
//
// Every call that waits asks which goroutine it runs on. If that is a coroutine, it yields to the
// loop; if it is a plain goroutine, it parks that goroutine. Any context will do: the coroutine's
// own, one derived from it, another coroutine's. A context says until when a call may wait, not who
// is calling. A wait ends early when its context is done, with the context's error.
//
// # Rules
//
// Code that blocks its thread or goroutine (a file, a Go channel, sync.Mutex held by another
// coroutine, time.Sleep) stops the loop with all its coroutines. Such code belongs into [Await]. A
// watchdog reports what holds a loop for longer than 100 ms. A coroutine must not lock its
// goroutine to a thread (runtime.LockOSThread).
//
// A function that C calls back runs on the goroutine that called C, and Go binds that goroutine to
// its thread meanwhile, where no coroutine can be switched to or away from. So a callback from C
// into a coroutine must not wait, and must not start or wake anything of its own loop: Go's runtime
// ends the process then (fatal error: coro: OS thread locking must match), and gives no way to tell
// beforehand. Such C code belongs into [Await], where its callbacks run on a plain goroutine, which
// may do all that.
//
// # Panics
//
// A panic in a coroutine is caught, logged with its stack and handed to the panic handler; it ends
// that coroutine only. One that no handler took, and that wasn't returned to a caller as an error
// (see [Detour], [Map]), makes [Run] return an error at the end.
//
// # Processors
//
// [Go] in a coroutine keeps to its loop, [GoSpread] uses the loops in turn.
package runtime
