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
// switch happens only where a coroutine waits. So coroutines of one loop need no locks between
// them, and their order is certain: a new coroutine runs at once, up to its first wait, before the
// one that started it goes on; a Push to a [Channel] switches to who waits in Pop; what waits for a
// socket goes on in the order in which the kernel reports the sockets.
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
